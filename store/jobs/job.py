"""A job of the Batch API: one JSONL file and its batches, with a state folded from events."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from store.jobs.batch import Batch, BatchState
from store.jobs.events import (
    BatchEvent,
    Closed,
    CloseReason,
    Created,
    Creating,
    Duplicate,
    JobEvent,
    Lost,
    NotFound,
    Planned,
    QuotaRefused,
    Refused,
    Uploaded,
)
from store.money import Bounds, Rates, Usage


class JobState(StrEnum):
    """The state of a job: what is done with it next."""

    PLANNED = "planned"  # to be uploaded
    UPLOADED = "uploaded"  # to be created
    UNKNOWN = "unknown"  # to be looked up: the outcome of a POST is not known
    OPEN = "open"  # to be polled
    ENDED = "ended"  # to be collected
    LOST = "lost"  # to be polled again, or given up by the user
    CLOSED = "closed"  # nothing more is done


@dataclass(slots=True)
class Job:
    """A job, folded from its events; tokens: estimated prompt tokens."""

    job_id: str
    base_url: str
    requests: int
    tokens: int
    sha256: str
    prompt_bytes: int  # with max_tokens: limits of the usage of its requests
    max_tokens: int
    rates: Rates | None  # when it was planned; None: no price was known
    round: int  # when it was planned
    state: JobState = JobState.PLANNED
    file_id: str | None = None
    attempt: int = 0  # POSTs of the batch so far
    maybe_duplicated: bool = False  # a POST of unknown outcome was given up
    quota_refused: bool = False  # refused for the enqueued-token limit: waits for quota
    enqueued_when_refused: int = 0  # other jobs of this run that were enqueued then
    refusal: str = ""  # the server's message about the limit
    closed_as: CloseReason | None = None
    lost_reason: str = ""
    batches: dict[str, Batch] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        """What its batches were billed."""
        return sum((batch.usage for batch in self.batches.values()), Usage())

    @property
    def uncertain(self) -> Usage:
        """Maximum billed for its batches' answers that are missing or without usage."""
        return sum((batch.uncertain for batch in self.batches.values()), Usage())

    @property
    def answers(self) -> int:
        """Answers stored from its batches."""
        return sum(batch.answers for batch in self.batches.values())

    @property
    def failures(self) -> int:
        """Failed attempts of its batches."""
        return sum(batch.failures for batch in self.batches.values())

    @property
    def undelivered(self) -> bool:
        """Whether a batch of it has ended without answers that it counts as completed."""
        return self.state is JobState.LOST or any(
            batch.polls for batch in self.batches.values() if batch.state is not BatchState.CLOSED
        )

    def at_risk(self, rates: Rates) -> int:
        """Maximum picodollars of what is about to be sent or at the server."""
        unfinished = sum(
            batch.state in (BatchState.OPEN, BatchState.ENDED) for batch in self.batches.values()
        )
        unsent = self.state in (JobState.PLANNED, JobState.UPLOADED, JobState.UNKNOWN)
        if unsent or (self.closed_as is CloseReason.FORGOTTEN and not self.batches):
            unfinished += 1  # about to be sent, or possibly sent
        return rates.cost(self.bounds.most) * unfinished

    @property
    def bounds(self) -> Bounds:
        """Limits of the usage of all its requests."""
        return Bounds(self.prompt_bytes, self.max_tokens, self.requests)

    @property
    def is_unsent(self) -> bool:
        """Whether no batch of it is, or may be, at the server."""
        return self.state in (JobState.PLANNED, JobState.UPLOADED) and not self.maybe_duplicated

    @property
    def is_enqueued(self) -> bool:
        """Whether its tokens count against the server's enqueued-token limit."""
        return self.state in (JobState.UNKNOWN, JobState.OPEN)

    def apply(self, event: JobEvent) -> None:
        """Apply one event."""
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
        batch.apply(event)
        match event:
            case Created():
                self.state, self.quota_refused = JobState.OPEN, False
                # A gateway that lost the answer of a POST may have repeated it.
                self.maybe_duplicated = self.maybe_duplicated or event.adopted
            case Duplicate():
                self.batches[event.cancelled].cancelled_by_us = True
                if self.state is JobState.CLOSED:
                    self.state = JobState.OPEN  # the duplicate has to be cancelled and collected
            case QuotaRefused():
                if all(known.state is BatchState.CLOSED for known in self.batches.values()):
                    self._refused(event.message, event.enqueued_when_refused, quota_refused=True)
            case Lost():
                self.state, self.lost_reason = JobState.LOST, event.reason
        states = {known.state for known in self.batches.values()}
        if self.state in (JobState.OPEN, JobState.ENDED):
            self.state = JobState.OPEN if BatchState.OPEN in states else JobState.ENDED


def new_job(job_id: str, planned: Planned) -> Job:
    """A job with the event planned applied."""
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
