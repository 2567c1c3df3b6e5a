"""How a run's files are written; not part of a request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FileType(StrEnum):
    """The type of the exported files, and their suffix."""

    JSON = "json"  # one array
    JSONL = "jsonl"  # one object a line
    PARQUET = "parquet"


class Labels(StrEnum):
    """The labels of the human turn in sharegpt."""

    GUIDE = "guide"  # 指令 and 输入
    NONE = "none"


class Reasoning(StrEnum):
    """Where training files have the reasoning of an answer."""

    NONE = "none"
    THINK = "think"  # in <think> tags before the answer
    FIELD = "field"  # in a column, or a key of the assistant's message


class Keep(StrEnum):
    """Which of several answers to a question the training files have."""

    ALL = "all"
    FIRST = "first"
    BEST = "best"  # by the judge's score
    MAJORITY = "majority"  # those with the most frequent final answer


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a run's files are written; not part of a request, so `export` may override it.

    include_reasoning: the reasoning and a blank line before the answer; test_share: of the
    questions, for test files beside the training files. exclude: the checks whose rejected answers
    are in no training file. min_score: of the judge, for training files.
    """

    formats: tuple[str, ...] = ("alpaca", "sharegpt")
    include_reasoning: bool = False
    output_file: str | None = None
    file_type: FileType = FileType.JSON
    labels: Labels = Labels.GUIDE
    reasoning: Reasoning = Reasoning.NONE
    test_share: float = 0.0
    exclude: tuple[str, ...] = ()
    keep: Keep = Keep.ALL
    min_score: int | None = None
