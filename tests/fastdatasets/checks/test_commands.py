"""Checks of answers that a run asks for, through the command."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer

ROWS: list[dict[str, object]] = [
    {"prompt": "2 + 2?", "result": 4.0},
    {"prompt": "2 + 3?", "result": "5"},
    {"prompt": "2 + 4?", "result": None},
]


@pytest.fixture
def distill(server: LLMServer, command: Command) -> Callable[..., str]:
    """Distill the sums as the run 'r'; returns what it said."""

    def run(*options: object, code: int = 0, **answers: str) -> str:
        if answers:
            server.answer = lambda body: answers[f"q{body['messages'][-1]['content'][4]}"]
        write_jsonl(Path("d.jsonl"), ROWS)
        base = ("--dataset-name", "d.jsonl", "--sample-size", 0, "--backend", "openai")
        done = command("distill", *base, "--model", "m", "--run", "r", *options)
        assert done.returncode == code, done.stderr
        return done.stderr

    return run


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a file of the run."""
    return json.loads(Path("output/r", name).read_text("utf-8"))  # type: ignore[no-any-return]


def verdicts() -> dict[str, list[str]]:
    """What was found of the answers to each question that has a finding."""
    return {
        row["instruction"]: [f"{one['check']}: {one['reason']}" for one in row["verdicts"]]
        for row in rows("distilled.json")
        if row.get("verdicts")
    }


def trained() -> set[str]:
    """The questions in the training file."""
    return {row["instruction"] for row in rows("distilled-alpaca.json")}


def test_verify(distill: Callable[..., str]) -> None:
    """--verify compares final answers with the dataset's, where it has one, as numbers."""
    said = distill("--verify", "result", q2="The answer is 4.", q3="#### 6", q4="It is 7.")
    assert verdicts() == {"2 + 3?": ["verify: 6, and the dataset has 5"]}
    assert trained() == {"2 + 2?", "2 + 4?"}
    assert "columns: instruction ← prompt; answers are verified with result\n" in said
    assert "flagged by checks: 1 verify\n" in said
    assert "left out of the training files: 1 verify\n" in said
    assert [row["final_answer"] for row in sorted(rows("distilled.json"), key=str)] == [
        "4",
        "6",
        "7",
    ]


def test_verify_with_a_template(distill: Callable[..., str]) -> None:
    """--verify works beside a template that uses the row, and beside a pattern."""
    Path("t.j2").write_text("{{ instruction }} {{ row.prompt }}")
    options = ("--verify", "result", "--prompt-template", "t.j2", "--answer-pattern", r"= (\d+)")
    distill(*options, q2="2 + 2 = 4, not 5", q3="5", q4="6")
    assert verdicts() == {"2 + 3?": ["verify: none, and the dataset has 5"]}


def test_majority(server: LLMServer, distill: Callable[..., str]) -> None:
    """--keep majority takes the answers that agree, and all know the share that does."""
    said = ["The answer is 4.", "#### 5", "It must be 4.0"]

    def answer(body: dict[str, Any]) -> str:
        return said.pop(0) if body["messages"][-1]["content"] == "2 + 2?" else "\\boxed{6}"

    server.answer = answer
    distill("--samples", 3, "--keep", "majority")
    of_first = [row for row in rows("distilled.json") if row["instruction"] == "2 + 2?"]
    assert sorted((row["final_answer"], round(row["agreement"], 3)) for row in of_first) == [
        ("4", 0.667),
        ("4", 0.667),
        ("5", 0.333),
    ]
    kept = [row["output"] for row in rows("distilled-alpaca.json")]
    assert sorted(kept) == ["It must be 4.0", "The answer is 4.", *["\\boxed{6}"] * 6]


def test_schema(distill: Callable[..., str]) -> None:
    """--expect leaves answers out that are no JSON or not valid by the schema."""
    schema = {"type": "object", "properties": {"sum": {"$ref": "#/$defs/n"}}, "required": ["sum"]}
    Path("s.json").write_text(json.dumps({**schema, "$defs": {"n": {"type": "integer"}}}))
    distill("--expect", "s.json", q2='{"sum": 4}', q3='{"sum": "5"}', q4="six")
    assert verdicts() == {
        "2 + 3?": ["json: $.sum: '5' is not of type 'integer'"],
        "2 + 4?": ["json: no JSON: invalid character (byte 0)"],
    }
    assert trained() == {"2 + 2?"}


def test_duplicates(distill: Callable[..., str], command: Command) -> None:
    """An answer to another question again is flagged, and left out where asked for."""
    same = "It depends on what you mean by a sum, and on the numbers."
    distill(q2=same, q3=f"**{same.upper()}**", q4="Six.")
    ((question, found),) = verdicts().items()
    other = {"2 + 2?": 2, "2 + 3?": 1}[question]
    assert found == [f"duplicate: equal to the answer to row {other}"]
    assert len(trained()) == 3
    assert command("export", "r", "--exclude-flagged", "duplicate").returncode == 0
    assert trained() == {"2 + 2?", "2 + 3?", "2 + 4?"} - {question}


def test_variants_have_no_answer_in_the_dataset(server: LLMServer, command: Command) -> None:
    """In an augment the dataset's answer is that of the sample, not of its variants."""
    Path("own_g.py").write_text(OWN)
    write_jsonl(Path("d.jsonl"), [{"prompt": "2 + 2?", "output": "Four", "result": "4"}])

    def answer(body: dict[str, Any]) -> str:
        question = body["messages"][-1]["content"]
        return "5" if len(question) == len("2 + 2?") else '["7 + 7?"]'

    server.answer = answer
    options = ("--sample-size", 0, "--backend", "openai", "--model", "m", "--run", "r")
    checks = ("--num-aug", 1, "--verify", "result", "--check", "own_g:original")
    done = command("augment", "--high-quality-file", "d.jsonl", *options, *checks)
    assert done.returncode == 0, done.stderr
    assert verdicts() == {
        "2 + 2?": ["own_g:original: Four", "verify: 5, and the dataset has 4"],
    }


