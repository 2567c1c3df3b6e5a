"""What ends each loop of the openai-batch backend: stops, cancels, batches that are given up."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import cancel, resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from fastdatasets.runs.status import read_status
from store import Unfinished
from tests.conftest import Command, write_jsonl
from tests.llmserver import (
    Fate,
    Fault,
    Kind,
    LineFault,
    LineKind,
    LLMServer,
    Status,
    expired,
    failed,
    rate_limited,
)

POST, FILES, LIST = "POST /batches", "POST /files", "GET /batches"
LOOK, CANCEL = "GET /batches/*", "POST /batches/*/cancel"
PRICE: dict[str, Any] = {"price_in": "1000000", "price_out": "1000000"}  # a dollar a token


def distill(questions: int = 7, **execution: Any) -> RunResult:
    """The run 'r' over so many questions."""
    prompts: list[dict[str, object]] = [{"prompt": f"Question {n}"} for n in range(questions)]
    source = write_jsonl(Path("d.jsonl"), prompts)
    run_config = RunConfig(
        dataset_name=str(source),
        sample_size=0,
        backend="openai-batch",
        model="m",
        max_output_tokens=40,
    )
    return start(run_config, None, "r", ExecutionConfig(**execution))


def advance_run(**execution: Any) -> RunResult:
    """Go on with it."""
    outcome = resume("r", None, ExecutionConfig(**execution))
    assert outcome is not None
    return outcome


def statuses(server: LLMServer) -> list[str]:
    """Of all batches, in the order of their creation."""
    return [batch.status.value for batch in server.batches.values()]


def rows() -> int:
    """How many rows were exported."""
    return len(json.loads(Path("output/r/distilled.json").read_text("utf-8")))


# -- stops


@pytest.mark.slow
def test_batches_that_always_expire(server: LLMServer) -> None:
    """After three without one answer the run stops and says so; a resume tries three more."""
    server.fates += [expired() for _ in range(6)]
    for batches in (3, 6):
        with pytest.raises(
            Unfinished,
            match=r"the last 3 batches ended without an answer \(exp.*completion-window$",
        ):
            distill()
        assert statuses(server) == ["expired"] * batches
    assert (advance_run(max_attempts=1).status.state, server.bill.twice(), rows()) == (
        "done",
        [],
        7,
    )


def test_batch_that_was_cancelled_by_somebody_else(server: LLMServer) -> None:
    """It keeps what was finished and stops the run; a resume asks for the rest."""
    server.fates.append(Fate(Status.CANCELLED, 3))
    with pytest.raises(Unfinished, match=r"cancelled, not by this tool.* Find out who cancels"):
        distill()
    assert len(server.batches) == 1
    assert (advance_run(max_attempts=1).status.state, server.bill.total) == ("done", 7)


REFUSALS = {
    "names a file": (400, "Invalid input_file: not a JSONL file."),
    "names a profile": (400, "Your profile lacks a payment method."),
    "404 of a file": (404, "No such File object."),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("wait", [True, False])
def test_batch_that_is_always_refused(server: LLMServer, name: str, wait: bool) -> None:
    """It ends with the server's words, without an upload at each try, and goes through later."""
    status, words = REFUSALS[name]
    body = {"error": {"message": words, "code": None}}
    server.faults.append(Fault(POST, Kind.REFUSE, None, status=status, body=body))
    with pytest.raises(Unfinished, match=f"the server refuses the batch: {status}: {words[:-1]}"):
        distill(wait=wait)
    assert sum(call.path == "/v1/files" for call in server.requests_log) <= 2
    assert server.batches == {}
    server.faults.clear()
    assert (advance_run(max_attempts=1).status.state, server.bill.total) == ("done", 7)


@pytest.mark.slow
def test_lasting_rate_limit_without_waiting(server: LLMServer) -> None:
    """With --no-wait a 429 that stays ends the command with the server's words, for cron."""
    server.faults.append(rate_limited(POST, times=None))
    for _ in range(2):
        with pytest.raises(Unfinished, match="the server takes no batch now: 429: Rate limit"):
            distill(wait=False)
    server.faults.clear()
    assert (advance_run().status.state, server.bill.total) == ("done", 7)


@pytest.mark.quick(1)
@pytest.mark.parametrize("wait", [True, False])
def test_batch_that_is_never_made(server: LLMServer, wait: bool) -> None:
    """A POST that is never answered and leaves no batch is not repeated without end."""
    server.faults.append(Fault(POST, Kind.DROP_BEFORE, None))
    with pytest.raises(Unfinished, match=r"answers no POST /batches of job 00001 \(API"):
        distill(wait=wait)
    assert server.batches == {}
    server.faults.clear()
    assert (advance_run().status.state, server.bill.total) == ("done", 7)


def test_upload_that_always_fails(server: LLMServer) -> None:
    """Uploads that are answered with an error, but made, do not pile up without end."""
    server.faults.append(Fault(FILES, Kind.ERROR_AFTER, None))
    with pytest.raises(Unfinished):
        distill()
    assert len(server.files) <= 10
    server.faults.clear()
    assert (advance_run().status.state, server.bill.total) == ("done", 7)


def test_failed_batch_with_an_error_file_uses_no_attempt(server: LLMServer) -> None:
    """What such a batch says of its lines is kept, and counts for nothing, as the message says."""
    server.fates.append(failed("server_error", "Out of order.", done=7))
    server.line_faults.append(LineFault(LineKind.HTTP_ERROR, status=500, message="Oh no."))
    with pytest.raises(Unfinished, match=r"Out of order. Nothing more is sent and no attempt used"):
        distill(max_attempts=2)
    server.line_faults.clear()
    outcome = advance_run(max_attempts=1)
    assert (outcome.status.state, outcome.status.requests.failed) == ("done", 0)


