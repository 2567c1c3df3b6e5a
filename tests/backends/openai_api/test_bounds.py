"""What a server's answer may cost: bytes, packed and not, seconds, pages; live and in a batch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import cancel, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from store import Unfinished
from tests.batch_runs import CONTENT, LIST, LOOK, POST, QUESTIONS, Runs, answer, asks
from tests.conftest import Command, measured, write_jsonl
from tests.llmserver import Fault, Kind, LLMServer

CHAT = "POST /chat/completions"
FLOODS = [Kind.FLOOD, Kind.BOMB]
TIMEOUT = "FASTDATASETS_TIMEOUT_SECONDS"
MAX_MB = 450  # of the process, where an answer would have 3 GB


def distill(questions: int = 3, **execution: Any) -> RunResult:
    """A live run over so many questions."""
    prompts: list[dict[str, object]] = [{"prompt": f"Question {n}"} for n in range(questions)]
    source = write_jsonl(Path("d.jsonl"), prompts)
    run_config = RunConfig(dataset_name=str(source), sample_size=0, model="m", backend="openai")
    return start(run_config, None, "r", ExecutionConfig(**execution))


def run_in_a_child(backend: str) -> tuple[int, float, str]:
    """Exit code, peak RSS in MB and last line of a run over seven questions."""
    write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    words = ("distill", "--dataset-name", "d.jsonl", "--run", "r", "--model", "gpt-small")
    more = ("--sample-size", "0", "--backend", backend)
    code, peak, errors = measured(*words, *more)
    return code, peak, errors[-1]


# -- live


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", FLOODS)
def test_answer_that_is_too_long(server: LLMServer, kind: Kind) -> None:
    """It was paid for: that request fails for good, and is not sent again by itself."""
    server.faults.append(Fault(CHAT, kind))
    outcome = distill(max_attempts=3)
    ((failure, message, requests),) = outcome.reasons
    assert (failure, requests, outcome.status.requests.done) == ("unusable", 1, 2)
    assert re.fullmatch(
        r"the answer to POST /v1/chat/completions has more than 4\.\d MB, which it cannot have",
        message,
    )
    assert (server.bill.total, server.bill.twice()) == (3, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("backend", ["openai", "openai-batch"])
def test_memory_is_bounded(server: LLMServer, kind: Kind, backend: str) -> None:
    """Where every answer, or every file, would have 3 GB."""
    server.looks = 0
    server.faults += [Fault(CHAT, kind, None), Fault(CONTENT, kind, None)]
    code, megabytes, line = run_in_a_child(backend)
    assert code == 3
    assert "MB, which it cannot have" in line
    assert megabytes < MAX_MB
    assert (server.bill.total, server.bill.twice()) == (7, [])


@pytest.mark.slow
def test_all_answers_are_too_long(server: LLMServer) -> None:
    """The first twenty stop the run in one line, in each command; none of them is asked again."""
    server.faults.append(Fault(CHAT, Kind.BOMB, None))
    words = (
        r"the first \d+ requests all failed alike: the answer to POST /v1/chat/completions has "
        r"more than 4\.\d MB, which it cannot have\. Nothing more is sent; the server bills "
        r"them\. .*"
    )
    for _ in range(2):
        with pytest.raises(Unfinished) as raised:
            distill(100)
        assert re.fullmatch(words, str(raised.value))
    assert server.bill.total < 100
    assert len(server.bill.twice()) <= 10  # those that were in flight when the first one stopped


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", FLOODS)
def test_error_that_is_too_long(server: LLMServer, kind: Kind) -> None:
    """It is cut: its status says what it means, with what comes of its words."""
    server.keys = ["another"]
    server.faults.append(Fault(CHAT, kind, None))
    with pytest.raises(Unfinished, match="the server refuses every request: 401: "):
        distill()


@pytest.mark.slow
def test_answer_that_trickles(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the time of a request, not of a byte, and is an attempt; the next one may do."""
    monkeypatch.setenv(TIMEOUT, "0.3")
    server.faults.append(Fault(CHAT, Kind.TRICKLE, seconds=0.05))
    assert distill(max_attempts=2).status.state == "done"
    server.faults.append(Fault(CHAT, Kind.TRICKLE, None, seconds=0.05))
    source = write_jsonl(Path("e.jsonl"), [{"prompt": "Another"}, {"prompt": "One more"}])
    run_config = RunConfig(dataset_name=str(source), sample_size=0, model="m", backend="openai")
    with pytest.raises(Unfinished, match="alike: TimeoutError: no answer in time"):
        start(run_config, None, "s", ExecutionConfig(max_attempts=2))
    assert server.bill.total == 3 + 1 + 4


