"""Every format in every file type, of plain rows and of conversations with tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fastdatasets.commands import export_again
from fastdatasets.config.run import OutputOptions
from store import UserError, WorkStore
from store.export_options import Labels, Reasoning
from tests.conftest import Command, write_jsonl

RUN = Path("output/r")
FORMATS = "alpaca,sharegpt,messages,prompt_completion,raw"
THINK = "<think>\nwhy\n</think>\n\n1"
CALLS = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
TOOLS = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {}}}])
PLAIN: list[dict[str, object]] = [
    {"instruction": "A", "input": "", "output": "1", "reasoning": "why"},
    {"instruction": "B", "input": "x", "output": "2", "reasoning": ""},
]
TOOL_HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Add."},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": "1", "tool_call_id": "1"},
    {"role": "assistant", "content": "It is 1."},
]


def distill(command: Command, rows: list[dict[str, object]] = PLAIN, *options: str) -> None:
    """A run that copies its rows."""
    write_jsonl(Path("d.jsonl"), rows)
    copied = ("--backend", "openai", "--model", "m", "--skip-generation", "--sample-size", "0")
    done = command("distill", "--dataset-name", "d.jsonl", "--run", "r", *copied, *options)
    assert done.returncode == 0, done.stderr


def conversations(command: Command) -> None:
    """A run of a plain row, one with system prompt and tool call, and one of two kinds of turns."""
    distill(command, [{"instruction": word, "output": word.lower()} for word in "ABCD"])
    with WorkStore.open(RUN / "work.duckdb") as store:
        for record, column, value in (
            (1, "system", "Be kind."),
            (1, "tools", TOOLS),
            (1, "tool_calls", json.dumps(CALLS)),
            (1, "original_output", ""),
            (2, "history", json.dumps(TOOL_HISTORY)),
            (3, "history", json.dumps([TOOL_HISTORY[0], TOOL_HISTORY[3]])),
        ):
            store.connection.execute(
                f"UPDATE records SET {column} = $value WHERE record = $record",
                {"value": value, "record": record},
            )


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a file of the run."""
    path = RUN / name
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    array: list[dict[str, Any]] = json.loads(text)
    return array


def chat(*turns: str) -> list[dict[str, str]]:
    """Messages of user and assistant."""
    return [
        {"role": "assistant" if place % 2 else "user", "content": turn}
        for place, turn in enumerate(turns)
    ]


def test_plain_rows(command: Command) -> None:
    """Plain rows have the guide's columns and no others; messages and prompts have no labels."""
    distill(command, PLAIN, "--formats", FORMATS)
    assert rows("distilled-alpaca.json") == [
        {"instruction": "A", "input": "", "output": "1"},
        {"instruction": "B", "input": "x", "output": "2"},
    ]
    assert [row["conversations"][0]["value"] for row in rows("distilled-sharegpt.json")] == [
        "指令: A",
        "指令: B\n\n输入: x",
    ]
    assert rows("distilled-messages.json") == [
        {"messages": chat("A", "1")},
        {"messages": chat("B\n\nx", "2")},
    ]
    assert rows("distilled-prompt_completion.json") == [
        {"prompt": "A", "completion": "1"},
        {"prompt": "B\n\nx", "completion": "2"},
    ]
    assert set(rows("distilled.json")[0]) == {
        *("instruction", "input", "output", "reasoning", "finish_reason", "model", "source_row"),
    }


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
def test_file_types(command: Command, file_type: str) -> None:
    """JSON lines and Parquet have the rows of the JSON files, in the same bytes each time."""
    distill(command, PLAIN, "--formats", FORMATS)
    contents = []
    for _ in range(2):
        done = command("export", "r", "--formats", FORMATS, "--file-type", file_type)
        assert done.returncode == 0
        contents.append({path: path.read_bytes() for path in RUN.glob(f"*.{file_type}")})
    assert contents[0] == contents[1]
    for name in FORMATS.split(","):
        assert rows(f"distilled-{name}.{file_type}") == rows(f"distilled-{name}.json")


@pytest.mark.quick(1)
@pytest.mark.parametrize("file_type", ["json", "jsonl", "parquet"])
def test_conversations(command: Command, file_type: str) -> None:
    """System prompt, history, tools and tool calls stand where each format has a place for them."""
    conversations(command)
    done = command("export", "r", "--formats", FORMATS, "--file-type", file_type)
    held = "rows with tool calls or earlier turns are not in"
    assert done.stderr.splitlines() == [
        f"2 {held} alpaca, which cannot hold them: messages can",
        f"3 {held} prompt_completion, which cannot hold them: messages can",
    ]
    assert rows(f"distilled-alpaca.{file_type}") == [
        {"instruction": "A", "input": "", "output": "a", "system": "", "history": []},
        {"instruction": "D", "input": "", "output": "d", "system": "",
         "history": [["Add.", "It is 1."]]},
    ]  # fmt: skip
    assert rows(f"distilled-prompt_completion.{file_type}") == [{"prompt": "A", "completion": "a"}]
    call = '{"name":"add","arguments":{"a":1}}'
    expected = [
        (["human", "指令: A", "assistant", "a"], "[]"),
        (["system", "Be kind.", "human", "指令: B", "function_call", call], TOOLS),
        (["human", "Add.", "function_call", call, "observation", "1", "assistant", "It is 1.",
          "human", "C", "assistant", "c"], "[]"),
        (["human", "Add.", "assistant", "It is 1.", "human", "D", "assistant", "d"], "[]"),
    ]  # fmt: skip
    assert [
        ([text for turn in row["conversations"] for text in turn.values()], row["tools"])
        for row in rows(f"distilled-sharegpt.{file_type}")
    ] == expected
    messages = [
        [
            {key: value for key, value in turn.items() if value is not None}
            for turn in row["messages"]
        ]
        for row in rows(f"distilled-messages.{file_type}")
    ]  # fmt: skip
    assert messages == [
        chat("A", "a"),
        [{"role": "system", "content": "Be kind."}, *chat("B"),
         {"role": "assistant", "content": "", "tool_calls": CALLS}],
        [TOOL_HISTORY[0], {**TOOL_HISTORY[1], "content": ""}, *TOOL_HISTORY[2:], *chat("C", "c")],
        chat("Add.", "It is 1.", "D", "d"),
    ]  # fmt: skip
    raw = rows(f"distilled-raw.{file_type}")
    assert [row["tool_calls"] for row in raw] == [[], CALLS, [], []]
    assert [(row["source_row"], row["split"], row["tools"]) for row in raw[:2]] == [
        (0, "train", "[]"),
        (1, "train", TOOLS),
    ]


