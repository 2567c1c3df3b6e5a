"""The names of the checks, and which of them keep an answer out of the training files."""

from __future__ import annotations

from enum import StrEnum

from store import UserError


class Check(StrEnum):
    """The checks of answers."""

    VARIANTS = "variants"  # fewer variants could be read from the answer than were requested
    EMPTY = "empty"  # no text and no tool call
    TRUNCATED = "truncated"  # cut off at the token limit


def parse_kinds(option: str, text: str) -> tuple[str, ...]:
    """'refusal,echo' as a tuple; raises UserError for a check that is not known.

    A check of the user's own is called MODULE:FUNCTION.
    """
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    known = [check.value for check in Check if check is not Check.VARIANTS]
    for kind in kinds:
        if kind not in known and ":" not in kind:
            raise UserError(f"{option} {kind}: no such check; there are {', '.join(known)}")
    return kinds


# Answers that teach a model what nobody wants, found with next to no mistakes.
EXCLUDED = (Check.EMPTY, Check.TRUNCATED)
