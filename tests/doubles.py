"""Doubles for faults that the real thing won't give on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from backends import Backend, Outcomes, Progress
from backends.stopping import Stop
from backends.stream import stream
from store import WorkStore
from store.requests import Request
from store.results import Failure, FailureKind, Result
from store.status import Status


@dataclass
class ScriptedBackend(Backend):
    """Answers in a scripted order, with scripted failures, and records what it was asked.

    `fails` says how often a request with that prompt fails before it is answered; a negative
    number: it is refused. `dies_after`: how many answers come before KeyboardInterrupt.
    """

    reverse: bool = False
    fails: dict[str, int] = field(default_factory=dict)
    dies_after: int | None = None
    answer: Callable[[str], str] = "Answer to {}".format
    max_attempts: int = 3
    asked: list[str] = field(default_factory=list)

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all that is pending."""
        stream("scripted", self, store, progress, self.max_attempts)

    def __call__(self, requests: Iterator[Request], _stop: Stop) -> Iterator[Outcomes]:
        """One outcome at a time."""
        order = list(requests)
        for number, request in enumerate(reversed(order) if self.reverse else order):
            if number == self.dies_after:
                raise KeyboardInterrupt
            prompt = request.messages[-1]["content"]
            self.asked.append(prompt)
            left = self.fails.get(prompt, 0)
            self.fails[prompt] = left - 1 if left > 0 else left
            if left:
                yield [
                    Failure(
                        request.request_id,
                        FailureKind.SERVER if left > 0 else FailureKind.REFUSED,
                        "overloaded" if left > 0 else "too long",
                        retryable=left > 0,
                    )
                ]
            else:
                yield [Result(request.request_id, self.answer(prompt), None, "stop", 5, 7, 0)]


@dataclass
class NullProgress:
    """Progress that only remembers."""

    lines: list[str] = field(default_factory=list)
    status: Status | None = None

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)

    def update(self, store: WorkStore) -> None:
        """Count every time."""
        self.update_now(store)

    def finish(self, store: WorkStore) -> Status:
        """Count for the last time."""
        return self.update_now(store)

    def update_now(self, store: WorkStore) -> Status:
        """Count every time."""
        self.status = store.status("run", 3)
        return self.status
