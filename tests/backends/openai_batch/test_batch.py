"""The openai-batch backend against a strict server that bills, through every fault it can make.

After each fault: every record answered, every body billed once, the exports those of a quiet run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from backends.openai_batch.failpoints import FailPoint
from fastdatasets.commands import cancel, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from store import Unfinished, UserError
from tests.batch_runs import (
    CONTENT,
    FILES,
    KEY,
    LIST,
    LOOK,
    POST,
    QUESTIONS,
    Runs,
    answer,
    asks,
    prompt_of,
)
from tests.conftest import measured, write_jsonl
from tests.conftest import start as start_command
from tests.llmserver import (
    SCHEDULING,
    UPPER_CASE,
    Fate,
    Fault,
    Kind,
    LineFault,
    LineKind,
    LLMServer,
    Status,
    content_filter,
    expired,
    failed,
    forbidden,
    insufficient_quota,
    no_batch_api,
    rate_limited,
    rate_limited_line,
    token_limit,
)

CALL_FAULTS = {
    "create refused with 500": Fault(POST, Kind.REFUSE),
    "create answered 500 after it worked": Fault(POST, Kind.ERROR_AFTER),
    "create answered 409 after it worked": Fault(POST, Kind.ERROR_AFTER, status=409),
    "create dropped before": Fault(POST, Kind.DROP_BEFORE),
    "create dropped after": Fault(POST, Kind.DROP_AFTER),
    "create garbled": Fault(POST, Kind.GARBLED),
    "create answered with html": Fault(POST, Kind.GARBLED, body="<html>"),
    "create nested too deep": Fault(POST, Kind.GARBLED, body="[" * 20_000),
    "look nested too deep": Fault(LOOK, Kind.GARBLED, body="[" * 20_000),
    "create rate-limited": rate_limited(POST, headers={"Retry-After": "3600"}, times=3),
    "upload refused with 500": Fault(FILES, Kind.REFUSE, times=3),
    "upload dropped after": Fault(FILES, Kind.DROP_AFTER),
    "upload garbled": Fault(FILES, Kind.GARBLED),
    "upload rate-limited": rate_limited(FILES, times=2),
    "looks fail": Fault(LOOK, Kind.REFUSE, times=4, status=503),
    "looks dropped": Fault(LOOK, Kind.DROP_BEFORE, times=4),
    "content 404 at first": Fault(CONTENT, Kind.REFUSE, times=2, status=404),
    "content 502": Fault(CONTENT, Kind.REFUSE, times=3, status=502),
    "content cut": Fault(CONTENT, Kind.CUT, times=2),
    "content cut, chunked": Fault(CONTENT, Kind.CUT_CHUNKED, times=2),
    "content cut without a length": Fault(CONTENT, Kind.CUT_SILENT, times=2),
    "deletes fail": Fault("DELETE /files/*", Kind.REFUSE, times=None),
    "unknown statuses": Fault(LOOK, Kind.STATUS_NAMES, None, fields=SCHEDULING),
    "upper-case statuses": Fault(LOOK, Kind.STATUS_NAMES, None, fields=UPPER_CASE),
    "status canceled": Fault(LOOK, Kind.STATUS_NAMES, None, fields={"cancelled": "canceled"}),
    "null counts": Fault(LOOK, Kind.NULL_COUNTS, None),
    "empty file ids": Fault(LOOK, Kind.EMPTY_FILE_IDS, None),
    "file ids as objects": Fault("* /batches*", Kind.OBJECT_FILE_IDS, None),
    "one id for output and errors": Fault(LOOK, Kind.SAME_FILE_IDS, None),
    "output id that is none": Fault(LOOK, Kind.SET, 2, fields={"output_file_id": [1]}),
    "upload with an id that is none": Fault(FILES, Kind.SET, 2, fields={"id": {"a": 1}}),
    "upload with a number as id": Fault(FILES, Kind.SET, 1, fields={"id": 5}),
    "create with a number as id": Fault(POST, Kind.SET, 1, fields={"id": {"id": True}}),
    "times out of range": Fault(
        "* /batches*", Kind.SET, None, fields={"created_at": 10**400, "expires_at": -(10**400)}
    ),
    "no metadata": Fault("* /batches*", Kind.NO_METADATA, None),
}


@pytest.mark.quick(5)
@pytest.mark.parametrize("name", CALL_FAULTS)
def test_faults_of_calls(runs: Runs, name: str) -> None:
    """Whatever a call does, the run ends whole and nothing is paid twice."""
    fault = CALL_FAULTS[name]
    runs.server.faults.append(fault)
    assert runs.distill().status.state == "done"
    assert fault.fired > 0
    runs.check_done()


LOST_AND = {
    "the list is unreadable at first": [Fault(LIST, Kind.REFUSE, times=3)],
    "the list says has_more for ever": [Fault(LIST, Kind.ENDLESS, None)],
    "the list ignores after": [
        Fault(LIST, Kind.IGNORE_AFTER, None),
        Fault(LIST, Kind.ENDLESS, None),
    ],
    "metadata is not kept": [Fault("* /batches*", Kind.NO_METADATA, None)],
    "a 429 comes first": [rate_limited(POST)],
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", LOST_AND)
def test_lost_answer_is_looked_for(runs: Runs, name: str) -> None:
    """A batch whose creation was not answered is found in the lists, whatever they do."""
    runs.server.page_cap = 2
    runs.server.faults += [*LOST_AND[name], Fault(POST, Kind.DROP_AFTER)]
    runs.distill()
    assert len(runs.server.batches) == 1
    runs.check_done()


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
def test_adoption_among_many_batches(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    """Of many batches in pages of any order, each lost one is adopted by its own job."""
    runs.questions = [f"Question {number}" for number in range(25)]
    monkeypatch.setenv("FASTDATASETS_BATCH_MAX_REQUESTS", "3")
    runs.server.page_cap, runs.server.list_order = 2, order
    runs.server.faults.append(Fault(POST, Kind.DROP_AFTER, times=None))
    runs.distill()
    assert len(runs.server.batches) == 9
    runs.check_done()


def test_late_appearance(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that shows up in the lists late, but within the grace time, is not sent again."""
    monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "600")
    runs.server.faults.append(Fault(POST, Kind.DROP_AFTER, hide_lists=4, hide_retrieves=2))
    runs.distill()
    assert len(runs.server.batches) == 1
    runs.check_done()


