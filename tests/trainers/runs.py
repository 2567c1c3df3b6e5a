"""What the tests of trainers share: a run with a row of each kind, exported in all formats."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from store import WorkStore
from tests.conftest import Command
from tests.fastdatasets.exports.test_formats import (
    CALLS,
    FORMATS,
    RUN,
    TOOL_HISTORY,
    TOOLS,
    distill,
)

PYTHON = Path(__file__).parents[2] / ".venv-trainers" / "bin" / "python"
FILE_TYPES = ("json", "jsonl", "parquet")
ROWS: list[dict[str, object]] = [
    {"instruction": "A", "input": "x", "output": "1", "reasoning": "why"},
    {"instruction": "B", "output": ""},
    {"instruction": "C", "output": "3"},
    {"instruction": "D", "output": "4"},
]
CONVERSATIONS = (
    (1, "system", "Be kind."),
    (1, "tools", TOOLS),
    (1, "tool_calls", json.dumps(CALLS)),
    (2, "history", json.dumps(TOOL_HISTORY)),
    (3, "history", json.dumps([TOOL_HISTORY[0], TOOL_HISTORY[3]])),
)


def exported(command: Command, *options: str) -> None:
    """The run r: reasoning; a system prompt and a tool call; tool results; earlier turns."""
    distill(command, ROWS)
    with WorkStore.open(RUN / "work.duckdb") as store:
        for record, column, value in CONVERSATIONS:
            store.connection.execute(
                f"UPDATE records SET {column} = $value WHERE record = $record",
                {"value": value, "record": record},
            )
    for file_type in FILE_TYPES:
        done = command(
            *("export", "r", "--formats", FORMATS, "--file-type", file_type),
            *("--reasoning", "think", *options),
        )
        assert done.returncode == 0, done.stderr


def read(script: str, *arguments: str) -> Any:
    """What a script beside this file prints last, run with the trainers' Python."""
    words = [str(PYTHON), "-P", str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
