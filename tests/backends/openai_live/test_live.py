"""The live backend against the tests' server: concurrency, retries, outages, crashes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from store import Unfinished, UserError
from tests.conftest import start as start_command
from tests.conftest import write_jsonl
from tests.llmserver import (
    Fault,
    Kind,
    LLMServer,
    Reply,
    forbidden,
    http_date,
    insufficient_quota,
    rate_limited,
)

CHAT = "POST /chat/completions"
QUESTIONS = [f"Question {number}" for number in range(20)]


def prompt_of(question: str) -> str:
    """The default prompt of a record without an input."""
    return question


def answer(body: dict[str, Any]) -> str:
    """What the server's model says."""
    return f"A: {body['messages'][-1]['content']}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    """A server, and settings under which nothing waits."""
    with LLMServer(answer=answer) as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        yield server


def distill(**execution: Any) -> RunResult:
    """A run over the questions; the address in the environment chooses the live backend."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    run_config = RunConfig(dataset_name=str(source), sample_size=0, model="m")
    return start(run_config, None, "r", ExecutionConfig(**execution))


def check_done(without: tuple[str, ...] = ()) -> None:
    """Each record is exported with its answer, in sample order."""
    rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
    assert [(row["instruction"], row["output"]) for row in rows] == [
        (question, f"A: {prompt_of(question)}") for question in QUESTIONS if question not in without
    ]


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize("concurrency", [1, 7])
def test_as_many_at_once_as_allowed(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """MAX_LLM_CONCURRENCY requests are in flight, never more and not fewer."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", str(concurrency))
    server.latency = 0.05
    assert distill().status.state == "done"
    assert server.max_concurrency == concurrency
    assert server.bill.twice() == []
    check_done()


FAULTS = {
    "500": Fault(CHAT, Kind.REFUSE, times=2),
    "dropped": Fault(CHAT, Kind.DROP_BEFORE, times=3),
    "garbled": Fault(CHAT, Kind.CUT),
    "429": rate_limited(CHAT, times=4),
    "429 in ms": rate_limited(CHAT, headers={"retry-after-ms": "5"}, times=2),
    "429 by date": rate_limited(CHAT, headers={"Retry-After": http_date(3600)}, times=2),
    "503": Fault(CHAT, Kind.REFUSE, times=3, status=503),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_survived(server: LLMServer, name: str) -> None:
    """What passes by is tried again, and the run ends whole."""
    server.faults.append(FAULTS[name])
    assert distill().status.state == "done"
    assert FAULTS[name].fired > 0
    check_done()


def test_hanging_request(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is never answered is given up after its time and tried again."""
    monkeypatch.setenv("FASTDATASETS_TIMEOUT_SECONDS", "0.5")
    server.faults.append(Fault(CHAT, Kind.HANG))
    assert distill().status.state == "done"
    check_done()


def test_failures_for_good(server: LLMServer) -> None:
    """A refused request fails with the server's words; one that always fails uses its attempts."""

    def choosy(body: dict[str, Any]) -> str | Reply:
        if "Question 3" in str(body):
            return Reply(status_code=400, error={"message": "Bad thing.", "code": "bad"})
        if "Question 5" in str(body):
            return Reply(status_code=500, error={"message": "Oh no.", "code": None})
        return answer(body)

    server.answer = choosy
    outcome = distill(max_attempts=2)
    assert outcome.reasons == (("refused", "400: Bad thing.", 1), ("server", "500: Oh no.", 1))
    tried = [call for call in server.requests_log if call.status == 500]
    assert len(tried) == 2
    check_done(without=("Question 3", "Question 5"))


def test_dropped_after_it_was_sent(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that drops after a request was sent is an attempt of it, and of it alone."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "2")

    def dropping(body: dict[str, Any]) -> str | Reply:
        return Reply("lost", drop=True) if "Question 3" in str(body) else answer(body)

    server.answer = dropping
    outcome = distill(max_attempts=3)
    assert (outcome.status.requests.done, outcome.status.requests.failed) == (19, 1)
    assert [server.bill.executions[body] for body in server.bill.twice()] == [3]
    assert server.bill.total == 19 + 3
    check_done(without=("Question 3",))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.DROP_BEFORE, r"APIConnectionError: \w"),
        (Kind.DROP_AFTER, r"APIConnectionError: \w"),
        (Kind.ERROR_AFTER, "500: The server had an error"),
    ],
)
def test_first_requests_are_not_answered(server: LLMServer, kind: Kind, words: str) -> None:
    """Nothing more is sent, and what may be billed is asked again only where the user says so."""
    server.faults.append(Fault(CHAT, kind, None))
    with pytest.raises(Unfinished, match=rf"failed alike: {words}.*--retry-failed$"):
        distill(max_attempts=1)
    server.faults.clear()
    sent = len(server.requests_log)
    outcome = resume("r", None, ExecutionConfig(max_attempts=1))
    assert outcome is not None
    assert outcome.status.requests.failed == 20
    assert len(server.requests_log) == sent
    resume("r", None, ExecutionConfig(max_attempts=1), retry_failed=True)
    check_done()


