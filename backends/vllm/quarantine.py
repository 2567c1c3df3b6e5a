"""Quarantine of requests that were in flight when an engine crashed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from math import isqrt

from store.requests import Request
from store.results import Failure, FailureKind

MAX_CRASHES = 3  # with a request in flight, after which it is set aside


class CrashQuarantine:
    """Requests that were in flight when an engine crashed, until they are answered or set aside.

    After one crash a request is sent again among others, with few suspects at a time; after two it
    is sent alone. So a request that crashes the engine is set aside at its third crash, no other
    request is, and a crash for another reason hardly slows the run.
    """

    def __init__(self) -> None:
        self._crashes: Counter[str] = Counter()
        self._retries: deque[Request] = deque()
        self._alone: deque[Request] = deque()

    def record_crash(self, in_flight: Iterable[Request], why: str) -> list[Failure]:
        """Record the requests in flight; returns failures for those that are set aside."""
        set_aside = []
        for request in in_flight:
            self._crashes[request.request_id] += 1
            crashes = self._crashes[request.request_id]
            if crashes >= MAX_CRASHES:
                message = f"set aside: the engine died {crashes} times with it ({why})"
                set_aside.append(
                    Failure(request.request_id, FailureKind.SERVER, message, retryable=False)
                )
            elif crashes == 1:
                self._retries.append(request)
            else:
                self._alone.append(request)
        return set_aside

    def next_to_test(self, requests: Iterator[Request]) -> Request | None:
        """The request to send alone to an engine that crashed before it answered anything.

        One without a crash so far, else the last one with a crash: if the engine crashes again, the
        engine is the cause.
        """
        fresh = next(requests, None)
        if fresh is not None or not self._retries:
            return fresh
        return self._retries.pop()

    def next(
        self, requests: Iterator[Request], in_flight: Mapping[str, Request], window: int
    ) -> Request | None:
        """The next request to send, None while none may be sent, or none is left."""
        if self._alone:
            return None if in_flight else self._alone.popleft()
        if len(in_flight) >= window:
            return None
        if not self._crashes:
            return next(requests, None)
        crashes = [self._crashes[request_id] for request_id in in_flight]
        if max(crashes, default=0) > 1:
            return None
        if self._retries and sum(crashes) < max(1, isqrt(window)):
            return self._retries.popleft()
        return next(requests, None)