# -- in a batch


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLOODS)
def test_batch_that_is_too_long(runs: Runs, kind: Kind) -> None:
    """Its object ends the command in one line, a cancel as well, and a resume goes on."""
    runs.server.faults.append(Fault(LOOK, kind, None))
    words = (
        r"the server: the answer to GET /v1/batches/batch_\w+ has more than 16\.8 MB, which it "
        r"cannot have\. What was sent stays there; resume asks again"
    )
    with pytest.raises(Unfinished) as raised:
        runs.distill()
    assert re.fullmatch(words, str(raised.value))
    with pytest.raises(Unfinished) as raised:
        cancel("r", None, ExecutionConfig())
    assert re.fullmatch(words, str(raised.value))
    runs.server.faults.clear()
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


@pytest.mark.slow
def test_batch_that_is_too_long_and_another(runs: Runs) -> None:
    """An object that is too long keeps back its own job and no other."""
    runs.questions = [f"Question {number}" for number in range(120)]
    runs.distill(wait=False)
    first, second = runs.server.batches
    runs.server.settle()
    runs.server.faults.append(Fault(f"GET /batches/{first}", Kind.BOMB, None))
    with pytest.raises(Unfinished, match=f"GET /v1/batches/{first} has more than"):
        runs.resume()
    with pytest.raises(Unfinished, match=f"GET /v1/batches/{first} has more than"):
        runs.resume(wait=False)
    assert {call.path for call in runs.server.requests_log if "content" in call.path} == {
        f"/v1/files/{runs.server.batches[second].output_file_id}/content"
    }
    runs.server.faults.clear()
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", FLOODS)
def test_answer_to_a_post_that_is_too_long(runs: Runs, kind: Kind) -> None:
    """The batch may have been made: it is looked for, and not made twice."""
    runs.server.faults.append(Fault(POST, kind))
    assert runs.distill(max_attempts=1).status.state == "done"
    assert len(runs.server.batches) == 1
    runs.check_done()


def test_answer_to_an_upload_that_is_too_long(runs: Runs) -> None:
    """It ends the command in one line; the next one uploads the file again."""
    runs.server.faults.append(Fault("POST /files", Kind.BOMB))
    with pytest.raises(Unfinished, match=r"the answer to POST /v1/files has more than 16\.8 MB"):
        runs.distill()
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", FLOODS)
def test_file_object_that_is_too_long(runs: Runs, kind: Kind) -> None:
    """It tells no size, and nothing else is needed of it."""
    fault = Fault("GET /files/file-" + "?" * 16, kind, None)
    runs.server.faults.append(fault)
    assert runs.distill(max_attempts=1).status.state == "done"
    assert fault.fired > 0
    runs.check_done()


