"""The result of a command: the run's status, the files written, and what is missing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastdatasets.exports.writers import Exported
from store import RunFolder, Unfinished
from store.results import FailureKind
from store.status import State, Status

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run after a command: its status, the files written, why requests failed.

    missing: rows that the files lack, where the run was exported before it was done.
    """

    folder: RunFolder
    status: Status
    exported: tuple[Exported, ...]
    reasons: tuple[tuple[FailureKind, str, int], ...]
    missing: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that were written."""
        return tuple(file.path for file in self.exported if file.rows)

    def to_dataset(self) -> Dataset:
        """The rows of distilled.json as a dataset; raises Unfinished where none was written."""
        if not self.files:
            self.raise_if_left()
        from datasets import Dataset

        return Dataset.from_list(json.loads(self.files[0].read_bytes()))

    def raise_if_left(self) -> None:
        """Raise Unfinished, saying what is left, unless the run is done."""
        counts = self.status.requests
        missing = f"{self.missing} rows are missing from the files. " if self.missing else ""
        if counts.failed:
            why = "; ".join(f"{n} × {message}" for _, message, n in self.reasons)
            raise Unfinished(
                f"{missing}{counts.failed} of {counts.total} requests failed for good and are in "
                f"no export ({why}). "
                f"Send them again: fastdatasets resume {self.folder.path} --retry-failed"
            )
        if lost := self.status.lost:
            of = f" of {len(lost)} jobs" if len(lost) > 1 else ""
            raise Unfinished(
                f"{self.status.lost_requests} requests{of} are lost at the server: "
                f"{lost[0].reason}. fastdatasets resume {self.folder.path} polls again; with "
                "--resubmit-lost it sends, and pays for, them again"
            )
        if counts.pending or counts.in_flight:
            raise Unfinished(
                f"{missing}{counts.pending} requests are pending, {counts.in_flight} in flight. "
                f"To continue: fastdatasets resume {self.folder.path}"
            )
        if self.status.state is not State.DONE:
            raise Unfinished(
                f"{missing}The run is not complete. "
                f"To continue: fastdatasets resume {self.folder.path}"
            )
        training = [file for file in self.exported if file.format is not None]
        if training and not any(file.rows for file in training):
            cut = f"; {self.status.truncated} were cut off at the token limit, which "
            cut += "resume --retry-truncated doubles"
            raise Unfinished(
                "no row is left to train on, so no training file was written"
                + (cut if self.status.truncated else "")
            )
