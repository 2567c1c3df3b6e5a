"""Collecting a job: poll, download, store in one transaction, clean up."""

from __future__ import annotations

import time

from backends.first_failures import Unanswered, all_failed_alike
from backends.openai_api.errors import STOP_CODES, ApiError, ErrorKind
from backends.openai_batch.api.remote import RemoteBatch
from backends.openai_batch.failpoints import FailPoint, failpoint
from backends.openai_batch.lost import LostJobs
from backends.openai_batch.output_files import Delivery, copy_of, deliver
from backends.openai_batch.session import BatchSession
from backends.openai_batch.submit import refuse_for_quota
from store.jobs.batch import VANISHED, Batch, BatchState
from store.jobs.events import BatchCounts, CloseReason, Collected, Created, Ended
from store.jobs.job import Job, JobState
from store.results import Failure, FailureKind

HOUR, DAY, MARGIN = 3600, 86400, 7200  # seconds; the margin is what a batch may end too late
WORKING = {"in_progress", "progress", "running", "finalizing"}  # Novita says progress
EMPTY_JOBS = 3  # in a row, after which nothing more is sent


class Collecting:
    """The steps from a batch at the server to a closed job."""

    def __init__(self, session: BatchSession, lost: LostJobs) -> None:
        self._session = session
        self._lost = lost
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
            remote = self._session.api.retrieve(batch.batch_id)
        except ApiError as api_error:
            if api_error.kind not in (ErrorKind.NOT_FOUND, ErrorKind.REFUSED):
                raise
            # Not yet visible when young, else lost, which further polls decide.
            self._ended(job, batch, RemoteBatch(batch.batch_id, VANISHED))
            return
        if batch.status == VANISHED:
            self._session.journal.append(job, Created(batch.batch_id, job.attempt))
        self.validated = self.validated or remote.status in WORKING
        if batch.cancelled_by_us and not remote.is_terminal and remote.status != "cancelling":
            self._ask_to_cancel(batch)
        if not remote.is_terminal:
            self._say_if_overdue(remote)
            return
        codes = {str(error["code"]) for error in remote.errors}
        ran = bool(remote.completed)
        if remote.status == "failed" and codes == {"token_limit_exceeded"} and not ran:
            message = str(remote.errors[0]["message"])
            refuse_for_quota(self._session, job, message, batch.batch_id)
            return
        self._ended(job, batch, remote)

    def _ended(self, job: Job, batch: Batch, remote: RemoteBatch) -> None:
        self._session.journal.append(
            job,
            Ended(
                batch.batch_id,
                remote.status,
                remote.output_file_id,
                remote.error_file_id,
                remote.completed,
                remote.failed,
                list(remote.errors),
            ),
        )
        failpoint(FailPoint.ENDED)

    def _ask_to_cancel(self, batch: Batch) -> None:
        """POST …/cancel, at each poll until the status shows that the server took it."""
        try:
            self._session.api.cancel(batch.batch_id)
        except ApiError as api_error:
            # A conflict or refusal: it may have ended in this moment, which the next poll shows.
            if api_error.status != 409 and api_error.kind is not ErrorKind.REFUSED:
                raise
            self._session.say(f"{batch.batch_id} cannot be cancelled now: {api_error}")

    def _say_if_overdue(self, remote: RemoteBatch) -> None:
        age = time.time() - (remote.created_at or time.time())
        ends = (remote.expires_at or remote.created_at + DAY) - remote.created_at
        if age > ends + MARGIN:
            self._session.say(
                f"{remote.batch_id} is '{remote.status}' after {age / HOUR:.0f} hours, past its "
                "completion window: 'cancel --forget' gives it up, and 'resume' sends its "
                "requests again"
            )

    # -- collecting

    def _collect(self, job: Job) -> None:
        stop: str | None = None
        short: list[tuple[Batch, Delivery]] = []
        ended = [batch for batch in job.batches.values() if batch.state is BatchState.ENDED]
        for batch in ended:
            delivery = deliver(self._session, job, batch)
            if delivery.is_whole or (
                self._lost.is_last_look(batch, delivery) and not delivery.maybe_answered
            ):
                stop = self._collect_batch(job, batch, delivery) or stop
                failpoint(FailPoint.COLLECTED)
            else:
                short.append((batch, delivery))
        if short:
            if len(short) == len(ended):  # else a duplicate may have brought what is missing
                self._lost.wait_or_lose(job, short)
            if job.state is JobState.LOST and (outside := self._ended_outside(job)):
                self.stop = self.stop or f"job {job.job_id}: {outside}"
            return
        self._session.delete_files(job)
        failpoint(FailPoint.DELETED)
        for file_id in (one for batch in job.batches.values() for one in batch.file_ids):
            copy_of(self._session.options.folder, file_id).unlink(missing_ok=True)
        self._session.close(job, CloseReason.DONE)
        failpoint(FailPoint.CLOSED)
        self._session.accepted += 1
        stop = stop or self._ended_outside(job) or self._ended_empty(job)
        if stop and job.round == self._session.journal.current_round():
            self.stop = self.stop or f"job {job.job_id}: {stop}"
        options = self._session.options
        store = self._session.store
        alike = all_failed_alike(store, options.max_attempts, options.base_url)
        if alike is not None:
            if not isinstance(alike, Unanswered):
                store.results.stop(str(alike))
            raise alike

    def _ended_outside(self, job: Job) -> str | None:
        """Why to stop where a batch was cancelled by somebody else."""
        for batch in job.batches.values():
            if batch.status == "cancelled" and not batch.cancelled_by_us:
                return f"{batch.batch_id} was cancelled, not by this tool"
        return None

    def _ended_empty(self, job: Job) -> str | None:
        """Why to stop where the last jobs came back without one answer, unattempted."""
        jobs = self._session.journal.jobs().values()
        ended = [
            one for one in jobs if one.closed_as is CloseReason.DONE and one.round == job.round
        ]
        last = ended[-EMPTY_JOBS:]
        if len(last) < EMPTY_JOBS or any(one.answers or one.failures for one in last):
            return None
        statuses = ", ".join(batch.status for one in last for batch in one.batches.values())
        return f"the last {EMPTY_JOBS} batches ended without an answer ({statuses})"

    def _collect_batch(self, job: Job, batch: Batch, delivery: Delivery) -> str | None:
        """Store what failed; returns why nothing more should be sent, if so."""
        refused, stop = self._refused_lines(job, batch)
        # Requests without a line are failed attempts where each should have one.
        reported = batch.status == "completed" or delivery.broken_without_id or delivery.absent
        delivery.counts.undelivered = delivery.undelivered
        failpoint(FailPoint.COLLECTING)
        self._session.journal.end_batch(
            job,
            Collected(batch.batch_id, delivery.counts),
            [*delivery.failures, *refused],
            delivery.unattempted if reported and not delivery.stop else None,
        )
        self._session.progress.say(
            f"job {job.job_id}: {batch.status}, {_describe(delivery.counts)}"
        )
        return delivery.stop or stop

    def _refused_lines(self, job: Job, batch: Batch) -> tuple[list[Failure], str | None]:
        """What a batch that failed at validation says of its lines, or of all of them."""
        if batch.status != "failed":
            return [], None
        shown = "; ".join(
            f"line {error['line']}: {error['message']}" if error["line"] else str(error["message"])
            for error in batch.errors[:3]
        )
        if batch.completed:
            self._session.say(f"job {job.job_id}: the batch failed on its way: {shown}")
            return [], None
        lines = {
            error["line"]: error
            for error in batch.errors
            if isinstance(error["line"], int) and 1 <= error["line"] <= job.requests
        }
        of_all = any(str(error["code"]).lower() in STOP_CODES for error in batch.errors)
        if of_all or not lines or (job.requests > 1 and len(lines) == job.requests):
            return [], f"the server refused the file at validation: {shown or 'no reason given'}"
        self._session.say(f"job {job.job_id}: the server refused lines of the file: {shown}")
        return [
            Failure(
                self._session.journal.answers.request_of_line(job, line),
                FailureKind.REFUSED,
                str(error["message"]),
                retryable=False,
                code=str(error["code"]),
            )
            for line, error in lines.items()
        ], None


def _describe(counts: BatchCounts) -> str:
    words = {
        "results": "answers",
        "failures": "failed attempts",
        "unattempted": "not attempted",
        "duplicates": "duplicates",
        "foreign": "foreign lines",
        "broken": "broken lines",
        "missing": "missing",
        "undelivered": "completed and not delivered",
    }
    reported = [
        f"{getattr(counts, name)} {word}" for name, word in words.items() if getattr(counts, name)
    ]
    return ", ".join(reported) or "nothing in its files"
