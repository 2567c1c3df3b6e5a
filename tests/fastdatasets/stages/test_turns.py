"""Conversations: what of them goes to the teacher, and answers turn by turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from backends.openai_batch.failpoints import FailPoint
from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from store import UserError
from store.runs import Mode, Turns
from tests.conftest import ended, write_jsonl
from tests.conftest import start as start_command
from tests.llmserver import LLMServer, Reply

pytestmark = pytest.mark.quick(1)  # of both backends

TALKS = [["Who?", "Why?", "How?"], ["Where?"], ["When?", "What?"]]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"town":"Bonn"}'},
}


@pytest.fixture(autouse=True)
def _teacher(server: LLMServer) -> None:
    """The server's model says a question in capitals."""
    server.answer = lambda body: body["messages"][-1]["content"].upper()


def talks() -> Path:
    """A file of conversations with one to three questions, and the dataset's own answers."""
    rows: list[dict[str, object]] = [
        {
            "messages": [
                turn
                for question in questions
                for turn in (
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": f"Old answer to {question}"},
                )
            ]
        }
        for questions in TALKS
    ]
    return write_jsonl(Path("d.jsonl"), rows)


def distill(source: Path, backend: str, turns: Turns = Turns.LAST, **options: Any) -> RunResult:
    """A run that sends questions as they are."""
    config = RunConfig(
        dataset_name=str(source),
        sample_size=0,
        backend=backend,
        model="m",
        turns=turns,
        prompt_template="plain",
        **options,
    )
    return start(config, None, "r", ExecutionConfig())


def rows_of_run(*columns: str) -> list[tuple[Any, ...]]:
    """Columns of the rows that are exported."""
    rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
    return [tuple(row.get(column) for column in columns) for row in rows]


def messages(server: LLMServer) -> list[list[tuple[str, str]]]:
    """The messages of the requests that were executed, by their length."""
    bodies = [json.loads(body) for body in server.bill.executions]
    return sorted([(one["role"], one["content"]) for one in body["messages"]] for body in bodies)


def test_last_question_after_earlier_turns(server: LLMServer, backend: str) -> None:
    """By default the last question is asked, after the dataset's own earlier turns."""
    assert distill(talks(), backend).status.state == "done"
    assert messages(server) == [
        [("user", "When?"), ("assistant", "Old answer to When?"), ("user", "What?")],
        [("user", "Where?")],
        [
            ("user", "Who?"),
            ("assistant", "Old answer to Who?"),
            ("user", "Why?"),
            ("assistant", "Old answer to Why?"),
            ("user", "How?"),
        ],
    ]
    assert rows_of_run("instruction", "output") == [
        ("How?", "HOW?"),
        ("Where?", "WHERE?"),
        ("What?", "WHAT?"),
    ]


TURN_BY_TURN = [
    [("user", "When?")],
    [("user", "When?"), ("assistant", "WHEN?"), ("user", "What?")],
    [("user", "Where?")],
    [("user", "Who?")],
    [("user", "Who?"), ("assistant", "WHO?"), ("user", "Why?")],
    [
        ("user", "Who?"),
        ("assistant", "WHO?"),
        ("user", "Why?"),
        ("assistant", "WHY?"),
        ("user", "How?"),
    ],
]


def history(*turns: str) -> list[dict[str, str]]:
    """Questions and answers by turns, as they are exported."""
    roles = ("user", "assistant")
    return [{"content": text, "role": roles[place % 2]} for place, text in enumerate(turns)]


