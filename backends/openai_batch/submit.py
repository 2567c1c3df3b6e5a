"""Bringing a job to the server: upload, create once, and look before anything is sent again."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from backends.first_failures import stopped
from backends.openai_api.errors import ApiError, ErrorKind
from backends.openai_batch.api import RemoteBatch
from backends.openai_batch.context import ENDPOINT, MIN_LOOKS, Desk
from backends.openai_batch.failpoints import FailPoint, failpoint
from store import UserError
from store.jobs.events import (
    CloseReason,
    Created,
    Creating,
    Duplicate,
    NotFound,
    QuotaRefused,
    Refused,
    Uploaded,
)
from store.jobs.job import BatchState, Job
from store.jobs.journal import job_file

TRIES = 10  # uploads in a row that the server answers with an error; POSTs without any batch

_FILE = re.compile(r"\b(input_?)?file(_?id)?\b", re.IGNORECASE)


class Submitting:
    """The steps from a planned job to a batch whose id is in the journal."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lost_answer = ""  # the last error of a POST whose batch was never found

    def upload(self, job: Job) -> None:
        """POST /files. A file too many costs nothing, so this one may be repeated."""
        path = job_file(self._desk.options.folder, job.job_id)
        if not path.exists() or _sha256(path) != job.sha256:
            # Written anew from the store, so the bytes are those of the intent, unless another
            # version of this tool writes requests otherwise: then the job is planned anew.
            options = self._desk.options
            body = options.dialect.body
            if self._desk.journal.write_file(job.job_id, options.folder, ENDPOINT, body) != (
                job.sha256
            ):
                self._desk.close(job, CloseReason.STALE)
                return
        name = f"fastdatasets-{self._desk.run_id}-{job.job_id}.jsonl"
        try:
            file_id = self._desk.api.upload(path, name)
        except ApiError as api_error:
            if api_error.kind is ErrorKind.TOO_LARGE:
                self._too_large(job, api_error)
                return
            worked_before = any(other.file_id for other in self._desk.journal.jobs().values())
            missing = api_error.kind is ErrorKind.NOT_FOUND or api_error.status == 405
            if missing and not worked_before:
                raise self._no_batch_api(api_error) from None
            if api_error.kind is ErrorKind.REFUSED or (
                # An upload that fails may have left its file: not as often as there is time for.
                api_error.status is not None and self._desk.count("upload") >= TRIES
            ):
                raise stopped(
                    f"the server refuses the file: {api_error}", self._desk.options.base_url
                ) from None
            raise
        self._desk.forget_count("upload")
        self._desk.accepted += 1
        failpoint(FailPoint.FILE_SENT)
        self._desk.journal.append(job, Uploaded(file_id))
        path.unlink()
        failpoint(FailPoint.UPLOADED)

    def create(self, job: Job) -> None:
        """POST /batches: once, after a look wherever an earlier POST may have worked after all."""
        if self._desk.rests(job) or not self._desk.queue().has_room_again(job):
            return
        if job.attempt and self._adopt(job):
            return
        attempt = job.attempt + 1
        self._desk.journal.append(job, Creating(attempt))
        failpoint(FailPoint.CREATING)
        assert job.file_id is not None
        self._desk.forget_listing()  # a look at this POST has to come after it
        try:
            remote = self._desk.api.create(
                job.file_id, ENDPOINT, self._desk.options.completion_window, self._metadata(job)
            )
        except ApiError as api_error:
            self._not_created(job, api_error)
            return
        failpoint(FailPoint.BATCH_SENT)
        self._desk.journal.append(job, Created(remote.batch_id, attempt))
        self._desk.progress.say(
            f"job {job.job_id}: {job.requests} requests are at the server as {remote.batch_id}"
        )
        self._desk.accepted += 1
        failpoint(FailPoint.CREATED)

    def _metadata(self, job: Job) -> dict[str, str]:
        return {
            "fastdatasets_run": self._desk.run_id,
            "fastdatasets_job": job.job_id,
            "fastdatasets_attempt": str(job.attempt),
        }

    def _not_created(self, job: Job, api_error: ApiError) -> None:
        """Journal what a failed POST /batches means, and raise what ends the run."""
        if api_error.kind in (ErrorKind.UNKNOWN, ErrorKind.OVERLONG):
            self._lost_answer = str(api_error)
            self._desk.say(
                f"job {job.job_id}: the server's answer is lost ({api_error}); looking for it"
            )
            return  # 'creating' stands: it is looked for before anything is sent again
        if api_error.kind is ErrorKind.ENQUEUED_LIMIT:
            refuse_for_quota(self._desk, job, api_error.message)
            return
        self._desk.refusal = str(api_error)
        self._desk.journal.append(job, Refused(api_error.message))
        if api_error.kind is ErrorKind.STOP:
            raise api_error
        first = job.attempt == 1 and len(self._desk.journal.jobs()) == 1
        if first and api_error.kind is ErrorKind.NOT_FOUND and not _is_about_file(api_error, job):
            raise self._no_batch_api(api_error)
        if api_error.kind is ErrorKind.TOO_LARGE:
            self._too_large(job, api_error)
        elif _is_about_file(api_error, job):
            self._file_refused(job, api_error)
        elif api_error.kind in (ErrorKind.REFUSED, ErrorKind.NOT_FOUND):
            raise stopped(f"the server refuses the batch: {api_error}", self._desk.options.base_url)
        else:  # busy
            self._desk.say(f"job {job.job_id}: {api_error}; trying again")
            self._desk.put_off(job)

    def _too_large(self, job: Job, api_error: ApiError) -> None:
        """Cut a job in two, or let the one request fail that is too large by itself."""
        if job.requests > 1:
            self._desk.say(f"job {job.job_id} is too large for the server: cut into smaller ones")
            self._desk.close(job, CloseReason.CUT)
        else:
            self._desk.journal.give_up(job, f"too large for the server: {api_error}")
            job_file(self._desk.options.folder, job.job_id).unlink(missing_ok=True)
        self._desk.delete_files(job)

    def _file_refused(self, job: Job, api_error: ApiError) -> None:
        """A file that is not ready yet is named again; one that is gone is uploaded anew, once."""
        if not self._desk.looked_long_enough(f"{job.file_id}", MIN_LOOKS):
            self._desk.say(f"job {job.job_id}: {api_error}; trying again")
            self._desk.put_off(job)
            return
        if not job.maybe_duplicated:  # else its requests may be in a batch that will turn up
            self._desk.close(job, CloseReason.STALE)
            self._desk.delete_files(job)
        if job.maybe_duplicated or self._desk.count("file refused") > 1:
            raise stopped(f"the server refuses the batch: {api_error}", self._desk.options.base_url)

    # -- looking for batches of unknown fate

    def look_for(self, job: Job) -> None:
        """Adopt the batch of a POST whose answer was lost, or find that there is none.

        There is none only if it did not show in a complete listing made after the grace time.
        """
        self._desk.listing()  # the clock starts with a look that worked
        last_look = self._desk.looked_long_enough(job.job_id)
        if not self._adopt(job) and last_look:
            self._desk.journal.append(job, NotFound(job.attempt))
            self._desk.stop_looking(job.job_id)
            if self._desk.count(f"absent {job.job_id}") >= TRIES:
                raise stopped(
                    f"the server answers no POST /batches of job {job.job_id} ({self._lost_answer})"
                    " and has no batch of it",
                    self._desk.options.base_url,
                )
            self._desk.say(
                f"job {job.job_id}: no batch of it appeared at the server; sending it again"
            )

    def _adopt(self, job: Job) -> bool:
        """Take the oldest unknown batch of this job as its own; any others are twins."""
        found = self._unknown_batches(job)
        if not found:
            return False
        remote = found[0]
        self._desk.stop_looking(job.job_id)
        self._desk.journal.append(job, Created(remote.batch_id, job.attempt, adopted=True))
        self._desk.progress.say(
            f"job {job.job_id}: found at the server as {remote.batch_id}, adopted"
        )
        self._cancel_duplicates(job, remote, found[1:])
        return True

    def look_for_duplicates(self, job: Job) -> None:
        """Find batches of earlier POSTs that had seemed to fail, and cancel the younger ones."""
        duplicates = self._unknown_batches(job)
        going = [one for one in job.batches.values() if one.state is BatchState.OPEN]
        if duplicates and going:
            self._cancel_duplicates(job, self._desk.api.retrieve(going[0].batch_id), duplicates)
        for duplicate in duplicates if not going else ():
            self._cancel_duplicate(job, duplicate, duplicate)

    def _cancel_duplicates(
        self, job: Job, mine: RemoteBatch, duplicates: list[RemoteBatch]
    ) -> None:
        """Cancel the younger of two batches of one file; what both answer is kept once."""
        for duplicate in duplicates:
            # the younger one, but of one that is over and one that runs the one that runs
            order = sorted((mine, duplicate), key=lambda one: (not one.is_terminal, one.created_at))
            mine, younger = order
            self._cancel_duplicate(job, duplicate, younger)

    def _cancel_duplicate(self, job: Job, duplicate: RemoteBatch, cancelled: RemoteBatch) -> None:
        """Journal a twin, and cancel one of the two; later looks repeat it until it takes."""
        self._desk.journal.append(job, Duplicate(duplicate.batch_id, cancelled.batch_id))
        self._desk.progress.say(
            f"job {job.job_id}: a second batch of it turned up; cancelling {cancelled.batch_id}"
        )
        with suppress(ApiError):
            self._desk.api.cancel(cancelled.batch_id)

    def _unknown_batches(self, job: Job) -> list[RemoteBatch]:
        """Batches at the server that are this job's and not in the journal, the oldest first."""
        jobs = self._desk.journal.jobs().values()
        known = {batch_id for other in jobs for batch_id in other.batches}
        strangers = [batch for batch in self._desk.listing() if batch.batch_id not in known]
        by_file = [batch for batch in strangers if batch.input_file_id == job.file_id]
        found = by_file or [batch for batch in strangers if self._is_ours(batch, job)]
        return sorted(found, key=lambda batch: batch.created_at)

    def _is_ours(self, batch: RemoteBatch, job: Job) -> bool:
        wanted = self._metadata(job)
        del wanted["fastdatasets_attempt"]  # an earlier attempt's batch answers the same requests
        return all(batch.metadata.get(key) == value for key, value in wanted.items())

    def _no_batch_api(self, api_error: ApiError) -> UserError:
        return UserError(
            f"{self._desk.options.base_url} (LLM_API_BASE) has no Batch API ({api_error}). Use "
            "--backend openai for live requests, or check the address: most end in /v1, as "
            "https://api.example.com/v1"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_about_file(api_error: ApiError, job: Job) -> bool:
    """Whether a refusal may be of a file that is not ready yet, as some servers need a while."""
    refused = api_error.kind in (ErrorKind.REFUSED, ErrorKind.NOT_FOUND)
    named = job.file_id is not None and job.file_id in api_error.message
    return refused and (named or bool(_FILE.search(api_error.message)))


def refuse_for_quota(desk: Desk, job: Job, message: str, batch_id: str | None = None) -> None:
    """Journal a refusal for the enqueued-token limit: no failure of the requests.

    batch_id: of the batch that failed for it; None: none was created.
    """
    others = desk.queue().others_enqueued(job)
    if batch_id is None:
        desk.journal.append(job, Refused(message, True, others))
    else:
        desk.journal.append(job, QuotaRefused(batch_id, message, others))
    if not job.quota_refused:
        return  # another batch of the job is going on
    if desk.queue().never_fits(job):
        desk.journal.give_up(job, f"larger than the enqueued-token limit: {message}")
        desk.delete_files(job)
    elif desk.queue().must_cut(job):
        desk.say(f"job {job.job_id} is over the server's enqueued-token limit: cut smaller")
        desk.close(job, CloseReason.CUT)
        desk.delete_files(job)
    else:
        desk.say(f"job {job.job_id} waits for room: {message}")
        desk.put_off(job)