@pytest.mark.parametrize(
    ("reasoning", "alpaca", "message"),
    [
        ("none", {"output": "1"}, {"content": "1"}),
        ("think", {"output": THINK}, {"content": THINK}),
        (
            "field",
            {"output": "1", "reasoning": "why"},
            {"content": "1", "reasoning_content": "why"},
        ),
    ],
)
def test_reasoning(
    command: Command, reasoning: str, alpaca: dict[str, str], message: dict[str, str]
) -> None:
    """Reasoning is left out, in tags before the answer, or in a column or key of its own."""
    distill(command, PLAIN, "--formats", FORMATS, "--reasoning", reasoning)
    assert rows("distilled-alpaca.json")[0] == {"instruction": "A", "input": "", **alpaca}
    assert rows("distilled-messages.json")[0]["messages"][1] == {"role": "assistant", **message}
    assert rows("distilled-messages.json")[1]["messages"] == chat("B\n\nx", "2")
    assert rows("distilled.json")[0]["output"] == "1"


def test_include_reasoning_is_as_the_guide_has_it(command: Command) -> None:
    """The reasoning, a blank line, the answer; an export may choose otherwise, but not both."""
    distill(command, PLAIN, "--include-reasoning")
    outputs = [[row["output"] for row in rows("distilled-alpaca.json")]]
    export_again("r", output=OutputOptions(reasoning=Reasoning.THINK))
    outputs.append([row["output"] for row in rows("distilled-alpaca.json")])
    assert outputs == [["why\n\n1", "2"], [THINK, "2"]]
    with pytest.raises(UserError, match="--include-reasoning and --reasoning think exclude"):
        export_again("r", output=OutputOptions(include_reasoning=True, reasoning=Reasoning.THINK))


def test_no_labels(command: Command) -> None:
    """--labels none leaves the guide's labels out of sharegpt."""
    distill(command)
    export_again("r", output=OutputOptions(labels=Labels.NONE))
    assert [row["conversations"][0]["value"] for row in rows("distilled-sharegpt.json")] == [
        "A",
        "B\n\nx",
    ]


def test_test_share(command: Command) -> None:
    """A question and its copies are on one side; without a share all are in one file."""
    many: list[dict[str, object]] = [
        {"instruction": f"Q{number % 20}", "output": f"{number}"} for number in range(60)
    ]
    distill(command, many, "--test-share", "0.1")
    sides = [
        {row["instruction"] for row in rows(name)}
        for name in ("distilled-alpaca.json", "distilled-alpaca-test.json")
    ]
    assert [len(side) for side in sides] == [18, 2]
    assert (sides[0] & sides[1], len(rows("distilled.json"))) == (set(), 60)
    assert len(rows("distilled-sharegpt.json")) + len(rows("distilled-sharegpt-test.json")) == 60
    before = (RUN / "distilled-alpaca-test.json").read_bytes()
    export_again("r")
    assert (RUN / "distilled-alpaca-test.json").read_bytes() == before
    export_again("r", output=OutputOptions(test_share=0.0))
    assert (len(rows("distilled-alpaca.json")), list(RUN.glob("*-test.json"))) == (60, [])
    assert command("status", "r").stdout.count("gone") == 0


def test_no_training_row(command: Command) -> None:
    """Without a row to train on no training file is written, and the command exits with 3."""
    write_jsonl(Path("d.jsonl"), [{"instruction": "A", "output": ""}])
    copied = ("--backend", "openai", "--model", "m", "--skip-generation")
    done = command("distill", "--dataset-name", "d.jsonl", "--run", "r", *copied)
    assert (done.returncode, done.stdout.splitlines()) == (
        3,
        [
            "output/r/distilled.json  (1 rows)",
            "output/r/distilled-alpaca.json  (0 rows: not written)",
            "output/r/distilled-sharegpt.json  (0 rows: not written)",
        ],
    )
    assert done.stderr.splitlines()[-1] == (
        "fastdatasets: no row is left to train on, so no training file was written"
    )
    assert sorted(path.name for path in RUN.glob("distilled*")) == ["distilled.json"]
