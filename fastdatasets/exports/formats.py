"""The formats: the columns of each, and the statements that read them from the view answer_rows."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from store import UserError
from store.database.statements import load_file
from store.export_options import ExportOptions, FileType, Reasoning
from store.runs import Mode

STATEMENTS = load_file("fastdatasets.exports", "formats.sql")

ORDER = "record, ordinal, generation"

TEXT = "VARCHAR"
CALLS = [{"id": TEXT, "type": TEXT, "function": {"name": TEXT, "arguments": TEXT}}]
TURN: dict[str, Any] = {
    "role": TEXT,
    "content": TEXT,
    "reasoning_content": TEXT,
    "tool_calls": CALLS,
    "tool_call_id": TEXT,
}


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its statement in formats.sql and its columns.

    optional: columns of a file in which any row has them. in_json: columns that the statement has
    as JSON. is_training: rows have an answer, and may be split into training and test.
    """

    statement: str
    columns: tuple[str, ...]
    optional: tuple[str, ...] = ()
    in_json: tuple[str, ...] = ()
    is_training: bool = True


ANSWERED = ("instruction", "input", "output", "reasoning", "finish_reason", "model", "source_row")
CONVERSATION = ("system", "history", "tools", "tool_calls")
ORIGINALS = ("original_outputs",)  # of the dataset, where a row has several
IMAGES = ("images",)  # in the order of <image> in the texts
SOURCE = ("source",)  # where the run has several
GENERATION = ("generation",)  # which of the answers to a question, from 0
FOUND = ("verdicts", "score", "score_reason", "final_answer", "agreement")  # of answers, by checks
VARIANT = ("original_instruction", "variant")
ORIGIN = (
    *("source", "split", "run_id", "backend", "request_id", "params"),
    *("prompt_tokens", "cached_tokens", "completion_tokens", "cost"),
)

DISTILLED = {  # distilled.json, by the run's mode
    mode: Format(
        "distilled",
        columns,
        (*GENERATION, *CONVERSATION, *ORIGINALS, *IMAGES, *SOURCE, *FOUND),
        ("history", "tool_calls", "verdicts", *ORIGINALS),
        is_training=False,
    )
    for mode, columns in ((Mode.DISTILL, ANSWERED), (Mode.AUGMENT, (*ANSWERED, *VARIANT)))
}

FORMATS = {
    "alpaca": Format(
        "alpaca", ("instruction", "input", "output"), ("system", "history", "reasoning", *IMAGES)
    ),
    "sharegpt": Format("sharegpt", ("conversations",), ("tools", "reasoning", *IMAGES)),
    "messages": Format("messages", ("messages",), ("tools", *IMAGES), ("messages",)),
    "prompt_completion": Format("prompt_completion", ("prompt", "completion"), ("reasoning",)),
    "raw": Format(
        "raw",
        (*ANSWERED, *VARIANT, *GENERATION, *CONVERSATION, *ORIGINALS, *FOUND, *ORIGIN),
        IMAGES,
        in_json=("history", "tool_calls", "verdicts", *ORIGINALS),
        is_training=False,
    ),
}


def parse_formats(text: str) -> tuple[str, ...]:
    """'alpaca,sharegpt' as a tuple; raises UserError for a format that is not known."""
    formats = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"unknown format {unknown[0]!r}; known are {', '.join(FORMATS)}")
    return formats


def columns_of(a_format: Format, contents: Set[str], options: ExportOptions) -> tuple[str, ...]:
    """The columns of a file; contents: as Answers.contents returns them."""
    found = contents | ({"reasoning"} if options.reasoning is Reasoning.FIELD else set())
    return (*a_format.columns, *(name for name in a_format.optional if name in found))


def parameters_of(
    a_format: Format, contents: Set[str], options: ExportOptions, *, is_test: bool
) -> dict[str, Any]:
    """The parameters of a format's statement; contents: as in columns_of."""
    if not a_format.is_training:
        return {}
    parameters = {
        "reasoning": "plain" if options.include_reasoning else options.reasoning.value,
        "is_test": is_test,
        "turns": json.dumps([TURN]),
        "calls": json.dumps(CALLS),
    }
    more: dict[str, dict[str, Any]] = {
        "sharegpt": {"labels": options.labels},
        "messages": {"has_images": "images" in contents},
    }
    return parameters | more.get(a_format.statement, {})


def select_json(a_format: Format, columns: tuple[str, ...], file_type: FileType) -> str:
    """A statement of one column: each row as JSON and what follows it in a file of that type."""
    row = "to_json({" + ", ".join(f"'{name}': {name}" for name in columns) + "})"
    end = "',' || chr(10)" if file_type is FileType.JSON else "chr(10)"
    return (
        f"SELECT line FROM (SELECT {ORDER}, {row} || {end} AS line "
        f"FROM ({_statement(a_format)})) ORDER BY {ORDER}"
    )


def select_typed(
    a_format: Format, columns: tuple[str, ...], contents: Set[str], options: ExportOptions
) -> str:
    """A statement of a file's columns, where JSON has become lists and structs."""
    content: Any = [{"type": TEXT, "text": TEXT}] if "images" in contents else TEXT
    turn: dict[str, Any] = {"role": TEXT, "content": content}
    if options.reasoning is Reasoning.FIELD:
        turn["reasoning_content"] = TEXT
    if "tool_calls" in contents:
        turn |= {"tool_calls": CALLS, "tool_call_id": TEXT}
    types = {
        "tool_calls": CALLS,
        "history": [TURN],
        "messages": [turn],
        "original_outputs": [TEXT],
        "verdicts": [{"check": TEXT, "reason": TEXT}],
    }
    typed = (
        f"json_transform(to_json({name}), '{json.dumps(types[name])}') AS {name}"
        if name in a_format.in_json
        else name
        for name in columns
    )
    return f"SELECT {', '.join(typed)} FROM ({_statement(a_format)}) ORDER BY {ORDER}"


def _statement(a_format: Format) -> str:
    select = STATEMENTS[a_format.statement]
    if not a_format.is_training:
        return select
    return f"WITH training AS ({STATEMENTS['training']}) {select}"
