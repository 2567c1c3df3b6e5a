"""Checks that reject answers, with a reason, and the requests that follow.

A verdict is a row of the store. Where the latest answer to a row of a stage was rejected, the row
can get a further request: from the stage, as the next generation (variants), or with other
parameters, as the next version (a higher limit).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from store.planning import IngestedAnswer, Verdict

if TYPE_CHECKING:
    from store import WorkStore


class Check(StrEnum):
    """The checks of answers."""

    VARIANTS = "variants"  # fewer variants could be read from the answer than were requested
    TRUNCATED = "truncated"  # the answer was cut off at the token limit


def check_variants(ingested: IngestedAnswer, stage: str, wanted: int) -> Verdict | None:
    """Reject an answer of which fewer variants were kept than wanted."""
    kept, answer = ingested.variants, ingested.answer
    if kept is None:
        reason = "no variants could be read from the answer"
    elif len(kept) < wanted:
        reason = f"{len(kept)} of {wanted} variants"
    else:
        return None
    return Verdict(
        answer.record, stage, 0, answer.generation, answer.request_id, Check.VARIANTS, reason
    )


def retry_truncated(store: WorkStore) -> int:
    """Plan truncated answers again with twice the limit; returns how many requests that are."""
    store.planning.reject_truncated(Check.TRUNCATED)
    return store.limits.replan_rejected(Check.TRUNCATED, lambda limit: limit and 2 * limit)
