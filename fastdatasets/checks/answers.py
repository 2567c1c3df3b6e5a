"""The checks of a run's answers, from an answer to a reason, or None where it passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fastdatasets.checks.final_answer import final_answers_by
from fastdatasets.checks.kinds import Check
from fastdatasets.checks.language import check_language, names_language
from fastdatasets.checks.own import load_checks
from fastdatasets.checks.phrases import (
    check_echo,
    check_prompt_talk,
    check_refusal,
    check_template_tokens,
)
from fastdatasets.checks.repetition import check_repetition
from fastdatasets.checks.schema import validator_of
from store.answers.answers import AnswerToCheck
from store.runs import CheckOptions, Run

CheckAnswer = Callable[[AnswerToCheck], str | None]


def checks_of(run: Run) -> dict[str, CheckAnswer]:
    """The checks of a run by their names; raises UserError for one that cannot be loaded."""
    checks: dict[str, CheckAnswer] = {
        Check.EMPTY: check_empty,
        Check.TRUNCATED: check_truncated,
        Check.REPETITION: check_repetition,
        Check.TEMPLATE_TOKENS: check_template_tokens,
        Check.REFUSAL: check_refusal,
        Check.ECHO: check_echo,
        Check.PROMPT_TALK: check_prompt_talk,
    }
    if not names_language(run):
        checks[Check.LANGUAGE] = check_language
    options = run.checks
    if options.schema is not None or _asks_for_json(run.params):
        checks[Check.JSON] = _json_check(options.schema)
    if options.min_chars is not None or options.max_chars is not None:
        checks[Check.LENGTH] = _length_check(options.min_chars or 0, options.max_chars)
    if options.verify is not None:
        checks[Check.VERIFY] = _verify_check(options)
    return checks | load_checks(options.functions)


def check_empty(answer: AnswerToCheck) -> str | None:
    """Reject an answer without text; tool calls are an answer."""
    return None if answer.tool_calls is not None or answer.output.strip() else "no text"


def check_truncated(answer: AnswerToCheck) -> str | None:
    """Reject an answer that was cut off."""
    return "cut off at the token limit" if answer.finish_reason == "length" else None


def _asks_for_json(params: dict[str, Any]) -> bool:
    wanted = params.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema")


def _json_check(schema: str | None) -> CheckAnswer:
    """Reject an answer that is not JSON, or not by the schema; tool calls have no text."""
    fault_of = None if schema is None else validator_of(schema)

    def check(answer: AnswerToCheck) -> str | None:
        if answer.tool_calls is not None and not answer.output:
            return None
        try:
            value = msgspec.json.decode(answer.output)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            is_fenced = answer.output.lstrip().startswith("```")
            return (
                "no JSON: it is in a fenced block"
                if is_fenced
                else f"no JSON: {str(error).removeprefix('JSON is malformed: ')}"
            )
        except RecursionError:
            return "no JSON: it is nested too deeply"
        return None if fault_of is None else fault_of(value)

    return check


def _length_check(least: int, most: int | None) -> CheckAnswer:
    def check(answer: AnswerToCheck) -> str | None:
        length = len(answer.output)
        if length < least:
            return f"{length} characters, fewer than {least}"
        if most is not None and length > most:
            return f"{length} characters, more than {most}"
        return None

    return check


def _verify_check(options: CheckOptions) -> CheckAnswer:
    """Reject a final answer that is not the dataset's, where the dataset has one."""
    final_answer_of = final_answers_by(options.answer_pattern)
    by_default = final_answers_by(None)

    def check(answer: AnswerToCheck) -> str | None:
        expected = answer.expected or ""
        wanted = final_answer_of(expected) or by_default(expected)
        if wanted is None:
            return None
        found = final_answer_of(answer.output)
        return None if found == wanted else f"{found or 'none'}, and the dataset has {wanted}"

    return check
