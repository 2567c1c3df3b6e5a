"""The server's limit of enqueued prompt tokens: how much more may be sent, in which pieces."""

from __future__ import annotations

from collections.abc import Collection

from backends.openai_api.errors import parse_token_limit
from store.jobs.events import CloseReason
from store.jobs.job import Job
from store.money import UNLIMITED

PIECES = 4  # jobs a known limit is filled with, so that the queue never runs dry between two


class TokenQuota:
    """What is known of the limit, from the jobs of the journal; tokens are our estimates.

    The server counts otherwise than we do: a job that was refused with nothing else of ours
    enqueued, or that is larger than the limit the server named, is cut, and the next ones hold half
    of it at most. Every job that is done afterwards doubles that again.
    """

    def __init__(self, jobs: Collection[Job], asked_limit: int | None) -> None:
        self._jobs = jobs
        self._cap = UNLIMITED
        self.limit = asked_limit
        for job in jobs:
            if asked_limit is None:
                self.limit = parse_token_limit(job.refusal) or self.limit
            if job.closed_as is CloseReason.CUT:
                self._cap = max(1, job.tokens // 2)
            elif job.closed_as is CloseReason.DONE:
                self._cap = min(2 * self._cap, UNLIMITED)

    def next_job_tokens(self) -> int:
        """The most tokens the next job may hold; 0 where the queue is full for now."""
        if any(job.quota_refused and job.requests > 1 for job in self._jobs):
            return 0  # those that were refused go first; a single request holds up nobody
        if self.limit is None:
            return self._cap
        piece = max(1, min(self._cap, self.limit // PIECES))
        enqueued = sum(job.tokens for job in self._enqueued())
        return piece if not enqueued or enqueued + piece <= self.limit else 0

    def others_enqueued(self, job: Job) -> int:
        """How many other jobs of ours are enqueued."""
        return len([other for other in self._enqueued() if other.job_id != job.job_id])

    def must_cut(self, job: Job) -> bool:
        """Whether a job that was refused for the limit has to become smaller ones."""
        if job.requests == 1:
            return False  # it cannot: it waits until others' work has left the queue
        return not self.others_enqueued(job) or (self.limit is not None and job.tokens > self.limit)

    def never_fits(self, job: Job) -> bool:
        """Whether a single request is larger than the limit the server named."""
        return job.requests == 1 and self.limit is not None and job.tokens > self.limit

    def has_room_again(self, job: Job) -> bool:
        """Whether a refused job may go once more: others of ours have ended since, or all have."""
        others = self.others_enqueued(job)
        return not job.quota_refused or others < job.enqueued_when_refused or not others

    def _enqueued(self) -> list[Job]:
        return [job for job in self._jobs if job.is_enqueued]
