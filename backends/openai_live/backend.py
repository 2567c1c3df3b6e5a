"""Live chat completions against any OpenAI-compatible server, many at once.

Workers pull requests one by one, so that `concurrency` requests are in flight while any are
pending. Errors of the server rather than of a request (429, 503, no connection) make all workers
wait and use no attempt. After a request was sent, any other outcome than an answer is a failed
attempt: it may have been executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from backends.base import Backend, BackendOptions, Outcomes, Progress, extended
from backends.budget import Budget
from backends.first_failures import all_failed_alike
from backends.openai_api.providers import dialect_of, provider_for
from backends.openai_live.workers import TICK_SECONDS, LiveOptions, WorkerPool
from backends.registry import LIVE
from backends.stopping import Stop
from backends.stream import stream
from store import WorkStore
from store.requests import Request
from store.runs import Run

FLUSH_SECONDS = 0.5  # a kill loses the answers of half a second, which were billed
GRACE_SECONDS = 2.0  # for answers that are about to come when the command is stopped


def make(run: Run, options: BackendOptions) -> OpenAILive:
    """Live requests to a run's server."""
    assert run.base_url is not None, "live requests go to a server"
    provider = provider_for(run.base_url)
    dialect = dialect_of(
        run.model,
        provider,
        options.max_tokens_name,
        options.json_schema,
        serves_vllm=options.serves_vllm,
    )
    return OpenAILive(extended(LiveOptions, options, base_url=run.base_url, dialect=dialect))


class OpenAILive(Backend):
    """One server, with at most `concurrency` requests in flight."""

    def __init__(self, options: LiveOptions) -> None:
        self._options = options
        self._grace = min(GRACE_SECONDS, options.poll_seconds)

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all pending requests; raises Unfinished where server or budget prevent it."""
        options = self._options

        budget = Budget(
            options.rates, options.max_cost, store, options.max_attempts, options.concurrency
        )

        def answers(requests: Iterator[Request], stop: Stop) -> Iterator[Outcomes]:
            return self._answers(requests, stop, budget)

        # With a cap outcomes are stored at every tick, so that the reserve stays small.
        flush = FLUSH_SECONDS if options.max_cost is None else 0.0
        stream(
            LIVE.name,
            answers,
            store,
            progress,
            options.max_attempts,
            flush,
            budget=budget,
            stop_reason=lambda: all_failed_alike(
                store, options.max_attempts, options.base_url, live=True
            ),
            max_wait=options.poll_seconds,
        )

    def _answers(
        self, requests: Iterator[Request], stop: Stop, budget: Budget
    ) -> Iterator[Outcomes]:
        """Run the workers in slices, yielding the outcomes after each."""
        with asyncio.Runner() as runner:
            pool = WorkerPool(self._options, requests, stop, budget)
            budget.open(pool.wake)
            runner.run(pool.start())
            try:
                while runner.run(pool.run_for(TICK_SECONDS)) and not stop.soon:
                    yield pool.take()
            finally:
                runner.run(pool.stop(self._grace if stop.soon else 0.0))
            budget.close()
            yield pool.take()
            pool.raise_if_stopped()
        budget.raise_if_exhausted()
