"""LLaMA-Factory reads a run's folder with its own loader and converters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.fastdatasets.exports.test_formats import PLAIN, RUN, TOOLS, distill
from tests.trainers.runs import FILE_TYPES, exported, read

pytestmark = pytest.mark.slow

Turn = tuple[str, str]
THINK = "<think>\nwhy\n</think>\n\n1"
CALL = '{"name":"add","arguments":{"a":1}}'
OPENAI_CALL = '[{"name": "add", "arguments": "{\\"a\\": 1}"}]'
EARLIER = [("user", "Add."), ("assistant", "It is 1.")]


def aligned(tmp_path: Path) -> dict[str, list[tuple[str, str, list[Turn]]]]:
    """By entry of dataset_info.json its rows: system prompt, tools and turns."""

    def row(found: dict[str, Any]) -> tuple[str, str, list[Turn]]:
        turns = [(turn["role"], turn["content"]) for turn in found["_prompt"] + found["_response"]]
        return found["_system"], found["_tools"], turns

    entries = read("read_llamafactory.py", str(RUN), str(tmp_path / "cache"))
    return {name: [row(found) for found in rows] for name, rows in entries.items()}


def of_each_type(**formats: object) -> dict[str, object]:
    """The entries of the files: of JSON by the name, of the others with the file's type."""
    return {
        f"distilled-{name}" + ("" if file_type == "json" else f".{file_type}"): rows
        for name, rows in formats.items()
        for file_type in FILE_TYPES
    }


def conversations(first: str, second: str, call: str, system: str) -> list[object]:
    """The rows of sharegpt and messages, whose first questions and calls differ."""
    return [
        ("", "[]", [("user", first), ("assistant", THINK)]),
        (system, TOOLS, [("user", second), ("function", call)]),
        ("", "[]", [
            ("user", "Add."), ("function", call), ("observation", "1"), ("assistant", "It is 1."),
            ("user", "C"), ("assistant", "3"),
        ]),
        ("", "[]", [*EARLIER, ("user", "D"), ("assistant", "4")]),
    ]  # fmt: skip


def test_conversations(command: Command, tmp_path: Path) -> None:
    """Every entry of dataset_info.json has every row of its file, and roles, tools and calls."""
    exported(command)
    assert aligned(tmp_path) == of_each_type(
        alpaca=[
            ("", "", [("user", "A\nx"), ("assistant", THINK)]),
            ("", "", [*EARLIER, ("user", "D"), ("assistant", "4")]),
        ],
        sharegpt=conversations("指令: A\n\n输入: x", "指令: B", CALL, "Be kind."),
        messages=conversations("A\n\nx", "B", OPENAI_CALL, "Be kind.\n"),
        prompt_completion=[("", "", [("user", "A\n\nx"), ("assistant", THINK)])],
    )


def test_plain_rows(command: Command, tmp_path: Path) -> None:
    """distilled.json and raw are entries as well where all rows are a question and an answer."""
    distill(command, PLAIN, "--formats", "alpaca,raw")
    rows = [
        ("", "", [("user", "A"), ("assistant", "1")]),
        ("", "", [("user", "B\nx"), ("assistant", "2")]),
    ]
    names = ("distilled", "distilled-alpaca", "distilled-raw")
    assert aligned(tmp_path) == dict.fromkeys(names, rows)
