"""The commands: start, resume, cancel and export a run. The command line only prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backends.registry import find_backend
from fastdatasets.checks.ingest import check_all
from fastdatasets.checks.kinds import parse_kinds
from fastdatasets.checks.retry import retry_flagged as ask_again_for_flagged
from fastdatasets.checks.retry import retry_truncated as ask_again_for_truncated
from fastdatasets.config.address import resolve_address
from fastdatasets.config.backend import check, make_backend
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.export import (
    check_not_of_run,
    check_output_file,
    check_scores,
    export_options,
)
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import OutputOptions, RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.exports.push import push_files
from fastdatasets.exports.writers import export
from fastdatasets.progress import Display, RunProgress
from fastdatasets.runs.folders import (
    find_or_newest,
    find_unfinished,
    is_unfinished,
    named_folder,
    new_folder,
    newest_first,
    open_run,
    sources_of,
)
from fastdatasets.runs.result import RunResult
from fastdatasets.runs.reuse import check_same_server, find_earlier
from fastdatasets.sources.dataset import check_files
from fastdatasets.work import resolve_server, work
from store import RunFolder, UserError, WorkStore
from store.export_options import ExportOptions
from store.runs import Run
from store.status import State
from store.work_store import utc_now

DEFAULT_EXECUTION = ExecutionConfig()
DEFAULT_OUTPUT = OutputOptions()


def start(
    config: RunConfig,
    output_dir: Path | None,
    name: str | None,
    execution: ExecutionConfig,
    display: Display | None = None,
) -> RunResult:
    """Create a run, or continue the one of that name, as far as possible."""
    run = new_run(config, load_settings())
    is_named = config.backend is not None
    return start_run(run, output_dir, name, execution, display, backend_is_named=is_named)


def start_run(
    run: Run,
    output_dir: Path | None,
    name: str | None,
    execution: ExecutionConfig,
    display: Display | None,
    *,
    backend_is_named: bool,
) -> RunResult:
    """Create this run, or continue the one of that name if it is the same."""
    settings = load_settings()
    output_dir = output_dir or settings.fastdatasets_output_dir
    named = None if name is None else named_folder(name, output_dir)
    if named is not None and run.export.output_file is not None:
        check_not_of_run(Path(run.export.output_file), named)
    earlier = find_earlier(execution.reuse, output_dir, None if named is None else named.path)
    if named is None or not named.exists():
        check(execution, run, settings)
        check_same_server(earlier, run.base_url, accept_other=execution.accept_other_server)
        for source in run.source_names:
            check_files(source, run.split)
    others = [
        folder
        for folder in newest_first(output_dir)
        if folder.name != name and is_unfinished(folder) and sources_of(folder) == run.source_names
    ]
    folder = new_folder(output_dir, named, utc_now())
    with open_run(folder, run) as store, RunProgress(folder, execution, display) as progress:
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            progress.say(
                f"note: this is a new run; {others[0].name}{more} over the same source is "
                f"unfinished (fastdatasets resume {others[0].path})"
            )
        backend = _describe_backend(run, is_named=backend_is_named)
        progress.say(f"run {folder.path}: {backend}, model {run.model}")
        resolve_server(store, progress, settings, execution, earlier)
        return work(folder, store, progress, settings, execution, earlier, run.export)


def resume(
    name: str | None = None,
    output_dir: Path | None = None,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    *,
    retry_failed: bool = False,
    retry_truncated: bool = False,
    retry_flagged: str | None = None,
    max_output_tokens: int | None = None,
    output_file: Path | None = None,
    display: Display | None = None,
) -> RunResult | None:
    """Continue a run, the newest unfinished one where none is named; None where there is none.

    max_output_tokens: the run's limit from now on, also for requests without an answer.
    output_file: as for a new run; a stored one outside of the run's folder is not written.
    """
    if max_output_tokens is not None and max_output_tokens < 1:
        raise UserError(f"--max-output-tokens {max_output_tokens}: at least 1 token is expected")
    settings = load_settings()
    output_dir = output_dir or settings.fastdatasets_output_dir
    folder = find_unfinished(name, output_dir)
    if folder is None:
        return None
    earlier = find_earlier(execution.reuse, output_dir, folder.path)
    with open_run(folder) as store, RunProgress(folder, execution, display) as progress:
        progress.say(f"run {folder.path}")
        resolve_server(store, progress, settings, execution, earlier)
        if max_output_tokens is not None:
            store.limits.change(max_output_tokens)
        if retry_failed:
            store.results.retry_failed()
        if retry_truncated or retry_flagged is not None:
            progress.update_now(store)  # else progress.json would say 'done' after a crash here
        if retry_truncated:
            again = ask_again_for_truncated(store)
            progress.say(
                f"{again} requests with truncated answers are sent again, with twice the limit"
            )
        if retry_flagged is not None:
            again = ask_again_for_flagged(store, parse_kinds("--retry-flagged", retry_flagged))
            progress.say(f"{again} requests with flagged answers are sent again")
        options = _export_options(folder, store.run(), output_file, progress.say)
        return work(folder, store, progress, settings, execution, earlier, options)


def cancel(
    name: str | None = None,
    output_dir: Path | None = None,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    *,
    forget: bool = False,
    display: Display | None = None,
) -> RunResult | None:
    """Cancel a run's batches at the server, the newest unfinished run's where none is named.

    forget: give up batches that do not end, or are lost; what was billed for them is not known.
    """
    settings = load_settings()
    folder = find_unfinished(name, output_dir or settings.fastdatasets_output_dir)
    if folder is None:
        return None
    with open_run(folder) as store, RunProgress(folder, execution, display) as progress:
        run = store.run()
        if not find_backend(run.backend).uses_batches:
            raise UserError(
                f"run {folder.name} has nothing at a server: its backend is {run.backend}"
            )
        progress.say(f"run {folder.path}: cancelling what is at the server")
        resolve_address(store, settings, progress.say, accept_other=False)
        run = store.run()
        make_backend(execution, run, settings, folder).cancel(store, progress, forget=forget)
        if (status := progress.update_now(store)).requests.done:
            options = _export_options(folder, run, None, progress.say)
            return _export_what_is_answered(folder, store, progress, options)
        return RunResult(folder, status, (), tuple(store.results.failure_reasons()))


def export_again(
    name: str | None = None,
    output_dir: Path | None = None,
    output: OutputOptions = DEFAULT_OUTPUT,
    display: Display | None = None,
) -> RunResult:
    """Write the files of a run's answers so far; options default to the run's own."""
    folder = find_or_newest(name, output_dir or load_settings().fastdatasets_output_dir)
    with (
        open_run(folder) as store,
        RunProgress(folder, DEFAULT_EXECUTION, display) as progress,
    ):
        run = store.run()
        options = _export_options(folder, run, output.output_file, progress.say)
        options = export_options(output, options)
        check_scores(options, run.judge)
        return _export_what_is_answered(folder, store, progress, options)


def push(name: str, repository: str, output_dir: Path | None, *, private: bool) -> str:
    """Upload a run's files to the Hub as a dataset; returns its address."""
    folder = find_or_newest(name, output_dir or load_settings().fastdatasets_output_dir)
    return push_files(folder, repository, private=private)


