"""Batches of unknown fate: found at the server and adopted, or known not to be there.

After a crash, a time-out or an unreadable answer nobody knows whether a POST /batches worked. So
before any further POST of the same file the server's list is searched: for the file's id, then for
the metadata that name run and job. A second batch of one file is a duplicate: one of the two is
cancelled, and what both answered is kept once.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from backends.first_failures import stopped
from backends.openai_api.errors import ApiError
from backends.openai_batch.api.remote import RemoteBatch
from backends.openai_batch.session import BatchSession
from store.jobs.batch import BatchState
from store.jobs.events import Created, Duplicate, NotFound
from store.jobs.job import Job

TRIES = 10  # POSTs in vain of one job, without any batch


def metadata_of(run_id: str, job: Job) -> dict[str, str]:
    """What a batch of a job carries, by which it is found again."""
    return {
        "fastdatasets_run": run_id,
        "fastdatasets_job": job.job_id,
        "fastdatasets_attempt": str(job.attempt),
    }


class Recovery:
    """The steps from a POST without an answer to a batch whose id is in the journal, or none."""

    def __init__(self, session: BatchSession) -> None:
        self._session = session
        self._not_found: Counter[str] = Counter()  # by job
        self.last_error = ""  # of a POST whose answer was lost

    def look_for(self, job: Job) -> None:
        """Adopt the batch of a POST whose answer was lost, or find that there is none.

        There is none only if it did not show in a complete listing made after the grace time.
        """
        self._session.listing()  # the clock starts with a list that was complete
        last_look = self._session.schedule.is_over(job.job_id)
        if not self.adopt(job) and last_look:
            self._session.journal.append(job, NotFound(job.attempt))
            self._session.schedule.restart(job.job_id)
            self._not_found[job.job_id] += 1
            if self._not_found[job.job_id] >= TRIES:
                raise stopped(
                    f"the server answers no POST /batches of job {job.job_id} ({self.last_error})"
                    " and has no batch of it",
                    self._session.options.base_url,
                )
            self._session.say(
                f"job {job.job_id}: no batch of it appeared at the server; sending it again"
            )

    def adopt(self, job: Job) -> bool:
        """Take the oldest unknown batch of this job as its own; any others are duplicates."""
        batches = self._unknown_batches(job)
        if not batches:
            return False
        remote = batches[0]
        self._session.schedule.restart(job.job_id)
        self._session.journal.append(job, Created(remote.batch_id, job.attempt, adopted=True))
        self._session.progress.say(
            f"job {job.job_id}: found at the server as {remote.batch_id}, adopted"
        )
        self._cancel_duplicates(job, remote, batches[1:])
        return True

    def look_for_duplicates(self, job: Job) -> None:
        """Find batches of earlier POSTs that had seemed to fail, and cancel the younger ones."""
        duplicates = self._unknown_batches(job)
        going = [one for one in job.batches.values() if one.state is BatchState.OPEN]
        if duplicates and going:
            self._cancel_duplicates(job, self._session.api.retrieve(going[0].batch_id), duplicates)
        for duplicate in duplicates if not going else ():
            self._cancel_duplicate(job, duplicate, duplicate)

    def _cancel_duplicates(
        self, job: Job, mine: RemoteBatch, duplicates: list[RemoteBatch]
    ) -> None:
        """Cancel the younger of two batches of one file; what both answer is kept once."""
        for duplicate in duplicates:
            # the younger one; but where one has ended, the one that still runs
            order = sorted((mine, duplicate), key=lambda one: (not one.is_terminal, one.created_at))
            mine, younger = order
            self._cancel_duplicate(job, duplicate, younger)

    def _cancel_duplicate(self, job: Job, duplicate: RemoteBatch, cancelled: RemoteBatch) -> None:
        """Journal a duplicate, and cancel one of the two; later polls repeat it until it takes."""
        self._session.journal.append(job, Duplicate(duplicate.batch_id, cancelled.batch_id))
        self._session.progress.say(
            f"job {job.job_id}: a second batch of it turned up; cancelling {cancelled.batch_id}"
        )
        with suppress(ApiError):
            self._session.api.cancel(cancelled.batch_id)

    def _unknown_batches(self, job: Job) -> list[RemoteBatch]:
        """Batches at the server that are this job's and not in the journal, the oldest first."""
        jobs = self._session.journal.jobs().values()
        known = {batch_id for other in jobs for batch_id in other.batches}
        strangers = [batch for batch in self._session.listing() if batch.batch_id not in known]
        by_file = [batch for batch in strangers if batch.input_file_id == job.file_id]
        ours = by_file or [batch for batch in strangers if self._is_ours(batch, job)]
        return sorted(ours, key=lambda batch: batch.created_at)

    def _is_ours(self, batch: RemoteBatch, job: Job) -> bool:
        wanted = metadata_of(self._session.run_id, job)
        del wanted["fastdatasets_attempt"]  # an earlier attempt's batch answers the same requests
        return all(batch.metadata.get(key) == value for key, value in wanted.items())
