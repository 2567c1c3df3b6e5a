"""The names of the checks, and which of them keep an answer out of the training files."""

from __future__ import annotations

from enum import StrEnum

from store import UserError
from store.runs import CheckOptions


class Check(StrEnum):
    """The checks of answers; those of the user's own are called MODULE:FUNCTION."""

    VARIANTS = "variants"  # fewer variants could be read from the answer than were requested
    EMPTY = "empty"  # no text and no tool call
    TRUNCATED = "truncated"  # cut off at the token limit
    REPETITION = "repetition"  # a loop
    TEMPLATE_TOKENS = "template_tokens"  # tokens of a chat template
    REFUSAL = "refusal"  # the model declines
    LANGUAGE = "language"  # another script than the question's
    ECHO = "echo"  # the question again
    PROMPT_TALK = "prompt_talk"  # about the prompt
    JSON = "json"  # no JSON, or not by the schema
    LENGTH = "length"  # fewer or more characters than were asked for
    DUPLICATE = "duplicate"  # the answer to another question
    VERIFY = "verify"  # another final answer than the dataset's
    FAILED_TO_RUN = "failed_to_run"  # a check of the user's own raised an exception


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
EXCLUDED = (Check.EMPTY, Check.TRUNCATED, Check.REPETITION, Check.TEMPLATE_TOKENS)


def excluded_by(checks: CheckOptions) -> tuple[str, ...]:
    """The checks that keep answers out of training files: EXCLUDED, and what a run asks for."""
    asked = {
        Check.JSON: checks.schema is not None,
        Check.LENGTH: checks.min_chars is not None or checks.max_chars is not None,
        Check.VERIFY: checks.verify is not None,
    }
    return (*EXCLUDED, *(check for check, is_asked in asked.items() if is_asked), *checks.functions)