def _export_what_is_answered(
    folder: RunFolder, store: WorkStore, progress: RunProgress, options: ExportOptions
) -> RunResult:
    """Write a run's files in any state, and count the rows that they lack."""
    check_all(store, store.run())  # a command that was killed may have left some
    counted = progress.update_now(store)
    files = export(folder, store, store.run(), counted, options, progress.say)
    status = progress.finish(store)
    missing = 0 if status.state is State.DONE else store.exports.missing_rows(files[0].rows)
    return RunResult(folder, status, tuple(files), tuple(store.results.failure_reasons()), missing)


def _export_options(
    folder: RunFolder, run: Run, named: Path | None, say: Callable[[str], None]
) -> ExportOptions:
    """A run's export options, with the output file of the command.

    A stored file is written in the run's folder only: somebody else may have created the run.
    """
    stored = run.export
    if named is not None:
        return replace(stored, output_file=check_output_file(named, run.source_names))
    file = stored.output_file
    if file is None or Path(file).resolve().parent == folder.path.resolve():
        return stored
    say(f"{file} is written only with the option: --output-file {file}")
    return replace(stored, output_file=None)


def _describe_backend(run: Run, *, is_named: bool) -> str:
    """The backend, and why it was chosen where the user named none."""
    if is_named:
        return f"backend {run.backend}"
    if find_backend(run.backend).uses_server:
        return f"backend {run.backend} (LLM_API_KEY or LLM_API_BASE is set)"
    return "the local engine (no LLM_API_KEY or LLM_API_BASE is set)"
