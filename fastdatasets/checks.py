"""Checks: what rejects an answer, with a reason, and what is then asked again.

A verdict is a row of the store. Where the latest answer to a row of a stage was rejected, it can be
asked again: by the stage itself, as the next generation of its question (variants), or with other
parameters, as the next version of its request (a higher limit).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from store.planning import VariedAnswer, Verdict

if TYPE_CHECKING:
    from store import WorkStore


class Check(StrEnum):
    """What rejects an answer."""

    VARIANTS = "variants"  # fewer new instructions could be taken from it than were asked for
    TRUNCATED = "truncated"  # it was cut off at the token limit


def check_variants(
    answer: VariedAnswer, stage: str, kept: int | None, wanted: int
) -> Verdict | None:
    """Reject an answer of which too few variants were kept; None: it could not be parsed."""
    if kept is not None and kept >= wanted:
        return None
    reason = f"{kept} of {wanted} variants"
    if kept is None:
        reason = "no variants could be read from the answer"
    return Verdict(
        answer.record, stage, 0, answer.generation, answer.request_id, Check.VARIANTS, reason
    )


def retry_truncated(store: WorkStore) -> int:
    """Ask again, with twice the limit, for answers that were cut off; returns how many requests."""
    store.planning.reject_truncated(Check.TRUNCATED)
    return store.requests.ask_again(Check.TRUNCATED, lambda limit: limit and 2 * limit)
