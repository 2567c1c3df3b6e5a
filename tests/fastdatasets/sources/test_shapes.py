"""Shapes in which datasets keep records, each as a real dataset has it: nothing of it is lost."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.runs.folders import open_run
from fastdatasets.sources.sampling import sample_records
from store import RunFolder, UserError
from store.runs import Turns
from tests.conftest import write_jsonl

COLUMNS = (
    *("instruction", "input", "original_output", "reasoning", "system"),
    *("history", "tools", "tool_calls", "outputs", "followups"),
)
JSONS = COLUMNS[5:]


def records(path: Path, **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """What the store of a run over a source keeps, without what is empty, and what was said."""
    config = RunConfig(dataset_name=str(path), sample_size=0, backend="vllm", model="m")
    run = new_run(replace(config, **options), load_settings())
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder, open_run(RunFolder(Path(folder)), run) as store:
        sample_records(store, store.run(), said.append)
        rows = store.connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM records ORDER BY record"
        ).fetchall()
    return [
        {
            name: json.loads(value) if name in JSONS else value
            for name, value in zip(COLUMNS, row, strict=True)
            if value
        }
        for row in rows
    ], said[1:]


def user(text: str) -> dict[str, str]:
    """A turn of the user."""
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    """A turn of the assistant."""
    return {"role": "assistant", "content": text, **more}


def call(name: str, arguments: str, number: int = 1) -> dict[str, Any]:
    """A tool call as it is kept."""
    return {
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        "id": f"call_{number}",
    }


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
TALK = [user("Hi"), assistant("Hello"), user("Who are you?"), assistant("A model.")]
LAST = {
    "instruction": "Who are you?",
    "original_output": "A model.",
    "history": [user("Hi"), assistant("Hello")],
}

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "role and content": ({"messages": TALK}, LAST),
    "from and value": (
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "Who are you?"},
                {"from": "gpt", "value": "A model."},
            ]
        },
        LAST,
    ),
    "JSON in a text": ({"conversations": json.dumps(TALK)}, LAST),
    "speakers in one text, as hh-rlhf": (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Who?\n\nAssistant: Me.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Who?\n\nAssistant: No.",
        },
        {"instruction": "Who?", "history": [user("Hi"), assistant("Hello")]},
    ),
    "parts with text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}]},
        {"instruction": "Who?"},
    ),
    "parts with value": (
        {"messages": [{"role": "user", "content": [{"type": "text", "value": "Who?"}]}]},
        {"instruction": "Who?"},
    ),
    "parts that are texts": (
        {"messages": [{"role": "user", "content": ["Who", "are you?"]}]},
        {"instruction": "Who\nare you?"},
    ),
    "a system turn": (
        {"messages": [{"role": "system", "content": "Be brief."}, user("Who?")]},
        {"instruction": "Who?", "system": "Be brief."},
    ),
    "a developer turn": (
        {"messages": [{"role": "developer", "content": "Be brief."}, user("Who?")]},
        {"instruction": "Who?", "system": "Be brief."},
    ),
    "a system column of a chat": (
        {"system": "Be brief.", "conversations": [{"from": "human", "value": "Who?"}]},
        {"instruction": "Who?", "system": "Be brief."},
    ),
    "a system_prompt column": (
        {"system_prompt": "Be brief.", "question": "Who?", "response": "Me."},
        {"instruction": "Who?", "original_output": "Me.", "system": "Be brief."},
    ),
    "history in pairs, as LLaMA-Factory": (
        {
            "instruction": "Who are you?",
            "input": "",
            "output": "A model.",
            "history": [["Hi", "Hello"]],
        },
        LAST,
    ),
    "history in turns": (
        {"instruction": "Who are you?", "output": "A model.", "history": TALK[:2]},
        LAST,
    ),
    "an empty history": ({"instruction": "Who?", "history": []}, {"instruction": "Who?"}),
    "a prompt of messages": (
        {"prompt": TALK[:3], "completion": [assistant("A model.")]},
        LAST,
    ),
    "prompt beside messages, as ultrachat": (
        {"prompt": "Hi", "prompt_id": "a", "messages": TALK},
        LAST,
    ),
    "tools and tool turns, in OpenAI's form": (
        {
            "tools": [WEATHER],
            "messages": [
                user("Weather in Bonn?"),
                assistant("", tool_calls=[{**call("weather", '{"town":"Bonn"}'), "id": "a"}]),
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                assistant("It rains."),
                user("And in Ulm?"),
                assistant("", tool_calls=[{**call("weather", '{"town":"Ulm"}'), "id": "b"}]),
                {"role": "tool", "tool_call_id": "b", "content": "sun"},
                assistant("Sun."),
            ],
        },
        {
            "instruction": "And in Ulm?",
            "tools": [WEATHER],
            "tool_calls": [{**call("weather", '{"town":"Ulm"}'), "id": "b"}],
            "history": [
                user("Weather in Bonn?"),
                assistant("", tool_calls=[{**call("weather", '{"town":"Bonn"}'), "id": "a"}]),
                {"role": "tool", "tool_call_id": "a", "content": "rain"},
                assistant("It rains."),
            ],
        },
    ),
    "tools in a text and observations, as glaive for LLaMA-Factory": (
        {
            "tools": json.dumps([WEATHER["function"]]),
            "conversations": [
                {"from": "human", "value": "Weather in Bonn?"},
                {
                    "from": "function_call",
                    "value": '{"name": "weather", "arguments": {"town": "Bonn"}}',
                },
                {"from": "observation", "value": "rain"},
                {"from": "gpt", "value": "It rains."},
                {"from": "human", "value": "Thanks"},
            ],
        },
        {
            "instruction": "Thanks",
            "tools": [WEATHER],
            "history": [
                user("Weather in Bonn?"),
                assistant("", tool_calls=[call("weather", '{"town":"Bonn"}')]),
                {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
                assistant("It rains."),
            ],
        },
    ),
    "tools with Python's types, as xlam": (
        {
            "query": "Weather in Bonn?",
            "tools": json.dumps(
                [
                    {
                        "name": "weather",
                        "description": "Of a town.",
                        "parameters": {"town": {"type": "str, optional", "description": "Which"}},
                    }
                ]
            ),
        },
        {
            "instruction": "Weather in Bonn?",
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "description": "Of a town.",
                        "parameters": {
                            "type": "object",
                            "properties": {"town": {"type": "string", "description": "Which"}},
                        },
                    },
                }
            ],
        },
    ),
    "functions and a function_call": (
        {
            "functions": [WEATHER["function"]],
            "messages": [
                user("Weather in Bonn?"),
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "weather", "arguments": "{}"},
                },
                {"role": "function", "name": "weather", "content": "rain"},
                user("Thanks"),
            ],
        },
        {
            "instruction": "Thanks",
            "tools": [WEATHER],
            "history": [
                user("Weather in Bonn?"),
                assistant("", tool_calls=[call("weather", "{}")]),
                {
                    "role": "tool",
                    "content": "rain",
                    "name": "weather",
                    "tool_call_id": "call_1",
                },
            ],
        },
    ),
    "reasoning beside a turn": (
        {"messages": [user("Who?"), assistant("Me.", reasoning_content="Hm.")]},
        {"instruction": "Who?", "original_output": "Me.", "reasoning": "Hm."},
    ),
    "reasoning in a turn": (
        {"messages": [user("Who?"), assistant("<think>\nHm.\n</think>\n\nMe.")]},
        {"instruction": "Who?", "original_output": "Me.", "reasoning": "Hm."},
    ),
    "chosen and rejected with a prompt": (
        {"prompt": "Who?", "chosen": "Me.", "rejected": "No."},
        {"instruction": "Who?"},
    ),
    "chosen and rejected conversations": (
        {"chosen": TALK, "rejected": TALK[:3]},
        {"instruction": LAST["instruction"], "history": LAST["history"]},
    ),
    "an answer that was judged, as KTO": (
        {"prompt": "Who?", "completion": "No.", "label": False},
        {"instruction": "Who?"},
    ),
    "choices in a list": (
        {"question": "Which?", "choices": ["red", "blue"], "answer": 1},
        {"instruction": "Which?\n\nA. red\nB. blue", "original_output": "1"},
    ),
    "choices with labels, as ARC": (
        {"question": "Which?", "choices": {"text": ["red", "blue"], "label": ["1", "2"]}},
        {"instruction": "Which?\n\n1. red\n2. blue"},
    ),
    "options by letter, as MedQA": (
        {"question": "Which?", "options": {"A": "red", "B": "blue"}, "answer": "red"},
        {"instruction": "Which?\n\nA. red\nB. blue", "original_output": "red"},
    ),
    "a column for each option": (
        {"question": "Which?", "A": "red", "B": "blue", "C": "green", "D": "grey"},
        {"instruction": "Which?\n\nA. red\nB. blue\nC. green\nD. grey"},
    ),
    "instances, as self-instruct": (
        {"instruction": "Add", "instances": [{"input": "1 + 1", "output": "2"}]},
        {"instruction": "Add", "input": "1 + 1", "original_output": "2"},
    ),
    "a list of answers": (
        {"question": "Who?", "answer": ["Me.", "I."]},
        {"instruction": "Who?", "original_output": "Me.", "outputs": ["Me.", "I."]},
    ),
    "answers, as SQuAD": (
        {
            "context": "I am a model.",
            "question": "Who?",
            "answer": {"text": ["A model", "model"], "answer_start": [5, 7]},
        },
        {
            "instruction": "Who?",
            "input": "I am a model.",
            "original_output": "A model",
            "outputs": ["A model", "model"],
        },
    ),
    "two questions, as mt_bench": ({"prompt": ["Who?", "Why?"]}, {"instruction": "Who?"}),
    "turns that repeat a role": (
        {"messages": [user("Hi"), user("Who?"), assistant("I"), assistant("Me.")]},
        {"instruction": "Hi\n\nWho?", "original_output": "I\n\nMe."},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(tmp_path: Path, shape: str) -> None:
    """Each value of a record is where it belongs."""
    row, record = SHAPES[shape]
    assert records(write_jsonl(tmp_path / "d.jsonl", [row]))[0] == [record]


@pytest.mark.quick(6)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_in_parquet(tmp_path: Path, shape: str) -> None:
    """Types of their own, in which keys that a turn lacks are null, are read like JSON."""
    row, record = SHAPES[shape]
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "d.parquet")
    assert records(tmp_path / "d.parquet")[0] == [record]


@pytest.mark.parametrize(
    ("turns", "record"),
    [
        (Turns.FIRST, {"instruction": "Hi", "original_output": "Hello"}),
        (Turns.LAST, LAST),
        (
            Turns.ALL,
            {"instruction": "Hi", "original_output": "Hello", "followups": ["Who are you?"]},
        ),
    ],
)
def test_turns(tmp_path: Path, turns: Turns, record: dict[str, Any]) -> None:
    """The first question alone, the last with what came before, or all one after the other."""
    path = write_jsonl(tmp_path / "d.jsonl", [{"messages": TALK}])
    assert records(path, turns=turns)[0] == [record]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    """Rows without a question or with images are counted by reason, and turns that are not used."""
    image = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}
    rows: list[dict[str, object]] = [
        {"messages": [*TALK, user("Bye"), {"role": "tool", "content": "late"}]},
        {"messages": [*TALK, {"role": "assistant", "content": "Really."}]},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]},
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    kept, said = records(path)
    assert kept == [{**LAST, "original_output": "A model.\n\nReally."}]
    assert said == [
        "columns: instruction, output, system and history ← turns of messages",
        "sampled 1 of 4 rows",
        "left out: 1 rows with a tool turn that answers no tool call",
        "left out: 1 rows with images, audio or video",
        "left out: 1 rows without a question of the user",
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"messages": [{"speech": "Hi"}]},
            "chat: turn 1 has no role or from, but is an object with speech",
        ),
        (
            {"messages": [{"role": "narrator", "content": "Hi"}]},
            "chat: turn 1 is of the role 'narrator', which is not known",
        ),
        ({"messages": "Hi"}, "chat: a list of turns is expected, not a text"),
        (
            {"question": "Who?", "tools": ["weather"]},
            "tools: a tool is an object with a name, not a text",
        ),
        (
            {"question": "Who?", "history": [["Hi"]]},
            "history: pair 1 has 1 texts, not a question and an answer",
        ),
        (
            {"question": "Which?", "options": "red or blue"},
            "options: a list of options is expected, not a text",
        ),
    ],
)
def test_rows_that_cannot_be_read(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    """The row is named, with what was expected."""
    path = write_jsonl(tmp_path / "d.jsonl", [row])
    with pytest.raises(UserError) as raised:
        records(path)
    assert str(raised.value) == (
        f"row 1 cannot be read: {problem}; leave such rows out with --skip-bad-rows"
    )


def test_value_that_is_nested_too_deeply(tmp_path: Path) -> None:
    """It is an error that names the row, not one of Python's recursion."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"prompt":"a"}\n{"prompt":' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(UserError) as raised:
        records(path)
    assert str(raised.value) == (
        "row 2 cannot be read: an object or list in it is nested too deeply; leave such rows out "
        "with --skip-bad-rows"
    )
