"""The stage that has a judge score each answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from json import JSONDecoder
from typing import Any

import msgspec

from backends import Progress
from backends.registry import find_backend
from fastdatasets.stages.stage import RequestWriter
from store import WorkStore
from store.answers.scores import AnswerToJudge, Judgement, Score
from store.planning import PlannedRequest, Row
from store.runs import Run

BEST = 10

# For backends with structured outputs. The reason first: a model that has given one scores better.
SCORE_SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "score": {"type": "integer", "enum": list(range(1, BEST + 1))},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}

_DECODER = JSONDecoder(strict=False)  # a line end within a string is a common slip


def run_of_judge(run: Run) -> Run:
    """The run as its judge's requests are sent: the judge's backend, server, model, parameters."""
    judge = run.judge
    assert judge is not None, "the run has a judge"
    # A teacher at a server may have been moved to another one, with its judge.
    base_url = judge.base_url and (run.base_url or judge.base_url)
    return replace(
        run,
        backend=judge.backend,
        base_url=base_url,
        model=judge.model,
        params=judge.params | {"max_tokens": run.params["max_tokens"]},
        system_prompt=None,
    )


class Judge:
    """Ask the judge for a score of each answer, except those that a check keeps out of training."""

    name = "judge"

    def __init__(self, run: Run) -> None:
        self.run = run_of_judge(run)
        self._exclude = run.export.exclude
        self._writer = RequestWriter(
            self.run, self.name, {"json_schema": SCORE_SCHEMA}, with_history=False
        )

    def ingest(self, store: WorkStore) -> None:
        """Read the scores of new judgements."""
        for judgements in store.scores.to_read(self.name):
            store.scores.add([read_score(judgement) for judgement in judgements])

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Plan where an answer was not judged. Equal answers to equal questions are judged once."""
        for answers in store.scores.to_judge(self.name, self._exclude):
            store.planning.add(self.name, [self.request(answer) for answer in answers])
            progress.update(store)

    def request(self, answer: AnswerToJudge) -> PlannedRequest:
        """The request about an answer."""
        row = Row(
            answer.record,
            answer.ordinal,
            answer.instruction,
            answer.input,
            answer.original_output,
            fields=answer.fields,
            generation=answer.generation,
        )
        request = self._writer.request(
            row,
            answer=shown_to_judge(answer.output, answer.tool_calls),
            system=answer.system or "",
            turns=turns_of(answer.history),
        )
        return msgspec.structs.replace(
            request, version=answer.version, repeat=0, about=answer.request_id
        )


def params_of_judge(backend: str) -> dict[str, Any]:
    """What enters each request to a judge beside its limit: a temperature of 0 where it is local.

    At a server the model's own, since several models refuse any other.
    """
    return {} if find_backend(backend).uses_server else {"temperature": 0.0}


def shown_to_judge(text: str | None, tool_calls: str | None) -> str:
    """A turn as the judge reads it; tool_calls: JSON."""
    return "\n".join(filter(None, (text, tool_calls)))


def turns_of(history: str | None) -> list[dict[str, str]]:
    """Earlier turns as role and text; tool calls are JSON."""
    turns: list[dict[str, Any]] = [] if history is None else msgspec.json.decode(history)
    return [
        {
            "role": turn["role"],
            "text": shown_to_judge(
                turn.get("content"),
                msgspec.json.encode(calls).decode() if (calls := turn.get("tool_calls")) else None,
            ),
        }
        for turn in turns
    ]


def read_score(judgement: Judgement) -> Score:
    """The score in what the judge wrote: in the last JSON object with a number from 1 to 10.

    None where there is no such object: nothing is guessed from prose.
    """
    score, reason = None, ""
    for value in json_objects(judgement.text):
        if (found := _score_in(value)) is not None:
            score, reason = found, str(value.get("reason") or "")
    return Score(
        judgement.record,
        judgement.ordinal,
        judgement.generation,
        judgement.request_id,
        score,
        reason,
    )


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in what a model wrote, after its thinking."""
    text = text.rpartition("</think>")[2]
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        yield value
        start = text.find("{", end)


def _score_in(value: dict[str, Any]) -> int | None:
    """An object's score, where it is a whole number in the range; 8, 8.0 and "8" are."""
    score = value.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float, str)):
        return None
    try:
        number = float(score)
    except ValueError:
        return None
    return int(number) if number in range(1, BEST + 1) else None
