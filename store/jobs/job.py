"""A job of the Batch API: one JSONL file, and the batches made of it. Folded from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from store.costs.money import Bounds, Rates, Usage


class JobEvent(StrEnum):
    """What happens to a job, in the order of a quiet life and its detours."""

    PLANNED = "planned"  # its requests and its file's digest are decided; nothing was sent
    UPLOADED = "uploaded"  # the file is at the server: file_id
    CREATING = "creating"  # POST /batches is about to be sent: attempt
    CREATED = "created"  # a batch is known: batch_id, and whether it was adopted
    REFUSED = "refused"  # the server said no: nothing was created, the same file may go again
    NOT_FOUND = (
        "not_found"  # looked for through the grace time, not found: the same file may go again
    )
    DUPLICATE = (
        "duplicate"  # a second batch of the same file turned up: one of the two is to be cancelled
    )
    CANCELLING = "cancelling"  # the user wants the batch cancelled, which is asked until it takes
    QUOTA_REFUSED = "quota_refused"  # the batch failed for the enqueued-token limit: nothing ran
    ENDED = "ended"  # the batch came to a terminal status: its files are known
    AWAITED = "awaited"  # it has ended, and what it says it completed is not all there: a look
    COLLECTED = "collected"  # what the batch's files held is in the store
    LOST = "lost"  # the server no longer knows the batch, or does not deliver: reason
    CLOSED = "closed"  # the story is over; what has no result is pending again


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

    def apply_counts(self, counts: dict[str, Any]) -> None:
        """Take in what its files held and billed; counts are those of a Collected."""
        self.answers = counts["results"]
        self.failures += counts["failures"] + counts["missing"]
        self.usage = msgspec.convert(counts["usage"], Usage)
        self.unsure = msgspec.convert(counts["unsure"], Usage)


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
    closed_as: str | None = None
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
        if unsent or (self.closed_as == "forgotten" and not self.batches):
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

    def apply(self, event: JobEvent, batch_id: str | None, detail: dict[str, Any]) -> None:
        """Take in one event."""
        match event:
            case JobEvent.PLANNED | JobEvent.COLLECTED:
                pass
            case JobEvent.UPLOADED:
                self.state, self.file_id = JobState.UPLOADED, detail["file_id"]
            case JobEvent.CREATING:
                self.state, self.attempt = JobState.UNKNOWN, detail["attempt"]
                self.quota_refused = False
            case JobEvent.REFUSED:
                self.state = JobState.UPLOADED
                self._refused(detail)
            case JobEvent.NOT_FOUND:
                self.state, self.maybe_duplicated = JobState.UPLOADED, True
            case JobEvent.LOST:
                self.state, self.lost_for = JobState.LOST, detail["reason"]
            case JobEvent.CLOSED:
                self.state, self.closed_as = JobState.CLOSED, detail["as"]
                self.quota_refused = False
            case _:
                assert batch_id is not None, f"{event} is about a batch"
        if batch_id is not None:
            self._apply_to_batch(event, batch_id, detail)

    def _refused(self, detail: dict[str, Any]) -> None:
        self.quota_refused = detail["quota_refused"]
        self.enqueued_when_refused = detail["enqueued_when_refused"]
        if self.quota_refused:
            self.refusal = detail["message"]

    def _apply_to_batch(self, event: JobEvent, batch_id: str, detail: dict[str, Any]) -> None:
        batch = self.batches.setdefault(batch_id, Batch(batch_id))
        match event:
            case JobEvent.CREATED:
                self.state, self.quota_refused = JobState.OPEN, False
                batch.state, batch.status = BatchState.OPEN, ""  # lost ones are looked at again
                batch.looks, batch.usage, batch.unsure = 0, Usage(), Usage()
                # Whoever lost the answer of one POST may have repeated it.
                self.maybe_duplicated = self.maybe_duplicated or detail["adopted"]
            case JobEvent.DUPLICATE:
                self.batches[detail["cancelled"]].cancelled_by_us = True
                if self.state is JobState.CLOSED:
                    self.state = JobState.OPEN  # the twin has to be cancelled and collected
            case JobEvent.CANCELLING:
                batch.cancelled_by_us = True
            case JobEvent.QUOTA_REFUSED:
                batch.state = BatchState.OVER
                if all(known.state is BatchState.OVER for known in self.batches.values()):
                    self.state = JobState.UPLOADED
                    self._refused(detail)
            case JobEvent.ENDED:
                batch.state, batch.status = BatchState.ENDED, detail["status"]
                batch.output_file_id = detail["output_file_id"]
                batch.error_file_id = detail["error_file_id"]
                batch.completed, batch.failed = detail["completed"], detail["failed"]
                batch.errors = detail["errors"]
            case JobEvent.AWAITED:
                batch.state = BatchState.OPEN
                batch.awaited_since = batch.awaited_since if batch.looks else detail["at"]
                batch.looks += 1
                batch.answers = detail["results"]
                batch.downloads = {
                    file_id: Download(sha256, 1 + batch.times_downloaded(file_id, sha256))
                    for file_id, sha256 in detail["downloads"].items()
                }
            case JobEvent.COLLECTED:
                batch.state = BatchState.OVER
                batch.apply_counts(detail)
            case JobEvent.LOST:
                batch.state = BatchState.LOST
                batch.shown, batch.absent = detail["shown"], detail["absent"]
                batch.apply_counts(detail)
            case _:
                pass
        states = {known.state for known in self.batches.values()}
        if self.state in (JobState.OPEN, JobState.ENDED):
            self.state = JobState.OPEN if BatchState.OPEN in states else JobState.ENDED


def fold(rows: Iterable[tuple[str, str, str | None, dict[str, Any]]]) -> dict[str, Job]:
    """Jobs by id, from (job_id, event, batch_id, detail) in the order they happened."""
    jobs: dict[str, Job] = {}
    for job_id, event, batch_id, detail in rows:
        if event == JobEvent.PLANNED:
            jobs[job_id] = Job(
                job_id,
                detail["base_url"],
                detail["requests"],
                detail["tokens"],
                detail["sha256"],
                detail["prompt_bytes"],
                detail["max_tokens"],
                msgspec.convert(detail["rates"], Rates | None),
                detail["round"],
            )
        jobs[job_id].apply(JobEvent(event), batch_id, detail)
    return jobs
