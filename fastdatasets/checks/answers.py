"""The checks of a run's answers, from an answer to a reason, or None where it passes."""

from __future__ import annotations

from collections.abc import Callable

from fastdatasets.checks.kinds import Check
from store.answers import AnswerToCheck
from store.runs import Run

CheckAnswer = Callable[[AnswerToCheck], str | None]


def checks_of(_: Run) -> dict[str, CheckAnswer]:
    """The checks of a run by their names."""
    return {Check.EMPTY: check_empty, Check.TRUNCATED: check_truncated}


def check_empty(answer: AnswerToCheck) -> str | None:
    """Reject an answer without text; tool calls are an answer."""
    return None if answer.has_tool_calls or answer.output.strip() else "no text"


def check_truncated(answer: AnswerToCheck) -> str | None:
    """Reject an answer that was cut off."""
    return "cut off at the token limit" if answer.finish_reason == "length" else None
