"""Live chat completions against any OpenAI-compatible server, many at once.

Workers pull requests one by one, so that as many as allowed are in flight while anything is
pending. What is the server's condition rather than a request's fault (a rate limit, no connection)
holds all of them for a while and uses no attempt.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import httpx2
import openai

from backends.base import Backend, Outcomes, Progress
from backends.client import make_async_client
from backends.completion import read_completion
from backends.errors import CALL_ERRORS, Trouble, Verdict, failure_of, trouble_of
from backends.first_failures import stop_if_all_failed_alike, stopped
from backends.money import Purse
from backends.providers import Dialect
from backends.stream import stream
from store import Unfinished, WorkStore
from store.models import Failure, Request, Result
from store.money import Rates

FLUSH_SECONDS = 0.5  # each answer was paid for: a kill costs those of half a second
TICK_SECONDS = 0.25  # between two looks at what came in
FIRST_BACKOFF = 1.0  # seconds; doubled at each failure in a row
PATIENCE = 8  # holds in a row without a success in between, after which the run is left for later


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What the day decides: none of it enters a request."""

    base_url: str
    api_key: str
    max_attempts: int
    concurrency: int
    timeout_seconds: float  # of one request, from sending it to its last byte
    max_wait_seconds: float  # the longest a back-off or a Retry-After makes us wait
    dialect: Dialect
    rates: Rates | None = None  # None: no price is known
    max_cost: int | None = None  # picodollars of the whole run; needs rates


class OpenAILive(Backend):
    """One server, asked at most `concurrency` questions at a time."""

    def __init__(self, options: LiveOptions) -> None:
        self._options = options

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all that is pending; raises Unfinished where server or budget do not let us."""
        options = self._options

        def answers(requests: Iterator[Request]) -> Iterator[Outcomes]:
            return self._answers(requests, store)

        # Under a budget what came in is stored at every tick, so that little is ever in doubt.
        flush = FLUSH_SECONDS if options.max_cost is None else 0.0
        stream(
            "openai",
            answers,
            store,
            progress,
            options.max_attempts,
            flush,
            rates=options.rates,
            after_failures=lambda: stop_if_all_failed_alike(
                store, options.max_attempts, options.base_url
            ),
        )

    def _answers(self, requests: Iterator[Request], store: WorkStore) -> Iterator[Outcomes]:
        """Run the workers in slices, giving what came in after each."""
        purse = Purse(self._options.rates, self._options.max_cost, store)
        with asyncio.Runner() as runner, purse.opened():
            crew = _Crew(self._options, requests, purse)
            runner.run(crew.start())
            try:
                while not runner.run(crew.run_for(TICK_SECONDS)):
                    yield crew.take()
                    purse.settle()  # what was taken is stored by now
                yield crew.take()
                purse.settle()
                crew.raise_if_stopped()
            finally:
                runner.run(crew.stop())
        purse.raise_if_empty(self._options.max_attempts)


class _Crew:
    """The workers, what they found, and what holds them all."""

    def __init__(self, options: LiveOptions, requests: Iterator[Request], purse: Purse) -> None:
        self._options = options
        self._purse = purse
        self._requests = requests
        self._found: list[Result | Failure] = []
        self._stopped: Unfinished | None = None
        self._held_until = 0.0
        self._holds = 0
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open the client and start the workers."""
        options = self._options
        self._client = make_async_client(
            options.base_url,
            options.api_key,
            connections=options.concurrency,
            timeout_seconds=options.timeout_seconds,
        )
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self._options.concurrency)
        ]

    async def run_for(self, seconds: float) -> bool:
        """Let the workers work; gives whether they are all done."""
        done, running = await asyncio.wait(self._workers, timeout=seconds)
        for task in done:
            task.result()  # a defect of ours is not to be passed over
        return not running

    async def stop(self) -> None:
        """Give up what is in flight and close the connections."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._client.close()

    def take(self) -> list[Result | Failure]:
        """What came in since the last time."""
        found, self._found = self._found, []
        return found

    def raise_if_stopped(self) -> None:
        """Raise what made the workers stop, if anything did."""
        if self._stopped is not None:
            raise self._stopped

    async def _work(self) -> None:
        while self._stopped is None and (request := next(self._requests, None)) is not None:
            for attempt in range(self._options.max_attempts):
                failure = await self._try(request)
                if failure is None:
                    break
                self._found.append(failure)
                if not failure.retryable or attempt + 1 == self._options.max_attempts:
                    break
                await asyncio.sleep(self._backoff(attempt))

    async def _try(self, request: Request) -> Failure | None:
        """Ask until there is an answer or a failure of the request itself; None: it is answered."""
        while self._stopped is None:
            await asyncio.sleep(max(0.0, self._held_until - time.monotonic()))
            if not await self._purse.hold(request):
                return None
            try:
                body = await self._ask(request)
            except CALL_ERRORS as error:
                trouble = trouble_of(error, self._options.api_key)
                self._purse.unanswered(request, may_be_billed=_may_be_billed(error))
                if trouble.verdict is Verdict.STOP:
                    self._stop(f"the server refuses every request: {trouble}")
                elif _is_outage(error, trouble):
                    self._hold(trouble, error)
                else:
                    return failure_of(request.request_id, trouble)
            else:
                self._holds = 0
                outcome = read_completion(request.request_id, body, request.bounds)
                self._purse.answered(request, outcome)
                self._found.append(outcome)
                return None
        return None

    async def _ask(self, request: Request) -> bytes:
        params = self._options.dialect.body(request.params)
        async with asyncio.timeout(self._options.timeout_seconds):
            answer = await self._client.chat.completions.with_raw_response.create(
                messages=request.messages,  # type: ignore[arg-type]
                **params,
            )
            return answer.content

    def _hold(self, trouble: Trouble, error: Exception) -> None:
        """Let all workers wait, as long as the server says or a little longer each time."""
        if time.monotonic() < self._held_until:
            return  # another worker met the same
        self._holds += 1
        if self._holds > PATIENCE:
            self._stop(f"the server does not let us in: {trouble}")
        seconds = _retry_after(error) or self._backoff(self._holds - 1)
        self._held_until = time.monotonic() + min(seconds, self._options.max_wait_seconds)

    def _backoff(self, failures: int) -> float:
        return min(FIRST_BACKOFF * 2.0**failures, self._options.max_wait_seconds)

    def _stop(self, reason: str) -> None:
        self._stopped = self._stopped or stopped(reason, self._options.base_url)


def _may_be_billed(error: Exception) -> bool:
    """Whether a server may have answered a call that failed: all but refusals and closed doors."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code >= 500 or error.status_code in (408, 409)
    return not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)


def _is_outage(error: Exception, trouble: Trouble) -> bool:
    """Whether a failed call says more of the server's condition than of the request."""
    timed_out = isinstance(error, openai.APITimeoutError)
    unreachable = isinstance(error, openai.APIConnectionError) and not timed_out
    return unreachable or trouble.status in (429, 503)


def _retry_after(error: Exception) -> float | None:
    """Seconds a server asks to wait: retry-after-ms, or Retry-After in seconds or as a date."""
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
