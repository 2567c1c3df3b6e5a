"""Sampling a run's records from its source."""

from __future__ import annotations

from collections.abc import Callable

from fastdatasets.sources.broken import read_error
from fastdatasets.sources.dataset import close_source, open_source
from store import WorkStore
from store.errors import SqlError
from store.runs import Mode, Run


def sample_records(store: WorkStore, run: Run, say: Callable[[str], None]) -> None:
    """Take the run's records from its source, unless that was completed before."""
    if store.records.sampling() is not None:
        return
    say(f"sampling {run.source}")
    try:
        with store.database.errors():
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
            sampling = store.records.sample(
                run.sample_size,
                run.seed,
                mapping.as_dict(),
                need_instruction=run.mode is Mode.AUGMENT,
            )
    except SqlError as error:
        raise read_error(run.source, error) from None
    with store.database.errors():
        close_source(store.connection)
    empty = f", {sampling.empty} left out as empty" if sampling.empty else ""
    say(f"sampled {store.records.count()} of {sampling.rows} rows{empty}")
