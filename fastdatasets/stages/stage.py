"""The interface of stages, and the writing of requests."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from backends import Progress
from fastdatasets.stages.prompts import Prompt
from store import WorkStore
from store.planning import PlannedRequest, Row, canonical
from store.runs import Run


class Stage(Protocol):
    """A step of a run. Its methods do what can be done now, and may be called at any time."""

    name: str

    def ingest(self, store: WorkStore) -> None:
        """Turn answers into rows of later stages, each answer once."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Store requests for rows without one; equal rows have equal requests."""


class RequestWriter:
    """Writes a stage's requests: system prompt, earlier turns, and the rendered template."""

    def __init__(
        self, run: Run, stage: str, params: dict[str, Any], *, with_history: bool = True
    ) -> None:
        """with_history: whether earlier turns and tools of a record go with its question."""
        self._prompt = Prompt(stage, run.templates, run.language)
        self._system_prompt = run.system_prompt
        self._params = canonical({"model": run.model, **run.params, **params})
        self._with_history = with_history

    def request(self, row: Row, **variables: object) -> PlannedRequest:
        """The request for a row."""
        messages: list[dict[str, Any]] = []
        # A record's own system prompt replaces the general one.
        if system := row.system or self._system_prompt:
            messages.append({"role": "system", "content": system})
        if self._with_history and row.history is not None:
            messages += map(_as_sent, msgspec.json.decode(row.history))
        for question, answer in zip(row.earlier_questions, row.earlier_answers, strict=True):
            messages += (
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            )
        messages.append({"role": "user", "content": self._prompt.render(row, **variables)})
        tools = row.tools if self._with_history else None
        return PlannedRequest(
            row.record,
            row.ordinal,
            row.generation,
            self._params,
            canonical(messages),
            tools=None if tools is None else canonical(msgspec.json.decode(tools)),
        )


def _as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """A message as servers take it: without a tool's name, and the reasoning of earlier turns,
    which models are not shown.
    """
    return {
        name: value for name, value in message.items() if name not in ("reasoning_content", "name")
    }
