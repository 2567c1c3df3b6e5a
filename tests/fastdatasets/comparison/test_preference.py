"""A judge's preference: asked both ways round, in a run of its own that resumes as any run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backends.openai_batch.failpoints import FailPoint
from tests.conftest import Command, ended, start, write_jsonl
from tests.llmserver import LLMServer, Reply, Usage

USAGE = Usage(100, 10)
QUESTIONS = ["Who?", "Why?", "How?", "When?", "Where?"]
# What both teachers say; the number is how good it is.
ANSWERS = {
    "Who?": ("A 2", "B says very much 1"),
    "Why?": ("A says very much 2", "B 1"),
    "How?": ("A 1", "B 2"),
    "When?": ("A 1", "B 1"),
    "Where?": ("Same", "same"),
}
PAIR = re.compile(r"\[First answer\]\n(.*)\n\[End.*\[Second answer\]\n(.*)\n\[End", re.DOTALL)


def judge(first: str, second: str) -> str:
    """Prefer the better one."""
    one, other = (int(answer.split()[-1]) for answer in (first, second))
    better = "first" if one > other else "second" if one < other else "tie"
    return f'{{"reason": "R", "better": "{better}"}}'


@pytest.fixture(autouse=True)
def _runs(server: LLMServer, command: Command) -> None:
    """Two runs over the same questions, and the server's judge."""

    def answer(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if pair := PAIR.search(prompt):
            return Reply(judge(pair[1], pair[2]), usage=USAGE)
        return Reply(ANSWERS[prompt][body["model"] == "b"], usage=USAGE)

    server.answer = answer
    write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    for model in ("a", "b"):
        distill(command, "d.jsonl", model, model)


def distill(command: Command, source: object, model: str, run: str) -> None:
    """Have a teacher answer all questions."""
    done = command(
        *("distill", "--dataset-name", source, "--sample-size", 0, "--backend", "openai"),
        *("--model", model, "--run", run),
    )
    assert done.returncode == 0, done.stderr


def arguments(backend: str, *options: object) -> tuple[object, ...]:
    """A comparison of both runs by a judge."""
    return ("compare", "a", "b", "--judge-model", "j", "--judge-backend", backend, *options)


def asked(server: LLMServer) -> int:
    """How many requests the judge has answered."""
    bodies = [json.loads(body) for body in server.bill.executions.elements()]
    return sum(body["model"] == "j" for body in bodies)


JUDGED = {
    "run": "compare-a-b",
    "model": "j",
    "pairs": 4,
    "judged": 4,
    "first": 2,
    "ties": 1,
    "second": 1,
    "inconsistent": 0,
    "unreadable": 0,
    "longer": 1,
    "shorter": 1,
    "cost": None,
    "left": None,
}


@pytest.mark.quick(1)
def test_preference(server: LLMServer, command: Command, backend: str) -> None:
    """Pairs of different answers are asked in both orders, once, whichever run is named first."""
    done = command(*arguments(backend), "--json")
    assert (done.returncode, json.loads(done.stdout)["judge"], asked(server)) == (0, JUDGED, 8)
    done = command("compare", "b", "a", "--judge-model", "j", "--judge-backend", backend, "--json")
    swapped = JUDGED | {"first": 1, "second": 2}
    assert (done.returncode, json.loads(done.stdout)["judge"], asked(server)) == (0, swapped, 8)


@pytest.mark.slow
@pytest.mark.quick(1)
def test_position_bias(server: LLMServer, command: Command, backend: str) -> None:
    """A judge that always prefers the first answer prefers none: each pair is a tie."""
    teachers = server.answer

    def answer(body: dict[str, Any]) -> Any:
        if body["model"] != "j":
            return teachers(body)
        return Reply('{"reason": "R", "better": "first"}', usage=USAGE)

    server.answer = answer
    done = command(*arguments(backend), "--price-in", 1, "--price-out", 1, "--json")
    ties = JUDGED | {"first": 0, "ties": 4, "second": 0, "inconsistent": 4}
    ties |= {"longer": 0, "shorter": 0, "cost": 0.00088}
    assert (done.returncode, json.loads(done.stdout)["judge"]) == (0, ties)


@pytest.mark.slow
def test_text(server: LLMServer, command: Command) -> None:
    """What the judge prefers, how often the longer answer won, what could not be read."""
    teachers = server.answer
    server.answer = lambda body: (
        Reply("Both are fine.", usage=USAGE)
        if body["model"] == "j" and "When?" in body["messages"][-1]["content"]
        else teachers(body)
    )
    done = command(*arguments("openai"), "--run", "preferred", "--price-in", 1, "--price-out", 2)
    assert (done.returncode, done.stdout.splitlines()[-5:]) == (
        0,
        [
            "equal answers: 20.0%",
            "the judge j, asked both ways round about 3 of 4 pairs (run preferred): a wins 2, b 1, "
            "ties 0, of which 0 inconsistent",
            "  the longer answer won 1 of 2",
            "  1 pairs without a preference that can be read",
            "  0.0010 USD spent",
        ],
    )


@pytest.mark.slow
def test_cap(server: LLMServer, command: Command) -> None:
    """At the cap the comparison is shown and exits with 3; with a higher one it is completed."""
    prices = ("--price-in", 1, "--price-out", 1)
    done = command(*arguments("openai", *prices), "--max-cost", "0.0000001")
    assert (done.returncode, "0 of 4 pairs" in done.stdout, asked(server)) == (3, True, 0)
    done = command(*arguments("openai", *prices), "--max-cost", 1, "--json")
    found = json.loads(done.stdout)["judge"]
    assert (done.returncode, found, asked(server)) == (0, JUDGED | {"cost": 0.00088}, 8)


@pytest.mark.slow
def test_no_wait(server: LLMServer, command: Command) -> None:
    """Without waiting the comparison is shown, what is left is said, and the next one goes on."""
    server.looks = None
    done = command(*arguments("openai-batch", "--no-wait"), "--json")
    first = json.loads(done.stdout)["judge"]
    assert (done.returncode, first["judged"]) == (3, 0)
    assert f"fastdatasets: {first['left']}\n" in done.stderr
    server.settle()
    done = command(*arguments("openai-batch"), "--json")
    assert (done.returncode, json.loads(done.stdout)["judge"], asked(server)) == (0, JUDGED, 8)


@pytest.mark.slow
def test_sample(server: LLMServer, command: Command) -> None:
    """A sample of the pairs is asked about, each in both orders, with a schema where asked for."""
    done = command(*arguments("openai"), "--sample-size", 2, "--json-schema", "--json")
    found = json.loads(done.stdout)["judge"]
    bodies = [json.loads(body) for body in server.bill.executions]
    schemas = [body["response_format"]["type"] for body in bodies if body["model"] == "j"]
    assert (done.returncode, found["pairs"], found["judged"]) == (0, 2, 2)
    assert schemas == ["json_schema"] * 4


@pytest.mark.slow
def test_nothing_to_judge(server: LLMServer, command: Command) -> None:
    """Equal answers are ties that no judge is paid for."""
    command(
        "distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--model", "a", "--run", "c"
    )
    done = command("compare", "a", "c", "--judge-model", "j")
    last = "the judge was not asked: no two usable answers to a question differ"
    assert (done.returncode, done.stdout.splitlines()[-1], asked(server)) == (0, last, 0)
    assert not Path("output/compare-a-c").exists()


@pytest.mark.slow
def test_failed_start_leaves_nothing(command: Command) -> None:
    """A judge that cannot be paid is an error, and no folder is left."""
    done = command(*arguments("openai"), "--max-cost", 1)
    assert done.returncode == 1
    assert done.stderr.startswith("fastdatasets: --max-cost needs a price, and none of j live at ")
    assert not Path("output/compare-a-b").exists()


@pytest.mark.parametrize("point", [FailPoint.CREATED, FailPoint.COLLECTED])
@pytest.mark.slow
def test_kill(server: LLMServer, command: Command, point: FailPoint) -> None:
    """A kill -9 in the judge's run loses no judgement, and none is asked for twice."""
    env = {"FASTDATASETS_FAILPOINT": point.value}
    assert ended(start(*arguments("openai-batch"), env=env)) == -9
    done = command(*arguments("openai-batch"), "--json")
    server.settle()
    assert (done.returncode, json.loads(done.stdout)["judge"], asked(server)) == (0, JUDGED, 8)
    assert server.bill.twice() == []


PROMPT = """Compare two answers of AI assistants to the same question of a user.

[Instructions to the assistants]
Be kind.

[Conversation so far]
user: Hi
assistant: Hello

[Question]
Who?

[First answer]
A 2
[End of the first answer]

[Second answer]
B 1
[End of the second answer]

Criteria: """


@pytest.mark.slow
def test_prompt(server: LLMServer, command: Command) -> None:
    """The judge sees the question as it was asked, and no message but its own."""
    turns = [
        {"role": role, "content": text}
        for role, text in (
            *(("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Who?")),
            ("assistant", "O"),
        )
    ]
    source = write_jsonl(Path("c.jsonl"), [{"messages": turns}])
    teachers = server.answer
    texts = {"x": "A 2", "y": "B 1"}
    server.answer = lambda body: (
        Reply(texts[body["model"]]) if body["model"] in texts else teachers(body)
    )
    for model in texts:
        distill(command, source, model, model)
    env = {"SYSTEM_PROMPT": "Be a pirate."}
    done = command("compare", "x", "y", "--judge-model", "j", "--json", env=env)
    assert json.loads(done.stdout)["judge"]["first"] == 1, done.stderr
    bodies = [json.loads(body) for body in server.bill.executions]
    messages = [body["messages"] for body in bodies if body["model"] == "j"]
    prompts = [one[0]["content"] for one in messages]
    (prompt,) = [text for text in prompts if "[First answer]\nA 2" in text]
    assert ([len(one) for one in messages], prompt[: len(PROMPT)]) == ([1, 1], PROMPT)


@pytest.mark.slow
def test_runs_made_anew(command: Command) -> None:
    """A run made anew under an old name is not taken for the one that was judged."""
    assert command(*arguments("openai")).returncode == 0
    for file in Path("output/a").iterdir():
        file.unlink()
    command(
        "distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--model", "a", "--run", "a"
    )
    done = command(*arguments("openai"))
    assert (done.returncode, done.stderr) == (
        1,
        "fastdatasets: run compare-a-b is of other runs, of the same names or another: choose a "
        "name for this one with --run\n",
    )
