"""What the steps of the batch backend share: options, server, journal, and one memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backends.base import Progress
from backends.openai_api.errors import ApiError
from backends.openai_api.providers import Dialect
from backends.openai_batch.api import BatchApi, RemoteBatch
from backends.openai_batch.token_quota import TokenQueue
from store import WorkStore
from store.costs.money import Rates
from store.jobs.events import Closed, CloseReason
from store.jobs.job import Job
from store.jobs.journal import Journal, job_file

ENDPOINT = "/v1/chat/completions"
MIN_LOOKS = 4  # times in a row that something is not found before it is taken for gone
FIRST_WAIT, GROWTH = 2.0, 1.5  # seconds between two looks, and how the wait grows to poll_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What the day decides: none of it enters a request."""

    base_url: str
    api_key: str
    folder: Path
    max_attempts: int
    max_requests: int
    max_bytes: int
    dialect: Dialect
    completion_window: str
    max_enqueued_tokens: int | None
    timeout_seconds: float  # of one call, to its last byte; a file's come beside its size
    poll_seconds: float  # the longest wait between two looks
    grace_seconds: float  # how long a batch of unknown fate is looked for
    wait: bool
    keep_files: bool
    resubmit_lost: bool
    rates: Rates | None = None  # None: no price is known
    max_cost: int | None = None  # picodollars of the whole run; needs rates


class Desk:
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
        self._listing: list[RemoteBatch] | None = None
        self._looks: dict[str, tuple[float, int]] = {}  # first time and number of looks
        self._not_before: dict[str, float] = {}
        self._wait = FIRST_WAIT
        self._said: set[str] = set()
        self._times: Counter[str] = Counter()
        self.refusal = ""  # the server's words of the last batch that it would not take
        self.accepted = 0  # uploads and batches that the server took, batches that were collected

    def say(self, line: str) -> None:
        """Say a line once: the passes repeat, their news does not."""
        if line not in self._said:
            self._said.add(line)
            self.progress.say(line)

    def count(self, what: str) -> int:
        """How often this command has met what, this time included."""
        self._times[what] += 1
        return self._times[what]

    def forget_count(self, what: str) -> None:
        """Count what anew."""
        del self._times[what]

    def forget_listing(self) -> None:
        """Let the next look ask the server again."""
        self._listing = None

    def listing(self) -> list[RemoteBatch]:
        """All batches at the server, asked for at most once a pass."""
        if self._listing is None:
            self._listing = self.api.list_all()
        return self._listing

    def queue(self) -> TokenQueue:
        """What is known of the server's enqueued-token limit."""
        return TokenQueue(list(self.journal.jobs().values()), self.options.max_enqueued_tokens)

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

    # -- time, by the monotonic clock of this process

    def looked_long_enough(self, key: str, looks: int = 1) -> bool:
        """Whether the grace time has passed since this process first looked for key.

        And whether it was asked so many times: a server's hiccup is no answer, however short the
        grace time. Asked before a look, so that the look that decides is made after it.
        """
        now = time.monotonic()
        first, asked = self._looks.get(key, (now, 0))
        self._looks[key] = (first, asked + 1)
        return now - first >= self.options.grace_seconds and asked + 1 >= looks

    def stop_looking(self, key: str) -> None:
        """Start the grace time anew, should key be looked for again."""
        self._looks.pop(key, None)

    def put_off(self, job: Job) -> None:
        """Let a refused job rest for a wait."""
        self._not_before[job.job_id] = time.monotonic() + self._next_wait()

    def rests(self, job: Job) -> bool:
        """Whether a job is put off still."""
        return time.monotonic() < self._not_before.get(job.job_id, 0.0)

    def _next_wait(self) -> float:
        return min(self._wait, self.options.poll_seconds)

    def pause(self) -> None:
        """Wait, with the store given free; each wait is longer than the one before."""
        seconds = self._next_wait()
        self._wait *= GROWTH if self._wait < self.options.poll_seconds else 1.0
        if seconds > 0:
            with self.store.released():
                threading.Event().wait(seconds)
