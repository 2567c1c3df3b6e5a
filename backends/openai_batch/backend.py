"""The OpenAI Batch API as a backend: jobs at half price that no death loses or pays twice.

The journal is the whole state: each pass reads the jobs from it and does for each what it needs
next, so a resume after any death is just another pass. Nothing has to stay running while the server
works. The rules are in docs/batch.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from backends.base import Backend, BackendOptions, Progress
from backends.budget import budget_exhausted
from backends.first_failures import stopped
from backends.openai_api.errors import ApiError, ErrorKind
from backends.openai_api.providers import dialect_of, provider_for
from backends.openai_batch.api import BatchApi
from backends.openai_batch.collect import Collecting
from backends.openai_batch.context import ENDPOINT, MIN_LOOKS, BatchOptions, Desk
from backends.openai_batch.failpoints import FailPoint, failpoint
from backends.openai_batch.lost import LostJobs
from backends.openai_batch.submit import Submitting
from store import Unfinished, WorkStore
from store.costs.money import UNLIMITED
from store.jobs.events import Cancelling, CloseReason
from store.jobs.job import BatchState, Job, JobState
from store.jobs.journal import Caps
from store.requests import AskOrder
from store.runs import Run

PATIENCE = 10  # looks at a server that never answers, while nothing of ours is there
VALIDATION_LOOKS = 5  # at the first job, by a command that does not wait for answers
FIRST_JOB = 100  # requests; the rest follows once the server has validated it
EARLY_JOB = 10_000  # requests of further jobs until the first answer: what fails alike shows sooner


def make(run: Run, options: BackendOptions) -> OpenAIBatch:
    """The Batch API of a run's server."""
    assert run.base_url is not None, "a batch backend asks a server"
    provider = provider_for(run.base_url)
    return OpenAIBatch(
        BatchOptions(
            base_url=run.base_url,
            api_key=options.api_key,
            folder=options.folder,
            max_attempts=options.max_attempts,
            max_requests=options.batch_max_requests or provider.max_requests,
            max_bytes=options.batch_max_bytes or provider.max_bytes,
            dialect=dialect_of(run.model, provider, options.max_tokens_name, options.json_schema),
            completion_window=options.completion_window or provider.completion_window,
            max_enqueued_tokens=options.max_enqueued_tokens,
            timeout_seconds=options.timeout_seconds,
            poll_seconds=options.poll_seconds,
            grace_seconds=options.grace_seconds,
            wait=options.wait,
            keep_files=options.keep_files,
            resubmit_lost=options.resubmit_lost,
            rates=options.rates,
            max_cost=options.max_cost,
        )
    )


class OpenAIBatch(Backend):
    """One run's jobs at one server."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Submit what is pending and collect what is ready, until all is done.

        Without options.wait only until nothing more can be done now.
        """
        with self._passes(store, progress) as passes:
            while True:
                reached = passes.advance_all()
                progress.update(store)
                live = store.journal.unclosed()
                if not live and not store.requests.has_pending(self._options.max_attempts):
                    return
                if not live and reached:
                    passes.raise_if_budget_exhausted()
                passes.raise_if_server_is_silent(reached, live)
                if live and all(passes.waits_for_user(job) for job in live):
                    return
                if not self._options.wait and not passes.has_more_to_do_now(live):
                    passes.raise_if_refused(live)
                    return
                passes.desk.pause()

    def cancel(self, store: WorkStore, progress: Progress, *, forget: bool = False) -> None:
        """Cancel what is at the server, keep what it finished, delete the files there.

        forget: give up what does not end within the grace time, and jobs that are lost; what they
        were billed stays unsure, and their requests become pending.
        """
        with self._passes(store, progress) as passes:
            while live := [
                job for job in store.journal.unclosed() if forget or job.state is not JobState.LOST
            ]:
                reached = passes.cancel_all(live, forget=forget)
                progress.update(store)
                if not forget:
                    passes.raise_if_server_is_silent(reached, live)
                if store.journal.unclosed():
                    passes.desk.pause()

    @contextmanager
    def _passes(self, store: WorkStore, progress: Progress) -> Iterator[_Passes]:
        options = self._options
        with BatchApi(options.base_url, options.api_key, options.timeout_seconds) as api:
            passes = _Passes(Desk(options, api, store, progress))
            passes.check_address()
            yield passes