@pytest.mark.slow
def test_file_that_is_too_long(runs: Runs, command: Command) -> None:
    """Its job is lost after ten downloads, with nothing left on the disk; a resume tries again."""
    fault = Fault(CONTENT, Kind.FLOOD, None)
    runs.server.looks = 0
    runs.server.faults.append(fault)
    with pytest.raises(Unfinished) as raised:
        runs.distill()
    (batch,) = runs.server.batches.values()
    assert re.fullmatch(
        rf"job 00001 is lost: {batch.id} is 'completed', but file {batch.output_file_id}: the "
        rf"answer to GET /v1/files/"
        rf"{batch.output_file_id}/content has more than 8\.0 MB, which it cannot have. Nothing "
        "more is sent. .*",
        str(raised.value),
    )
    assert fault.fired == 10
    assert list(Path("output/r/jobs").iterdir()) == []
    again = command("resume", "r")
    assert (again.returncode, again.stdout) == (3, "")
    assert len(runs.server.batches) == 1
    runs.server.faults.clear()
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


@pytest.mark.slow
def test_file_that_is_too_long_under_cron(runs: Runs) -> None:
    """With --no-wait the downloads of several commands add up."""
    fault = Fault(CONTENT, Kind.BOMB, None)
    runs.server.looks = 0
    runs.server.faults.append(fault)
    runs.distill(wait=False)
    for _ in range(8):
        runs.resume(wait=False)
    with pytest.raises(Unfinished, match="job 00001 is lost"):
        runs.resume(wait=False)
    assert fault.fired == 10


def test_file_that_differs_each_time(runs: Runs) -> None:
    """The same: ten downloads, one line, and a resume tries again."""
    sizes = [700 + 7 * number for number in range(30)]
    runs.server.looks = 0
    runs.server.faults += [Fault(CONTENT, Kind.CUT_SILENT, keep=size) for size in sizes]
    words = "but its file file-.* came with another size than it has, or cut. Nothing more is sent"
    with pytest.raises(Unfinished, match=words):
        runs.distill()
    assert [fault.fired for fault in runs.server.faults] == [1] * 10 + [0] * 20
    runs.server.faults.clear()
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


def test_one_endless_line(runs: Runs) -> None:
    """A line that is longer than an answer can be is a broken one, and no other is lost."""

    def long_winded(body: dict[str, Any]) -> str:
        return "x" * 6_000_000 if asks("Question 3")(body) else answer(body)

    runs.server.answer = long_winded
    outcome = runs.distill()
    assert outcome.reasons == (("unusable", "the server's line for this answer is broken", 1),)
    runs.check_done(without=("Question 3",))


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize("where", [LOOK, POST, CONTENT])
def test_call_that_trickles(runs: Runs, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """It has the time of a call, not of a byte, and is made again as one that failed."""
    monkeypatch.setenv(TIMEOUT, "0.3")
    fault = Fault(where, Kind.TRICKLE, times=2, seconds=0.02)
    runs.server.faults.append(fault)
    assert runs.distill(max_attempts=1).status.state == "done"
    assert fault.fired >= 1
    runs.check_done()


@pytest.mark.slow
def test_file_that_trickles(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as one that is too long does."""
    monkeypatch.setenv(TIMEOUT, "0.2")
    fault = Fault(CONTENT, Kind.TRICKLE, None, seconds=0.02)
    runs.server.looks = 0
    runs.server.faults.append(fault)
    words = r"but file file-\w+: only \d+ bytes of it came in 0 seconds. Nothing more is sent"
    with pytest.raises(Unfinished, match=words):
        runs.distill()
    assert fault.fired == 10
    runs.server.faults.clear()
    monkeypatch.delenv(TIMEOUT)
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


@pytest.mark.slow
def test_list_without_an_end(runs: Runs) -> None:
    """It is no look: the batch whose POST was lost is neither found nor sent again."""
    lists = [Fault(LIST, kind, None) for kind in (Kind.ENDLESS, Kind.IGNORE_AFTER, Kind.NEW_IDS)]
    runs.server.faults += [Fault(POST, Kind.DROP_AFTER), *lists]
    with pytest.raises(Unfinished) as raised:
        runs.distill()
    assert str(raised.value) == (
        "the server: the list of batches has more than 1000 pages. What was sent stays there; "
        "resume asks again"
    )
    assert lists[0].fired == 1000
    runs.server.faults.clear()
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()
