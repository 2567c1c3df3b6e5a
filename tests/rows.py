"""Files of rows, and which of them a run has sampled."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from tests.conftest import write_jsonl

SKIP = ("distill", "--skip-generation", "--model", "m", "--run", "r")
ALL = ("--sample-size", 0)

ROWS: list[dict[str, Any]] = [
    {"question": "A", "answer": "a", "score": 1, "my col": "x", "分数": 0.5, "ok": True},
    {"question": "B", "answer": "b", "score": 9, "my col": "it's", "分数": 1.5, "ok": False},
    {"question": "C", "answer": "c", "score": 10, "my col": "007", "分数": 12.0, "ok": True},
    {"question": "D", "answer": "d", "score": None, "my col": None, "分数": None, "ok": None},
]
KINDS = ["jsonl", "csv", "parquet", "arrow"]

LONG = "Explain to a child of ten years why the sky is blue in the day and red in the evening"
CHINESE = "请向一个小学生解释为什么白天的天空是蓝色的而傍晚的天空却是红色的"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as a file of the kind that its ending says."""
    table = pa.Table.from_pylist(rows)
    match path.suffix:
        case ".parquet":
            pyarrow.parquet.write_table(table, path)
        case ".arrow":
            pyarrow.feather.write_feather(table, path)
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case _:
            write_jsonl(path, rows)
    return path


def questions(tmp_path: Path, *texts: str, name: str = "q.jsonl") -> Path:
    """A file of these questions."""
    return write_jsonl(tmp_path / name, [{"question": text, "answer": "a"} for text in texts])


def source_rows(run: str = "r") -> list[int]:
    """The source rows of a run's records."""
    rows = json.loads(Path("output", run, "distilled.json").read_text("utf-8"))
    return [row["source_row"] for row in rows]


def left_out(stderr: str) -> list[str]:
    """The lines about rows that were left out."""
    return [line for line in stderr.splitlines() if line.startswith("left out")]
