"""The stage that has the teacher answer records and variants."""

from __future__ import annotations

from backends import Progress
from fastdatasets.checks.ingest import check_answers
from fastdatasets.stages.stage import RequestWriter
from store import WorkStore
from store.planning import PlannedRequest, Row
from store.runs import Run


class Answer:
    """Ask the teacher to answer each record, and each variant of it."""

    name = "answer"

    def __init__(self, run: Run) -> None:
        self.run = run
        self._writer = RequestWriter(run, self.name, {})

    def ingest(self, store: WorkStore) -> None:
        """Check new answers."""
        check_answers(store, self.run)

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Plan the rows that have no request yet."""
        for rows in store.planning.rows_without_request(self.name):
            store.planning.add(self.name, [self.request(row) for row in rows])
            progress.update(store)

    def request(self, row: Row) -> PlannedRequest:
        """The request for a row."""
        return self._writer.request(row)
