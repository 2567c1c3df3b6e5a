"""Several answers to each question, which of them are for training, and rejected ones again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from backends.openai_batch.failpoints import FailPoint
from tests.conftest import Command, start, write_jsonl
from tests.llmserver import LLMServer, Reply

QUESTIONS = ["Who?", "Why?", "How?"]

pytestmark = pytest.mark.quick(1)  # of both backends


@pytest.fixture
def distill(command: Command, backend: str) -> Callable[..., Any]:
    """Distill the questions as the run 'r'."""

    def run(*options: object, code: int = 0) -> str:
        write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
        base = ("--dataset-name", "d.jsonl", "--sample-size", 0, "--backend", backend)
        done = command("distill", *base, "--model", "m", "--run", "r", *options)
        assert done.returncode == code, done.stderr
        return done.stderr

    return run


def numbered(server: LLMServer, **replies: Any) -> None:
    """Let the teacher number its answers to each question; replies: of 'question number'."""
    numbers = {question: count() for question in QUESTIONS}

    def answer(body: dict[str, Any]) -> Any:
        question = body["messages"][-1]["content"]
        name = f"{question[:-1]}{next(numbers[question])}"
        return replies.get(name, Reply(name))

    server.answer = answer


def rows(name: str = "distilled.json") -> list[dict[str, Any]]:
    """The rows of a file of the run."""
    return json.loads(Path("output/r", name).read_text("utf-8"))  # type: ignore[no-any-return]


def outputs(name: str = "distilled-alpaca.json") -> dict[str, set[str]]:
    """The outputs in a file of the run by their question."""
    found: dict[str, set[str]] = {}
    for row in rows(name):
        found.setdefault(row["instruction"], set()).add(row["output"])
    return found


def test_answers_to_each_question(server: LLMServer, distill: Callable[..., Any]) -> None:
    """Each question is asked so many times, and each answer is a row with its number."""
    numbered(server)
    distill("--samples", 3)
    assert [(row["instruction"], row["generation"]) for row in rows()] == [
        (question, generation) for question in QUESTIONS for generation in range(3)
    ]
    assert outputs("distilled.json") == {
        question: {f"{question[:-1]}{number}" for number in range(3)} for question in QUESTIONS
    }
    assert outputs() == outputs("distilled.json")
    assert Counter(server.bill.executions.values()) == {3: 3}


def test_first_answer_that_is_not_left_out(server: LLMServer, distill: Callable[..., Any]) -> None:
    """--keep first takes the first answer that no check keeps out of the training files."""
    cut = Reply("Cut", finish_reason="length")
    numbered(server, Who0=cut, Who1=cut, Who2=cut, Why1=Reply(""))
    said = distill("--samples", 3, "--keep", "first")
    kept = {row["instruction"]: row["output"] for row in rows("distilled-alpaca.json")}
    usable = [row for row in rows() if not row["verdicts"]]
    assert kept == {row["instruction"]: row["output"] for row in reversed(usable)}
    assert set(kept) == {"Why?", "How?"}
    assert (
        "in distilled.json, but left out of the training files: 1 empty, 3 not the first, "
        "3 truncated\n"
    ) in said
    assert [row["verdicts"] for row in rows() if row["instruction"] == "Who?"] == [
        [{"check": "truncated", "reason": "cut off at the token limit"}]
    ] * 3


def test_flagged_answers(server: LLMServer, distill: Callable[..., Any], command: Command) -> None:
    """Flagged answers are left out by default, kept where asked for, and sent again once."""
    numbered(server, Who0=Reply(""), Why0=Reply("  "))
    distill()
    assert set(outputs()) == {"How?"}
    assert command("export", "r", "--keep-flagged").returncode == 0
    assert set(outputs()) == {"How?", "Why?"}  # an answer without any text is in no training file
    done = command("resume", "r", "--retry-flagged", "empty")
    assert "2 requests with flagged answers are sent again\n" in done.stderr
    assert (done.returncode, outputs()) == (
        0,
        {"Who?": {"Who1"}, "Why?": {"Why1"}, "How?": {"How0"}},
    )
    assert not any("verdicts" in row for row in rows())
    done = command("resume", "r", "--retry-flagged", "empty")
    assert (done.returncode, done.stderr) == (
        1,
        "run output/r\nfastdatasets: --retry-flagged empty: no answer has this verdict; those of "
        "the run: none\n",
    )
    assert sum(server.bill.executions.values()) == 5


@pytest.mark.slow
def test_export_after_a_kill(server: LLMServer, command: Command) -> None:
    """Answers that a killed command left unchecked are checked before they are exported."""
    numbered(server, Why0=Reply("Cut", finish_reason="length"))
    write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    options = ("--sample-size", 0, "--backend", "openai-batch", "--model", "m", "--run", "r")
    point = {"FASTDATASETS_FAILPOINT": FailPoint.COLLECTED.value}
    killed = start("distill", "--dataset-name", "d.jsonl", *options, env=point)
    killed.communicate()
    assert killed.returncode == -9
    command("export", "r")
    assert set(outputs()) == {"Who?", "How?"}


SAME = [
    (("--temperature", 0), "temperature 0: all answers to a question would be equal. Raise it: "),
    (("--param", "top_k=1"), "top_k 1: all answers to a question would be equal. Raise it: "),
    (("--param", "seed=7"), "seed 7: all answers to a question would be equal. Leave it out"),
]


@pytest.mark.quick(2)
@pytest.mark.parametrize(("options", "message"), SAME)
def test_answers_that_would_be_equal(
    distill: Callable[..., Any], options: tuple[object, ...], message: str
) -> None:
    """Parameters with which a model repeats itself are refused, and no run is made."""
    said = distill("--samples", 2, *options, code=1)
    assert said.startswith(f"fastdatasets: --samples 2 with {message}")
    assert not Path("output").exists()
