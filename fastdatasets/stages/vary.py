"""The stage that has the teacher write variants of records."""

from __future__ import annotations

import re
from dataclasses import replace

from backends import Progress
from fastdatasets.checks.retry import check_variants
from fastdatasets.stages.stage import RequestWriter
from fastdatasets.stages.variants import SCHEMA_KEY, distinct, parse_variants
from store import WorkStore
from store.planning import AnswerToIngest, IngestedAnswer, PlannedRequest, Row
from store.runs import Run

# Instructions that process an input text, which may be missing.
_NEEDS_TEXT = re.compile(
    r"提取|抽取|分析|总结|概括|归纳|摘要|extract|analy[sz]|summari[sz]|sum up", re.IGNORECASE
)

# For backends with structured outputs; without them the prompt requests a bare array.
VARIANTS_SCHEMA = {
    "type": "object",
    "properties": {SCHEMA_KEY: {"type": "array", "items": {"type": "string"}}},
    "required": [SCHEMA_KEY],
    "additionalProperties": False,
}


class Vary:
    """Ask the teacher for new instructions of each record's kind."""

    name = "vary"

    def __init__(self, run: Run, max_generations: int) -> None:
        self.run = run
        self._num_aug = run.num_aug
        self._max_generations = max_generations
        # The run's response_format is for answers.
        params = {name: value for name, value in run.params.items() if name != "response_format"}
        self._writer = RequestWriter(
            replace(run, params=params),
            self.name,
            {"json_schema": VARIANTS_SCHEMA},
            with_history=False,
        )

    def ingest(self, store: WorkStore) -> None:
        """Store the variants of new answers, without near-duplicates."""
        for answers in store.planning.answers_to_ingest(self.name):
            ingested = [self._variants(answer) for answer in answers]
            verdicts = [
                verdict
                for one in ingested
                if (verdict := check_variants(one, self.name, self._wanted(one.answer)))
            ]
            store.planning.add_ingested(self.name, ingested, verdicts)

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Plan where variants are missing, up to max_generations times a record."""
        pages = store.planning.records_short_of_variants(self.name, self._max_generations)
        for rows in pages:
            store.planning.add(self.name, [self._request(row) for row in rows])
            progress.update(store)

    def _request(self, row: Row) -> PlannedRequest:
        return self._writer.request(
            row,
            count=self._num_aug - len(row.known_variants),
            known_variants=row.known_variants,
            needs_text=bool(_NEEDS_TEXT.search(row.instruction)),
        )

    def _wanted(self, answer: AnswerToIngest) -> int:
        """How many variants its record lacks."""
        return self._num_aug - len(answer.known_variants)

    def _variants(self, answer: AnswerToIngest) -> IngestedAnswer:
        candidates = parse_variants(answer.text)
        if candidates is None:
            return IngestedAnswer(answer, None, 0)
        known = (answer.instruction, *answer.known_variants)
        kept, dropped = distinct(candidates, known, self._wanted(answer))
        return IngestedAnswer(answer, tuple(kept), dropped)
