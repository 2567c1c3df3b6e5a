"""The work of start and resume on an open run: its server, limit, price and backend."""

from __future__ import annotations

from collections.abc import Sequence

from backends.base import Backend
from backends.registry import find_backend
from fastdatasets.checks.answers import checks_of
from fastdatasets.checks.ingest import describe_flagged
from fastdatasets.config.address import resolve_address, warn_of_plain_http
from fastdatasets.config.backend import (
    check_prices,
    check_thinking,
    make_backend,
    price_of,
    prices_for,
    probe_server,
)
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.settings import Settings
from fastdatasets.disk_space import check_disk_space
from fastdatasets.estimation.costs import SecondEstimate, keep_cost_options, open_costs
from fastdatasets.pipeline import advance_run
from fastdatasets.progress import RunProgress
from fastdatasets.runs.result import RunResult
from fastdatasets.runs.reuse import EarlierRun, check_same_server
from fastdatasets.runs.status import describe_refused
from store import RunFolder, UserError, WorkStore
from store.export_options import ExportOptions
from store.runs import Run


def resolve_server(
    store: WorkStore,
    progress: RunProgress,
    settings: Settings,
    execution: ExecutionConfig,
    earlier: Sequence[EarlierRun],
) -> None:
    """Resolve the server of the run, and check those of reused answers; raises UserError."""
    accept = execution.accept_other_server
    try:
        resolve_address(store, settings, progress.say, accept_other=accept)
    except UserError:
        if _needs_server(store, execution):
            raise
    warn_of_plain_http(store.run().base_url, settings, progress.say)
    check_same_server(earlier, store.run().base_url, accept_other=accept)


def _needs_server(store: WorkStore, execution: ExecutionConfig) -> bool:
    """Whether a run has requests to send, or may plan some."""
    backlog = store.requests.backlog(execution.max_attempts)
    return bool(backlog.requests or store.journal.unclosed() or not backlog.final_row_requests)


def work(
    folder: RunFolder,
    store: WorkStore,
    progress: RunProgress,
    settings: Settings,
    execution: ExecutionConfig,
    earlier: Sequence[EarlierRun],
    options: ExportOptions | None = None,
) -> RunResult:
    """Advance an open run as far as possible; raises UserError for what the user has to change.

    earlier: runs whose answers are reused. options: for the files; else the run's own.
    """
    _apply_limit(folder, store, progress)
    execution = keep_cost_options(store, execution, progress.say)
    run = store.run()
    check_prices(execution, run)
    checks_of(run)  # whatever cannot be loaded is said before anything is sent
    price = price_of(execution, run)
    if price is not None:
        store.costs.set_price(price)
    uses_server = find_backend(run.backend).uses_server
    if uses_server:
        progress.remark = SecondEstimate(execution)

    def backend_of(one: Run) -> Backend:
        # Again, since a run that seemed done may have more requests, as with --retry-failed.
        resolve_address(store, settings, progress.say, accept_other=execution.accept_other_server)
        check_disk_space(folder, store, options or run.export, progress.say)
        priced = prices_for(execution, run, one)
        if (price := price_of(priced, one)) is not None:
            store.costs.set_price(price)
        backend = make_backend(priced, one, settings, folder)
        if (one.backend, one.model) != (run.backend, run.model):
            progress.say(f"the judge: backend {one.backend}, model {one.model}")
        if not find_backend(one.backend).uses_server:
            return backend
        open_costs(folder, store, progress, execution, settings)
        is_new = not store.requests.has_sent()
        serves_vllm = probe_server(execution, one, settings, is_new=is_new)
        check_thinking(one, serves_vllm=serves_vllm)
        if not serves_vllm:
            return backend
        of_all = "preferences" if "json_schema" in run.params else None
        what = "variants" if run.num_aug else "scores" if run.judge else of_all
        if execution.json_schema is None and what is not None:
            progress.say(f"{one.base_url} is a vLLM server: requests for {what} have a JSON schema")
        return make_backend(priced, one, settings, folder, serves_vllm=True)

    try:
        status, files = advance_run(
            folder, store, backend_of, progress, execution.max_attempts, options, earlier
        )
    except KeyboardInterrupt:
        progress.say(f"stopped; to continue: fastdatasets resume {folder.path}")
        raise
    if status.truncated:
        progress.say(f"{status.truncated} answers were cut off at the token limit")
    for line in describe_flagged(store):
        progress.say(line)
    for refused in store.results.refused_retries(execution.max_attempts):
        progress.say(describe_refused(*refused))
    return RunResult(folder, status, tuple(files), tuple(store.results.failure_reasons()))


def _apply_limit(folder: RunFolder, store: WorkStore, progress: RunProgress) -> None:
    """Plan requests without an answer again, where the run's limit was changed."""
    applied = store.limits.apply(folder.path)
    if applied is None or not (applied.replanned or applied.in_flight):
        return
    kept = f"; {applied.in_flight} in flight keep theirs" if applied.in_flight else ""
    progress.say(
        f"with the changed limit {applied.replanned} requests are planned again, with at most "
        f"{applied.max_tokens} tokens{kept}"
    )
