"""Which column plays which role."""

from __future__ import annotations

import pytest

from fastdatasets.sources.columns import ColumnMapping, map_columns
from store import UserError

NOTHING = {"instruction": None, "input": None, "output": None}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["instruction", "input", "output"],
            ColumnMapping("instruction", "input", "output", None),
        ),
        (["question", "prompt", "answer"], ColumnMapping("prompt", None, "answer", None)),
        (["input", "output"], ColumnMapping("input", None, "output", None)),
        (["question", "input", "output"], ColumnMapping("question", "input", "output", None)),
        (["input", "Prompt", "output"], ColumnMapping("Prompt", "input", "output", None)),
        (["input", "context", "answers"], ColumnMapping("input", "context", None, None)),
        (["query", "context", "target"], ColumnMapping("query", "context", "target", None)),
        (["Question", "Answer"], ColumnMapping("Question", None, "Answer", None)),
        (["question", "Question"], ColumnMapping("question", None, None, None)),
        (
            ["prompt", "thinking", "rationale", "completion"],
            ColumnMapping("prompt", None, "completion", "rationale"),
        ),
        (["id", "source", "messages"], ColumnMapping(None, None, None, None, "messages")),
    ],
)
def test_guides_order(names: list[str], expected: ColumnMapping) -> None:
    """Columns are found in the guide's order, and none is used for two roles."""
    assert map_columns(names, NOTHING, "d") == expected


def test_named_column_wins() -> None:
    """A column the user names wins, and frees its name for no other role."""
    asked = {"instruction": "question", "input": "input", "output": None}
    assert map_columns(["input", "question", "answer"], asked, "d") == ColumnMapping(
        "question", "input", "answer", None
    )


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("promt", "there is no column 'promt'; did you mean 'prompt'? The dataset has prompt, id"),
        ("prompt,body", "there is no column 'body'. The dataset has prompt, id"),
    ],
)
def test_named_column_that_is_not_there(named: str, message: str) -> None:
    """A column that a user names and that does not exist is an error, with the nearest name."""
    with pytest.raises(UserError) as raised:
        map_columns(["prompt", "id"], {**NOTHING, "instruction": named}, "d")
    assert str(raised.value) == f"--instruction-col {named}: {message}"


@pytest.mark.parametrize(
    ("dataset", "names", "expected"),
    [
        (
            "Congliu/Chinese-DeepSeek-R1-Distill-data-110k",
            ["input", "reasoning_content", "content", "source", "score"],
            ColumnMapping("input", None, "content", "reasoning_content"),
        ),
        (
            "open-r1/SYNTHETIC-1-SFT-Data-Code_decontaminated",
            ["prompt", "response", "messages", "source"],
            ColumnMapping("prompt", None, "response", None),
        ),
    ],
)
def test_special_datasets(dataset: str, names: list[str], expected: ColumnMapping) -> None:
    """The guide's special datasets are mapped by hand."""
    assert map_columns(names, NOTHING, dataset) == expected


def test_no_instruction() -> None:
    """Without a usable column the error names those there are and the option to set."""
    with pytest.raises(UserError) as raised:
        map_columns(["a", "b"], NOTHING, "d")
    assert str(raised.value) == (
        "no column can be the instruction: the dataset has a, b. Name one with --instruction-col"
    )


def test_what_is_not_used_is_said() -> None:
    """The line about columns names what plays no role, and of many the first twenty."""
    mapping = ColumnMapping("question", None, "answer", None)
    used = "instruction ← question, output ← answer"
    assert mapping.describe(["question", "answer"]) == used
    assert mapping.describe(["id", "question", "body", "answer"]) == f"{used}; not used: id, body"
    names = [f"c{number}" for number in range(21)]
    shown = ", ".join(names[:20])
    assert mapping.describe(["question", *names]) == f"{used}; not used: {shown}, … (21)"
