"""What the steps of the batch backend share: options, server, store, and a schedule of waits."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from backends.base import BackendOptions, Progress
from backends.openai_api.errors import ApiError
from backends.openai_api.providers import Dialect
from backends.openai_batch.api.calls import BatchApi
from backends.openai_batch.api.remote import RemoteBatch
from backends.openai_batch.token_quota import TokenQuota
from store import WorkStore
from store.jobs.events import Closed, CloseReason
from store.jobs.job import Job
from store.jobs.job_files import job_file
from store.jobs.journal import Journal

ENDPOINT = "/v1/chat/completions"
MIN_POLLS = 4  # times in a row that something is not found before it is taken for gone
FIRST_WAIT, GROWTH = 2.0, 1.5  # seconds between two passes, and how that grows to poll_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions(BackendOptions):
    """A command's options, and the server with its limits; max_*: of a job file."""

    base_url: str
    dialect: Dialect
    max_requests: int
    max_bytes: int
    completion_window: str


class Schedule:
    """When something is done again, by the monotonic clock of this process."""

    def __init__(self, poll_seconds: float, grace_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._grace_seconds = grace_seconds
        self._wait = FIRST_WAIT
        self._polls: dict[str, tuple[float, int]] = {}  # by key: time of the first, and how many
        self._not_before: dict[str, float] = {}

    def is_over(self, key: str, polls: int = 1) -> bool:
        """Whether the grace time has passed since this process first polled for key.

        And whether it was polled so many times: one failed answer is no answer, however short the
        grace time. Asked before a poll, so that the poll that decides is made after it.
        """
        now = time.monotonic()
        first, count = self._polls.get(key, (now, 0))
        self._polls[key] = (first, count + 1)
        return now - first >= self._grace_seconds and count + 1 >= polls

    def restart(self, key: str) -> None:
        """Start the grace time of key anew."""
        self._polls.pop(key, None)

    def put_off(self, key: str) -> None:
        """Leave key alone for as long as the next wait."""
        self._not_before[key] = time.monotonic() + self._next_wait()

    def is_put_off(self, key: str) -> bool:
        """Whether key is to be left alone still."""
        return time.monotonic() < self._not_before.get(key, 0.0)

    def wait(self, store: WorkStore) -> None:
        """Wait, with the store released; each wait is longer than the one before."""
        seconds = self._next_wait()
        self._wait *= GROWTH if self._wait < self._poll_seconds else 1.0
        if seconds > 0:
            with store.released():
                threading.Event().wait(seconds)

    def _next_wait(self) -> float:
        return min(self._wait, self._poll_seconds)


class BatchSession:
    """One command's work on one run's jobs."""

    def __init__(
        self, options: BatchOptions, api: BatchApi, store: WorkStore, progress: Progress
    ) -> None:
        self.options = options
        self.api = api
        self.store = store
        self.journal: Journal = store.journal
        self.progress = progress
        self.run_id = store.run().run_id
        self.schedule = Schedule(options.poll_seconds, options.grace_seconds)
        self.refusal = ""  # the server's words of the last batch that it would not take
        self.accepted = 0  # uploads and batches that the server took, batches that were collected
        self._listing: list[RemoteBatch] | None = None
        self._said: set[str] = set()

    def say(self, line: str) -> None:
        """Say a line once: passes repeat, their news does not."""
        if line not in self._said:
            self._said.add(line)
            self.progress.say(line)

    def listing(self) -> list[RemoteBatch]:
        """All batches at the server, asked for once until refresh_listing."""
        if self._listing is None:
            self._listing = self.api.list_all()
        return self._listing

    def refresh_listing(self) -> None:
        """Let the next listing ask the server again."""
        self._listing = None

    def quota(self) -> TokenQuota:
        """What is known of the server's enqueued-token limit."""
        return TokenQuota(list(self.journal.jobs().values()), self.options.max_enqueued_tokens)

    def close(self, job: Job, reason: CloseReason) -> None:
        """Close a job; what has no result is pending again."""
        self.journal.append(job, Closed(reason))
        job_file(self.options.folder, job.job_id).unlink(missing_ok=True)

    def delete_files(self, job: Job) -> None:
        """Remove a job's files from the server, where they cost room and hold the user's data."""
        if self.options.keep_files:
            return
        ids = [job.file_id]
        for batch in job.batches.values():
            ids += [batch.output_file_id, batch.error_file_id]
        for file_id in filter(None, ids):
            with suppress(ApiError):  # they expire by themselves
                self.api.delete(file_id)
