"""Bringing a run to its end from wherever it stands: sample, ask, answer, export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

import duckdb

from backends import Backend
from fastdatasets.broken import read_error
from fastdatasets.export import Exported, export
from fastdatasets.progress import RunProgress
from fastdatasets.reuse import Earlier, EarlierRun
from fastdatasets.sources import close_source, open_source
from fastdatasets.stages import stages_of
from store import RunFolder, WorkStore
from store.models import ExportOptions, Mode, Run, Status

MakeBackend = Callable[[Run], Backend]


def go_on(
    folder: RunFolder,
    store: WorkStore,
    make_backend: MakeBackend,
    progress: RunProgress,
    max_samples: int,
    options: ExportOptions | None = None,
    earlier: Sequence[EarlierRun] = (),
) -> tuple[Status, list[Exported]]:
    """Do all that is left of a run; gives where it stands then and the files that were written.

    May be called again at any time, after any death: each step looks at the store for what is left.
    max_samples: how often a record is asked for variants, where some could not be used. options: of
    the day, for the exports; else the run's own. earlier: other runs whose answers to the same
    requests are taken.
    """
    run = store.run()
    sample(store, run, progress.say)
    others = Earlier(earlier, progress.say)
    with ExitStack() as opened:
        backend: Backend | None = None
        for stage in stages_of(run, max_samples):
            while True:
                stage.derive(store)
                stage.plan(store, progress)
                if others.answer(store):
                    continue  # such answers too become rows, and may leave more to ask
                if _is_answered(progress.look_now(store)) and not store.journal.live():
                    break
                backend = backend or opened.enter_context(closing(make_backend(run)))
                backend.work(store, progress)
                status = progress.look_now(store)
                if not _is_answered(status):
                    return status, []
    if run.num_aug and not run.skip_generation:
        records, missing = store.short_of_variants(run.num_aug)
        if records:
            progress.say(
                f"{records} records have fewer than {run.num_aug} variants: {missing} missing"
            )
    files = export(folder, store, run, options)
    if missing := files[0].rows - min(file.rows for file in files):
        dropped = " or were cut off" if (options or run.export).drop_truncated else ""
        progress.say(
            f"{missing} rows have no output{dropped}: in distilled.json, in no training file"
        )
    return progress.finish(store), files


def _is_answered(status: Status) -> bool:
    return not (status.requests.pending or status.requests.in_flight)


def sample(store: WorkStore, run: Run, say: Callable[[str], None]) -> None:
    """Take the run's records from its source, unless that was completed before."""
    if store.sampling() is not None:
        return
    say(f"sampling {run.source}")
    try:
        with store.database.disk_full_told():
            mapping, names = open_source(
                store.connection,
                run.source,
                config=run.config,
                split=run.split,
                columns=run.columns,
                say=say,
            )
            for role, name in run.columns.items():
                if name is not None and name not in mapping.as_dict().values():
                    say(f"there is no column {name!r} for the {role}; adapting")
            say(f"columns: {mapping.describe(names)}")
            sampling = store.sample(
                run.sample_size,
                run.seed,
                mapping.as_dict(),
                need_instruction=run.mode is Mode.AUGMENT,
            )
    except duckdb.Error as error:
        raise read_error(run.source, error) from None
    close_source(store.connection)
    empty = f", {sampling.empty} left out as empty" if sampling.empty else ""
    say(f"sampled {store.record_count()} of {sampling.rows} rows{empty}")
