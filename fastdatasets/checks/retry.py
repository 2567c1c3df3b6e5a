"""Requests that follow a verdict.

A verdict is a row of the store. Where the latest answer to a row of a stage was rejected, the row
can get a further request: from the stage, as the next generation (variants), or as the next version
(a higher limit, or the same again).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastdatasets.checks.kinds import Check
from store import UserError, WorkStore
from store.planning import IngestedAnswer, Verdict

FIXES = {  # of parameters with which a model repeats itself
    "temperature": "Raise it: --temperature 0.7",
    "top_k": "Raise it: --param top_k=40",
    "seed": "Leave it out",
}


def check_answers_differ(option: str, params: Mapping[str, Any]) -> None:
    """Raise UserError where a request that is sent again would have the same answer again."""
    same = {"temperature": 0, "top_k": 1, "seed": params.get("seed")}
    for name, value in same.items():
        if params.get(name) is not None and params[name] == value:
            raise UserError(
                f"{option} with {name} {value}: all answers to a question would be equal. "
                f"{FIXES[name]}"
            )


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
    return store.limits.replan_rejected([Check.TRUNCATED], lambda limit: limit and 2 * limit)


def retry_flagged(store: WorkStore, kinds: Sequence[str]) -> int:
    """Plan answers that one of the checks rejected again; returns how many requests that are.

    Truncated ones with twice the limit. Raises UserError for a check that rejected none.
    """
    flagged = store.answers.flagged()
    if unknown := [kind for kind in kinds if kind not in flagged]:
        found = ", ".join(f"{kind} ({count})" for kind, count in flagged.items()) or "none"
        raise UserError(
            f"--retry-flagged {unknown[0]}: no answer has this verdict; those of the run: {found}"
        )
    again = retry_truncated(store) if Check.TRUNCATED in kinds else 0
    others = [kind for kind in kinds if kind != Check.TRUNCATED]
    if others:
        check_answers_differ("--retry-flagged", store.run().params)
        again += store.limits.replan_rejected(others)
    return again
