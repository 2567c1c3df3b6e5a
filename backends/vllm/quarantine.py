"""Which requests to doubt when an engine died with them, and how to clear them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from math import isqrt

from store.requests import Request
from store.results import Failure, FailureKind

DEATHS = 3  # after so many with it in flight a request is set aside


class CrashQuarantine:
    """Requests that were in flight when an engine died, until they are answered or set aside.

    After one death a request goes again among others, but few of its kind at once; after two it
    goes alone. So what kills an engine is found at its third death, no innocent request is set
    aside with it, and a death that was nobody's fault hardly slows the run.
    """

    def __init__(self) -> None:
        self._deaths: Counter[str] = Counter()
        self._again: deque[Request] = deque()
        self._alone: deque[Request] = deque()

    def engine_died(self, in_flight: Iterable[Request], why: str) -> list[Failure]:
        """Take note of what was in flight; gives the failures of what is set aside."""
        set_aside = []
        for request in in_flight:
            self._deaths[request.request_id] += 1
            deaths = self._deaths[request.request_id]
            if deaths >= DEATHS:
                message = f"set aside: the engine died {deaths} times with it ({why})"
                set_aside.append(
                    Failure(request.request_id, FailureKind.SERVER, message, retryable=False)
                )
            elif deaths == 1:
                self._again.append(request)
            else:
                self._alone.append(request)
        return set_aside

    def next_to_prove(self, requests: Iterator[Request]) -> Request | None:
        """The request to try alone with an engine that died before it had answered anything.

        One that no engine died with, else the last that one died with: where that kills an engine
        too, it is the engine's fault.
        """
        fresh = next(requests, None)
        if fresh is not None or not self._again:
            return fresh
        return self._again.pop()

    def next(
        self, requests: Iterator[Request], in_flight: Mapping[str, Request], window: int
    ) -> Request | None:
        """The request to go next, None while there is no room for one (or none is left)."""
        if self._alone:
            return None if in_flight else self._alone.popleft()
        if len(in_flight) >= window:
            return None
        if not self._deaths:
            return next(requests, None)
        suspected = [self._deaths[request_id] for request_id in in_flight]
        if max(suspected, default=0) > 1:
            return None
        if self._again and sum(suspected) < max(1, isqrt(window)):
            return self._again.popleft()
        return next(requests, None)
