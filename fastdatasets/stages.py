"""Stages: what turns rows into requests. A mode is a tuple of them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from fastdatasets.prompts import Prompt
from store import UserError
from store.models import Ask, Mode, Record, Run

_CANONICAL = msgspec.json.Encoder(order="sorted")


class Stage(Protocol):
    """One question per row, asked of the teacher."""

    name: str

    def ask(self, record: Record) -> Ask:
        """The question for a record. Equal records give equal questions, byte for byte."""


class Answer:
    """Ask the teacher to answer the record's instruction."""

    name = "answer"

    def __init__(self, run: Run) -> None:
        self._prompt = Prompt(self.name, run.templates, run.language)
        self._system_prompt = run.system_prompt
        self._params = canonical({"model": run.model, **run.params})

    def ask(self, record: Record) -> Ask:
        """A chat of the system prompt, where there is one, and the rendered template."""
        messages = [{"role": "user", "content": self._prompt.render(record)}]
        # A chat's own system turn belongs to its question and goes before the general one.
        if system := record.system or self._system_prompt:
            messages.insert(0, {"role": "system", "content": system})
        return Ask(record.record, 0, 0, self._params, canonical(messages))


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, so that equal requests have equal bytes."""
    return _CANONICAL.encode(value).decode()


def stages_of(run: Run) -> tuple[Stage, ...]:
    """What a run's mode asks, in order; nothing where generation is skipped."""
    if run.skip_generation:
        return ()
    if run.mode is Mode.DISTILL:
        return (Answer(run),)
    raise UserError("augment is not there yet; this version distills")
