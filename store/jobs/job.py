"""A job of the Batch API: one JSONL file, and the batches made of it. Folded from its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from store.costs.money import Bounds, Rates, Usage
from store.jobs.events import (
    Awaited,
    BatchCounts,
    BatchEvent,
    Cancelling,
    Closed,
    CloseReason,
    Collected,
    Created,
    Creating,
    Duplicate,
    Ended,
    JobEvent,
    Lost,
    NotFound,
    Planned,
    QuotaRefused,
    Refused,
    Uploaded,
)


class JobState(StrEnum):
    """What a job needs next."""

    PLANNED = "planned"  # to be uploaded
    UPLOADED = "uploaded"  # to be created
    UNKNOWN = "unknown"  # to be looked for: a POST may or may not have worked
    OPEN = "open"  # to be polled
    ENDED = "ended"  # to be collected
    LOST = "lost"  # to be asked about again, or given up by the user
    CLOSED = "closed"  # nothing


class BatchState(StrEnum):
    """What one batch of a job needs next."""

    OPEN = "open"
    ENDED = "ended"
    LOST = "lost"  # its answers, or some of them, cannot be had
    OVER = "over"  # collected, or nothing ran


class Download(msgspec.Struct, frozen=True):
    """A download of a file whose size is not what the server says, and how often it came alike."""

    sha256: str
    times: int


VANISHED = "vanished"  # the status of a batch that the server does not know


@dataclass(slots=True)
class Batch:
    """One batch at the server; completed and failed are its request counts, None: not told."""

    batch_id: str
    state: BatchState = BatchState.OPEN
    status: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int | None = None
    failed: int | None = None
    cancelled_by_us: bool = False
    errors: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0  # at a batch that has ended and does not deliver
    awaited_since: float = 0.0  # unix seconds of the first of them
    downloads: dict[str, Download] = field(default_factory=dict)  # by file id
    answers: int = 0  # stored of its files
    failures: int = 0  # likewise: failed attempts
    usage: Usage = field(default_factory=Usage)  # billed
    unsure: Usage = field(default_factory=Usage)  # billed at most beside it: counts never came
    shown: object = None  # where it is lost: what the server showed of it then
    absent: list[str] = field(default_factory=list)  # and the files that it named and did not have

    @property
    def file_ids(self) -> list[str]:
        """The files that it names."""
        return [file_id for file_id in (self.output_file_id, self.error_file_id) if file_id]

    @property
    def was_collected(self) -> bool:
        """Whether it ran, and what it delivered is stored."""
        return self.state is BatchState.OVER and bool(self.status)

    def times_downloaded(self, file_id: str, sha256: str) -> int:
        """How often in a row a file came with these bytes and not the size the server says."""
        last = self.downloads.get(file_id)
        return last.times if last is not None and last.sha256 == sha256 else 0

    def apply_counts(self, counts: BatchCounts) -> None:
        """Take in what its files held and billed."""
        self.answers = counts.results
        self.failures += counts.failures + counts.missing
        self.usage, self.unsure = counts.usage, counts.unsure


@dataclass(slots=True)
class Job:
    """A job as its events tell it; tokens are estimated prompt tokens, bytes the file's."""

    job_id: str
    base_url: str
    requests: int
    tokens: int
    sha256: str
    prompt_bytes: int  # with max_tokens: what its requests cost at most
    max_tokens: int
    rates: Rates | None  # when it was planned, null where no price was known
    round: int  # when it was planned
    state: JobState = JobState.PLANNED
    file_id: str | None = None
    attempt: int = 0  # POSTs of the batch so far
    maybe_duplicated: bool = False  # a POST of unknown fate was given up: a twin may turn up
    quota_refused: bool = False  # refused for the enqueued-token limit: waits for room
    enqueued_when_refused: int = 0  # jobs of ours that were enqueued when it was refused
    refusal: str = ""  # the server's words of the limit
    closed_as: CloseReason | None = None
    lost_for: str = ""  # the reason, where it is lost
    batches: dict[str, Batch] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        """What all its batches billed."""
        return sum((batch.usage for batch in self.batches.values()), Usage())

    @property
    def unsure(self) -> Usage:
        """What all its batches billed at most for answers that are not there, or without usage."""
        return sum((batch.unsure for batch in self.batches.values()), Usage())

    @property
    def answers(self) -> int:
        """Answers that came with its batches."""
        return sum(batch.answers for batch in self.batches.values())

    @property
    def failures(self) -> int:
        """Failed attempts of its batches."""
        return sum(batch.failures for batch in self.batches.values())

    @property
    def undelivered(self) -> bool:
        """Whether a batch of it has ended without what it says it completed."""
        return self.state is JobState.LOST or any(
            batch.looks for batch in self.batches.values() if batch.state is not BatchState.OVER
        )

    def at_risk(self, rates: Rates) -> int:
        """Picodollars at most of what is about to be sent or at the server."""
        going = sum(
            batch.state in (BatchState.OPEN, BatchState.ENDED) for batch in self.batches.values()
        )
        unsent = self.state in (JobState.PLANNED, JobState.UPLOADED, JobState.UNKNOWN)
        if unsent or (self.closed_as is CloseReason.FORGOTTEN and not self.batches):
            going += 1  # it is about to be sent, or may have been
        return rates.cost(self.bounds.most) * going

    @property
    def bounds(self) -> Bounds:
        """What bounds the usage of all its requests."""
        return Bounds(self.prompt_bytes, self.max_tokens, self.requests)

    @property
    def is_unsent(self) -> bool:
        """Whether nothing of it runs at the server, or may."""
        return self.state in (JobState.PLANNED, JobState.UPLOADED) and not self.maybe_duplicated

    @property
    def is_enqueued(self) -> bool:
        """Whether its tokens count against the server's limit, as far as we know."""
        return self.state in (JobState.UNKNOWN, JobState.OPEN)

    def apply(self, event: JobEvent) -> None:
        """Take in one event."""
        match event:
            case Uploaded(file_id):
                self.state, self.file_id = JobState.UPLOADED, file_id
            case Creating(attempt):
                self.state, self.attempt = JobState.UNKNOWN, attempt
                self.quota_refused = False
            case Refused():
                self._refused(event.message, event.enqueued_when_refused, event.quota_refused)
            case NotFound():
                self.state, self.maybe_duplicated = JobState.UPLOADED, True
            case Closed(reason):
                self.state, self.closed_as = JobState.CLOSED, reason
                self.quota_refused = False
            case Planned():
                pass
            case _:
                self._apply_to_batch(event)

    def _refused(self, message: str, enqueued: int, quota_refused: bool) -> None:
        self.state = JobState.UPLOADED
        self.quota_refused, self.enqueued_when_refused = quota_refused, enqueued
        if quota_refused:
            self.refusal = message

    def _apply_to_batch(self, event: BatchEvent) -> None:
        batch = self.batches.setdefault(event.batch_id, Batch(event.batch_id))
        match event:
            case Created():
                self.state, self.quota_refused = JobState.OPEN, False
                batch.state, batch.status = BatchState.OPEN, ""  # lost ones are looked at again
                batch.looks, batch.usage, batch.unsure = 0, Usage(), Usage()
                # Whoever lost the answer of one POST may have repeated it.
                self.maybe_duplicated = self.maybe_duplicated or event.adopted
            case Duplicate():
                self.batches[event.cancelled].cancelled_by_us = True
                if self.state is JobState.CLOSED:
                    self.state = JobState.OPEN  # the duplicate has to be cancelled and collected
            case Cancelling():
                batch.cancelled_by_us = True
            case QuotaRefused():
                batch.state = BatchState.OVER
                if all(known.state is BatchState.OVER for known in self.batches.values()):
                    self._refused(event.message, event.enqueued_when_refused, quota_refused=True)
            case Ended():
                batch.state, batch.status = BatchState.ENDED, event.status
                batch.output_file_id = event.output_file_id
                batch.error_file_id = event.error_file_id
                batch.completed, batch.failed = event.completed, event.failed
                batch.errors = event.errors
            case Awaited():
                batch.state = BatchState.OPEN
                batch.awaited_since = batch.awaited_since if batch.looks else event.at
                batch.looks += 1
                batch.answers = event.results
                batch.downloads = {
                    file_id: Download(sha256, 1 + batch.times_downloaded(file_id, sha256))
                    for file_id, sha256 in event.downloads.items()
                }
            case Collected():
                batch.state = BatchState.OVER
                batch.apply_counts(event.counts)
            case Lost():
                self.state, self.lost_for = JobState.LOST, event.reason
                batch.state = BatchState.LOST
                batch.shown, batch.absent = event.shown, event.absent
                batch.apply_counts(event.counts)
        states = {known.state for known in self.batches.values()}
        if self.state in (JobState.OPEN, JobState.ENDED):
            self.state = JobState.OPEN if BatchState.OPEN in states else JobState.ENDED


def new_job(job_id: str, planned: Planned) -> Job:
    """A job as it was planned."""
    return Job(
        job_id,
        planned.base_url,
        planned.requests,
        planned.tokens,
        planned.sha256,
        planned.prompt_bytes,
        planned.max_tokens,
        planned.rates,
        planned.round,
    )
