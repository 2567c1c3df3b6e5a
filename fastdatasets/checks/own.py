"""Checks of the user's own: --check package.module:function."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from store import UserError
from store.answers.answers import AnswerToCheck

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")

OwnCheck = Callable[[dict[str, Any]], Any]


class CheckFailedError(Exception):
    """A check of the user's own could not judge an answer; says which, where and why."""


def load_checks(names: Sequence[str]) -> dict[str, Callable[[AnswerToCheck], str | None]]:
    """The user's functions by their names, as checks; raises UserError for one that is not there.

    Modules are looked for in the current folder first.
    """
    return {name: _checking(name, _load(name)) for name in names}


def _load(name: str) -> OwnCheck:
    if not _NAME.fullmatch(name):
        raise UserError(f"--check {name}: MODULE:FUNCTION is expected, such as quality:no_prices")
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # for good: the function may import more when it is called
    importlib.invalidate_caches()
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _not_imported(name, error) from None
        raise UserError(
            f"--check {name}: there is no module {error.name} in the current folder {here} or "
            "among the installed ones"
        ) from None
    except Exception as error:  # a module can do anything
        raise _not_imported(name, error) from None
    if not callable(function):
        raise UserError(f"--check {name}: module {module_name} has no function {function_name}")
    return function  # type: ignore[no-any-return]


def _not_imported(name: str, error: Exception) -> UserError:
    return UserError(f"--check {name}: its module cannot be imported: {_described(error)}")


def _checking(name: str, function: OwnCheck) -> Callable[[AnswerToCheck], str | None]:
    def check(answer: AnswerToCheck) -> str | None:
        try:
            reason = function(row_of(answer))
        except Exception as error:
            raise CheckFailedError(f"{name}, row {answer.row + 1}: {_described(error)}") from None
        if reason is None or isinstance(reason, str):
            return reason or None
        raise CheckFailedError(
            f"{name}, row {answer.row + 1}: it returned {type(reason).__name__}, and None or a "
            "text is expected"
        )

    return check


def row_of(answer: AnswerToCheck) -> dict[str, Any]:
    """What a check of the user's own is given: a new dict of texts, '' where there is none.

    row: the number of its row in the dataset, from 1; tool_calls: a list, as in distilled.json.
    """
    return {
        "row": answer.row + 1,
        "generation": answer.generation,
        "instruction": answer.instruction,
        "input": answer.input,
        "output": answer.output,
        "reasoning": answer.reasoning,
        "original_output": answer.original_output,
        "finish_reason": answer.finish_reason,
        "tool_calls": [] if answer.tool_calls is None else msgspec.json.decode(answer.tool_calls),
    }


def _described(error: Exception) -> str:
    """An exception in one line, with the last line of the user's code that it came through."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__) and frame.filename[0] != "<"
    ]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text
