"""Sampling a run's records from its source."""

from __future__ import annotations

from collections.abc import Callable

from fastdatasets.sources.dataset import open_source
from store import WorkStore
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
    with open_source(
        store.database,
        run.source,
        config=run.config,
        split=run.split,
        reading=run.reading,
        columns=run.columns,
        turns=run.turns,
        with_fields=with_fields,
        say=say,
    ) as source:
        say(f"columns: {source.mapping.describe(source.names)}")
        sampling = store.records.sample(
            run.sample_size,
            run.seed,
            source.mapping.as_dict(),
            need_instruction=run.mode is Mode.AUGMENT,
            bad_rows=source.bad_rows,
        )
    say(f"sampled {store.records.count()} of {sampling.rows} rows")
    for reason, count in sampling.left_out.items():
        say(f"left out: {count} rows {reason}")
    bad = sampling.bad_rows
    for reason, count in bad.counts.items():
        say(f"skipped, cannot be read: {count} rows: {reason}")
    if bad.named:
        more = ", …" if len(bad.named) < bad.total() else ""
        say(f"skipped rows: {', '.join(bad.named)}{more}")
    if sampling.unused_turns:
        say(
            f"not used: {sampling.unused_turns} turns of {sampling.rows_with_unused_turns} rows, "
            "after the question that is asked"
        )
