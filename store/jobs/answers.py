"""Answers of jobs, as their files are collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from store.database.arrow import (
    FAILURE_SCHEMA,
    ID_SCHEMA,
    LINE_SCHEMA,
    RESULT_SCHEMA,
    each_once,
    table,
    table_of,
)
from store.database.relations import pattern_of
from store.errors import SqlError
from store.jobs.events import BatchCounts
from store.jobs.job import Job
from store.money import Bounds, Usage, rate_parameters
from store.results import Failure, Result

if TYPE_CHECKING:
    from store.database.connection import Database

PLAIN_BYTES = 128 << 20  # of a file that is stored in one transaction, whose memory it takes


class LineCounts(NamedTuple):
    """Requests of a job by their lines in the files of a batch."""

    answers: int
    errors: int  # of attempts
    missing: int  # no line
    open: int  # missing ones without a result or a failure of the job


class _NotPlainError(Exception):
    """A file has lines that have to be read one by one."""


class JobAnswers:
    """What the files of batches have brought of jobs."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def request_of_line(self, job: Job, line: int) -> str:
        """The id of the request on a line (from 1) of the job's file."""
        (request_id,) = self._db.row("request_of_line", job_id=job.job_id, line=line)
        return str(request_id)

    def bounds(self, job: Job) -> dict[str, Bounds]:
        """Limits of the usage of each of a job's requests, by request id."""
        rows = self._db.rows("job_bounds", job_id=job.job_id)
        return {request_id: Bounds(*bounds) for request_id, *bounds in rows}

    def line_counts(self, job: Job, lines: Mapping[str, str]) -> LineCounts:
        """Count a job's requests by their lines; lines: 'answer' or 'error' by request id."""
        rows: list[tuple[str | None, str | None]] = [*lines.items()] or [(None, None)]
        with self._db.incoming(table(rows, LINE_SCHEMA)):
            return LineCounts(*self._db.row("job_line_counts", job_id=job.job_id))

    def collect_plain(self, job: Job, backend: str, path: Path, counts: BatchCounts) -> bool:
        """Store an output file whose lines are all plain, in one statement; returns whether it did.

        Plain: a complete answer in the usual form, to a request of this job without a result. True
        of nearly all files, and five times as fast as reading line by line in Python.
        """
        if path.stat().st_size > PLAIN_BYTES:
            return False
        try:
            with self._db.transaction():
                (before,) = self._db.row("count_answered", job_id=job.job_id)
                if before:
                    raise _NotPlainError
                (stored,) = self._db.row(
                    "insert_plain_results",
                    path=pattern_of(path),
                    job_id=job.job_id,
                    backend=backend,
                    **rate_parameters(job.rates),
                )
                different, *usage = self._db.row("job_usage", job_id=job.job_id)
                if stored != different:
                    raise _NotPlainError
        except (_NotPlainError, SqlError):
            return False  # reading line by line reports the reason
        counts.results += stored
        counts.usage += Usage(*usage)
        return True

    def insert(
        self, job: Job, backend: str, results: Sequence[Result], counts: BatchCounts
    ) -> None:
        """Store answers; the first one of a request wins. What was stored is added to counts."""
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

    def insert_failures(self, job: Job, failures: Sequence[Failure], counts: BatchCounts) -> None:
        """Store failed attempts, each once; how many is added to counts."""
        if not failures:
            return
        with self._db.incoming(each_once(table_of(failures, FAILURE_SCHEMA))):
            (stored,) = self._db.row("insert_job_failures", job_id=job.job_id, round=job.round)
        counts.failures += stored

    def fail_missing(
        self, job: Job, unattempted: Sequence[str], message: str, *, retryable: bool
    ) -> int:
        """Store failures of requests without any, except unattempted; returns how many."""
        rows: list[tuple[str | None]] = [(one,) for one in unattempted] or [(None,)]
        with self._db.incoming(table(rows, ID_SCHEMA)):
            (failed,) = self._db.row(
                "insert_missing",
                job_id=job.job_id,
                message=message,
                retryable=retryable,
                round=job.round,
            )
        return int(failed)
