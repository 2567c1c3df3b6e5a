"""The workers of live requests: sending requests, retries, and waits of all workers."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import openai

from backends.base import BackendOptions
from backends.budget import Budget
from backends.first_failures import stopped
from backends.openai_api.bounded import answer_bytes, limit_bytes
from backends.openai_api.client import make_client
from backends.openai_api.completion import read_completion
from backends.openai_api.errors import CALL_ERRORS, ApiError, ErrorKind, classify_error, failure_of
from backends.openai_api.providers import Dialect
from backends.stopping import Stop
from store import Unfinished
from store.errors import RequestRefused
from store.requests import Request
from store.results import Failure, FailureKind, Result

TICK_SECONDS = 0.25  # between two checks of what came in
FIRST_BACKOFF = 1.0  # seconds; doubled at each failure in a row
MAX_HOLDS = (
    8  # waits of all workers in a row, without an answer in between, after which the run stops
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions(BackendOptions):
    """A command's options, and the server as it wants to be asked."""

    base_url: str
    dialect: Dialect


class WorkerPool:
    """The workers, their outcomes, and what makes them all wait."""

    def __init__(
        self, options: LiveOptions, requests: Iterator[Request], stop: Stop, budget: Budget
    ) -> None:
        self._options = options
        self._stop = stop
        self._budget = budget
        self._requests = requests
        self._outcomes: list[Result | Failure] = []
        self._refusal: Unfinished | None = None
        self._held_until = 0.0
        self._holds = 0
        self._workers: list[asyncio.Task[None]] = []
        self._in_flight = 0
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Open the client and start the workers."""
        options = self._options
        self._client = make_client(
            options.base_url,
            options.api_key,
            connections=options.concurrency,
            timeout_seconds=options.timeout_seconds,
            headers=options.headers,
        )
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self._options.concurrency)
        ]
        for worker in self._workers:
            worker.add_done_callback(self._on_done)

    def wake(self) -> None:
        """End the current slice of the workers."""
        self._wake.set()

    async def run_for(self, seconds: float) -> bool:
        """Run the workers for at most so many seconds; returns whether they have more to do."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()
        return any(not worker.done() for worker in self._workers) and self._defect() is None

    async def stop(self, grace_seconds: float) -> None:
        """Give up what is in flight after the grace time, and disconnect."""
        deadline = time.monotonic() + grace_seconds
        while self._in_flight and time.monotonic() < deadline and not self._stop.now:
            await self.run_for(min(TICK_SECONDS, deadline - time.monotonic()))
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._client.close()

    def take(self) -> list[Result | Failure]:
        """The outcomes since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def raise_if_stopped(self) -> None:
        """Raise the error that stopped the workers, if any."""
        if (defect := self._defect()) is not None:
            raise defect
        if self._refusal is not None:
            raise self._refusal

    def _on_done(self, worker: asyncio.Task[None]) -> None:
        if all(one.done() for one in self._workers) or _defect_of(worker) is not None:
            self._wake.set()

    def _defect(self) -> BaseException | None:
        """The exception of a worker: a defect of ours, which is raised."""
        return next(filter(None, map(_defect_of, self._workers)), None)

    async def _work(self) -> None:
        while (request := next(self._requests, None)) is not None:
            attempts = request.attempts
            try:
                messages = request.sent_messages()
            except RequestRefused as refused:
                refusal = Failure(
                    request.request_id, FailureKind.REFUSED, str(refused), False, refused.code
                )
                self._outcomes.append(refusal)
                continue
            while (failure := await self._try(request, messages)) is not None:
                self._outcomes.append(failure)
                attempts += 1
                if not failure.retryable or attempts >= self._options.max_attempts:
                    break
                await asyncio.sleep(self._backoff(attempts - 1))

    async def _try(self, request: Request, messages: list[dict[str, Any]]) -> Failure | None:
        """Send a request until there is an answer or a failed attempt; messages: with their images.

        None: it is answered, or no further requests are sent. Errors that use no attempt end too:
        by an answer to another request, or after MAX_HOLDS waits of all workers without one.
        """
        while not self._stop.no_new_requests:
            await asyncio.sleep(max(0.0, self._held_until - time.monotonic()))
            if not await self._budget.reserve(request, self._stop):
                return None
            sent_at = time.monotonic()
            try:
                self._in_flight += 1
                body = await self._call(request, messages)
            except CALL_ERRORS as error:
                api_error = classify_error(error, self._options.api_key)
                self._budget.commit_unanswered(
                    request, may_be_billed=_may_be_billed(error, api_error)
                )
                if api_error.kind is ErrorKind.STOP:
                    self._refuse(f"the server refuses every request: {api_error}")
                elif api_error.kind is ErrorKind.UNREACHABLE or api_error.status in (429, 503):
                    self._hold(api_error, error, sent_at)
                else:
                    return failure_of(request.request_id, api_error)
            else:
                self._holds = 0
                outcome = read_completion(request.request_id, body, request.bounds)
                self._budget.commit(request, outcome)
                self._outcomes.append(outcome)
                return None
            finally:
                self._in_flight -= 1
                if self._stop.soon and not self._in_flight:
                    self.wake()
        return None

    async def _call(self, request: Request, messages: list[dict[str, Any]]) -> bytes:
        body = self._options.dialect.body(request.params)
        model = body.pop("model")
        if request.tools is not None:
            body["tools"] = request.tools
        seconds, size = self._options.timeout_seconds, answer_bytes(request.bounds)
        async with asyncio.timeout(seconds):
            with limit_bytes(size):
                # As extra_body the client takes keys that it does not know, such as top_k.
                answer = await self._client.chat.completions.with_raw_response.create(
                    model=model,
                    messages=messages,  # type: ignore[arg-type]
                    extra_body=body,
                )
                return answer.content

    def _hold(self, api_error: ApiError, error: Exception, sent_at: float) -> None:
        """Make all workers wait, for the server's Retry-After or with exponential back-off."""
        if sent_at < self._held_until:
            return  # sent before the last wait, for the same reason
        self._holds += 1
        if self._holds > MAX_HOLDS:
            refused = "the server accepts no requests now"
            if api_error.kind is ErrorKind.UNREACHABLE:
                refused = f"no connection to {self._options.base_url}"
            self._refuse(f"{refused}: {api_error}")
        # A Retry-After below the back-off is followed once only: a server may always say '5 ms'.
        least = self._backoff(self._holds - 2) if self._holds > 1 else 0.0
        retry_after = _retry_after(error)
        seconds = self._backoff(self._holds - 1) if retry_after is None else max(retry_after, least)
        self._held_until = time.monotonic() + min(seconds, self._options.poll_seconds)

    def _backoff(self, failures: int) -> float:
        return min(FIRST_BACKOFF * 2.0**failures, self._options.poll_seconds)

    def _refuse(self, reason: str) -> None:
        self._refusal = self._refusal or stopped(reason, self._options.base_url)
        self._stop.end(soon=True)


def _defect_of(worker: asyncio.Task[None]) -> BaseException | None:
    return worker.exception() if worker.done() and not worker.cancelled() else None


def _may_be_billed(error: Exception, api_error: ApiError) -> bool:
    """Whether a failed call may have been executed: not after a refusal or without a connection."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code >= 500 or error.status_code in (408, 409)
    return api_error.kind is not ErrorKind.UNREACHABLE


def _retry_after(error: Exception) -> float | None:
    """Seconds to wait by the headers retry-after-ms or Retry-After (seconds or a date)."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    with suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after"]))
    with suppress(KeyError, ValueError):
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, date.timestamp() - time.time())
    return None
