"""The stage that has the teacher answer a conversation's earlier questions, one after the other."""

from __future__ import annotations

from backends import Progress
from fastdatasets.stages.stage import RequestWriter
from store import WorkStore
from store.runs import Run

# Of all turns; the ordinal of a row tells which. The last question's is the final stage.
TURN_STAGE = "turn"


class Turn:
    """Ask the teacher to answer one of the questions before the last of each conversation.

    Each is asked on the teacher's own answers to the questions before it. A conversation whose
    earlier question failed for good is not continued.
    """

    name = TURN_STAGE

    def __init__(self, run: Run, number: int) -> None:
        """number: of the question, from 0; templates are those of the final stage."""
        self._number = number
        self._writer = RequestWriter(run, run.final_stage, {})

    def ingest(self, store: WorkStore) -> None:
        """Do nothing: later turns read the answers where they are."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Plan the conversations that have no request for this question yet."""
        for rows in store.planning.rows_of_turn(self.name, self._number):
            store.planning.add(self.name, [self._writer.request(row) for row in rows])
            progress.update(store)


class LastTurn:
    """Ask the teacher to answer the last question of each conversation."""

    def __init__(self, run: Run) -> None:
        self.name = run.final_stage
        self._writer = RequestWriter(run, self.name, {})

    def ingest(self, store: WorkStore) -> None:
        """Do nothing: answers are exported as they are."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Plan the conversations whose earlier questions are all answered."""
        for rows in store.planning.rows_of_turn(TURN_STAGE, None):
            store.planning.add(self.name, [self._writer.request(row) for row in rows])
            progress.update(store)
