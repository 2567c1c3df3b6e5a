"""A resume with another limit: what has no answer is asked again with it, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from store import Unfinished, UserError, WorkStore
from store.runs import Mode
from store.status import Counts
from tests.conftest import Command, write_jsonl
from tests.fastdatasets.test_pipeline import run_for
from tests.fastdatasets.test_reuse import Limited, outputs, run
from tests.llmserver import LLMServer, Reply, insufficient_quota

STORE = Path("output/r/work.duckdb")
QUESTIONS = [f"Question {number}" for number in range(7)]


def small_context(most: int) -> Any:
    """A model whose context takes so many tokens of an answer; 'Question 0' gets one always."""

    def answer(body: dict[str, Any]) -> Reply:
        if body["max_tokens"] > most and "Question 0" not in body["messages"][-1]["content"]:
            message = f"max_tokens must be at most {most}: the maximum context length is 99"
            return Reply(status_code=400, error={"message": message, "code": "invalid"})
        return Reply("Fine")

    return answer


@pytest.fixture
def server(server: LLMServer) -> LLMServer:
    """The server, which refuses more than 20 tokens."""
    server.answer = small_context(20)
    return server


def config_for(questions: list[str], backend: str, **run_config: Any) -> RunConfig:
    """A run over questions with at most 50 tokens an answer."""
    source = write_jsonl(Path("d.jsonl"), [{"instruction": question} for question in questions])
    options: dict[str, Any] = {"max_output_tokens": 50, "model": "m", "sample_size": 0}
    return RunConfig(dataset_name=str(source), backend=backend, **options | run_config)


def advance_run(limit: int | None = None, **execution: Any) -> RunResult:
    """Resume the run."""
    outcome = resume("r", None, ExecutionConfig(**execution), max_output_tokens=limit)
    assert outcome is not None
    return outcome


def limits(server: LLMServer) -> Counter[int]:
    """How many executed requests had which limit."""
    bodies = [json.loads(text) for text in server.bill.executions.elements()]
    return Counter(body["max_tokens"] for body in bodies)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openai", "openai-batch"])
def test_what_has_no_answer_is_asked_with_the_new_limit(
    server: LLMServer, capfd: pytest.CaptureFixture[str], backend: str
) -> None:
    """What was refused at one limit is asked with the next; what has an answer keeps it."""
    outcome = start(config_for(QUESTIONS, backend), None, "r", ExecutionConfig())
    assert outcome.status.requests == Counts(7, 1, 0, 6, 0)
    outcome = advance_run(20)
    assert (outcome.status.state, outcome.status.requests) == ("done", Counts(7, 7, 0, 0, 0))
    assert (outcome.reasons, limits(server)) == ((), {50: 1, 20: 6})
    reported = "with the changed limit 6 requests are planned again, with at most 20 tokens\n"
    assert reported in capfd.readouterr().err
    advance_run(20)
    assert (server.bill.total, "changed limit" in capfd.readouterr().err) == (7, False)


def test_run_that_was_stopped_goes_on_with_the_limit(server: LLMServer) -> None:
    """A run whose first requests were all refused for their limit ends whole with a lower one."""
    questions = [f"Asked {number}" for number in range(30)]
    with pytest.raises(Unfinished, match="Resume with a lower --max-output-tokens"):
        start(config_for(questions, "openai"), None, "r", ExecutionConfig())
    outcome = advance_run(20)
    assert (outcome.status.state, outcome.status.requests) == ("done", Counts(30, 30, 0, 0, 0))
    assert (limits(server), server.bill.twice()) == ({20: 30}, [])


@pytest.mark.slow
def test_limit_and_back(server: LLMServer) -> None:
    """Back at the limit of before, the requests are those of before, with their failures."""
    start(config_for(QUESTIONS, "openai"), None, "r", ExecutionConfig())
    assert advance_run(40).status.requests == Counts(7, 1, 0, 6, 0)
    calls = len(server.requests_log)
    assert advance_run(50).status.requests == Counts(7, 1, 0, 6, 0)
    assert (len(server.requests_log), server.bill.total) == (calls, 1)
    assert advance_run(10).status.requests == Counts(7, 7, 0, 0, 0)


def test_change_that_was_interrupted(server: LLMServer) -> None:
    """A death after the limit was noted leaves what a plain resume does; it may be said twice."""
    start(config_for(QUESTIONS, "openai"), None, "r", ExecutionConfig())
    with WorkStore.open(STORE) as store:
        store.limits.change(20)
        store.limits.change(20)
        assert store.connection.execute(
            "SELECT count(*) FROM events WHERE event = 'limit_changed'"
        ).fetchall() == [(1,)]
    assert (advance_run().status.state, limits(server)) == ("done", {50: 1, 20: 6})


@pytest.mark.slow
def test_what_is_in_flight_keeps_its_limit(
    server: LLMServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Requests at the server are let be and collected, the others asked with the new limit."""
    server.answer, server.looks = small_context(99), None
    questions = [f"Asked {number}" for number in range(103)]
    outcome = start(config_for(questions, "openai-batch"), None, "r", ExecutionConfig(wait=False))
    assert outcome.status.requests == Counts(103, 0, 3, 0, 100)
    outcome = advance_run(20, wait=False)
    assert outcome.status.requests == Counts(103, 0, 3, 0, 100)
    reported = "3 requests are planned again, with at most 20 tokens; 100 in flight keep theirs\n"
    assert reported in capfd.readouterr().err
    server.looks = 1
    assert advance_run().status.requests == Counts(103, 103, 0, 0, 0)
    assert (limits(server), server.bill.twice()) == ({50: 100, 20: 3}, [])


