"""Batches that have ended and do not deliver, or that the server no longer knows.

They are polled again until the grace time has passed. What is not there then may have been paid
for: the job is lost, which is journaled and said, and never bought again by itself.
"""

from __future__ import annotations

import time
from contextlib import suppress

from backends.openai_api.bounded import answer_bytes
from backends.openai_api.errors import ApiError, ErrorKind
from backends.openai_batch.api.remote import RemoteBatch
from backends.openai_batch.failpoints import FailPoint, failpoint
from backends.openai_batch.output_files import Delivery, copy_of
from backends.openai_batch.session import MIN_POLLS, BatchSession
from store import Unfinished
from store.jobs.batch import VANISHED, Batch, BatchState
from store.jobs.events import Awaited, CloseReason, Created, Lost
from store.jobs.job import Job, JobState

DOWNLOADS = 10  # in vain, of files that come with another size than they have, or too long

Short = list[tuple[Batch, Delivery]]


class LostJobs:
    """What becomes of jobs whose answers do not come."""

    def __init__(self, session: BatchSession) -> None:
        self._session = session
        jobs = session.journal.unclosed()
        self._before = {job.job_id for job in jobs if job.state is JobState.LOST}
        self._stop: str | None = None  # why this command should send nothing more

    def waits_for_user(self, job: Job) -> bool:
        """Whether a job is lost, and this command has nothing to do about it."""
        again = self._session.options.resubmit_lost and job.job_id in self._before
        return job.state is JobState.LOST and not again

    def raise_if_stopped(self) -> None:
        """Raise Unfinished where what this command lost may be lost for every job."""
        if self._stop is not None:
            raise Unfinished(
                f"{self._stop}. Nothing more is sent. If its answers cannot be had, 'resume "
                "--resubmit-lost' sends its requests again, which is billed again"
            )

    # -- losing

    def is_last_look(self, batch: Batch, delivery: Delivery) -> bool:
        """Whether it was polled for long enough: by the journal, so that commands of cron add up.

        A file that comes with another size each time may be a matter of the line: it is fetched
        more often, and once more by each resume.
        """
        waited = time.time() - batch.awaited_since
        enough = DOWNLOADS if delivery.unequal else MIN_POLLS
        return batch.polls + 1 >= enough and waited >= self._session.options.grace_seconds

    def wait_or_lose(self, job: Job, short: Short) -> None:
        """Poll again for what is not all there; after the grace time it is lost.

        Files without one id of ours are not waited for, and kept.
        """
        foreign = any(delivery.foreign_id for _, delivery in short)
        last_look = foreign or all(self.is_last_look(*one) for one in short)
        known = any(batch.status != VANISHED for batch, _ in short)
        stops = last_look and known and (foreign or not self._session.journal.any_result())
        for batch, delivery in short:
            if not delivery.foreign_id:
                delivery.forget_files()
            reason = self._shortage(job, batch, delivery)
            if last_look:
                self._lose(job, batch, delivery, reason)
                if not stops or self._stop:  # else it is said as the command ends
                    self._session.say(f"job {job.job_id} is lost: {reason}")
            else:
                self._await(job, batch, delivery, reason)
        if stops:
            self._stop = self._stop or f"job {job.job_id} is lost: {job.lost_reason}"

    def _await(self, job: Job, batch: Batch, delivery: Delivery, reason: str) -> None:
        self._session.journal.append(
            job,
            Awaited(batch.batch_id, time.time(), delivery.counts.results, delivery.unequal),
        )
        self._session.say(f"job {job.job_id}: {reason}; looking again")
        failpoint(FailPoint.AWAITED)

    def _lose(self, job: Job, batch: Batch, delivery: Delivery, reason: str) -> None:
        """Journal that answers of a batch cannot be had; what else its files hold is stored."""
        delivery.counts.undelivered = max(delivery.undelivered or 0, delivery.maybe_answered)
        self._session.journal.end_batch(
            job,
            Lost(
                batch.batch_id,
                delivery.counts,
                reason,
                None if batch.status == VANISHED else self._shown(batch),
                [*delivery.absent, *delivery.unequal],
            ),
            delivery.failures,
        )
        failpoint(FailPoint.LOST)

    def _shown(self, batch: Batch | RemoteBatch) -> list[object]:
        """What the server shows of a batch that has ended, with the sizes of its files."""
        ids = [batch.output_file_id, batch.error_file_id]
        sizes = [self._session.api.size_of(one, lenient=True) for one in ids if one]
        return [batch.status, *ids, batch.completed, batch.failed, sizes]

    def _shortage(self, job: Job, batch: Batch, delivery: Delivery) -> str:
        """What a batch that has ended does not deliver."""
        if batch.status == VANISHED:
            return f"the server does not know {batch.batch_id} (are key and project the same?)"
        is_over = f"{batch.batch_id} is '{batch.status}'"
        if delivery.foreign_id:
            expected = self._session.journal.answers.request_of_line(job, 1)
            kept = ", ".join(str(path) for path in delivery.files)
            return (
                f"{batch.batch_id} has custom_ids that were not sent ({delivery.foreign_id!r}, not "
                f"{expected!r}), kept in {kept}"
            )
        if delivery.overlong:
            return f"{is_over}, but {delivery.overlong}"
        if delivery.unequal:
            files = ", ".join(delivery.unequal)
            return f"{is_over}, but its file {files} came with another size than it has, or cut"
        if delivery.absent:
            return f"{is_over}, but the server has not its file {', '.join(delivery.absent)}"
        if batch.output_file_id is None:
            return (
                f"{is_over} with {batch.completed} requests completed, but names no output file: "
                "the answers may be had from the server by hand"
            )
        return (
            f"{is_over} with {batch.completed} requests completed, but its files have "
            f"{delivery.answers} answers"
        )

    # -- what was lost before

    def ask_again(self, job: Job) -> None:
        """Collect a lost job where something changed; with --resubmit-lost buy it again, once."""
        for batch in job.batches.values():
            if batch.state is BatchState.LOST and self._has_changed(job, batch):
                for file_id in batch.file_ids:
                    copy_of(self._session.options.folder, file_id).unlink(missing_ok=True)
                self._session.journal.append(job, Created(batch.batch_id, job.attempt))
        if job.state is not JobState.LOST:
            return
        if self.waits_for_user(job):
            self._session.say(f"job {job.job_id} is lost: {job.lost_reason}")
            return
        message = f"the batch was lost: {job.lost_reason}"
        self._session.journal.give_up(job, message, reason=CloseReason.LOST, retryable=True)
        self._session.delete_files(job)

    def _has_changed(self, job: Job, batch: Batch) -> bool:
        """Whether a lost batch is shown otherwise than it was, or a file is there that was not."""
        for file_id in batch.absent:
            part = copy_of(self._session.options.folder, file_id).with_suffix(".part")
            with suppress(ApiError):
                self._session.api.download(file_id, part, answer_bytes(job.bounds))
                return True
        try:
            remote = self._session.api.retrieve(batch.batch_id)
        except ApiError as api_error:
            if api_error.kind not in (ErrorKind.NOT_FOUND, ErrorKind.REFUSED):
                raise
            return False
        return batch.shown != self._shown(remote)
