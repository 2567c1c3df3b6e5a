"""Planning jobs: how large the next one may be, by the server's limits and by the budget."""

from __future__ import annotations

from backends.budget import budget_exhausted
from backends.openai_batch.failpoints import FailPoint, failpoint
from backends.openai_batch.session import ENDPOINT, BatchSession
from store.images import ImageUnreadable
from store.jobs.events import CloseReason
from store.jobs.job import Job, JobState
from store.jobs.journal import Caps
from store.money import UNLIMITED
from store.requests import RequestOrder

FIRST_JOB = 100  # requests; the rest follows once the server has validated it
EARLY_JOB = 10_000  # requests of further jobs until the first answer: what fails alike shows sooner


class Planner:
    """Plans the jobs of one run."""

    def __init__(self, session: BatchSession) -> None:
        self._session = session

    def next_job(self, *, validated: bool) -> Job | None:
        """Plan a job of what is pending, as far as the server's limits and the budget allow.

        validated: whether the server has taken a file of this run and works on it.
        """
        options, journal = self._session.options, self._session.journal
        answered, first = journal.any_result(), not journal.unclosed()
        if not (answered or first or validated):
            return None  # the first, small job shows whether the server takes our files
        if not answered and any(job.undelivered for job in journal.unclosed()):
            return None  # nothing more is sent to a server that has delivered nothing so far
        tokens = self._session.quota().next_job_tokens()
        if not tokens:
            return None
        most = options.max_requests if answered else FIRST_JOB if first else EARLY_JOB
        caps = Caps(
            min(most, options.max_requests),
            options.max_bytes,
            tokens,
            self._budget_left(),
            options.rates,
        )
        job = self._plan(caps)
        failpoint(FailPoint.PLANNED)
        return job

    def _plan(self, caps: Caps) -> Job | None:
        """Plan a job, without requests whose images cannot be read or sent: these have failed."""
        options, journal = self._session.options, self._session.journal
        requests = self._session.store.requests
        while True:
            if not journal.has_queue:
                requests.refuse_large_lines(options.max_bytes, options.max_attempts)
                pending = requests.pending_positions(options.max_attempts, RequestOrder.PREFIX)
                journal.build_queue(pending)
            try:
                return journal.plan(
                    options.folder, caps, options.base_url, ENDPOINT, options.dialect.body
                )
            except ImageUnreadable as unreadable:
                requests.refuse_image(unreadable, options.max_attempts)
                journal.invalidate_queue()

    def raise_if_budget_exhausted(self) -> None:
        """Raise Unfinished where the budget does not allow even one more request."""
        options = self._session.options
        if options.max_cost is not None and options.rates is not None:
            raise budget_exhausted(
                options.max_cost, options.rates, options.max_attempts, self._session.store
            )

    def _budget_left(self) -> int:
        """Picodollars that the next job may cost at most."""
        options = self._session.options
        if options.max_cost is None or options.rates is None:
            return UNLIMITED
        return max(0, options.max_cost - self._session.store.costs.spent(options.rates))

    def close_jobs_over_budget(self) -> None:
        """Plan jobs anew that were planned for a larger budget and not sent yet."""
        options = self._session.options
        if options.max_cost is None or options.rates is None:
            return
        for job in self._session.journal.unclosed():
            unsent = job.state in (JobState.PLANNED, JobState.UPLOADED) and not job.attempt
            if unsent and self._session.store.costs.spent(options.rates) > options.max_cost:
                self._session.close(job, CloseReason.STALE)
                self._session.delete_files(job)