def test_duplicate_is_cancelled(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """A batch that shows up after the grace time leaves one of the two cancelled, answers once."""
    runs.server.looks = 3
    runs.server.faults.append(Fault(POST, Kind.DROP_AFTER, hide_lists=2))
    runs.distill()
    assert sorted(batch.status for batch in runs.server.batches.values()) == [
        "cancelled",
        "completed",
    ]
    assert "a second batch of it turned up; cancelling" in capfd.readouterr().err
    rows = json.loads(Path("output/r/distilled.json").read_text())
    assert [row["instruction"] for row in rows] == runs.questions


LINE_FAULTS = {
    "shuffled": LineFault(LineKind.SHUFFLE),
    "duplicates": LineFault(LineKind.DUPLICATE),
    "foreign ids": LineFault(LineKind.FOREIGN_ID),
    "line separators": LineFault(LineKind.LINE_SEPARATORS),
    "string bodies": LineFault(LineKind.STRING_BODY),
    "blank lines": LineFault(LineKind.BLANK_LINES),
    "CRLF": LineFault(LineKind.CRLF),
    "no final newline": LineFault(LineKind.NO_FINAL_NEWLINE),
    "empty error file": LineFault(LineKind.EMPTY_ERROR_FILE),
    "broken copies": LineFault(LineKind.BROKEN_COPY),
    "lines missing once": LineFault(LineKind.MISSING, asks("Question 3"), times=1),
    "status 0 once": LineFault(LineKind.STATUS_ZERO, asks("Question 3"), times=1),
    "429 once": rate_limited_line(asks("Question 3"), times=1),
    "all 500 once": LineFault(LineKind.HTTP_ERROR, None, times=7, status=500),
    "time-out once": LineFault(LineKind.NOT_RUN, asks("Question 3"), 1, code="request_timeout"),
    "expired lines": LineFault(LineKind.NOT_RUN, None, times=5, code="batch_expired"),
}


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", LINE_FAULTS)
def test_faults_of_lines(runs: Runs, name: str) -> None:
    """Odd lines are survived, and what was answered in them is not asked again."""
    fault = LINE_FAULTS[name]
    runs.server.line_faults.append(fault)
    assert runs.distill().status.state == "done"
    assert fault.fired
    if name == "line separators":
        rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
        assert all("\u2028\u2029\u0085" in row["output"] for row in rows)
        assert runs.server.bill.twice() == []
    else:
        runs.check_done()


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", [LineKind.LONE_SURROGATE, LineKind.INVALID_UTF8])
def test_text_that_is_none(runs: Runs, kind: LineKind) -> None:
    """What no text can hold becomes a replacement character, and is not asked for again."""
    runs.server.line_faults.append(LineFault(kind, asks("Question 3")))
    runs.distill()
    rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
    whole = {row["output"].replace("\N{REPLACEMENT CHARACTER}", "") for row in rows}
    assert whole == {f"A: {prompt_of(question)}" for question in QUESTIONS}
    assert [row["instruction"] for row in rows if "\N{REPLACEMENT CHARACTER}" in row["output"]] == [
        "Question 3"
    ]
    assert runs.server.bill.twice() == []


@pytest.mark.quick(1)
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_expired_batches_keep_what_they_finished(runs: Runs, limit: int) -> None:
    """Of a batch that expires the finished answers count, and only the rest is asked again."""
    runs.server.fates += [expired(limit), expired(1), None]
    assert runs.distill(max_attempts=1).status.state == "done"
    assert len(runs.server.batches) == 3
    runs.check_done()


def test_expired_without_a_word(runs: Runs) -> None:
    """A server that lists no unfinished request leaves them pending all the same."""
    runs.server.list_unfinished = False
    runs.server.fates.append(expired(2))
    assert runs.distill(max_attempts=1).status.state == "done"
    runs.check_done()


def test_permanent_failures(runs: Runs) -> None:
    """A 400 and a content filter are recorded with their message and never paid for again."""
    runs.server.line_faults += [
        LineFault(LineKind.HTTP_ERROR, asks("Question 1"), code="bad_thing", message="Bad thing."),
        content_filter(asks("Question 2")),
    ]
    outcome = runs.distill()
    assert outcome.status.requests.failed == 2
    assert {message: kind for kind, message, _ in outcome.reasons} == {
        "400: Bad thing.": "refused",
        "400: The response was filtered due to the prompt triggering the content policy.": (
            "filtered"
        ),
    }
    with pytest.raises(Unfinished, match="2 of 7 requests failed for good and are in no export"):
        outcome.raise_if_left()
    runs.check_done(without=("Question 1", "Question 2"))
    posts = len(runs.server.batches)
    runs.resume()
    assert len(runs.server.batches) == posts
    runs.server.line_faults.clear()
    assert runs.resume(retry_failed=True).status.state == "done"
    runs.check_done()


def test_retryable_failures_end(runs: Runs) -> None:
    """A request that keeps failing is tried --max-attempts times, then counted as failed."""
    fault = LineFault(LineKind.HTTP_ERROR, asks("Question 4"), status=500)
    runs.server.line_faults.append(fault)
    outcome = runs.distill(max_attempts=2)
    assert (outcome.status.requests.failed, len(fault.fired)) == (1, 2)
    runs.check_done(without=("Question 4",))


def test_broken_line_is_not_asked_again(runs: Runs) -> None:
    """A line that cannot be read was paid for: it is reported, and not asked for again."""
    runs.server.line_faults.append(LineFault(LineKind.BROKEN, asks("Question 5")))
    outcome = runs.distill()
    assert outcome.status.requests.failed == 1
    assert outcome.reasons == (("unusable", "the server's line for this answer is broken", 1),)
    runs.check_done(without=("Question 5",))


ENQUEUED = [
    (form, limit, factor, requests)
    for form in ("failed", 400, 429)
    for limit, factor, requests in ((3000, 6.0, 60), (400, 1.0, 40), (60, 1.0, 8))
]


@pytest.mark.quick(1)
@pytest.mark.parametrize(("form", "limit", "factor", "requests"), ENQUEUED)
def test_enqueued_limit(runs: Runs, form: Any, limit: int, factor: float, requests: int) -> None:
    """The enqueued-token limit, in whatever form, only cuts and delays."""
    runs.questions = [f"Question {number} {'x' * 40}" for number in range(requests)]
    runs.server.enqueued_limit = limit
    runs.server.enqueued_form = form
    runs.server.token_factor = factor
    assert runs.distill().status.state == "done"
    assert len(runs.server.batches) > 1
    runs.check_done()


def test_limit_that_is_others(runs: Runs) -> None:
    """A queue that others fill refuses a single request for a while: it waits, and never fails."""
    runs.questions = ["Question 0"]
    runs.server.fates += [token_limit("gpt-small", 900) for _ in range(4)]
    assert runs.distill(max_attempts=1).status.state == "done"
    runs.check_done()


def test_second_answer_lost_after_the_limit(runs: Runs) -> None:
    """Of one file sent twice because of the limit, the lost second batch is adopted."""
    runs.questions = ["Question 0"]
    runs.server.fates += [token_limit("gpt-small", 900), None]
    runs.server.faults.append(Fault(POST, Kind.DROP_AFTER, after=1))
    runs.distill()
    assert [batch.status for batch in runs.server.batches.values()] == ["failed", "completed"]
    runs.check_done()


@pytest.mark.slow
def test_limit_set_by_hand(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """--max-enqueued-tokens keeps the estimated tokens of what is at the server under it."""
    runs.questions = [f"Question {number}" for number in range(200)]
    monkeypatch.setenv("FASTDATASETS_BATCH_MAX_REQUESTS", "20")
    runs.distill(max_enqueued_tokens=2000)
    with duckdb.connect("output/r/work.duckdb", read_only=True) as db:
        rows = db.execute(
            "SELECT event, job_id, detail ->> '$.tokens' FROM job_events ORDER BY rowid"
        ).fetchall()
    tokens = {job: int(number) for event, job, number in rows if event == "planned"}
    enqueued, most = set(), 0
    for event, job, _ in rows:
        if event == "creating":
            enqueued.add(job)
        elif event == "ended":
            enqueued.discard(job)
        most = max(most, sum(tokens[job] for job in enqueued))
    assert 1000 < most <= 2000
    runs.check_done()


STOPS: dict[str, tuple[Callable[[LLMServer], object], str]] = {
    "key refused": (
        lambda server: setattr(server, "keys", ["another"]),
        "the server refuses every request: 401: Incorrect API key provided",
    ),
    "forbidden": (
        lambda server: server.faults.append(forbidden("POST *")),
        "the server refuses every request: 403: ",
    ),
    "no quota": (
        lambda server: server.faults.append(insufficient_quota(POST)),
        "the server refuses every request: 429: You exceeded your current quota",
    ),
    "no quota in lines": (
        lambda server: server.line_faults.append(
            LineFault(LineKind.HTTP_ERROR, status=429, code="insufficient_quota", message="No.")
        ),
        "job 00001: 429: No. Nothing more is sent",
    ),
    "model unknown": (
        lambda server: setattr(server, "models", ["other"]),
        "gpt-small",
    ),
    "parameter refused": (
        lambda server: setattr(server, "parameters", {"model", "messages"}),
        "Unrecognized request argument supplied: max_tokens",
    ),
    "all fail alike": (
        lambda server: server.line_faults.append(
            LineFault(LineKind.HTTP_ERROR, code="odd_thing", message="No such thing.")
        ),
        "the first 7 requests all failed alike: 400: No such thing. Nothing more is sent",
    ),
    "file refused": (
        lambda server: server.fates.append(failed("empty_file", "The file is empty.")),
        "job 00001: the server refused the file at validation: The file is empty.",
    ),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", STOPS)
def test_what_concerns_every_request(runs: Runs, name: str) -> None:
    """It stops the run with exit 3, uses no attempt, and once mended a resume goes through."""
    break_it, message = STOPS[name]
    break_it(runs.server)
    with pytest.raises(Unfinished) as raised:
        runs.distill(max_attempts=1)
    assert message in str(raised.value)
    runs.server.faults.clear()
    runs.server.line_faults.clear()
    runs.server.fates.clear()
    runs.server.keys, runs.server.models, runs.server.parameters = [KEY], None, None
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


def test_lines_refused_at_validation(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """Lines that the server names when it refuses a file fail alone; the rest goes on."""
    runs.server.fates.append(failed("invalid_request", "Bad line.", line=3))
    outcome = runs.distill()
    assert outcome.reasons == (("refused", "Bad line.", 1),)
    assert "the server refused lines of the file: line 3: Bad line." in capfd.readouterr().err
    runs.check_done(without=("Question 2",))


def test_no_batch_api(runs: Runs) -> None:
    """A server without a Batch API is said, with what to use instead."""
    runs.server.faults += no_batch_api()
    with pytest.raises(UserError, match=r"has no Batch API .* Use --backend openai for live"):
        runs.distill()


def test_no_key_and_no_model(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, or a model to ask, nothing is sent."""
    monkeypatch.delenv("LLM_API_KEY")
    with pytest.raises(UserError, match="there is no key: set LLM_API_KEY"):
        runs.distill()
    with pytest.raises(UserError, match="name the teacher for openai-batch"):
        start(
            RunConfig(dataset_name="d.jsonl", backend="openai-batch"),
            None,
            "other",
            ExecutionConfig(),
        )
    assert runs.server.requests_log == []


def test_server_that_is_not_there(runs: Runs) -> None:
    """A server that is gone before a job was sent ends the run after a while, nothing is lost."""
    runs.server.faults.append(Fault(FILES, Kind.REFUSE, times=None))
    with pytest.raises(Unfinished, match="the server refuses the file: 500"):
        runs.distill()
    runs.server.faults.clear()
    runs.server.stop()
    with pytest.raises(Unfinished, match="does not answer as a batch server should"):
        runs.resume()
    runs.server.start()
    assert runs.resume().status.state == "done"
    runs.check_done()


def test_another_address(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """With jobs at one server, another base URL is refused, naming the right one."""
    runs.server.looks = None
    runs.distill(wait=False)
    monkeypatch.setenv("LLM_API_BASE", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=f"set LLM_API_BASE={runs.server.base_url}"):
        runs.resume()


def test_lost_batch(runs: Runs) -> None:
    """A batch that the server no longer knows is never sent again by itself."""
    runs.server.looks = None
    assert runs.distill(wait=False).status.requests.in_flight == 7
    runs.server.faults.append(Fault(LOOK, Kind.REFUSE, None, status=404))
    outcome = runs.resume()
    assert (outcome.status.requests.in_flight, len(runs.server.batches)) == (7, 1)
    with pytest.raises(Unfinished, match="7 requests are lost at the server: the server does not "):
        outcome.raise_if_left()
    runs.server.faults.clear()  # it had been the wrong project
    runs.server.looks = 1
    assert runs.resume().status.state == "done"
    runs.check_done()


@pytest.mark.slow
def test_resubmit_lost(runs: Runs) -> None:
    """--resubmit-lost asks again for what a batch held that was lost before."""
    runs.server.looks = None
    runs.distill(wait=False)
    runs.server.faults.append(Fault(LOOK, Kind.REFUSE, 5, status=404))
    runs.server.looks = 1
    assert runs.resume(resubmit_lost=True).status.requests.in_flight == 7
    assert len(runs.server.batches) == 1
    assert runs.resume(resubmit_lost=True).status.state == "done"
    assert len(runs.server.batches) == 2


def test_no_wait(runs: Runs) -> None:
    """--no-wait submits and leaves; resumes from cron collect what is ready."""
    runs.server.looks = None
    outcome = runs.distill(wait=False)
    assert (outcome.status.requests.in_flight, outcome.files) == (7, ())
    assert runs.resume(wait=False).status.requests.in_flight == 7
    for batch_id in runs.server.batches:
        runs.server.finish(batch_id)
    assert runs.resume(wait=False).status.state == "done"
    assert len(runs.server.batches) == 1
    runs.check_done()


@pytest.mark.slow
def test_first_job_is_small(runs: Runs) -> None:
    """Until the server has answered anything, only a small job is sent."""
    runs.questions = [f"Question {number}" for number in range(300)]
    runs.server.looks = None
    runs.distill(wait=False)
    (probe,) = runs.server.batches.values()
    runs.server.finish(probe.id)
    assert probe.total == 100
    runs.server.looks = 1
    runs.resume()
    assert [batch.total for batch in runs.server.batches.values()] == [100, 200]
    runs.check_done()


def test_cancel(runs: Runs) -> None:
    """Cancel keeps what was finished, leaves nothing at the server, and a resume does the rest."""
    runs.server.fates.append(Fate(Status.COMPLETED, 3))
    runs.distill(wait=False)
    outcome = cancel("r", None, ExecutionConfig())
    assert outcome is not None
    counts = outcome.status.requests
    assert (counts.in_flight, counts.done + counts.pending) == (0, 7)
    assert [batch.status for batch in runs.server.batches.values()] == ["cancelled"]
    assert runs.server.files == {}
    assert runs.resume().status.state == "done"
    runs.check_done()


def test_files_at_the_server(runs: Runs) -> None:
    """Collected files are deleted at the server; --keep-files leaves them."""
    runs.distill()
    assert runs.server.files == {}
    runs.questions.append("Question 7")
    Path("output/r").rename("output/old")
    runs.distill(keep_files=True)
    assert len(runs.server.files) == 2


def test_key_is_nowhere(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """The key appears in no file of the run and in nothing that is printed, also when echoed."""
    error = {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid"}}
    runs.server.faults.append(Fault(POST, Kind.REFUSE, status=401, body=error))
    with pytest.raises(Unfinished) as raised:
        runs.distill()
    runs.resume()
    out, err = capfd.readouterr()
    assert KEY not in str(raised.value) + out + err
    for path in Path("output/r").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.slow
def test_store_is_free_while_waiting(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While the command only waits, another process can read the store; a second one is busy."""
    monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "600")
    runs.server.looks = None
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": question} for question in QUESTIONS])
    options = ("--backend", "openai-batch", "--model", "gpt-small", "--sample-size", 0)
    worker = start_command("distill", "--dataset-name", source, "--run", "r", *options)
    assert worker.stderr is not None
    while "are at the server" not in worker.stderr.readline():
        assert worker.poll() is None
    for words in (["status", "r", "--json"], ["resume", "r"]):
        other = start_command(*words)
        out, err = other.communicate(timeout=60)
        if words[0] == "status":
            assert json.loads(out)["requests"]["in_flight"] == 7
        else:
            assert (other.returncode, out) == (3, "")
            assert f"run r is busy: process {worker.pid} is working on it" in err
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == 130
    assert "to continue: fastdatasets resume" in err
    runs.server.looks = 1
    assert runs.resume().status.state == "done"
    runs.check_done()


def killed(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """A command that may die on its way."""
    process = start_command(*words, env=env)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


QUIET = [point for point in FailPoint if point not in (FailPoint.AWAITED, FailPoint.LOST)]


@pytest.mark.slow
@pytest.mark.parametrize("point", QUIET)
def test_kill_at_every_step(runs: Runs, tmp_path: Path, point: FailPoint) -> None:
    """Kill -9 at any named step, twice, then resume: nothing is lost or paid twice."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": question} for question in QUESTIONS])
    words = ("--backend", "openai-batch", "--model", "gpt-small", "--sample-size", 0)
    first = killed(
        "distill", "--dataset-name", source, "--run", "r", *words, FASTDATASETS_FAILPOINT=point
    )
    assert first.returncode == -signal.SIGKILL
    killed("resume", "r", FASTDATASETS_FAILPOINT=point)
    assert runs.resume().status.state == "done"
    runs.check_done()


@pytest.mark.slow
def test_kill_at_random_calls(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 again and again after random calls of a run of many jobs: nothing lost or twice."""
    runs.questions = [f"Question {number}" for number in range(100)]
    monkeypatch.setenv("FASTDATASETS_BATCH_MAX_REQUESTS", "4")
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": one} for one in runs.questions])
    words = ("--backend", "openai-batch", "--model", "gpt-small", "--sample-size", 0)
    seed = int.from_bytes(os.urandom(4))
    calls = random.Random(seed)
    codes = []
    for _ in range(8):
        last_call = len(runs.server.requests_log) + calls.randint(1, 12)
        process = start_command("distill", "--dataset-name", source, "--run", "r", *words)
        while len(runs.server.requests_log) < last_call and process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.002)
        process.kill()
        process.communicate()
        codes.append(process.returncode)
    assert codes == [-signal.SIGKILL] * 8, seed
    last = killed("resume", "r")
    assert last.returncode == 0, (seed, last.stderr)
    runs.check_done()


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """A run of 20,000 requests and 40 MB of texts goes through in less than 700 MB."""
    prompts = [{"prompt": f"Question {number} {'words ' * 150}"} for number in range(20_000)]
    source = write_jsonl(tmp_path / "d.jsonl", prompts)  # type: ignore[arg-type]
    with LLMServer(answer=answer, keys=[KEY], bill_digests=True) as server:
        env = {
            "LLM_API_KEY": KEY,
            "LLM_API_BASE": server.base_url,
            "FASTDATASETS_POLL_SECONDS": "0.2",
        }
        words = ("--backend", "openai-batch", "--model", "m", "--sample-size", 0, "--run", "r")
        keep = "--keep-flagged"  # answers that repeat a word 150 times
        code, peak, _ = measured("distill", "--dataset-name", source, *words, keep, env=env)
        assert code == 0
        assert peak < 700
        assert (server.bill.total, server.bill.twice()) == (20_000, [])


@pytest.mark.slow
def test_cancel_that_fails_once_is_repeated(runs: Runs) -> None:
    """A cancel answered with 500 is sent again, so that no batch runs on."""
    runs.server.looks = None
    runs.distill(wait=False)
    runs.server.faults.append(Fault("POST /batches/*/cancel", Kind.REFUSE))
    runs.server.looks = 1
    cancel("r", None, ExecutionConfig())
    assert [batch.status for batch in runs.server.batches.values()] == ["cancelled"]
    assert runs.resume().status.state == "done"
    runs.check_done()


def test_duplicate_whose_cancel_fails(runs: Runs) -> None:
    """Its cancel is repeated until the server takes it; a look at ended jobs does no harm."""
    runs.server.looks = 4
    runs.server.faults += [
        Fault(POST, Kind.DROP_AFTER, hide_lists=2),
        Fault("POST /batches/*/cancel", Kind.REFUSE, times=2),
        Fault(CONTENT, Kind.REFUSE, times=2, status=502),
    ]
    assert runs.distill().status.state == "done"
    assert "cancelled" in {batch.status for batch in runs.server.batches.values()}


@pytest.mark.slow
def test_failed_lists_do_not_count_as_looks(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace time starts with a list that could be read, so a late batch is found after it."""
    monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0.5")
    monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0.05")
    runs.server.faults += [
        Fault(LIST, Kind.REFUSE, times=12),
        Fault(POST, Kind.DROP_AFTER, hide_lists=2),
    ]
    runs.distill()
    assert len(runs.server.batches) == 1
    runs.check_done()


def test_server_error_that_speaks_of_a_limit(runs: Runs) -> None:
    """A 502 tells nothing of the batch's fate, whatever its text says: it is looked for."""
    body = {"error": {"message": "token_limit_exceeded", "code": "insufficient_quota"}}
    runs.server.faults.append(Fault(POST, Kind.ERROR_AFTER, status=502, body=body))
    runs.distill()
    assert len(runs.server.batches) == 1
    runs.check_done()


def test_address_that_was_mistyped(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a wrong address no run is begun, so the right one goes through."""
    monkeypatch.setenv("LLM_API_BASE", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match=r"^no connection to http://127.0.0.1:9/v1: .*Check the"):
        runs.distill()
    assert not Path("output/r").exists()
    monkeypatch.setenv("LLM_API_BASE", runs.server.base_url)
    assert runs.distill().status.state == "done"
    runs.check_done()


@pytest.mark.quick(1)
@pytest.mark.parametrize("form", ["failed", 400])
def test_request_larger_than_the_limit(runs: Runs, form: Any) -> None:
    """A request that can never fit fails alone, and the others are answered."""
    runs.questions.append("Question " + "long " * 4000)
    runs.server.enqueued_limit, runs.server.enqueued_form = 1000, form
    outcome = runs.distill()
    assert (outcome.status.requests.done, outcome.status.requests.failed) == (7, 1)
    runs.check_done(without=(runs.questions[-1],))


def test_file_too_large_for_the_server(runs: Runs) -> None:
    """A file the server finds too large is cut, down to the request that alone is too large."""
    runs.questions.append("Question " + "long " * 4000)
    runs.server.max_upload_bytes = 5000
    outcome = runs.distill()
    assert (outcome.status.requests.done, outcome.status.requests.failed) == (7, 1)
    runs.check_done(without=(runs.questions[-1],))


def test_rate_limit_is_no_token_limit(runs: Runs) -> None:
    """A 429 that names a limit of batches an hour teaches nothing of tokens."""
    runs.questions = [f"Question {number}" for number in range(300)]
    body = {"error": {"message": "Rate limit reached. Limit: 60 / hour.", "code": "rate_limit"}}
    runs.server.faults.append(Fault(POST, Kind.REFUSE, status=429, body=body))
    runs.distill()
    assert [batch.total for batch in runs.server.batches.values()] == [100, 200]
    runs.check_done()


def test_input_file_that_vanished(runs: Runs) -> None:
    """An uploaded file that the server no longer has is uploaded anew."""
    runs.server.faults.append(insufficient_quota(POST, times=1))
    with pytest.raises(Unfinished):
        runs.distill()
    for file_id in list(runs.server.files):
        runs.server.faults.append(
            Fault(
                POST,
                Kind.REFUSE,
                times=1,
                status=404,
                body={"error": {"message": f"No such File object: {file_id}", "code": None}},
            )
        )
    assert runs.resume().status.state == "done"
    runs.check_done()


@pytest.mark.parametrize("key", ["sk-with space", "sk-\u00e4", "sk-a\nb"])
def test_key_that_is_none(runs: Runs, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key with characters that no key has is refused without showing it."""
    monkeypatch.setenv("LLM_API_KEY", key)
    with pytest.raises(UserError) as raised:
        runs.distill()
    assert str(raised.value) == "LLM_API_KEY has characters that no key has: copy it again"


@pytest.mark.parametrize("address", ["localhost:8000/v1", "http://[x", "http://h:port/v1"])
def test_address_that_is_none(runs: Runs, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """An address that cannot be one is said before anything is sent."""
    monkeypatch.setenv("LLM_API_BASE", address)
    with pytest.raises(UserError, match="LLM_API_BASE is no address"):
        runs.distill()
