"""Advancing a run from any state to its end: sample, plan, answer, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from backends import Backend
from fastdatasets.exports.writers import Exported, export
from fastdatasets.progress import PipelineProgress
from fastdatasets.runs.reuse import EarlierRun, ReusedAnswers
from fastdatasets.sources.sampling import sample_records
from fastdatasets.stages.modes import stages_of
from fastdatasets.stages.prompts import uses_row
from store import RunFolder, WorkStore
from store.runs import ExportOptions, Run
from store.status import Status

MakeBackend = Callable[[Run], Backend]


def advance_run(
    folder: RunFolder,
    store: WorkStore,
    make_backend: MakeBackend,
    progress: PipelineProgress,
    max_generations: int,
    options: ExportOptions | None = None,
    earlier: Sequence[EarlierRun] = (),
) -> tuple[Status, list[Exported]]:
    """Do all that is left of a run; returns its status and the files that were written.

    May be called again at any time, after any crash: each step reads from the store what is left.
    max_generations: of requests for a record's variants. options: of this command, for the exports;
    else the run's own. earlier: runs whose answers to equal requests are reused.
    """
    run = store.run()
    sample_records(store, run, progress.say, with_fields=uses_row(run.templates))
    reused = ReusedAnswers(earlier, progress.say)
    with ExitStack() as stack:
        backend: Backend | None = None
        for stage in stages_of(store, run, max_generations):
            while True:
                stage.ingest(store)
                stage.plan(store, progress)
                if reused.take(store):
                    continue  # reused answers are ingested too, and more may be planned
                if _is_answered(progress.update_now(store)) and not store.journal.unclosed():
                    break
                backend = backend or stack.enter_context(closing(make_backend(run)))
                backend.work(store, progress)
                status = progress.update_now(store)
                if not _is_answered(status):
                    return status, []
    if run.num_aug and not run.skip_generation:
        records, missing = store.planning.short_of_variants(run.num_aug)
        if records:
            progress.say(
                f"{records} records have fewer than {run.num_aug} variants: {missing} missing"
            )
    files = export(folder, store, run, progress.update_now(store), options, progress.say)
    return progress.finish(store), files


def _is_answered(status: Status) -> bool:
    return not (status.requests.pending or status.requests.in_flight)
