"""Passes over all jobs: for each what it needs next, by the journal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from backends.first_failures import stopped
from backends.openai_api.errors import ApiError, ErrorKind
from backends.openai_batch.collect import Collecting
from backends.openai_batch.lost import LostJobs
from backends.openai_batch.planner import Planner
from backends.openai_batch.recover import Recovery
from backends.openai_batch.session import MIN_POLLS, BatchSession
from backends.openai_batch.submit import Submission
from store import Unfinished
from store.jobs.batch import BatchState
from store.jobs.events import Cancelling, CloseReason
from store.jobs.job import Job, JobState

MAX_FAILED_PASSES = 10  # in a row, while nothing of ours is at the server
VALIDATION_POLLS = 5  # of the first job, by a command that does not wait for answers


class Passes:
    """What is done to all jobs, again and again."""

    def __init__(self, session: BatchSession) -> None:
        self.session = session
        self._recovery = Recovery(session)
        self._submission = Submission(session, self._recovery)
        self.planner = Planner(session)
        self._lost = LostJobs(session)
        self._collecting = Collecting(session, self._lost)
        self._silent = 0  # passes in a row in which a call failed
        self._overlong: ApiError | None = None  # an answer that no retry makes shorter
        self._stalled = 0  # passes in a row in which the server accepted and delivered nothing

    def has_more_to_do_now(self, open_jobs: list[Job]) -> bool:
        """Whether a command that does not wait for batches should make another pass."""
        if (
            any(job.state is JobState.UNKNOWN for job in open_jobs)
            and self._silent < MAX_FAILED_PASSES
        ):
            return True  # looked for until the grace time has passed
        if self._stalled >= MAX_FAILED_PASSES:
            return False
        if any(_is_unsent(job) and not job.quota_refused for job in open_jobs):
            return True
        unproven = not (self._collecting.validated or self.session.journal.any_result())
        pending = self.session.store.requests.has_pending(self.session.options.max_attempts)
        return bool(open_jobs) and unproven and pending and self._stalled < VALIDATION_POLLS

    def raise_if_refused(self, open_jobs: list[Job]) -> None:
        """Raise Unfinished, with the server's words, where jobs are left that it would not take."""
        if self.session.refusal and any(
            _is_unsent(job) and not job.quota_refused for job in open_jobs
        ):
            raise Unfinished(
                f"the server takes no batch now: {self.session.refusal}. Nothing is lost and no "
                "attempt used; a later resume tries again"
            )

    def waits_for_user(self, job: Job) -> bool:
        """Whether only the user can say what becomes of a job."""
        return self._lost.waits_for_user(job)

    def check_address(self) -> None:
        """Jobs at a server can only be polled there; unsent ones are planned again."""
        base_url = self.session.options.base_url
        self.session.journal.check_address(base_url)
        for job in self.session.journal.unclosed():
            if job.base_url != base_url:
                self.session.close(job, CloseReason.STALE)  # nothing of it runs there: planned anew

    def advance_all(self) -> bool:
        """Do for every job what it needs next; returns whether all calls were answered."""
        self.session.refresh_listing()
        self.session.journal.invalidate_queue()
        self.planner.close_jobs_over_budget()
        accepted = self.session.accepted
        looked, steps = True, []
        for job in self.session.journal.jobs().values():
            # Closed ones too; what is to be created yet adopts what it finds instead.
            if job.maybe_duplicated and job.state in (
                JobState.OPEN,
                JobState.ENDED,
                JobState.CLOSED,
            ):
                looked = self._guarded(partial(self._recovery.look_for_duplicates, job)) and looked
            if job.state is JobState.UNKNOWN:
                looked = self._guarded(partial(self._advance, job)) and looked
            elif job.state is not JobState.CLOSED:
                steps.append(self._guarded(partial(self._advance, job)))
        self._raise_if_stopped()
        # A list that cannot be read, or one batch, keeps back its own jobs and no others.
        open_jobs = self.session.journal.unclosed()
        reached = any(steps) or not steps
        reached = reached and not any(job.state is JobState.PLANNED for job in open_jobs)
        while (
            reached
            and (planned := self.planner.next_job(validated=self._collecting.validated)) is not None
        ):
            reached = self._guarded(partial(self._advance, planned))
            if reached and not self.session.journal.any_result():
                reached = self._look_at_first_answers()
        self._stalled = 0 if self.session.accepted > accepted else self._stalled + 1
        return reached and looked and all(steps)

    def _look_at_first_answers(self) -> bool:
        """Poll the oldest batch between two jobs: what fails alike is not sent again and again."""
        oldest = next(
            (job for job in self.session.journal.unclosed() if job.state is JobState.OPEN), None
        )
        reached = oldest is None or self._guarded(partial(self._advance, oldest))
        self._raise_if_stopped()
        return reached

    def _raise_if_stopped(self) -> None:
        """Raise Unfinished where a batch showed that nothing more should be sent."""
        self._raise_if_overlong()
        self._lost.raise_if_stopped()
        if self._collecting.stop:
            self.session.store.results.stop(self._collecting.stop)
            raise stopped(self._collecting.stop, self.session.options.base_url)

    def _raise_if_overlong(self) -> None:
        if self._overlong is not None:
            raise Unfinished(
                f"the server: {self._overlong}. What was sent stays there; resume asks again"
            )

    def cancel_all(self, jobs: list[Job], *, forget: bool) -> bool:
        """Bring every job nearer to its cancelled end; returns whether the server answered."""
        self.session.refresh_listing()
        reached = True
        for job in jobs:
            reached = self._guarded(partial(self._cancel, job)) and reached
            ended = job.state is JobState.CLOSED
            if (
                forget
                and not ended
                and self.session.schedule.is_over(f"end of {job.job_id}", MIN_POLLS)
            ):
                self.session.close(job, CloseReason.FORGOTTEN)
                self.session.progress.say(
                    f"job {job.job_id}: given up with {job.requests} requests; what the server "
                    "billed for them is not known"
                )
        self._raise_if_overlong()
        return reached

    def raise_if_server_is_silent(self, reached: bool, open_jobs: list[Job]) -> None:
        """Raise Unfinished where the server has not answered for long and has nothing of ours."""
        self._silent = 0 if reached else self._silent + 1
        if self._silent < MAX_FAILED_PASSES or any(job.attempt for job in open_jobs):
            return
        done = self.session.store.results.count()
        stored = f"{done} answers are stored; nothing" if done else "nothing"
        raise Unfinished(
            f"{self.session.options.base_url} does not answer as a batch server should; {stored} "
            "of this run is there now. Check LLM_API_BASE, then resume"
        )

    def _guarded(self, step: Callable[[], None]) -> bool:
        """Run a step; what the user has to fix ends the run, the rest waits for the next pass."""
        try:
            step()
        except ApiError as api_error:
            if api_error.kind is ErrorKind.STOP:
                raise stopped(
                    f"the server refuses every request: {api_error}", self.session.options.base_url
                ) from None
            if api_error.kind is ErrorKind.OVERLONG:
                self._overlong = api_error  # the pass goes on: other jobs may be collected
            else:
                self.session.say(f"the server: {api_error}; trying again")
            return False
        return True

    def _advance(self, job: Job) -> None:
        if job.state in (JobState.OPEN, JobState.ENDED):
            self._collecting.poll_and_collect(job)
            return
        if job.state is JobState.PLANNED:
            self._submission.upload(job)
        if job.state is JobState.UNKNOWN:
            self._recovery.look_for(job)
        if job.state is JobState.UPLOADED:
            self._submission.create(job)
        if job.state is JobState.LOST:
            self._lost.ask_again(job)

    def _cancel(self, job: Job) -> None:
        if job.state is JobState.UNKNOWN:
            self._recovery.look_for(job)
        if job.state in (JobState.PLANNED, JobState.UPLOADED):
            self.session.close(job, CloseReason.CANCELLED)
            self.session.delete_files(job)
        for batch in job.batches.values():
            if batch.state is BatchState.OPEN and not batch.cancelled_by_us:
                self.session.journal.append(job, Cancelling(batch.batch_id))
                with suppress(ApiError):  # later polls repeat it
                    self.session.api.cancel(batch.batch_id)
        if job.maybe_duplicated:
            self._recovery.look_for_duplicates(job)
        self._collecting.poll_and_collect(job)


def _is_unsent(job: Job) -> bool:
    return job.state in (JobState.PLANNED, JobState.UPLOADED)
