"""Stages: what turns rows into requests, and answers into rows. A mode is a tuple of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from backends import Progress
from fastdatasets.checks import check_variants
from fastdatasets.stages.prompts import Prompt
from fastdatasets.stages.variants import SCHEMA_KEY, distinct, parse_variants
from store import WorkStore
from store.planning import IngestedAnswer, PlannedRequest, Row, VariedAnswer
from store.runs import Mode, Run

_CANONICAL = msgspec.json.Encoder(order="sorted")

# An instruction that speaks of working on a text, which may not be there.
_NEEDS_TEXT = re.compile(
    r"提取|抽取|分析|总结|概括|归纳|摘要|extract|analy[sz]|summari[sz]|sum up", re.IGNORECASE
)

# What backends that can force a schema are asked to force; the prompt asks for the bare array.
VARIANTS_SCHEMA = {
    "type": "object",
    "properties": {SCHEMA_KEY: {"type": "array", "items": {"type": "string"}}},
    "required": [SCHEMA_KEY],
    "additionalProperties": False,
}


class Stage(Protocol):
    """A step of a run. Both verbs do what can be done now, and may be called again at any time."""

    name: str

    def ingest(self, store: WorkStore) -> None:
        """Turn answers that came into rows of later stages, each once."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Store the questions that are to be asked. Equal rows give equal questions."""


class Answer:
    """Ask the teacher to answer each record, and each variant of it."""

    name = "answer"

    def __init__(self, run: Run) -> None:
        self._questions = _Questions(run, self.name, {})

    def ingest(self, store: WorkStore) -> None:
        """Answers are what is exported: nothing comes of them."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Ask for all rows that have no ask yet."""
        for rows in store.planning.rows_to_answer():
            store.planning.add(self.name, [self.ask(row) for row in rows])
            progress.update(store)

    def ask(self, row: Row) -> PlannedRequest:
        """The question that a row is."""
        return self._questions.ask(row)


class Vary:
    """Ask the teacher for new instructions of each record's kind."""

    name = "vary"

    def __init__(self, run: Run, max_generations: int) -> None:
        self._num_aug = run.num_aug
        self._max_generations = max_generations
        self._questions = _Questions(run, self.name, {"json_schema": VARIANTS_SCHEMA})

    def ingest(self, store: WorkStore) -> None:
        """Commit the variants in the answers that came, without near-duplicates."""
        for answers in store.planning.answers_to_ingest():
            ingested = [self._variants(answer) for answer in answers]
            verdicts = (
                check_variants(
                    one.answer,
                    self.name,
                    None if one.variants is None else len(one.variants),
                    self._num_aug - len(one.answer.known_variants),
                )
                for one in ingested
            )
            store.planning.add_ingested(ingested, [one for one in verdicts if one is not None])

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Ask where variants are missing, up to max_generations times a record."""
        for rows in store.planning.rows_to_vary(self._max_generations):
            store.planning.add(self.name, [self._ask(row) for row in rows])
            progress.update(store)

    def _ask(self, row: Row) -> PlannedRequest:
        return self._questions.ask(
            row,
            count=self._num_aug - len(row.known_variants),
            known_variants=row.known_variants,
            needs_text=bool(_NEEDS_TEXT.search(row.instruction)),
        )

    def _variants(self, answer: VariedAnswer) -> IngestedAnswer:
        candidates = parse_variants(answer.text)
        if candidates is None:
            return IngestedAnswer(answer, None, 0)
        wanted = self._num_aug - len(answer.known_variants)
        kept, dropped = distinct(candidates, (answer.instruction, *answer.known_variants), wanted)
        return IngestedAnswer(answer, tuple(kept), dropped)


class _Questions:
    """The chats of a stage: the system prompt, where there is one, and the rendered template."""

    def __init__(self, run: Run, stage: str, params: dict[str, Any]) -> None:
        self._prompt = Prompt(stage, run.templates, run.language)
        self._system_prompt = run.system_prompt
        self._params = canonical({"model": run.model, **run.params, **params})

    def ask(self, row: Row, **variables: object) -> PlannedRequest:
        """The question for a row."""
        messages = [{"role": "user", "content": self._prompt.render(row, **variables)}]
        # A chat's own system turn belongs to its question and takes the general one's place.
        if system := row.system or self._system_prompt:
            messages.insert(0, {"role": "system", "content": system})
        asked = canonical(messages)
        return PlannedRequest(row.record, row.ordinal, row.generation, self._params, asked)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, so that equal requests have equal bytes."""
    return _CANONICAL.encode(value).decode()


def stages_of(run: Run, max_generations: int) -> Sequence[Stage]:
    """What a run's mode asks, in order; nothing where generation is skipped."""
    if run.skip_generation:
        return ()
    if run.mode is Mode.AUGMENT:
        return (Vary(run, max_generations), Answer(run))
    return (Answer(run),)
