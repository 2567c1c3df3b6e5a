"""Sampling a run's records from its sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fastdatasets.sources.chat.images import sampled_images
from fastdatasets.sources.dataset import open_source
from store import UserError, WorkStore
from store.records import UNREADABLE_IMAGE, Questions, Sampling
from store.runs import Mode, Run, WeightedSource

Say = Callable[[str], None]


def check_weights(sources: Sequence[WeightedSource], sample_size: int) -> None:
    """Raise UserError where weights and sample size do not fit each other."""
    for source, size in zip(sources, shares_of(sources, sample_size), strict=True):
        if not sample_size and source.weight > 1:
            raise UserError(
                f"--dataset-name {source}: with all rows (--sample-size 0) a weight is a part of "
                "the rows, at most 1"
            )
        if sample_size and not size:
            raise UserError(
                f"--dataset-name {source}: its part of --sample-size {sample_size} is less than "
                "one row: raise its weight, or the sample size"
            )


def shares_of(sources: Sequence[WeightedSource], sample_size: int) -> list[int]:
    """The sample size of each source, by the weights; they sum to sample_size.

    Rounded down, and the rows that are left go to the largest remainders. With three sources or
    more a share can be one less in a larger sample.
    """
    total = sum(source.weight for source in sources)
    exact = [sample_size * (source.weight / total) for source in sources]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda n: shares[n] - exact[n])
    for place in by_remainder[: sample_size - sum(shares)]:
        shares[place] += 1
    return shares


def sample_records(store: WorkStore, run: Run, say: Say, *, with_fields: bool = False) -> None:
    """Take the run's records from its sources, those that were not completed before.

    with_fields: keep all columns of their rows, for templates that use them.
    """
    complete = len(store.records.samplings())
    shares = shares_of(run.sources, run.sample_size)
    for source, share in list(zip(run.sources, shares, strict=True))[complete:]:
        _sample(store, run, source, share, say, with_fields=with_fields)


def _sample(
    store: WorkStore, run: Run, source: WeightedSource, share: int, say: Say, *, with_fields: bool
) -> None:
    """Take the records of one source. share: its sample size; 0: its weight of all rows."""
    say(f"sampling {source.name}")
    before = store.records.count()
    with open_source(
        store.database,
        source.name,
        config=run.config,
        split=run.split,
        reading=run.reading,
        selection=run.selection,
        columns=run.columns,
        turns=run.turns,
        with_fields=with_fields,
        images=run.images,
        verify=run.checks.verify,
        say=say,
    ) as opened:
        verify = run.checks.verify
        names = [name for name in opened.names if name != verify]
        shown = opened.mapping.describe(names)
        say(f"columns: {shown}" + (f"; answers are verified with {verify}" if verify else ""))
        try:
            sampling = store.records.sample(
                share,
                run.seed,
                opened.mapping.as_dict(),
                weight=source.weight,
                need_instruction=run.mode is Mode.AUGMENT,
                bad_rows=opened.bad_rows,
                read_images=sampled_images if run.images else None,
                selection=run.selection,
                near_duplicates=_near_duplicates,
            )
        except UserError as error:
            if len(run.sources) == 1:
                raise
            raise UserError(f"{source.name}: {error}") from None
    sampled = store.records.count() - before
    fewer = f", fewer than its part of {share}" if len(run.sources) > 1 and sampled < share else ""
    say(f"sampled {sampled} of {sampling.rows} rows{fewer}")
    _report(sampling, say)


def _near_duplicates(questions: Questions) -> Iterable[bool]:
    from fastdatasets.dedup import near_duplicates  # and numpy, where it is asked for

    return near_duplicates(questions)


def _report(sampling: Sampling, say: Say) -> None:
    """Say what of a source was not used."""
    for reason, count in sampling.left_out.items():
        rows = [str(row + 1) for row in sampling.unreadable_images if reason == UNREADABLE_IMAGE]
        more = ", …" if rows and len(rows) < count else ""
        say(
            f"left out: {count} rows {reason}" + (f" (row {', '.join(rows)}{more})" if rows else "")
        )
    bad = sampling.bad_rows
    for reason, count in bad.counts.items():
        say(f"skipped, cannot be read: {count} rows: {reason}")
    if bad.named:
        more = ", …" if len(bad.named) < bad.total() else ""
        say(f"skipped rows: {', '.join(bad.named)}{more}")
    if sampling.unused_turns:
        say(
            f"not used: {sampling.unused_turns} {sampling.unused}, in "
            f"{sampling.rows_with_unused_turns} rows"
        )
