"""The OpenAI Batch API as a backend: jobs at half price that no crash loses or pays for twice.

The journal is the whole state: each pass reads the jobs from it and does for each what it needs
next, so a resume after any crash is just another pass. Nothing has to stay running while the server
works. The rules are in docs/batch.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backends.base import Backend, BackendOptions, Progress, extended
from backends.openai_api.providers import dialect_of, provider_for
from backends.openai_batch.api.calls import BatchApi
from backends.openai_batch.passes import Passes
from backends.openai_batch.session import BatchOptions, BatchSession
from store import WorkStore
from store.jobs.job import JobState
from store.runs import Run


def make(run: Run, options: BackendOptions) -> OpenAIBatch:
    """The Batch API of a run's server."""
    assert run.base_url is not None, "a batch backend asks a server"
    provider = provider_for(run.base_url)
    return OpenAIBatch(
        extended(
            BatchOptions,
            options,
            base_url=run.base_url,
            dialect=dialect_of(
                run.model,
                provider,
                options.max_tokens_name,
                options.json_schema,
                serves_vllm=options.serves_vllm,
            ),
            max_requests=options.batch_max_requests or provider.max_requests,
            max_bytes=options.batch_max_bytes or provider.max_bytes,
            completion_window=options.completion_window or provider.completion_window,
        )
    )


class OpenAIBatch(Backend):
    """One run's jobs at one server."""

    def __init__(self, options: BatchOptions) -> None:
        self._options = options

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Submit what is pending and collect what is ready, until all is done.

        Without options.wait only until nothing more can be done now.
        """
        with self._passes(store, progress) as passes:
            while True:
                reached = passes.advance_all()
                progress.update(store)
                open_jobs = store.journal.unclosed()
                if not open_jobs and not store.requests.has_pending(self._options.max_attempts):
                    return
                if not open_jobs and reached:
                    passes.planner.raise_if_budget_exhausted()
                passes.raise_if_server_is_silent(reached, open_jobs)
                if open_jobs and all(passes.waits_for_user(job) for job in open_jobs):
                    return
                if not self._options.wait and not passes.has_more_to_do_now(open_jobs):
                    passes.raise_if_refused(open_jobs)
                    return
                passes.session.schedule.wait(store)

    def cancel(self, store: WorkStore, progress: Progress, *, forget: bool = False) -> None:
        """Cancel what is at the server, keep what it finished, delete the files there.

        forget: give up what does not end within the grace time, and jobs that are lost; what they
        were billed stays uncertain, and their requests become pending.
        """
        with self._passes(store, progress) as passes:
            while open_jobs := [
                job for job in store.journal.unclosed() if forget or job.state is not JobState.LOST
            ]:
                reached = passes.cancel_all(open_jobs, forget=forget)
                progress.update(store)
                if not forget:
                    passes.raise_if_server_is_silent(reached, open_jobs)
                if store.journal.unclosed():
                    passes.session.schedule.wait(store)

    @contextmanager
    def _passes(self, store: WorkStore, progress: Progress) -> Iterator[Passes]:
        options = self._options
        with BatchApi(
            options.base_url, options.api_key, options.timeout_seconds, options.headers
        ) as api:
            passes = Passes(BatchSession(options, api, store, progress))
            passes.check_address()
            yield passes
