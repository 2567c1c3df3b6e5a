"""The stages that have the teacher answer a conversation's questions, one after the other."""

from __future__ import annotations

from backends import Progress
from fastdatasets.checks.ingest import check_answers
from fastdatasets.stages.stage import RequestWriter
from store import WorkStore
from store.runs import Run

# Of all turns; the ordinal of a row tells which. The last question's is the final stage.
TURN_STAGE = "turn"


class Turn:
    """Ask the teacher to answer one of the questions of each conversation.

    Each is asked on the teacher's own answers to the questions before it. A conversation whose
    earlier question failed for good is not continued.
    """

    def __init__(self, run: Run, number: int | None) -> None:
        """number: of a question before the last, from 0; None: the last one, of the final stage.

        The templates are those of the final stage.
        """
        self.name = run.final_stage if number is None else TURN_STAGE
        self.run = run
        self._number = number
        self._writer = RequestWriter(run, run.final_stage, {})

    def ingest(self, store: WorkStore) -> None:
        """Check new answers to last questions. Those to others are read where they are."""
        if self._number is None:
            check_answers(store, self.run)

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Plan where all earlier questions are answered, and this one has no request yet."""
        for rows in store.planning.rows_of_turn(TURN_STAGE, self._number):
            store.planning.add(self.name, [self._writer.request(row) for row in rows])
            progress.update(store)