class _Passes:
    """What is done to all jobs, again and again."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._submitting = Submitting(desk)
        self._lost = LostJobs(desk)
        self._collecting = Collecting(desk, self._lost)
        self._silent = 0  # passes in a row in which a call failed
        self._overlong: ApiError | None = None  # an answer that no look makes shorter
        self._stalled = 0  # passes in a row in which the server took and gave nothing

    def has_more_to_do_now(self, live: list[Job]) -> bool:
        """Whether a command that does not wait for batches should make another pass."""
        if any(job.state is JobState.UNKNOWN for job in live) and self._silent < PATIENCE:
            return True  # looked for until the grace time has passed
        if self._stalled >= PATIENCE:
            return False
        if any(_is_unsent(job) and not job.quota_refused for job in live):
            return True
        unproven = not (self._collecting.validated or self.desk.journal.any_result())
        pending = self.desk.store.requests.has_pending(self.desk.options.max_attempts)
        return bool(live) and unproven and pending and self._stalled < VALIDATION_LOOKS

    def raise_if_refused(self, live: list[Job]) -> None:
        """Raise Unfinished, with the server's words, where jobs are left that it would not take."""
        if self.desk.refusal and any(_is_unsent(job) and not job.quota_refused for job in live):
            raise Unfinished(
                f"the server takes no batch now: {self.desk.refusal}. Nothing is lost and no "
                "attempt used; a later resume tries again"
            )

    def waits_for_user(self, job: Job) -> bool:
        """Whether only the user can say what becomes of a job."""
        return self._lost.waits_for_user(job)

    def check_address(self) -> None:
        """Jobs that are going on can be asked after at their own server only."""
        base_url = self.desk.options.base_url
        self.desk.journal.check_address(base_url)
        for job in self.desk.journal.unclosed():
            if job.base_url != base_url:
                self.desk.close(job, CloseReason.STALE)  # nothing of it runs there: planned anew

    def advance_all(self) -> bool:
        """Do for every job what it needs next; gives whether all calls were answered."""
        self.desk.forget_listing()
        self.desk.journal.invalidate_queue()
        self._close_jobs_over_budget()
        accepted = self.desk.accepted
        looked, steps = True, []
        for job in self.desk.journal.jobs().values():
            # Closed ones too; what is to be created yet adopts what it finds instead.
            if job.maybe_duplicated and job.state in (
                JobState.OPEN,
                JobState.ENDED,
                JobState.CLOSED,
            ):
                looked = (
                    self._guarded(partial(self._submitting.look_for_duplicates, job)) and looked
                )
            if job.state is JobState.UNKNOWN:
                looked = self._guarded(partial(self._advance, job)) and looked
            elif job.state is not JobState.CLOSED:
                steps.append(self._guarded(partial(self._advance, job)))
        self._raise_if_stopped()
        # A list that cannot be read, or one batch, keeps back its own jobs and no others.
        live = self.desk.journal.unclosed()
        reached = any(steps) or not steps
        reached = reached and not any(job.state is JobState.PLANNED for job in live)
        while reached and (planned := self._plan()) is not None:
            reached = self._guarded(partial(self._advance, planned))
            if reached and not self.desk.journal.any_result():
                reached = self._look_at_first_answers()
        self._stalled = 0 if self.desk.accepted > accepted else self._stalled + 1
        return reached and looked and all(steps)

    def _look_at_first_answers(self) -> bool:
        """Look at the oldest batch between two jobs: what fails alike is not sent on and on."""
        oldest = next(
            (job for job in self.desk.journal.unclosed() if job.state is JobState.OPEN), None
        )
        reached = oldest is None or self._guarded(partial(self._advance, oldest))
        self._raise_if_stopped()
        return reached

    def _raise_if_stopped(self) -> None:
        """Raise Unfinished where a batch showed that nothing more should be sent."""
        self._raise_if_overlong()
        self._lost.raise_if_stopped()
        if self._collecting.stop:
            self.desk.store.results.stop(self._collecting.stop)
            raise stopped(self._collecting.stop, self.desk.options.base_url)

    def _raise_if_overlong(self) -> None:
        if self._overlong is not None:
            raise Unfinished(
                f"the server: {self._overlong}. What was sent stays there; resume asks again"
            )

    def cancel_all(self, jobs: list[Job], *, forget: bool) -> bool:
        """Bring every job nearer to its cancelled end; gives whether the server answered."""
        self.desk.forget_listing()
        reached = True
        for job in jobs:
            reached = self._guarded(partial(self._cancel, job)) and reached
            ended = job.state is JobState.CLOSED
            if (
                forget
                and not ended
                and self.desk.looked_long_enough(f"end of {job.job_id}", MIN_LOOKS)
            ):
                self.desk.close(job, CloseReason.FORGOTTEN)
                self.desk.progress.say(
                    f"job {job.job_id}: given up with {job.requests} requests; what the server "
                    "billed for them is not known"
                )
        self._raise_if_overlong()
        return reached

    def raise_if_server_is_silent(self, reached: bool, live: list[Job]) -> None:
        """Raise Unfinished where the server has not answered for long and has nothing of ours."""
        self._silent = 0 if reached else self._silent + 1
        if self._silent < PATIENCE or any(job.attempt for job in live):
            return
        done = self.desk.store.results.count()
        stored = f"{done} answers are stored; nothing" if done else "nothing"
        raise Unfinished(
            f"{self.desk.options.base_url} does not answer as a batch server should; {stored} "
            "of this run is there now. Check LLM_API_BASE, then resume"
        )

    def _guarded(self, step: Callable[[], None]) -> bool:
        """Run a step; what cannot be mended here ends the run, the rest waits for the next pass."""
        try:
            step()
        except ApiError as api_error:
            if api_error.kind is ErrorKind.STOP:
                raise stopped(
                    f"the server refuses every request: {api_error}", self.desk.options.base_url
                ) from None
            if api_error.kind is ErrorKind.OVERLONG:
                self._overlong = api_error  # the pass goes on: other jobs may be collected
            else:
                self.desk.say(f"the server: {api_error}; trying again")
            return False
        return True

    def _advance(self, job: Job) -> None:
        if job.state in (JobState.OPEN, JobState.ENDED):
            self._collecting.poll_and_collect(job)
            return
        if job.state is JobState.PLANNED:
            self._submitting.upload(job)
        if job.state is JobState.UNKNOWN:
            self._submitting.look_for(job)
        if job.state is JobState.UPLOADED:
            self._submitting.create(job)
        if job.state is JobState.LOST:
            self._lost.ask_again(job)

    def _cancel(self, job: Job) -> None:
        if job.state is JobState.UNKNOWN:
            self._submitting.look_for(job)
        if job.state in (JobState.PLANNED, JobState.UPLOADED):
            self.desk.close(job, CloseReason.CANCELLED)
            self.desk.delete_files(job)
        for batch in job.batches.values():
            if batch.state is BatchState.OPEN and not batch.cancelled_by_us:
                self.desk.journal.append(job, Cancelling(batch.batch_id))
                with suppress(ApiError):  # the looks ask again until it takes
                    self.desk.api.cancel(batch.batch_id)
        if job.maybe_duplicated:
            self._submitting.look_for_duplicates(job)
        self._collecting.poll_and_collect(job)

    def raise_if_budget_exhausted(self) -> None:
        """Raise Unfinished where the budget does not allow even one more request."""
        options = self.desk.options
        if options.max_cost is not None and options.rates is not None:
            raise budget_exhausted(
                options.max_cost, options.rates, options.max_attempts, self.desk.store
            )

    def _budget_left(self) -> int:
        """Picodollars that the next job may cost at most."""
        options = self.desk.options
        if options.max_cost is None or options.rates is None:
            return UNLIMITED
        return max(0, options.max_cost - self.desk.store.costs.spent(options.rates))

    def _close_jobs_over_budget(self) -> None:
        """Plan jobs anew that were planned for a larger budget and not sent yet."""
        options = self.desk.options
        if options.max_cost is None or options.rates is None:
            return
        for job in self.desk.journal.unclosed():
            unsent = job.state in (JobState.PLANNED, JobState.UPLOADED) and not job.attempt
            if unsent and self.desk.store.costs.spent(options.rates) > options.max_cost:
                self.desk.close(job, CloseReason.STALE)
                self.desk.delete_files(job)

    def _plan(self) -> Job | None:
        """The next job of what is pending, as far as the server's limits allow; else None."""
        options, journal = self.desk.options, self.desk.journal
        answered, first = journal.any_result(), not journal.unclosed()
        if not (answered or first or self._collecting.validated):
            return None  # the first, small job shows whether the server takes our files
        if not answered and any(job.undelivered for job in journal.unclosed()):
            return None  # nothing more is sent to a server that has delivered nothing so far
        tokens = self.desk.queue().next_job_tokens()
        if not tokens:
            return None
        most = options.max_requests if answered else FIRST_JOB if first else EARLY_JOB
        if not journal.has_queue:
            pending = self.desk.store.requests.pending_positions(
                options.max_attempts, AskOrder.PREFIX
            )
            journal.build_queue(pending)
        job = journal.plan(
            options.folder,
            Caps(
                min(most, options.max_requests),
                options.max_bytes,
                tokens,
                self._budget_left(),
                options.rates,
            ),
            options.base_url,
            ENDPOINT,
            options.dialect.body,
        )
        failpoint(FailPoint.PLANNED)
        return job


def _is_unsent(job: Job) -> bool:
    return job.state in (JobState.PLANNED, JobState.UPLOADED)