def test_first_requests_time_out(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are not answered in time stop the run alike, in words of their own."""
    monkeypatch.setenv("FASTDATASETS_TIMEOUT_SECONDS", "0.05")
    server.faults.append(Fault(CHAT, Kind.HANG, None))
    with pytest.raises(Unfinished, match="alike: TimeoutError: no answer in time"):
        distill(max_attempts=1)


@pytest.mark.slow
def test_attempts_are_counted_once(server: LLMServer) -> None:
    """A resume goes on with the attempts that were used before."""
    broken = Reply(status_code=500, error={"message": "Oh no.", "code": None})
    server.answer = lambda body: broken if "Question 5" in str(body) else answer(body)
    distill(max_attempts=1)
    assert resume("r", None, ExecutionConfig(max_attempts=3)) is not None
    assert [call.status for call in server.requests_log].count(500) == 3
    assert resume("r", None, ExecutionConfig(max_attempts=3)) is not None
    assert [call.status for call in server.requests_log].count(500) == 3


def test_server_that_is_not_there_at_the_start(server: LLMServer) -> None:
    """It is tried three times before anything is asked; then the start failed and leaves no run."""
    server.stop()
    words = rf"^no connection to {server.base_url}: APIConnectionError: Connection refused\. Check"
    with pytest.raises(UserError, match=words):
        distill()
    assert not Path("output/r").exists()
    server.start()
    assert distill().status.state == "done"
    assert server.requests_log[0].path == "/v1/models"
    check_done()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET /models", Kind.REFUSE, status=404, body="<h1>No such page</h1>"),
        Fault("GET /models", Kind.REFUSE, status=401),
        Fault("GET /models", Kind.GARBLED),
        Fault("GET /models", Kind.GARBLED, body="[" * 100_000),
        Fault("GET /models", Kind.GARBLED, body='{"data": [1, {"id": "m"}]}'),
        Fault("GET /models", Kind.DROP_BEFORE),
    ],
)
def test_server_without_a_list_of_models(server: LLMServer, fault: Fault) -> None:
    """Whatever a server answers to that, the run is begun."""
    server.faults.append(fault)
    assert distill().status.state == "done"
    check_done()


def test_server_that_goes_away(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no connection comes about nothing was sent: no attempt, and after a while an end."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "1")
    refused = Reply(status_code=401, error={"message": "No."})
    server.answer = lambda body: refused if server.bill.total else answer(body)
    with pytest.raises(Unfinished, match="the server refuses every request"):
        distill(max_attempts=1)
    server.answer = answer
    server.stop()
    words = rf"^no connection to {server.base_url}: .*Connection refused\..* Check the address"
    with pytest.raises(Unfinished, match=words):
        resume("r", None, ExecutionConfig(max_attempts=1))
    server.start()
    outcome = resume("r", None, ExecutionConfig(max_attempts=1))
    assert outcome is not None
    assert outcome.status.state == "done"
    check_done()


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("fault", "message", "advice"),
    [
        (
            forbidden(CHAT),
            "the first 20 requests all failed alike: 403: You have insufficient",
            "Check key, model and parameters, then resume",
        ),
        (
            insufficient_quota(CHAT),
            "the server refuses every request: 429: You exceeded",
            "Check the credit and the limits of the account, then resume",
        ),
        (
            rate_limited(CHAT, times=None),
            "the server accepts no requests now: 429: Rate limit",
            "Resume later, or with a lower MAX_LLM_CONCURRENCY",
        ),
        (
            Fault(CHAT, Kind.REFUSE, None, status=503),
            "the server accepts no requests now: 503: The server had an error",
            "The server has failed by itself: resume later",
        ),
    ],
)
def test_what_concerns_every_request(
    server: LLMServer, fault: Fault, message: str, advice: str
) -> None:
    """It stops the run, uses no attempt, and once it is over a resume goes through."""
    server.faults.append(fault)
    with pytest.raises(Unfinished) as raised:
        distill(max_attempts=1)
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith(f"no attempt used. {advice}")
    server.faults.clear()
    resumed = resume("r", None, ExecutionConfig(max_attempts=1), retry_failed=False)
    assert resumed is not None
    assert resumed.status.state == "done"
    check_done()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"content": "<think>hm</think>\n\nThe answer"},
    ],
)
def test_reasoning(server: LLMServer, message: dict[str, object]) -> None:
    """Reasoning is taken from its fields, or from the text, and kept apart."""
    server.answer = lambda _: Reply("The answer", message=message)
    distill()
    rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
    assert {(row["reasoning"], row["output"]) for row in rows} == {("hm", "The answer")}


@pytest.mark.slow
def test_kill(server: LLMServer, tmp_path: Path) -> None:
    """Kill -9 in the middle: what was stored is not asked again."""
    server.latency = 0.3
    questions = [f"Question {number}" for number in range(100)]
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": question} for question in questions])
    words = ("distill", "--dataset-name", source, "--sample-size", 0, "--model", "m", "--run", "r")
    process = start_command(*words)
    progress = Path("output/r/progress.json")
    while not (progress.exists() and json.loads(progress.read_bytes())["requests"]["done"]):
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended too early: {process.communicate()}")
    process.kill()
    process.communicate()
    server.latency = 0.0
    outcome = resume("r", None, ExecutionConfig(), retry_failed=False)
    assert outcome is not None
    assert outcome.status.requests.done == 100
    # what was in flight, or had come since the last flush, is asked again
    assert 100 <= server.bill.total < 150
