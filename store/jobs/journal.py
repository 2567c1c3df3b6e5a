"""The journal of the Batch API: intents are committed before calls, outcomes after them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from store.errors import UserError
from store.jobs.answers import JobAnswers
from store.jobs.events import (
    DECODER,
    BatchCounts,
    Closed,
    CloseReason,
    Collected,
    JobEvent,
    Lost,
    Planned,
)
from store.jobs.job import Job, JobState, new_job
from store.jobs.job_files import job_file, write_job_file
from store.money import FREE, UNLIMITED, Bounds, Rates
from store.results import Failure, Result
from store.status import LostJob

if TYPE_CHECKING:
    from store.database.connection import Database


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a job file; tokens: estimated prompt tokens."""

    max_requests: int
    max_bytes: int
    max_tokens: int
    max_cost: int = UNLIMITED  # picodollars, the sum of each request's maximum
    rates: Rates | None = None


class Journal:
    """The jobs of one store."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.answers = JobAnswers(database)
        self._jobs: dict[str, Job] | None = None  # None: not folded yet
        self._next: int | None = None  # next place in the queue; None: the queue has to be built

    def jobs(self) -> dict[str, Job]:
        """All jobs by id, in the order they were planned; folded from their events once."""
        if self._jobs is None:
            self._jobs = {}
            for job_id, detail in self._db.rows("job_events"):
                event = DECODER.decode(detail)
                if isinstance(event, Planned):
                    self._jobs[job_id] = new_job(job_id, event)
                self._jobs[job_id].apply(event)
        return dict(self._jobs)

    def unclosed(self) -> list[Job]:
        """Jobs that are not closed."""
        return [job for job in self.jobs().values() if job.state is not JobState.CLOSED]

    def append(self, job: Job, event: JobEvent) -> None:
        """Commit an event and apply it to the job."""
        self._insert(job.job_id, event)
        job.apply(event)
        if isinstance(event, Closed):
            self.invalidate_queue()  # its requests without a result are pending again

    @property
    def has_queue(self) -> bool:
        """Whether the queue is up to date with what is pending."""
        return self._next is not None

    def build_queue(self, positions: Sequence[int]) -> None:
        """Build the queue of pending requests that plan reads; positions: rowids, in order.

        It is invalidated by whatever may change what is pending.
        """
        rows = pa.table(
            {
                "place": pa.array(range(len(positions)), pa.int64()),
                "position": pa.array(positions, pa.int64()),
            }
        )
        with self._db.incoming(rows):
            self._db.run("build_queue")
        self._next = 0

    def invalidate_queue(self) -> None:
        """Have the queue built again; it does not survive a new connection either."""
        self._next = None

    def plan(
        self,
        folder: Path,
        caps: Caps,
        base_url: str,
        endpoint: str,
        body: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Job | None:
        """Plan the next job and write its file; None where the queue is empty.

        The requests, the file's digest and the event are committed in one transaction after the
        file is written: a crash before that leaves a file that the next plan overwrites.
        """
        assert self._next is not None, "build_queue comes first"
        job_id = f"{len(self.jobs()) + 1:05d}"
        last, requests, tokens, prompt_bytes, max_tokens = self._db.row(
            "next_job",
            first=self._next,
            max_requests=caps.max_requests,
            max_bytes=caps.max_bytes,
            max_tokens=caps.max_tokens,
            max_cost=caps.max_cost,
            input=(caps.rates or FREE).input,
            output=(caps.rates or FREE).output,
        )
        if not requests:
            return None
        with self._db.transaction():
            self._db.run("insert_job_requests", job_id=job_id, first=self._next, last=last)
            sha256 = write_job_file(self._db, job_id, folder, endpoint, body)
            planned = Planned(
                base_url,
                requests,
                tokens,
                sha256,
                prompt_bytes,
                max_tokens,
                caps.rates,
                self.current_round(),
            )
            self._insert(job_id, planned)
        self._next = last + 1
        assert self._jobs is not None, "jobs() was called above"
        job = self._jobs[job_id] = new_job(job_id, planned)
        return job

    def current_round(self) -> int:
        """The current round: failures of jobs that were planned in an earlier one do not count."""
        return int(self._db.row("current_round")[0])

    def any_result(self) -> bool:
        """Whether the run has any answer yet."""
        return bool(self._db.row("any_result")[0])

    def add_answers(
        self, job: Job, backend: str, results: Sequence[Result], counts: BatchCounts
    ) -> None:
        """Store a page of a batch's answers; the first answer of a request wins.

        In pages, since the answers of one batch may not fit the memory of one transaction; after a
        crash in between the answers that are stored are not stored again.
        """
        self.invalidate_queue()
        with self._db.transaction():
            self.answers.insert(job, backend, results, counts)

    def end_batch(
        self,
        job: Job,
        event: Collected | Lost,
        failures: Sequence[Failure],
        unattempted: Sequence[str] | None = None,
    ) -> None:
        """Store a batch's failed attempts and the event that ends it in one transaction.

        unattempted: if not None, requests without a line, except these, are failed attempts. The
        event's counts are updated. Answers that may have been billed and are missing count as the
        job's largest requests.
        """
        self.invalidate_queue()
        counts = event.counts
        with self._db.transaction():
            self.answers.insert_failures(job, failures, counts)
            if unattempted is not None:
                counts.missing = self.answers.fail_missing(
                    job,
                    unattempted,
                    "the batch has ended and has no usable line for this request",
                    # a broken line may be its answer, which was billed: do not send again
                    retryable=counts.broken == 0,
                )
            if number := min(counts.unaccounted, job.requests):
                texts, limits = self._db.row("job_largest", job_id=job.job_id, number=number)
                counts.uncertain += Bounds(int(texts), int(limits), number).most
            self._insert(job.job_id, event)
        job.apply(event)

    def lost(self) -> tuple[LostJob, ...]:
        """Jobs of which the server does not deliver all answers."""
        return tuple(
            LostJob(
                job.job_id,
                job.requests - self._db.row("count_answered", job_id=job.job_id)[0],
                job.lost_reason,
            )
            for job in self.unclosed()
            if job.state is JobState.LOST
        )

    def committed(self, rates: Rates) -> int:
        """Maximum picodollars that the jobs will have cost when all of them are closed.

        rates: for jobs that were planned when no price was known.
        """
        total = 0
        for job in self.jobs().values():
            own = job.rates or rates
            total += own.cost(job.usage) + job.at_risk(own) + own.cost(job.uncertain)
        return total

    def check_address(self, base_url: str) -> None:
        """Raise UserError where a job that was sent, and is not closed, is at another server."""
        for job in self.unclosed():
            if job.attempt and job.base_url != base_url:
                raise UserError(
                    f"job {job.job_id} of this run is at {job.base_url}, not at {base_url}: set "
                    f"LLM_API_BASE={job.base_url} until it is done, or cancel it there first"
                )

    def close_unsent(self, job_ids: Collection[str], folder: Path) -> None:
        """Close those of the jobs that have no batch at the server: they are planned again."""
        for job in self.unclosed():
            if job.job_id in job_ids and job.is_unsent:
                self.append(job, Closed(CloseReason.STALE))
                job_file(folder, job.job_id).unlink(missing_ok=True)

    def give_up(
        self,
        job: Job,
        message: str,
        *,
        reason: CloseReason = CloseReason.GIVEN_UP,
        retryable: bool = False,
    ) -> None:
        """Close a job; each of its requests without a result or failure gets a failed attempt.

        Not retryable: the server does not accept them.
        """
        self.invalidate_queue()
        closed = Closed(reason)
        with self._db.transaction():
            self.answers.fail_missing(job, (), message, retryable=retryable)
            self._insert(job.job_id, closed)
        job.apply(closed)

    def _insert(self, job_id: str, event: JobEvent) -> None:
        detail = msgspec.json.encode(event).decode()
        self._db.run("insert_job_event", job_id=job_id, event=event.name, detail=detail)