def check_turn_by_turn() -> None:
    """The run's rows are the last questions, with the teacher's answers to those before."""
    with duckdb.connect("output/r/work.duckdb", read_only=True) as connection:
        stages = connection.execute(
            "SELECT stage, ordinal, count(*) FROM row_requests GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert stages == [("answer", 0, 3), ("turn", 0, 2), ("turn", 1, 1)]
    assert rows_of_run("instruction", "output", "history") == [
        ("How?", "HOW?", history("Who?", "WHO?", "Why?", "WHY?")),
        ("Where?", "WHERE?", []),
        ("What?", "WHAT?", history("When?", "WHEN?")),
    ]


def test_all_questions_turn_by_turn(server: LLMServer, backend: str) -> None:
    """With all turns each question is asked on the teacher's own answers, and billed once."""
    assert distill(talks(), backend, Turns.ALL).status.state == "done"
    assert messages(server) == TURN_BY_TURN
    check_turn_by_turn()


@pytest.mark.slow
@pytest.mark.parametrize("point", [FailPoint.CREATED, FailPoint.COLLECTED])
def test_kill_between_turns(server: LLMServer, point: FailPoint) -> None:
    """A run that is killed in each of its turns goes on where it was; nothing is billed twice."""
    source = talks()
    options = ("--backend", "openai-batch", "--model", "m", "--sample-size", 0, "--run", "r")
    more = ("--turns", "all", "--prompt-template", "plain")
    env = {"FASTDATASETS_FAILPOINT": point.value}
    first = start_command("distill", "--dataset-name", source, *options, *more, env=env)
    codes = [ended(first), *(ended(start_command("resume", "r", env=env)) for _ in range(2))]
    assert codes == [-9] * 3
    result = resume("r")
    assert result is not None
    assert result.status.state == "done"
    server.settle()
    assert messages(server) == TURN_BY_TURN
    check_turn_by_turn()


def test_question_that_fails_ends_its_conversation(server: LLMServer, backend: str) -> None:
    """Later questions of it are not asked, and the run is not done."""
    server.answer = lambda body: (
        Reply(status_code=400, error={"message": "no", "code": "invalid_value"})
        if body["messages"][-1]["content"] == "Why?"
        else body["messages"][-1]["content"].upper()
    )
    status = distill(talks(), backend, Turns.ALL).status
    assert (status.state, status.requests.failed) == ("incomplete", 1)
    assert rows_of_run("instruction") == [("Where?",), ("What?",)]
    assert messages(server) == TURN_BY_TURN[:4]


def test_tools(server: LLMServer, backend: str) -> None:
    """Tools go with the request, and a tool call is an answer that is kept."""
    server.answer = lambda _: Reply(
        None, finish_reason="tool_calls", message={"tool_calls": [CALL]}
    )
    turns = [
        {"role": "user", "content": "Weather in Ulm?"},
        {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "a"}]},
        {"role": "tool", "tool_call_id": "a", "name": "weather", "content": "sun"},
        {"role": "assistant", "content": "Sun.", "reasoning_content": "It said sun."},
        {"role": "user", "content": "In Bonn?"},
    ]
    source = write_jsonl(Path("d.jsonl"), [{"tools": [WEATHER], "messages": turns}])
    assert distill(source, backend).status.state == "done"
    (sent,) = map(json.loads, server.bill.executions)
    assert sent["tools"] == [WEATHER]
    assert sent["messages"] == [
        turns[0],
        turns[1],
        {"role": "tool", "tool_call_id": "a", "content": "sun"},
        {"role": "assistant", "content": "Sun."},
        turns[4],
    ]
    with duckdb.connect("output/r/work.duckdb", read_only=True) as connection:
        stored = connection.execute(
            "SELECT text, finish_reason, tool_calls FROM results"
        ).fetchall()
    assert [(text, reason, json.loads(calls)) for text, reason, calls in stored] == [
        ("", "tool_calls", [CALL])
    ]


def test_turns_of_an_augment() -> None:
    """Variants are of one question."""
    config = RunConfig("d.jsonl", mode=Mode.AUGMENT, turns=Turns.ALL, model="m")
    with pytest.raises(UserError, match=r"^--turns all is for distill: "):
        start(config, None, "r", ExecutionConfig())


def test_all_answers_of_a_row_are_kept(server: LLMServer, backend: str) -> None:
    """Where a dataset has several answers to a question they are all in distilled.json."""
    rows: list[dict[str, object]] = [
        {"question": "Who?", "answer": ["Me.", "I."]},
        {"question": "Why?", "answer": ["So."]},
    ]
    assert distill(write_jsonl(Path("d.jsonl"), rows), backend).status.state == "done"
    assert rows_of_run("output", "original_outputs") == [
        ("WHO?", ["Me.", "I."]),
        ("WHY?", ["So."]),
    ]
    assert server.bill.total == 2


def test_samples_of_a_conversation(server: LLMServer) -> None:
    """Each of several answers is the last of a conversation of its own."""
    numbers: dict[str, int] = {}

    def answer(body: dict[str, Any]) -> str:
        question = body["messages"][-1]["content"]
        numbers[question] = numbers.get(question, -1) + 1
        earlier = [one["content"] for one in body["messages"] if one["role"] == "assistant"]
        return " ".join((*earlier[-1:], f"{question[:-1]}{numbers[question]}"))

    server.answer = answer
    distill(talks(), "openai", Turns.ALL, samples=2)
    rows = rows_of_run("generation", "history", "output")
    assert [(generation, len(history)) for generation, history, _ in rows] == [
        (generation, length) for length in (4, 0, 2) for generation in range(2)
    ]
    for _, history, output in rows:
        answers = [turn["content"] for turn in history if turn["role"] == "assistant"]
        assert output.startswith(" ".join(answers[-1:]))
    assert sorted(output[0:4] for _, _, output in rows[:2]) == ["Who0", "Who1"]
