"""The status of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from store.money import Cost
from store.runs import Mode


class State(StrEnum):
    """Whether a run is complete."""

    DONE = "done"  # nothing is pending, in flight or failed, and its files are those of its answers
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Counts:
    """The requests of a run by state; the states add up to total.

    Not counted: requests that were superseded by one with another limit, without a result and in no
    job; and retries of truncated answers that failed for good.
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
    """A job of which the server does not deliver all answers; requests: without a result."""

    job: str
    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a run; as_of: UTC, ISO 8601."""

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
    lost: tuple[LostJob, ...] = ()  # their requests count as in flight

    @property
    def lost_requests(self) -> int:
        """Requests whose answers the server does not deliver."""
        return sum(job.requests for job in self.lost)
