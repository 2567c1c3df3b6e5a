"""Sampling a run's records from its source."""

from __future__ import annotations

from collections.abc import Callable

from fastdatasets.sources.broken import read_error
from fastdatasets.sources.dataset import open_source
from store import WorkStore
from store.errors import SqlError
from store.runs import Mode, Run


def sample_records(
    store: WorkStore, run: Run, say: Callable[[str], None], *, with_fields: bool = False
) -> None:
    """Take the run's records from its source, unless that was completed before.

    with_fields: keep all columns of their rows, for templates that use them.
    """
    if store.records.sampling() is not None:
        return
    say(f"sampling {run.source}")
    try:
        with (
            store.database.errors(),
            open_source(
                store.connection,
                run.source,
                config=run.config,
                split=run.split,
                columns=run.columns,
                turns=run.turns,
                with_fields=with_fields,
                say=say,
            ) as (mapping, names),
        ):
            say(f"columns: {mapping.describe(names)}")
            sampling = store.records.sample(
                run.sample_size,
                run.seed,
                mapping.as_dict(),
                need_instruction=run.mode is Mode.AUGMENT,
            )
    except SqlError as error:
        raise read_error(run.source, error) from None
    say(f"sampled {store.records.count()} of {sampling.rows} rows")
    for reason, count in sampling.left_out.items():
        say(f"left out: {count} rows {reason}")
    if sampling.unused_turns:
        say(
            f"not used: {sampling.unused_turns} turns of {sampling.rows_with_unused_turns} rows, "
            "after the question that is asked"
        )
