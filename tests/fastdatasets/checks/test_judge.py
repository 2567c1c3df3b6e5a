"""A judge's scores: asked for once, read or counted, in the files, in the bill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.openai_batch.failpoints import FailPoint
from fastdatasets.stages.judge import read_score
from store.answers.scores import Judgement
from tests.conftest import Command, ended, start, write_jsonl
from tests.llmserver import LLMServer, Reply, Usage

QUESTIONS = ["Who?", "Why?", "How?"]

pytestmark = pytest.mark.quick(1)  # of both backends
USAGE = Usage(prompt_tokens=100, completion_tokens=10)


@pytest.fixture(autouse=True)
def _models(server: LLMServer) -> None:
    """A teacher that numbers all its answers, and a judge whose score is in the answer."""
    numbers: dict[str, int] = {}

    def answer(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if (judged := re.search(r"\[Answer\]\n(.*)\n\[End of the answer\]", prompt)) is None:
            numbers[prompt] = numbers.get(prompt, 0) + 1
            return Reply(f"{prompt[:-1]} {numbers[prompt]}", usage=USAGE)
        score = judged[1].rpartition(" ")[2]
        text = (
            "I would rather not" if judged[1] == "How 2" else f'{{"reason": "R", "score": {score}}}'
        )
        return Reply(text, usage=USAGE)

    server.answer = answer


@pytest.fixture
def distill(command: Command, backend: str) -> Callable[..., Any]:
    """Distill the questions as the run 'r'."""

    def run(*options: object, code: int = 0) -> str:
        done = command(*arguments(backend), *options)
        assert done.returncode == code, done.stderr
        return done.stderr

    return run


def arguments(backend: str) -> tuple[object, ...]:
    """The command line of a run of the questions."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    base = ("distill", "--dataset-name", source, "--sample-size", 0, "--backend", backend)
    return (*base, "--model", "m", "--run", "r")


def rows(name: str = "distilled.json") -> list[dict[str, Any]]:
    """The rows of a file of the run."""
    return json.loads(Path("output/r", name).read_text("utf-8"))  # type: ignore[no-any-return]


def asked(server: LLMServer) -> list[tuple[str, int]]:
    """The models of all requests, and how often each of them was asked."""
    models = [json.loads(body)["model"] for body in server.bill.executions.elements()]
    return sorted((model, models.count(model)) for model in set(models))


def test_best_answers(server: LLMServer, distill: Callable[..., Any], command: Command) -> None:
    """Each answer has its score and reason; the best ones, or those from a score on, train."""
    said = distill("--samples", 3, "--judge", "--keep", "best")
    scores = {(row["output"], row["score"], row["score_reason"]) for row in rows()}
    assert scores == {
        (f"{question[:-1]} {n}", None if (question, n) == ("How?", 2) else n, reason)
        for question in QUESTIONS
        for n in (1, 2, 3)
        for reason in ("" if (question, n) == ("How?", 2) else "R",)
    }
    assert "1 answers have no score: what the judge wrote has none from 1 to 10\n" in said
    best = [row["output"] for row in rows("distilled-alpaca.json")]
    assert best == ["Who 3", "Why 3", "How 3"]
    done = command("export", "r", "--keep", "all", "--min-score", 3)
    assert [row["output"] for row in rows("distilled-alpaca.json")] == best
    assert (
        "in distilled.json, but left out of the training files: 5 with a score below 3, 1 without "
        "a score\n"
    ) in done.stderr
    assert asked(server) == [("m", 18)]


def test_judge_of_its_own(server: LLMServer, distill: Callable[..., Any], command: Command) -> None:
    """Another model judges, with its own template; its cost is a stage of its own."""
    Path("judge.j2").write_text(
        "Rate {{ instruction }}\n[Answer]\n{{ answer }}\n[End of the answer]"
    )
    options = ("--judge-model", "gpt-4.1-mini", "--judge-template", "judge.j2")
    prices = ("--price-in", 1, "--price-out", 1, "--judge-price-in", 2, "--judge-price-out", 3)
    said = distill(*options, *prices, "--max-cost", 1)
    assert [row["score"] for row in rows()] == [1, 1, 1]
    assert asked(server) == [("gpt-4.1-mini", 3), ("m", 3)]
    cost = json.loads(command("status", "r", "--json").stdout)["cost"]
    assert [(one["name"], one["answers"]) for one in cost["stages"]] == [
        ("answer", 3), ("judge", 3),
    ]  # fmt: skip
    assert cost["spent"] == pytest.approx(3 * (110 + 230) / 1e6)
    assert "; then 3 scores by the judge: " in said