OWN = '''
import json, os, signal
from pathlib import Path

def short(row):
    """At most four characters."""
    return None if len(row["output"]) < 5 else f"{row['output']} is long"

def broken(row):
    return row["nothing"] if row["row"] == 2 else None

def kept(row):
    Path(f"row{row['row']}.json").write_text(json.dumps(row))

def tested(row):
    return "tested" if row["row"] == 3 else None

def original(row):
    return row["original_output"] or None

def judges(row):
    return True

def killed(row):
    if not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
'''


def test_own_check(distill: Callable[..., str]) -> None:
    """A function of the user's own rejects answers, which stay out of the training files."""
    Path("own_a.py").write_text(OWN)
    distill("--check", "own_a:short", "--check", "own_a:kept", q2="4", q3="five!", q4="six")
    assert verdicts() == {"2 + 3?": ["own_a:short: five! is long"]}
    assert trained() == {"2 + 2?", "2 + 4?"}
    assert json.loads(Path("row3.json").read_text()) == {
        "row": 3,
        "generation": 0,
        "instruction": "2 + 4?",
        "input": "",
        "output": "six",
        "reasoning": "",
        "original_output": "",
        "finish_reason": "stop",
        "tool_calls": [],
    }


def test_own_check_that_fails(distill: Callable[..., str]) -> None:
    """A check that raises, or returns something else, is counted, and the run goes on."""
    Path("own_b.py").write_text(OWN)
    said = distill("--check", "own_b:broken", q2="4", q3="5", q4="6")
    reason = "own_b:broken, row 2: KeyError: 'nothing' (own_b.py, line 10)"
    assert verdicts() == {"2 + 3?": [f"failed_to_run: {reason}"]}
    assert len(trained()) == 3
    assert f"flagged by checks: 1 failed_to_run\na check failed to run: {reason}\n" in said


def test_own_check_that_returns_something_else(distill: Callable[..., str]) -> None:
    """A check returns None or a text, nothing else."""
    Path("own_c.py").write_text(OWN)
    said = distill("--check", "own_c:judges", q2="4", q3="5", q4="6")
    assert "own_c:judges, row 1: it returned bool, and None or a text is expected\n" in said
    assert len(verdicts()) == 3


@pytest.mark.slow
def test_kill_between_answers_and_checks(server: LLMServer, command_process: Command) -> None:
    """After a kill -9 in a check a resume checks what was answered, and sends nothing again."""
    Path("own_d.py").write_text(OWN)
    write_jsonl(Path("d.jsonl"), ROWS)
    base = ("--dataset-name", "d.jsonl", "--sample-size", 0, "--backend", "openai", "--model", "m")
    options = (*base, "--run", "r", "--check", "own_d:killed", "--check", "own_d:tested")
    assert command_process("distill", *options).returncode == -9
    away = Path("away")
    away.mkdir()
    os.chdir(away)
    done = command_process("resume", "../output/r")
    os.chdir("..")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "fastdatasets: --check own_d:killed: there is no module own_d in the current folder "
        f"{away.resolve()} or among the installed ones",
    )
    assert command_process("resume", "r").returncode == 0
    assert verdicts() == {"2 + 4?": ["own_d:tested: tested"]}
    assert set(server.bill.executions.values()) == {1}


BAD: list[tuple[tuple[object, ...], str]] = [
    (("--check", "len"), "--check len: MODULE:FUNCTION is expected, such as quality:no_prices"),
    (("--check", "nowhere_at_all:f"), "--check nowhere_at_all:f: there is no module nowhere_"),
    (("--check", "json:f"), "--check json:f: module json has no function f"),
    (("--check", "own_e:f"), "--check own_e:f: its module cannot be imported: ZeroDivisionError: "
     "division by zero (own_e.py, line 2)"),
    (("--check", "own_f:f"), "--check own_f:f: its module cannot be imported: ModuleNotFoundError: "
     "No module named 'nowhere_at_all' (own_f.py, line 1)"),
    (("--answer-chars", "9:3"), "--answer-chars 9:3: MIN:MAX is expected, such as 20:4000, "),
    (("--answer-chars", "x"), "--answer-chars x: MIN:MAX is expected, such as 20:4000, "),
    (("--answer-pattern", "(a"), "--answer-pattern (a: no regular expression: missing ) at "
     "character 3"),
    (("--expect", "none.json"), "cannot read --expect none.json: "),
    (("--expect", "bad.json"), "--expect bad.json: no valid JSON schema at $.type: 'text' is not "),
    (("--expect", "away.json"), "--expect away.json: $ref https://127.0.0.1/s.json leads nowhere"),
    (("--verify", "results"), "--verify results: there is no column 'results'; did you mean "
     "'result'? The dataset has prompt, result"),
    (("--verify", "result", "--skip-generation"), "checks are of the teacher's answers, and "),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
def test_refused(
    server: LLMServer, distill: Callable[..., str], options: tuple[object, ...], message: str
) -> None:
    """What cannot be checked is an error before anything is sent, and leaves no run."""
    Path("own_e.py").write_text("import sys\n1 / 0\n")
    Path("own_f.py").write_text("import nowhere_at_all\n")
    Path("bad.json").write_text('{"type": "text"}')
    Path("away.json").write_text('{"$ref": "https://127.0.0.1/s.json"}')
    said = distill(*options, code=1)
    assert said.splitlines()[-1].startswith(f"fastdatasets: {message}")
    assert list(Path("output").glob("*")) == []
    assert server.bill.executions == {}
