"""Which rows may be sampled, from the options of a new run."""

from __future__ import annotations

from collections.abc import Sequence

from fastdatasets.config.run import DataOptions
from fastdatasets.languages import parse_languages
from fastdatasets.sources.where import Condition
from store import UserError
from store.runs import Dedup, Selection, WeightedSource

PROPORTIONAL, EQUAL = "proportional", "equal"


def selection_of(
    options: DataOptions, sources: Sequence[WeightedSource], sample_size: int
) -> Selection:
    """Which rows may be sampled, and how; raises UserError."""
    least, most = options.min_chars, options.max_chars
    if least is not None and most is not None and least > most:
        raise UserError(f"--min-chars {least} is more than --max-chars {most}: no question is both")
    if options.where is not None:
        Condition(options.where)
    column, strata = _strata(options.stratify)
    if column and not sample_size and all(source.weight == 1 for source in sources):
        raise UserError(f"--stratify {options.stratify}: all rows are taken; name a --sample-size")
    languages = options.question_language
    return Selection(
        where=options.where,
        min_chars=least,
        max_chars=most,
        languages=() if languages is None else parse_languages("--question-language", languages),
        dedup=None if options.dedup is None else Dedup(options.dedup),
        stratify=column or None,
        equal_strata=strata == EQUAL,
    )


def _strata(text: str | None) -> tuple[str, str]:
    """The column of COLUMN[:equal|:proportional], and which of them; '' for no column."""
    column, _, strata = (text or "").rpartition(":")
    if column and strata in (PROPORTIONAL, EQUAL):
        return column, strata
    return text or "", PROPORTIONAL