# -- lists that cannot be read


@pytest.mark.slow
def test_list_that_cannot_be_read_keeps_back_one_job_only(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a lost batch is looked for in vain, the other jobs are sent and collected."""
    monkeypatch.setenv("FASTDATASETS_BATCH_MAX_REQUESTS", "2")
    server.faults.append(Fault(POST, Kind.DROP_AFTER, after=1))
    list_fault = Fault(LIST, Kind.REFUSE, None)
    server.faults.append(list_fault)
    counts = distill(wait=False).status.requests
    for _ in range(4):
        counts = advance_run(wait=False).status.requests
    assert (counts.done, counts.in_flight, counts.pending) == (5, 2, 0)
    server.faults.remove(list_fault)
    assert (advance_run().status.state, server.bill.twice(), rows()) == ("done", [], 7)


def test_outage_after_the_first_answers(server: LLMServer) -> None:
    """What is stored is said when the server no longer answers."""
    server.fates.append(expired(3))
    server.faults.append(Fault(FILES, Kind.DROP_BEFORE, None, after=1))
    with pytest.raises(Unfinished, match="3 answers are stored; nothing of this run is there now"):
        distill()
    server.faults.clear()
    assert (advance_run().status.state, server.bill.total) == ("done", 7)


# -- the first job, and those that follow it


@pytest.mark.slow
def test_rest_follows_the_validated_first_job(server: LLMServer) -> None:
    """Once the server works on the first job the rest is sent, before anything is answered."""
    server.looks = None
    distill(300, wait=False)
    assert [batch.total or 100 for batch in server.batches.values()] == [100]
    server.looks, server.fates[:] = 1, []
    outcome = advance_run(wait=False)
    assert [batch.total for batch in server.batches.values()] == [100, 200]
    assert outcome.status.requests.done == 0
    assert (advance_run().status.state, server.bill.twice()) == ("done", [])


@pytest.mark.slow
def test_first_answers_that_fail_alike_end_the_planning(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are not sent on and on while the first one has shown what is wrong with all."""
    monkeypatch.setenv("FASTDATASETS_BATCH_MAX_REQUESTS", "100")
    server.line_faults.append(LineFault(LineKind.HTTP_ERROR, code="odd", message="Odd."))
    with pytest.raises(Unfinished, match="the first 100 requests all failed alike: 400: Odd"):
        distill(2000)
    assert len(server.batches) < 10
    server.line_faults.clear()
    assert (advance_run(max_attempts=1).status.state, server.bill.total) == ("done", 2000)


# -- cancel


@pytest.mark.slow
@pytest.mark.parametrize("fault", [rate_limited(CANCEL, times=3), Fault(CANCEL, Kind.REFUSE, 3)])
def test_cancel_is_repeated_until_it_takes(server: LLMServer, fault: Fault) -> None:
    """A cancel that the server puts off is asked again, so that no batch runs on."""
    server.looks = None
    distill(wait=False)
    fault.fired = 0
    server.faults.append(fault)
    server.looks = 6
    cancel("r", None, ExecutionConfig())
    assert statuses(server) == ["cancelled"]
    assert (advance_run(max_attempts=1).status.state, server.bill.twice()) == ("done", [])


def test_cancel_that_never_takes(server: LLMServer) -> None:
    """A batch whose cancel is always put off is collected once it has ended."""
    server.looks = None
    distill(wait=False)
    server.faults.append(rate_limited(CANCEL, times=None))
    server.looks = 2
    cancel("r", None, ExecutionConfig())
    assert read_status("r").status.state == "done"
    assert (statuses(server), server.bill.total, server.bill.twice()) == (["completed"], 7, [])


@pytest.mark.slow
def test_late_duplicate_of_a_closed_job(server: LLMServer) -> None:
    """A batch that turns up after its job is over is cancelled until that takes."""
    server.looks = 4
    server.faults += [
        Fault(POST, Kind.DROP_AFTER, hide_lists=11),
        rate_limited(CANCEL, times=3),
    ]
    server.fates += [Fate(Status.CANCELLED, 0), expired(5)]
    distill()
    assert statuses(server) == ["cancelled", "expired", "completed"]
    assert server.faults.unspent() == []
    assert rows() == 7


# -- batches that are stuck


def test_overdue_batch_is_said(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """A batch that works on past its completion window is said, with what to do."""
    server.looks = None
    long_ago = int(time.time()) - 30 * 3600
    server.faults.append(
        Fault(LOOK, Kind.SET, None, fields={"created_at": long_ago, "expires_at": long_ago + 86400})
    )
    distill(wait=False)
    advance_run(wait=False)
    assert (
        "is 'validating' after 30 hours, past its completion window: 'cancel --forget' gives it up"
    ) in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("status", ["in_progress", "cancelling"])
def test_forget(server: LLMServer, command: Command, status: str) -> None:
    """`cancel --forget` gives up a batch that never ends; the bill counts it as uncertain."""
    server.looks = None
    distill(wait=False, **PRICE)
    names = dict.fromkeys([one.value for one in Status], status)
    server.faults.append(Fault(LOOK, Kind.STATUS_NAMES, None, fields=names))
    done = command("cancel", "r", "--forget")
    assert done.returncode == 3, done.stderr
    assert "job 00001: given up with 7 requests" in done.stderr
    server.faults.clear()
    said = json.loads(command("status", "r", "--json").stdout)
    assert (said["requests"]["pending"], said["requests"]["in_flight"]) == (7, 0)
    assert said["cost"]["uncertain"] > 0
    server.looks = 1
    outcome = advance_run(**PRICE)
    assert (outcome.status.state, rows()) == ("done", 7)
    assert outcome.status.cost.uncertain == Decimal(str(said["cost"]["uncertain"]))
