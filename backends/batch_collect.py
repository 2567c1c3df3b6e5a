"""Bringing a job's answers home: poll, download, store in one transaction, clean up."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from backends.batch_api import RemoteBatch
from backends.batch_desk import Desk
from backends.batch_lines import LineReader
from backends.batch_submit import refuse_for_limit
from backends.errors import STOP_CODES, Trouble, Verdict
from backends.first_failures import all_failed_alike
from backends.killpoints import KillPoint, reach
from store.jobs import Batch, BatchState, Job, JobEvent, JobState
from store.journal import Collected
from store.models import Failure, FailureKind, Result

HOUR, DAY, MARGIN = 3600, 86400, 7200  # seconds; the margin is what a batch may end too late
WORKING = {"in_progress", "progress", "running", "finalizing"}  # Novita says progress
BACKEND = "openai-batch"
EMPTY_JOBS = 3  # in a row, after which nothing more is sent
HICCUPS = 4  # times in a row that something is not found before it is taken for gone

Pages = Iterator[tuple[list[Result], list[Failure]]]


class Collecting:
    """The steps from a batch at the server to a closed job."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.validated = False  # the server has taken a file of this run and works on it
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
        self.validated = self.validated or remote.status in WORKING
        if batch.cancelled_by_us and not remote.is_terminal and remote.status != "cancelling":
            self.ask_to_cancel(batch)
        if not remote.is_terminal:
            self._say_if_overdue(remote)
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

    def ask_to_cancel(self, batch: Batch) -> None:
        """POST …/cancel, at each look until the status tells that the server took it."""
        try:
            self._desk.api.cancel(batch.batch_id)
        except Trouble as trouble:
            # A conflict or refusal: it may have ended in this moment, which the next look tells.
            if trouble.status != 409 and trouble.verdict is not Verdict.REFUSED:
                raise
            self._desk.say(f"{batch.batch_id} cannot be cancelled now: {trouble}")

    def _say_if_overdue(self, remote: RemoteBatch) -> None:
        age = time.time() - (remote.created_at or time.time())
        ends = (remote.expires_at or remote.created_at + DAY) - remote.created_at
        if age > ends + MARGIN:
            self._desk.say(
                f"{remote.batch_id} is '{remote.status}' after {age / HOUR:.0f} hours, past its "
                "completion window: 'cancel --forget' gives it up, and 'resume' asks again"
            )

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
        self._desk.accepted += 1
        stop = stop or self._ended_outside(job) or self._ended_empty(job)
        if stop and job.round == self._desk.journal.current_round():
            self.stop = self.stop or f"job {job.job_id}: {stop}"
        options = self._desk.options
        store = self._desk.store
        alike = all_failed_alike(store, options.max_attempts, options.base_url)
        if alike is not None:
            store.stop(str(alike))
            raise alike

    def _ended_outside(self, job: Job) -> str | None:
        """Why to stop where a batch was cancelled by somebody else."""
        for batch in job.batches.values():
            if batch.status == "cancelled" and not batch.cancelled_by_us:
                return f"{batch.batch_id} was cancelled, not by this tool"
        return None

    def _ended_empty(self, job: Job) -> str | None:
        """Why to stop where the last jobs came back without one answer, unattempted."""
        jobs = self._desk.journal.jobs().values()
        ended = [one for one in jobs if one.closed_as == "done" and one.round == job.round]
        last = ended[-EMPTY_JOBS:]
        if len(last) < EMPTY_JOBS or any(one.answers or one.failures for one in last):
            return None
        statuses = ", ".join(batch.status for one in last for batch in one.batches.values())
        return f"the last {EMPTY_JOBS} batches ended without an answer ({statuses})"

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
        reader = LineReader(counts, partial(self._desk.journal.bounds, job))

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
