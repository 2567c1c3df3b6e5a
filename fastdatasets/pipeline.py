"""Advancing a run from any state to its end: sample, plan, answer, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from backends import Backend
from fastdatasets.checks.ingest import check_all
from fastdatasets.exports.writers import Exported, export
from fastdatasets.progress import PipelineProgress
from fastdatasets.runs.reuse import EarlierRun, ReusedAnswers
from fastdatasets.sources.sampling import sample_records
from fastdatasets.stages.modes import stages_of
from fastdatasets.stages.prompts import uses_row
from store import RunFolder, WorkStore
from store.export_options import ExportOptions
from store.runs import Run
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
    with closing(_OpenBackend(make_backend)) as backend:
        for stage in stages_of(store, run, max_generations):
            while True:
                stage.ingest(store)
                stage.plan(store, progress)
                if reused.take(store):
                    continue  # reused answers are ingested too, and more may be planned
                if _is_answered(progress.update_now(store)) and not store.journal.unclosed():
                    break
                backend.of(stage.run).work(store, progress)
                status = progress.update_now(store)
                if not _is_answered(status):
                    return status, []
    if run.num_aug and not run.skip_generation:
        records, missing = store.planning.short_of_variants(run.num_aug)
        if records:
            progress.say(
                f"{records} records have fewer than {run.num_aug} variants: {missing} missing"
            )
    check_all(store, run)
    if run.judge is not None and (unread := store.scores.unread()):
        progress.say(f"{unread} answers have no score: what the judge wrote has none from 1 to 10")
    files = export(folder, store, run, progress.update_now(store), options, progress.say)
    return progress.finish(store), files


class _OpenBackend:
    """The one backend that is open: the teacher's, or that of a judge which needs another."""

    def __init__(self, make: MakeBackend) -> None:
        self._make = make
        self._for: tuple[str, str | None, str] | None = None
        self._backend: Backend | None = None

    def of(self, run: Run) -> Backend:
        """The backend of a run's requests; another one is closed before."""
        needed = (run.backend, run.base_url, run.model)
        if self._backend is None or self._for != needed:
            self.close()
            self._backend, self._for = self._make(run), needed
        return self._backend

    def close(self) -> None:
        """Close what is open."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None


def _is_answered(status: Status) -> bool:
    return not (status.requests.pending or status.requests.in_flight)
