"""Submitting a job: upload its file, create its batch once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from backends.first_failures import stopped
from backends.openai_api.errors import ApiError, ErrorKind
from backends.openai_batch.failpoints import FailPoint, failpoint
from backends.openai_batch.recover import Recovery, metadata_of
from backends.openai_batch.session import ENDPOINT, MIN_POLLS, BatchSession
from store import UserError
from store.images import ImageUnreadable
from store.jobs.events import (
    CloseReason,
    Created,
    Creating,
    QuotaRefused,
    Refused,
    Uploaded,
)
from store.jobs.job import Job
from store.jobs.job_files import job_file, write_job_file

TRIES = 10  # uploads in a row that the server answers with an error; POSTs without any batch

_FILE = re.compile(r"\b(input_?)?file(_?id)?\b", re.IGNORECASE)


class Submission:
    """The steps from a planned job to a batch whose id is in the journal."""

    def __init__(self, session: BatchSession, recovery: Recovery) -> None:
        self._session = session
        self._recovery = recovery
        self._failed_uploads = 0  # in a row
        self._refused_files = 0

    def upload(self, job: Job) -> None:
        """POST /files. A file too many costs nothing, so this one may be repeated."""
        path = job_file(self._session.options.folder, job.job_id)
        if not path.exists() or _sha256(path) != job.sha256:
            # Written anew from the store, so the bytes are those of the intent, unless another
            # version of this tool writes requests otherwise, or an image is not what it was: then
            # the job is planned anew.
            options = self._session.options
            body = options.dialect.body
            database = self._session.store.database
            try:
                written = write_job_file(database, job.job_id, options.folder, ENDPOINT, body)
            except ImageUnreadable:
                written = ""
            if written != job.sha256:
                self._session.close(job, CloseReason.STALE)
                return
        name = f"fastdatasets-{self._session.run_id}-{job.job_id}.jsonl"
        try:
            file_id = self._session.api.upload(path, name)
        except ApiError as api_error:
            if api_error.kind is ErrorKind.TOO_LARGE:
                self._too_large(job, api_error)
                return
            self._failed_uploads += api_error.status is not None
            worked_before = any(other.file_id for other in self._session.journal.jobs().values())
            missing = api_error.kind is ErrorKind.NOT_FOUND or api_error.status == 405
            if missing and not worked_before:
                raise self._no_batch_api(api_error) from None
            if api_error.kind is ErrorKind.REFUSED or (
                # An upload that fails may have left its file: not as often as there is time for.
                api_error.status is not None and self._failed_uploads >= TRIES
            ):
                raise stopped(
                    f"the server refuses the file: {api_error}", self._session.options.base_url
                ) from None
            raise
        self._failed_uploads = 0
        self._session.accepted += 1
        failpoint(FailPoint.FILE_SENT)
        self._session.journal.append(job, Uploaded(file_id))
        path.unlink()
        failpoint(FailPoint.UPLOADED)

    def create(self, job: Job) -> None:
        """POST /batches: once; where an earlier POST may have worked, a search comes first."""
        if self._session.schedule.is_put_off(
            job.job_id
        ) or not self._session.quota().has_room_again(job):
            return
        if job.attempt and self._recovery.adopt(job):
            return
        attempt = job.attempt + 1
        self._session.journal.append(job, Creating(attempt))
        failpoint(FailPoint.CREATING)
        assert job.file_id is not None
        self._session.refresh_listing()  # a search for this POST needs a list made after it
        try:
            remote = self._session.api.create(
                job.file_id,
                ENDPOINT,
                self._session.options.completion_window,
                metadata_of(self._session.run_id, job),
            )
        except ApiError as api_error:
            self._not_created(job, api_error)
            return
        failpoint(FailPoint.BATCH_SENT)
        self._session.journal.append(job, Created(remote.batch_id, attempt))
        self._session.progress.say(
            f"job {job.job_id}: {job.requests} requests are at the server as {remote.batch_id}"
        )
        self._session.accepted += 1
        failpoint(FailPoint.CREATED)

    def _not_created(self, job: Job, api_error: ApiError) -> None:
        """Journal what a failed POST /batches means, and raise what ends the run."""
        if api_error.kind in (ErrorKind.UNKNOWN, ErrorKind.OVERLONG):
            self._recovery.last_error = str(api_error)
            self._session.say(
                f"job {job.job_id}: the server's answer is lost ({api_error}); looking for it"
            )
            return  # it is 'creating' still: searched for before anything is sent again
        if api_error.kind is ErrorKind.ENQUEUED_LIMIT:
            refuse_for_quota(self._session, job, api_error.message)
            return
        self._session.refusal = str(api_error)
        self._session.journal.append(job, Refused(api_error.message))
        if api_error.kind is ErrorKind.STOP:
            raise api_error
        first = job.attempt == 1 and len(self._session.journal.jobs()) == 1
        if first and api_error.kind is ErrorKind.NOT_FOUND and not _is_about_file(api_error, job):
            raise self._no_batch_api(api_error)
        if api_error.kind is ErrorKind.TOO_LARGE:
            self._too_large(job, api_error)
        elif _is_about_file(api_error, job):
            self._file_refused(job, api_error)
        elif api_error.kind in (ErrorKind.REFUSED, ErrorKind.NOT_FOUND):
            raise stopped(
                f"the server refuses the batch: {api_error}", self._session.options.base_url
            )
        else:  # busy
            self._session.say(f"job {job.job_id}: {api_error}; trying again")
            self._session.schedule.put_off(job.job_id)

    def _too_large(self, job: Job, api_error: ApiError) -> None:
        """Cut a job in two, or let the one request fail that is too large by itself."""
        if job.requests > 1:
            self._session.say(
                f"job {job.job_id} is too large for the server: cut into smaller ones"
            )
            self._session.close(job, CloseReason.CUT)
        else:
            self._session.journal.give_up(job, f"too large for the server: {api_error}")
            job_file(self._session.options.folder, job.job_id).unlink(missing_ok=True)
        self._session.delete_files(job)

    def _file_refused(self, job: Job, api_error: ApiError) -> None:
        """A file that is not ready yet is named again; one that is gone is uploaded anew, once."""
        if not self._session.schedule.is_over(f"{job.file_id}", MIN_POLLS):
            self._session.say(f"job {job.job_id}: {api_error}; trying again")
            self._session.schedule.put_off(job.job_id)
            return
        if not job.maybe_duplicated:  # else its requests may be in a batch that will turn up
            self._session.close(job, CloseReason.STALE)
            self._session.delete_files(job)
        self._refused_files += not job.maybe_duplicated
        if job.maybe_duplicated or self._refused_files > 1:
            raise stopped(
                f"the server refuses the batch: {api_error}", self._session.options.base_url
            )

    def _no_batch_api(self, api_error: ApiError) -> UserError:
        return UserError(
            f"{self._session.options.base_url} (LLM_API_BASE) has no Batch API ({api_error}). Use "
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


def refuse_for_quota(
    session: BatchSession, job: Job, message: str, batch_id: str | None = None
) -> None:
    """Journal a refusal for the enqueued-token limit: no failure of the requests.

    batch_id: of the batch that failed for it; None: none was created.
    """
    others = session.quota().others_enqueued(job)
    if batch_id is None:
        session.journal.append(job, Refused(message, True, others))
    else:
        session.journal.append(job, QuotaRefused(batch_id, message, others))
    if not job.quota_refused:
        return  # another batch of the job is going on
    if session.quota().never_fits(job):
        session.journal.give_up(job, f"larger than the enqueued-token limit: {message}")
        session.delete_files(job)
    elif session.quota().must_cut(job):
        session.say(f"job {job.job_id} is over the server's enqueued-token limit: cut smaller")
        session.close(job, CloseReason.CUT)
        session.delete_files(job)
    else:
        session.say(f"job {job.job_id} waits for room: {message}")
        session.schedule.put_off(job.job_id)
