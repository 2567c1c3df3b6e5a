"""The interface of stages, and the writing of requests."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from backends import Progress
from fastdatasets.stages.prompts import Prompt
from store import WorkStore
from store.planning import PlannedRequest, Row
from store.runs import Run

_CANONICAL = msgspec.json.Encoder(order="sorted")


class Stage(Protocol):
    """A step of a run. Its methods do what can be done now, and may be called at any time."""

    name: str

    def ingest(self, store: WorkStore) -> None:
        """Turn answers into rows of later stages, each answer once."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Store requests for rows without one; equal rows have equal requests."""


class RequestWriter:
    """Writes a stage's requests: the system prompt, if there is one, and the rendered template."""

    def __init__(self, run: Run, stage: str, params: dict[str, Any]) -> None:
        self._prompt = Prompt(stage, run.templates, run.language)
        self._system_prompt = run.system_prompt
        self._params = canonical({"model": run.model, **run.params, **params})

    def request(self, row: Row, **variables: object) -> PlannedRequest:
        """The request for a row."""
        messages = [{"role": "user", "content": self._prompt.render(row, **variables)}]
        # A chat's own system turn replaces the general system prompt.
        if system := row.system or self._system_prompt:
            messages.insert(0, {"role": "system", "content": system})
        return PlannedRequest(
            row.record, row.ordinal, row.generation, self._params, canonical(messages)
        )


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, so that equal requests have equal bytes."""
    return _CANONICAL.encode(value).decode()
