"""Two runs compared: figures over the common questions, and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer, Reply, Usage

Distill = Callable[..., None]

PRICES = ("--price-in", 1, "--price-out", 2)
FINAL = ("--answer-pattern", "#### (.+)")
ANSWERS = {
    ("one", "Who?"): ("Ann  did.\n", 4),
    ("two", "Who?"): ("ann did.", 3),
    ("one", "Why?"): ("So.\n#### 1,000", 7),
    ("two", "Why?"): ("Because.\n#### 1000", 8),
    ("one", "How?"): ("", 1),
    ("two", "How?"): ("Thus", 1),
    ("one", "When?"): ("Now", 1),
}


@pytest.fixture(autouse=True)
def _models(server: LLMServer) -> None:
    """Two teachers with an answer to each question."""

    def answer(body: dict[str, Any]) -> Reply:
        text, tokens = ANSWERS[body["model"], body["messages"][-1]["content"]]
        return Reply(text, usage=Usage(10, tokens))

    server.answer = answer


@pytest.fixture
def distill(command: Command) -> Distill:
    """Distill questions with a model, as the run of its name."""

    def run(model: str, questions: list[str], *options: object, run: str = "") -> None:
        source = write_jsonl(
            Path(f"{model}.jsonl"), [{"prompt": question, "output": "O"} for question in questions]
        )
        done = command(
            *("distill", "--dataset-name", source, "--sample-size", 0, "--run", run or model),
            *("--backend", "openai", "--model", model, *options),
        )
        assert done.returncode == 0, done.stderr

    return run


def test_whole_comparison(distill: Distill, command: Command) -> None:
    """Questions are matched by what they ask, whatever their row, model and system prompt."""
    distill("one", ["Who?", "Why?", "How?", "When?"], *PRICES, *FINAL)
    distill("two", ["How?", "Why?", "Who?"], *PRICES, *FINAL, "--system-prompt", "Be brief.")
    done = command("compare", "one", "two", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (
        0,
        {
            "questions": {"both": 3, "only_first": 1, "only_second": 0},
            "first": {
                "run": "one",
                "backend": "openai",
                "model": "one",
                "complete": True,
                "answers": 3,
                "mean_characters": 8.0,
                "median_characters": 10.0,
                "mean_completion_tokens": 4.0,
                "cost": 0.000054,
                "cost_per_1000": 0.018,
                "verdicts": {"empty": 1},
                "scored": 0,
                "mean_score": None,
            },
            "second": {
                "run": "two",
                "backend": "openai",
                "model": "two",
                "complete": True,
                "answers": 3,
                "mean_characters": 10.0,
                "median_characters": 8.0,
                "mean_completion_tokens": 4.0,
                "cost": 0.000054,
                "cost_per_1000": 0.018,
                "verdicts": {},
                "scored": 0,
                "mean_score": None,
            },
            "equal_answers": pytest.approx(1 / 3),
            "final_answers": 1,
            "equal_final_answers": 1.0,
            "scores": None,
            "judge": None,
        },
    )


@pytest.mark.slow
def test_text(distill: Distill, command: Command) -> None:
    """The same for a person: both runs side by side, without what neither has."""
    distill("one", ["Who?", "Why?", "How?", "When?"], "--price-in", 1000, "--price-out", 2000)
    distill("two", ["How?", "Why?", "Who?"])
    done = command("compare", "one", "two")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "3 questions in both runs, 1 only in one, 0 only in two",
            "  run                      one          two",
            "  backend                  openai       openai",
            "  model                    one          two",
            "  answers                  3            3",
            "  characters, mean         8.0          10.0",
            "  characters, median       10.0         8.0",
            "  completion tokens, mean  4.0          4.0",
            "  cost                     0.0540 USD",
            "  cost of 1000 answers     18.0000 USD",
            "  rejected: empty          1            0",
            "equal answers: 33.3%",
        ],
    )


@pytest.mark.slow
def test_samples(server: LLMServer, distill: Distill, command: Command) -> None:
    """Several answers to a question are compared as sets, and by their mean score."""
    given: dict[tuple[str, str], list[str]] = {
        ("one", "Who?"): ["8", "4"],
        ("two", "Who?"): ["8", "8"],
        ("one", "Why?"): ["9", "3"],
        ("two", "Why?"): ["5", "7"],
        ("one", "How?"): ["9", "9"],
        ("two", "How?"): ["1", "9"],
    }

    def answer(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "[Answer]" not in prompt:
            return Reply(given[body["model"], prompt].pop())
        score = prompt.split("[Answer]\n")[1][0]
        return Reply(f'{{"reason": "", "score": {score}}}')

    server.answer = answer
    for model in ("one", "two"):
        distill(model, ["Who?", "Why?", "How?"], "--samples", 2, "--judge")
    shown = json.loads(command("compare", "one", "two", "--json").stdout)
    names = ("answers", "scored", "mean_score")
    assert [[shown[run][name] for name in names] for run in ("first", "second")] == [
        [6, 6, 7.0],
        [6, 6, pytest.approx(38 / 6)],
    ]
    assert shown["equal_answers"] == pytest.approx((2 / 4 + 0 + 2 / 4) / 3)
    assert shown["scores"] == {"first": 1, "ties": 1, "second": 1}


@pytest.mark.slow
def test_errors(distill: Distill, command: Command) -> None:
    """What cannot be compared is said in a line, with exit code 1."""
    distill("one", ["Who?"])
    distill("two", ["How?"])
    distill("one", ["Who?"], "--skip-generation", run="none")
    errors = {
        ("one", "output/one"): "one and output/one are one run: name two",
        ("one", "none"): "run none has no answers to compare",
        ("one", "two"): (
            "runs one and two have no question in common: a question is the system prompt, "
            "history, instruction and input of a record"
        ),
        ("one", "two", "--judge-backend", "openai"): "name the judge: --judge-model",
    }
    found = {}
    for arguments in errors:
        done = command("compare", *arguments)
        found[arguments] = (done.returncode, done.stderr)
    assert found == {key: (1, f"fastdatasets: {text}\n") for key, text in errors.items()}
