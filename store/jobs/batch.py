"""A batch of a job at the server, with a state folded from events."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from store.jobs.events import (
    Awaited,
    BatchCounts,
    BatchEvent,
    Cancelling,
    Collected,
    Created,
    Ended,
    Lost,
    QuotaRefused,
)
from store.money import Usage


class BatchState(StrEnum):
    """The state of one batch of a job."""

    OPEN = "open"
    ENDED = "ended"
    LOST = "lost"  # the server does not deliver all of its answers
    CLOSED = "closed"  # collected, or no request was executed


class Download(msgspec.Struct, frozen=True):
    """A file whose size differs from the reported one, and how often it came with these bytes."""

    sha256: str
    times: int


VANISHED = "vanished"  # the status of a batch that the server does not know


@dataclass(slots=True)
class Batch:
    """One batch at the server; completed, failed: its request counts, None: not reported."""

    batch_id: str
    state: BatchState = BatchState.OPEN
    status: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int | None = None
    failed: int | None = None
    cancelled_by_us: bool = False
    errors: list[dict[str, Any]] = field(default_factory=list)
    polls: int = 0  # since it ended without all of its answers
    awaited_since: float = 0.0  # Unix seconds of the first of these polls
    downloads: dict[str, Download] = field(default_factory=dict)  # by file id
    answers: int = 0  # stored from its files
    failures: int = 0  # failed attempts in its files
    usage: Usage = field(default_factory=Usage)  # billed
    uncertain: Usage = field(default_factory=Usage)  # maximum billed besides: no usage was reported
    shown: object = None  # of a lost batch: the server's object of it
    absent: list[str] = field(default_factory=list)  # of a lost batch: its files that did not exist

    @property
    def file_ids(self) -> list[str]:
        """The ids of its files."""
        return [file_id for file_id in (self.output_file_id, self.error_file_id) if file_id]

    @property
    def was_collected(self) -> bool:
        """Whether it was executed and its answers are stored."""
        return self.state is BatchState.CLOSED and bool(self.status)

    def times_downloaded(self, file_id: str, sha256: str) -> int:
        """How often in a row a file of another size than reported came with these bytes."""
        last = self.downloads.get(file_id)
        return last.times if last is not None and last.sha256 == sha256 else 0

    def apply(self, event: BatchEvent) -> None:
        """Apply one event of this batch."""
        match event:
            case Created():
                self.state, self.status = BatchState.OPEN, ""  # a lost batch is polled again
                self.polls, self.usage, self.uncertain = 0, Usage(), Usage()
            case Cancelling():
                self.cancelled_by_us = True
            case QuotaRefused():
                self.state = BatchState.CLOSED
            case Ended():
                self.state, self.status = BatchState.ENDED, event.status
                self.output_file_id = event.output_file_id
                self.error_file_id = event.error_file_id
                self.completed, self.failed = event.completed, event.failed
                self.errors = event.errors
            case Awaited():
                self.state = BatchState.OPEN
                self.awaited_since = self.awaited_since if self.polls else event.at
                self.polls += 1
                self.answers = event.results
                self.downloads = {
                    file_id: Download(sha256, 1 + self.times_downloaded(file_id, sha256))
                    for file_id, sha256 in event.downloads.items()
                }
            case Collected():
                self.state = BatchState.CLOSED
                self._add_counts(event.counts)
            case Lost():
                self.state = BatchState.LOST
                self.shown, self.absent = event.shown, event.absent
                self._add_counts(event.counts)

    def _add_counts(self, counts: BatchCounts) -> None:
        """Add the counts of its files."""
        self.answers = counts.results
        self.failures += counts.failures + counts.missing
        self.usage, self.uncertain = counts.usage, counts.uncertain