def test_job_that_was_not_sent_is_planned_anew(server: LLMServer) -> None:
    """A job that the server never took is closed, its file removed, its questions asked anew."""
    server.faults.append(insufficient_quota("POST /batches", times=1))
    with pytest.raises(Unfinished):
        start(config_for(QUESTIONS, "openai-batch"), None, "r", ExecutionConfig())
    assert advance_run(20).status.requests == Counts(7, 7, 0, 0, 0)
    assert (limits(server), list(Path("output/r/jobs").iterdir())) == ({20: 7}, [])


@pytest.mark.slow
def test_augment_uses_the_limit_in_both_stages(server: LLMServer) -> None:
    """Questions for variants keep their samples, and answers planned later have the new limit."""
    asked: Counter[str] = Counter()

    def teacher(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        if "Output only a JSON array" not in prompt:
            return small_context(20)(body)  # type: ignore[no-any-return]
        asked[prompt] += 1
        if asked[prompt] == 1:
            return Reply("No list.")
        if body["max_tokens"] > 20:
            return small_context(20)(body)  # type: ignore[no-any-return]
        return Reply(f'["Question of {len(prompt)} characters"]')

    server.answer = teacher
    run_config = config_for(["Describe it", "Paint it"], "openai", mode=Mode.AUGMENT, num_aug=1)
    outcome = start(run_config, None, "r", ExecutionConfig())
    assert outcome.status.requests == Counts(6, 2, 0, 4, 0)
    assert advance_run(20).status.requests == Counts(8, 8, 0, 0, 0)
    assert limits(server) == {50: 2, 20: 6}
    with duckdb.connect(STORE, read_only=True) as db:
        columns = "stage, generation, version, count(*)"
        rows = db.execute(f"SELECT {columns} FROM row_requests GROUP BY ALL ORDER BY ALL")
        assert rows.fetchall() == [
            ("answer", 0, 0, 4), ("answer", 0, 1, 2),
            ("vary", 0, 0, 2), ("vary", 1, 0, 2), ("vary", 1, 1, 2),
        ]  # fmt: skip
        kept = "SELECT generation, count(*), sum(kept) FROM ingestions GROUP BY ALL ORDER BY ALL"
        assert db.execute(kept).fetchall() == [(0, 2, 0), (1, 2, 2)]


@pytest.mark.slow
def test_new_limit_of_a_local_run() -> None:
    """A run of any backend goes on with its new limit, and new requests are those of that limit."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": str(n)} for n in (5, 15, 35)])
    refusing = Limited(highest=30)
    status, _ = run("a", refusing, run_for(source, max_output_tokens=40))
    assert (status.requests.failed, len(refusing.asked)) == (3, 3)
    with WorkStore.open(Path("a/work.duckdb")) as store:
        store.limits.change(30)
        applied = store.limits.apply(Path("a"))
    assert applied is not None
    assert (applied.replanned, applied.in_flight) == (3, 0)
    status, _ = run("a", Limited(highest=30))
    assert (outputs("a"), status.state, status.truncated) == ([5, 15, 30], "done", 1)
    other = Limited()
    run("b", other, run_for(source, max_output_tokens=30), reuse=["a"])
    assert other.asked == []


@pytest.mark.usefixtures("server")
def test_old_output_tells_the_length_under_another_limit() -> None:
    """A question that is asked anew is expected to take what its old output says, as before."""
    rows: list[dict[str, object]] = [
        {"instruction": f"Asked {n}", "output": "x" * 30} for n in range(3)
    ]
    run_config = config_for([], "openai")
    write_jsonl(Path("d.jsonl"), rows)
    with pytest.raises(Unfinished, match="all failed alike"):
        start(run_config, None, "r", ExecutionConfig())
    with WorkStore.open(STORE) as store:
        store.limits.change(20)
        store.limits.apply(Path("output/r"))
        left = store.requests.backlog(3)
    assert (left.requests, left.row_requests, left.with_old, left.completion_tokens) == (
        3,
        3,
        3,
        30,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_limit_by_the_command(command: Command) -> None:
    """The command takes the new limit, and none below 1; the old command line goes on with it."""
    write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    made = (
        "distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--model", "m",
        "--max-output-tokens", 50, "--run", "r",
    )  # fmt: skip
    assert command(*made).returncode == 3
    done = command("resume", "r", "--max-output-tokens", 0)
    assert (done.returncode, done.stdout) == (1, "")
    with pytest.raises(UserError, match="--max-output-tokens 0: at least 1 token"):
        advance_run(0)
    done = command("resume", "r", "--max-output-tokens", 20)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0, "output/r/distilled.json  (7 rows)",
    )  # fmt: skip
    assert command(*made).returncode == 0