def test_what_a_check_rejected_is_not_judged(
    server: LLMServer, distill: Callable[..., Any]
) -> None:
    """An answer that trains nothing is not paid for again; one that replaces it is judged."""
    teacher = server.answer
    cut: list[str] = []

    def answer(body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"] == "Why?" and not cut:
            cut.append("Why?")
            return Reply("Wh", finish_reason="length")
        return teacher(body)

    server.answer = answer
    distill("--judge")
    assert [row["score"] for row in rows()] == [1, None, 1]
    assert asked(server) == [("m", 5)]


@pytest.mark.slow
def test_retried_answers_are_judged_again(
    server: LLMServer, distill: Callable[..., Any], command: Command
) -> None:
    """The score is that of the answer that counts; equal requests are not sent again."""
    teacher = server.answer
    server.answer = lambda body: (
        Reply(" ") if body["messages"][-1]["content"] == "Why?" else teacher(body)
    )
    distill("--judge", "--keep-flagged")
    assert [row["score"] for row in rows()] == [1, None, 1]
    server.answer = teacher
    done = command("resume", "r", "--retry-flagged", "empty")
    assert (done.returncode, [row["score"] for row in rows()]) == (0, [1, 1, 1])
    assert asked(server) == [("m", 8)]


REFUSED = [
    (("--keep", "best"), "--keep best takes the scores of a judge: start a run with --judge"),
    (("--min-score", 5), "--min-score takes the scores of a judge: start a run with --judge"),
    (
        ("--judge", "--skip-generation"),
        "--judge is for the teacher's answers, and --skip-generation takes none",
    ),
    (("--judge", "--images"), "--judge reads texts only: leave out --images, or --judge"),
    (("--judge-backend", "vllm"), "name the judge's model for vllm: --judge-model"),
    (
        ("--judge-model", "other", "--max-cost", 1, "--price-in", 1, "--price-out", 1),
        "--max-cost needs a price, and none of other ",
    ),
    (
        ("--judge-model", "other", "--judge-price-in", 1),
        "--judge-price-in and --judge-price-out go together: give both or none",
    ),
]


@pytest.mark.quick(4)
@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refused(distill: Callable[..., Any], options: tuple[object, ...], message: str) -> None:
    """What cannot be judged, or paid, is an error before anything is made."""
    assert distill(*options, code=1).startswith(f"fastdatasets: {message}")
    assert not Path("output").exists()


@pytest.mark.slow
@pytest.mark.parametrize("point", [FailPoint.CREATED, FailPoint.COLLECTED])
@pytest.mark.quick(1)
def test_kill_between_stages(server: LLMServer, point: FailPoint) -> None:
    """A kill -9 in either stage's job loses no answer and no score, and asks for none twice."""
    env = {"FASTDATASETS_FAILPOINT": point.value}
    first = start(*arguments("openai-batch"), "--judge", env=env)
    codes = [ended(first), ended(start("resume", "r", env=env))]
    assert codes == [-9, -9]
    assert ended(start("resume", "r")) == 0
    server.settle()
    assert ([row["score"] for row in rows()], asked(server)) == ([1, 1, 1], [("m", 6)])
    assert server.bill.twice() == []


WRITTEN = {
    '{"reason": "good", "score": 8}': (8, "good"),
    'Thus:\n```json\n{"reason": "good", "score": "7"}\n```': (7, "good"),
    '{"score": 3} no, rather {"reason": "bad", "score": 2.0}': (2, "bad"),
    '<think>{"score": 1}</think>{"score": 9}': (9, ""),
    '{"reason": "great", "score": 11}': (None, ""),
    '{"reason": "half", "score": 7.5}': (None, ""),
    '{"score": true}': (None, ""),
    '{"score": [8]}': (None, ""),
    "8 of 10": (None, ""),
    "": (None, ""),
    "{" * 5000: (None, ""),
}


def test_scores_are_read_and_not_guessed() -> None:
    """A score is a whole number from 1 to 10 in a JSON object, and nothing else."""
    found = {}
    for text in WRITTEN:
        score = read_score(Judgement(0, 0, 0, "id", text))
        found[text] = (score.score, score.reason)
    assert found == WRITTEN
