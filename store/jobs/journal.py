"""The journal of the Batch API: intents before deeds, and collecting in one transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from store.costs.money import FREE, UNLIMITED, Bounds, Rates, Usage, rate_parameters
from store.database.arrow import (
    BODY_SCHEMA,
    FAILURE_SCHEMA,
    ID_SCHEMA,
    LINE_SCHEMA,
    RESULT_SCHEMA,
    each_once,
    table,
    table_of,
)
from store.database.statements import QUERIES
from store.errors import SqlError, UserError
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
from store.results import Failure, Result
from store.status import LostJob

if TYPE_CHECKING:
    from store.database.connection import Database


PLAIN_BYTES = 128 << 20  # of a file that is stored in one transaction, whose memory it takes


# U+007F to U+009F, U+2028 and U+2029 in UTF-8: some servers take them for ends of lines, or refuse
# them. JSON has them in its strings only. What they begin with tells fast that there is none.
_FRAGILE = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")
_FRAGILE_BYTES = (b"\x7f", b"\xc2", b"\xe2\x80\xa8", b"\xe2\x80\xa9")


@dataclass(frozen=True, slots=True)
class Caps:
    """The most a job file may hold."""

    max_requests: int
    max_bytes: int
    max_tokens: int
    max_cost: int = UNLIMITED  # picodollars, should each request cost what it can at most
    rates: Rates | None = None


class LineCounts(NamedTuple):
    """Requests of a job by what the lines of a batch have of them."""

    answers: int
    errors: int  # of attempts
    silent: int  # no line
    open: int  # of the silent ones those without a result, or a failure of the job


class _NotPlainError(Exception):
    """A file has lines that want a closer look."""


class Journal:
    """The jobs of one store."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._jobs: dict[str, Job] | None = None  # None: not folded yet
        self._next: int | None = None  # place in the queue; None: it has to be built

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
        """Jobs that want something more."""
        return [job for job in self.jobs().values() if job.state is not JobState.CLOSED]

    def append(self, job: Job, event: JobEvent) -> None:
        """Commit an event and apply it to the job."""
        self._insert(job.job_id, event)
        job.apply(event)
        if isinstance(event, Closed):
            self.invalidate_queue()  # what it leaves unanswered is pending again

    @property
    def has_queue(self) -> bool:
        """Whether the queue still tells what is pending."""
        return self._next is not None

    def build_queue(self, positions: Sequence[int]) -> None:
        """Make the queue that plan takes from: pending requests by their row numbers, in order.

        It holds until something may have become pending or answered otherwise, or invalidate_queue.
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
        """Let the queue be made again; it does not survive the connection either."""
        self._next = None

    def plan(
        self,
        folder: Path,
        caps: Caps,
        base_url: str,
        endpoint: str,
        body: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> Job | None:
        """Decide the next job and write its file; None where the queue is empty.

        The requests, the file's digest and the intent become the store's in one transaction, after
        the file stands: a death before that leaves a file that the next plan overwrites.
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
            sha256 = self.write_file(job_id, folder, endpoint, body)
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

    def write_file(
        self,
        job_id: str,
        folder: Path,
        endpoint: str,
        body: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> str:
        """Write a job's JSONL file, a few megabytes in memory at a time; gives its SHA-256."""
        first, last, different = self._db.row("job_span", job_id=job_id)
        openings = [
            (params, msgspec.json.encode(body(msgspec.json.decode(params))).decode()[:-1])
            for params in different
        ]
        digest = hashlib.sha256()
        with (
            self._db.incoming(table(openings, BODY_SCHEMA)),
            job_file(folder, job_id).open("wb") as file,
        ):
            lines = {"job_id": job_id, "endpoint": endpoint, "first": first, "last": last}
            for _, texts in self._db.texts(QUERIES["job_lines"], **lines):
                data = _escaped(bytes(texts))
                digest.update(data)
                file.write(data)
        return digest.hexdigest()

    def request_of_line(self, job: Job, line: int) -> str:
        """The id of the request on a 1-based line of the job's file."""
        (request_id,) = self._db.row("request_of_line", job_id=job.job_id, line=line)
        return str(request_id)

    def current_round(self) -> int:
        """Which round it is: failures of jobs that were planned in an earlier one do not count."""
        return int(self._db.row("current_round")[0])

    def any_result(self) -> bool:
        """Whether the run has any answer yet."""
        return bool(self._db.row("any_result")[0])

    def bounds(self, job: Job) -> dict[str, Bounds]:
        """What bounds the usage of each of a job's requests, by its id."""
        rows = self._db.rows("job_bounds", job_id=job.job_id)
        return {request_id: Bounds(*bounds) for request_id, *bounds in rows}

    def add_answers(
        self, job: Job, backend: str, results: Sequence[Result], counts: BatchCounts
    ) -> None:
        """Store some of a batch's answers; the first one of a request wins.

        Called page by page, since a batch of long answers does not fit the memory of one
        transaction; a death in between only leaves answers that a second reading finds stored.
        """
        self.invalidate_queue()
        with self._db.transaction():
            self._insert_results(job, backend, results, counts)

    def line_counts(self, job: Job, lines: Mapping[str, str]) -> LineCounts:
        """What the lines of a batch have of a job's requests; lines: by id 'answer', 'error', …."""
        rows: list[tuple[str | None, str | None]] = [*lines.items()] or [(None, None)]
        with self._db.incoming(table(rows, LINE_SCHEMA)):
            return LineCounts(*self._db.row("job_line_counts", job_id=job.job_id))

    def end_batch(
        self,
        job: Job,
        event: Collected | Lost,
        failures: Sequence[Failure],
        untried: Sequence[str] | None = None,
    ) -> None:
        """Store a batch's failed attempts, which must count once, with the event that ends it.

        untried: where not None, requests without any line, but for those, are failed attempts. What
        was stored is added to the event's counts. What the server may have billed and is not there
        is taken for the job's dearest requests.
        """
        self.invalidate_queue()
        counts = event.counts
        with self._db.transaction():
            self._insert_failures(job, failures, counts)
            if untried is not None:
                counts.missing = self._fail_missing(
                    job,
                    untried,
                    "the batch has ended and has no usable line for this request",
                    # a broken line may be its answer, paid for: not bought again by itself
                    retryable=counts.broken == 0,
                )
            if number := min(counts.unaccounted, job.requests):
                texts, limits = self._db.row("job_dearest", job_id=job.job_id, number=number)
                counts.unsure += Bounds(int(texts), int(limits), number).most
            self._insert(job.job_id, event)
        job.apply(event)

    def lost(self) -> tuple[LostJob, ...]:
        """Jobs whose answers, or some of them, the server does not deliver."""
        return tuple(
            LostJob(
                job.job_id,
                job.requests - self._db.row("count_answered", job_id=job.job_id)[0],
                job.lost_for,
            )
            for job in self.unclosed()
            if job.state is JobState.LOST
        )

    def committed(self, rates: Rates) -> int:
        """Picodollars that jobs have cost, and at most will have once all of them are over.

        rates: of jobs that were planned when no price was known.
        """
        total = 0
        for job in self.jobs().values():
            own = job.rates or rates
            total += own.cost(job.usage) + job.at_risk(own) + own.cost(job.unsure)
        return total

    def check_address(self, base_url: str) -> None:
        """Raise UserError where a job that was sent is going on at another server."""
        for job in self.unclosed():
            if job.attempt and job.base_url != base_url:
                raise UserError(
                    f"job {job.job_id} of this run is at {job.base_url}, not at {base_url}: set "
                    f"LLM_API_BASE={job.base_url} until it is done, or cancel it there first"
                )

    def close_unsent(self, job_ids: Collection[str], folder: Path) -> None:
        """Close those of some jobs of which nothing is at the server: they are planned anew."""
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
        """Close a job with a failed attempt of each request that has neither answer nor failure.

        Not retryable: for good, as the server will never take them.
        """
        self.invalidate_queue()
        closed = Closed(reason)
        with self._db.transaction():
            self._fail_missing(job, (), message, retryable=retryable)
            self._insert(job.job_id, closed)
        job.apply(closed)

    def _fail_missing(
        self, job: Job, untried: Sequence[str], message: str, *, retryable: bool
    ) -> int:
        """Let requests without result or failure fail, but for untried ones; gives how many."""
        rows: list[tuple[str | None]] = [(one,) for one in untried] or [(None,)]
        with self._db.incoming(table(rows, ID_SCHEMA)):
            (failed,) = self._db.row(
                "insert_missing",
                job_id=job.job_id,
                message=message,
                retryable=retryable,
                round=job.round,
            )
        return int(failed)

    def collect_plain(self, job: Job, backend: str, path: Path, counts: BatchCounts) -> bool:
        """Store an output file whose lines are all plain, in one statement; else do nothing.

        Plain: a whole answer in its usual form to a request of this job that has none yet. That is
        what nearly all files hold, and a fifth of the time of reading line by line in Python.
        """
        if path.stat().st_size > PLAIN_BYTES:
            return False
        pattern = re.sub(r"([*?\[])", r"[\1]", str(path))  # DuckDB takes those for a pattern
        try:
            with self._db.transaction():
                (before,) = self._db.row("count_answered", job_id=job.job_id)
                if before:
                    raise _NotPlainError
                (stored,) = self._db.row(
                    "insert_plain_results",
                    path=pattern,
                    job_id=job.job_id,
                    backend=backend,
                    **rate_parameters(job.rates),
                )
                different, *usage = self._db.row("job_usage", job_id=job.job_id)
                if stored != different:
                    raise _NotPlainError
        except (_NotPlainError, SqlError):
            return False  # whatever it is, the one that reads line by line tells
        counts.results += stored
        counts.usage += Usage(*usage)
        return True

    def _insert_results(
        self, job: Job, backend: str, results: Sequence[Result], counts: BatchCounts
    ) -> None:
        if not results:
            return
        with self._db.incoming(each_once(table_of(results, RESULT_SCHEMA))):
            (stored,) = self._db.row(
                "insert_job_results",
                job_id=job.job_id,
                backend=backend,
                **rate_parameters(job.rates),
            )
        counts.results += stored
        counts.duplicates += len(results) - stored

    def _insert_failures(self, job: Job, failures: Sequence[Failure], counts: BatchCounts) -> None:
        if not failures:
            return
        with self._db.incoming(each_once(table_of(failures, FAILURE_SCHEMA))):
            (stored,) = self._db.row("insert_job_failures", job_id=job.job_id, round=job.round)
        counts.failures += stored

    def _insert(self, job_id: str, event: JobEvent) -> None:
        detail = msgspec.json.encode(event).decode()
        self._db.run("insert_job_event", job_id=job_id, event=event.name, detail=detail)


def _escaped(lines: bytes) -> bytes:
    """Lines of JSON with escapes for characters that some servers misread when they stand raw."""
    if not any(part in lines for part in _FRAGILE_BYTES):
        return lines
    return _FRAGILE.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), lines)


def job_file(folder: Path, job_id: str) -> Path:
    """Where a job's JSONL file stands in the run's folder, until it is at the server."""
    jobs = folder / "jobs"
    jobs.mkdir(exist_ok=True)
    return jobs / f"{job_id}.jsonl"
