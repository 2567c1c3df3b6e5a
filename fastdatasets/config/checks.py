"""CheckOptions from the options of a command."""

from __future__ import annotations

import re

from fastdatasets.checks.final_answer import compile_pattern
from fastdatasets.checks.own import load_checks
from fastdatasets.checks.schema import check_schema
from fastdatasets.config.run import AnswerOptions
from fastdatasets.sources.files import expanded
from store import UserError
from store.runs import CheckOptions

_CHARS = re.compile(r"(?P<least>\d*):(?P<most>\d*)")


def check_options(options: AnswerOptions) -> CheckOptions:
    """The checks that a run asks for, each of which can be loaded; raises UserError."""
    functions = tuple(dict.fromkeys(options.check))
    load_checks(functions)
    if options.answer_pattern is not None:
        compile_pattern(options.answer_pattern)
    least, most = _chars(options.answer_chars)
    return CheckOptions(
        functions=functions,
        schema=_schema(options),
        min_chars=least,
        max_chars=most,
        answer_pattern=options.answer_pattern,
        verify=options.verify,
    )


def _chars(text: str | None) -> tuple[int | None, int | None]:
    """MIN:MAX, either of which may be missing."""
    if text is None:
        return None, None
    found = _CHARS.fullmatch(text.strip())
    least, most = (int(part) if part else None for part in found.groups()) if found else (0, 0)
    if not found or (least is None and most is None) or not (least or 0) <= (most or 2**63):
        raise UserError(
            f"--answer-chars {text}: MIN:MAX is expected, such as 20:4000, 20: or :4000"
        )
    return least, most


def _schema(options: AnswerOptions) -> str | None:
    """The text of the schema file; raises UserError where it is none."""
    if options.expect is None:
        return None
    try:
        text = expanded(options.expect).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --expect {options.expect}: {error}") from None
    check_schema(f"--expect {options.expect}", text)
    return text
