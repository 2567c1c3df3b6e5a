"""Status: what is done and what is left of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from store.costs.money import Cost
from store.runs import Mode


class State(StrEnum):
    """Whether a run needs anything more."""

    DONE = "done"  # nothing is pending, in flight or failed, and its files are those of its answers
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests a run has, and what became of them. They add up to total.

    Not counted are requests that nobody waits for: superseded by one with another limit, without a
    result and in no job; and retries of answers that were cut off, once they have failed for good.
    """

    total: int
    done: int
    pending: int
    failed: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of all stored answers."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class LostJob:
    """A job whose answers the server does not deliver: its unanswered requests, and the reason."""

    job: str
    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """What is done and what is left of a run, as of a moment (UTC, ISO 8601)."""

    run: str
    mode: Mode
    backend: str
    model: str
    state: State
    records: int
    requests: Counts
    truncated: int
    tokens: Tokens
    cost: Cost
    as_of: str
    lost: tuple[LostJob, ...] = ()  # their requests are among those in flight

    @property
    def lost_requests(self) -> int:
        """Requests whose answers the server does not deliver."""
        return sum(job.requests for job in self.lost)
