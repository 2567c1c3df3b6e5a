"""Bringing a job's answers home: poll, download, store in one transaction, clean up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from backends.batch_desk import Desk
from backends.batch_lines import LineReader
from backends.batch_submit import refuse_for_limit
from backends.errors import STOP_CODES, Trouble, Verdict
from backends.first_failures import stop_if_all_failed_alike
from backends.killpoints import KillPoint, reach
from store.jobs import Batch, BatchState, Job, JobEvent, JobState
from store.journal import Collected
from store.models import Failure, FailureKind, Result

STUCK_SECONDS = 26 * 3600  # a batch has 24 hours; after that it is said
BACKEND = "openai-batch"
HICCUPS = 4  # times in a row that something is not found before it is taken for gone
PROBE = 100  # requests of a run's first job: what is wrong with all shows before more is sent

Pages = Iterator[tuple[list[Result], list[Failure]]]


class Collecting:
    """The steps from a batch at the server to a closed job."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.seen_success = False  # a batch told that some request of it succeeded
        self.stop: str | None = None  # why nothing more should be sent

    def poll_and_collect(self, job: Job) -> None:
        """Look at a job's open batches; once all have ended, collect them."""
        for batch in job.batches.values():
            if batch.state is BatchState.OPEN and job.state is JobState.OPEN:
                self._poll(job, batch)
        if job.state is JobState.ENDED:
            self._collect(job)

    def _poll(self, job: Job, batch: Batch) -> None:
        try:
            remote = self._desk.api.retrieve(batch.batch_id)
        except Trouble as trouble:
            if trouble.verdict not in (Verdict.NOT_FOUND, Verdict.REFUSED):
                raise
            self._not_visible(job, batch)
            return
        self._desk.stop_looking(batch.batch_id)
        self.seen_success = self.seen_success or bool(remote.completed)
        if batch.cancelled_by_us and not remote.is_terminal and remote.status != "cancelling":
            self._desk.api.cancel(batch.batch_id)  # the first try may have been lost
        if not remote.is_terminal:
            age = time.time() - (remote.created_at or time.time())
            if age > STUCK_SECONDS:
                self._desk.say(
                    f"{batch.batch_id} is '{remote.status}' since {age / 3600:.0f} hours"
                )
            return
        codes = {str(error["code"]) for error in remote.errors}
        if remote.status == "failed" and codes == {"token_limit_exceeded"}:
            message = str(remote.errors[0]["message"])
            refuse_for_limit(self._desk, job, JobEvent.LIMITED, batch.batch_id, message)
            return
        self._desk.journal.tell(
            job,
            JobEvent.ENDED,
            batch.batch_id,
            status=remote.status,
            output_file_id=remote.output_file_id,
            error_file_id=remote.error_file_id,
            errors=list(remote.errors),
        )
        reach(KillPoint.ENDED)

    def _not_visible(self, job: Job, batch: Batch) -> None:
        """A 404 on a batch we know: not yet visible when young, else lost; never bought again."""
        if not self._desk.looked_long_enough(batch.batch_id, HICCUPS):
            return
        if batch.cancelled_by_us or len(job.batches) > 1:
            # a twin that is gone takes nothing with it
            self._desk.journal.tell(
                job,
                JobEvent.ENDED,
                batch.batch_id,
                status="vanished",
                output_file_id=None,
                error_file_id=None,
                errors=[],
            )
        else:
            self._desk.journal.tell(job, JobEvent.LOST)

    def ask_for_lost(self, job: Job) -> None:
        """Ask once more for what the server did not know; give it up where the user says so."""
        batch = next(one for one in job.batches.values() if one.state is not BatchState.OVER)
        try:
            if batch.state is BatchState.OPEN:
                self._desk.api.retrieve(batch.batch_id)
            for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
                self._desk.api.size_of(file_id)
        except Trouble as trouble:
            if trouble.verdict not in (Verdict.NOT_FOUND, Verdict.REFUSED):
                raise
            if self._desk.options.resubmit_lost and self._desk.looked_long_enough(batch.batch_id):
                self._desk.close(job, "lost")
                self._desk.delete_files(job)
                return
            self._desk.say(
                f"the server does not know {batch.batch_id} of job {job.job_id}, or its files "
                f"({job.requests} requests): same key and project? If it is gone for good, "
                "'resume --resubmit-lost' asks again"
            )
            return
        self._desk.journal.tell(
            job, JobEvent.CREATED, batch.batch_id, attempt=job.attempt, adopted=False
        )

    def _collect(self, job: Job) -> None:
        stop: str | None = None
        for batch in list(job.batches.values()):
            if batch.state is BatchState.ENDED and job.state is JobState.ENDED:
                stop = self._collect_batch(job, batch) or stop
                reach(KillPoint.COLLECTED)
        if job.state is not JobState.ENDED:
            return  # a twin is still going
        self._desk.delete_files(job)
        reach(KillPoint.DELETED)
        self._desk.close(job, "done")
        reach(KillPoint.CLOSED)
        if stop and job.round == self._desk.journal.current_round():
            self.stop = self.stop or f"job {job.job_id}: {stop}"
        options = self._desk.options
        stop_if_all_failed_alike(self._desk.store, options.max_attempts, options.base_url)

    def _collect_batch(self, job: Job, batch: Batch) -> str | None:
        """Store what a batch's files hold; gives why nothing more should be sent, if so."""
        try:
            files = [
                (self._download(file_id), is_output)
                for file_id, is_output in (
                    (batch.output_file_id, True),
                    (batch.error_file_id, False),
                )
                if file_id
            ]
        except Trouble as trouble:
            # not there yet right after the end; gone for good once it stays so
            gone = trouble.verdict is Verdict.NOT_FOUND
            if gone and self._desk.looked_long_enough(f"files of {batch.batch_id}", HICCUPS):
                self._desk.journal.tell(job, JobEvent.LOST)
                return None
            raise
        reach(KillPoint.DOWNLOADED)
        counts = Collected()
        reader = LineReader(counts)

        def read() -> Pages:
            for path, is_output in files:
                if is_output and self._desk.journal.collect_plain(job, BACKEND, path, counts):
                    continue
                yield from reader.read(path, is_output=is_output)

        outcomes = read()
        refused, stop = self._refused_lines(job, batch)

        def pages() -> Pages:
            yield from outcomes
            reach(KillPoint.COLLECTING)
            yield [], refused

        def unheard() -> list[str] | None:
            """Ids that are told to be untried, where each request should be told of; else None."""
            told = batch.status == "completed" or reader.broken_without_id
            return reader.untried if told and not reader.stop else None

        self._desk.journal.collect(job, batch.batch_id, BACKEND, pages(), counts, unheard)
        for path, _ in files:
            path.unlink()
        self._desk.progress.say(f"job {job.job_id}: {batch.status}, {_describe(counts)}")
        return reader.stop or stop

    def _refused_lines(self, job: Job, batch: Batch) -> tuple[list[Failure], str | None]:
        """What a batch that failed at validation says of its lines, or of all of them."""
        if batch.status != "failed":
            return [], None
        shown = "; ".join(
            f"line {error['line']}: {error['message']}" if error["line"] else str(error["message"])
            for error in batch.errors[:3]
        )
        lines = {
            error["line"]: error
            for error in batch.errors
            if isinstance(error["line"], int) and 1 <= error["line"] <= job.requests
        }
        of_all = any(str(error["code"]).lower() in STOP_CODES for error in batch.errors)
        if of_all or not lines or (job.requests > 1 and len(lines) == job.requests):
            return [], f"the server refused the file at validation: {shown or 'no reason given'}"
        self._desk.say(f"job {job.job_id}: the server refused lines of the file: {shown}")
        return [
            Failure(
                self._desk.journal.request_of_line(job, line),
                FailureKind.REFUSED,
                str(error["message"]),
                retryable=False,
                code=str(error["code"]),
            )
            for line, error in lines.items()
        ], None

    def _download(self, file_id: str) -> Path:
        """A file of the server on this disk; one that a death left behind was checked whole."""
        path = (
            self._desk.options.folder / "jobs" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', file_id)}.result"
        )
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            self._desk.api.download(file_id, part)
            part.replace(path)
        return path


def _describe(counts: Collected) -> str:
    words = {
        "results": "answers",
        "failures": "failed attempts",
        "unattempted": "not attempted",
        "duplicates": "duplicates",
        "foreign": "foreign lines",
        "broken": "broken lines",
        "missing": "missing",
    }
    told = [
        f"{getattr(counts, name)} {word}" for name, word in words.items() if getattr(counts, name)
    ]
    return ", ".join(told) or "nothing in its files"
