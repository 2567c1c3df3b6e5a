"""Batches that end and do not deliver: what they say they completed is held against their files."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.openai_batch.failpoints import FailPoint
from fastdatasets.commands import cancel
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.runs.status import read_status, to_text
from store import Unfinished
from tests.batch_runs import CONTENT, LOOK, QUESTIONS, Runs, asks, prompt_of
from tests.conftest import Command, write_jsonl
from tests.conftest import start as start_command
from tests.llmserver import (
    MISSING,
    Fate,
    Fault,
    Kind,
    LineFault,
    LineKind,
    Status,
    expired,
    failed,
    token_limit,
)

FILE = "GET /files/*"
GRACE = "FASTDATASETS_ADOPT_GRACE_SECONDS"
PRICE: dict[str, Any] = {"price_in": "1000000", "price_out": "1000000"}  # a dollar a token


def counts(**fields: Any) -> Fault:
    """Batches whose request counts are these."""
    return Fault(LOOK, Kind.SET, None, fields={"request_counts": {"total": 7, **fields}})


def next_step() -> str:
    """The last line of `status`."""
    return to_text(read_status("r")).splitlines()[-1].strip()


LOST_NEXT = (
    "send, and pay for, lost requests again with: fastdatasets resume output/r --resubmit-lost"
)


# -- no output file

LATE = {
    "completed": None,
    "expired": expired(5),
    "cancelled": Fate(Status.CANCELLED, 5),
    "failed": failed("server_error", done=5),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("form", [None, ""])
def test_output_file_named_late(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, name: str, form: str | None
) -> None:
    """An output file that shows at a later look is waited for, and nothing is sent again."""
    monkeypatch.setenv(GRACE, "600")
    runs.server.looks = 0
    runs.server.fates.append(LATE[name])
    fault = Fault(LOOK, Kind.SET, 6, fields={"output_file_id": form})
    runs.server.faults.append(fault)
    if name == "cancelled":  # which we did not ask for: it stops the run
        with pytest.raises(Unfinished, match="not by this tool"):
            runs.distill(max_attempts=1)
    else:
        runs.distill(max_attempts=1)
    assert fault.fired == 6
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


def test_output_file_never_named(runs: Runs, command: Command) -> None:
    """It stops the run at the first batch, in that command and the next ones."""
    runs.questions = [f"Question {number}" for number in range(120)]
    runs.server.faults.append(Fault("* /batches*", Kind.NO_OUTPUT_FILE, None))
    with pytest.raises(Unfinished) as raised:
        runs.distill()
    (batch_id, *_) = runs.server.batches
    reason = (
        f"{batch_id} is 'completed' with 100 requests completed, but names no output file: the "
        "answers may be had from the server by hand"
    )
    assert str(raised.value) == (
        f"job 00001 is lost: {reason}. Nothing more is sent. If its answers cannot be had, "
        "'resume --resubmit-lost' sends its requests again, which is billed again"
    )
    for _ in range(2):  # the second batch was at the server by then
        again = command("resume", "r")
        assert (again.returncode, again.stdout) == (3, "")
    assert f"120 requests of 2 jobs are lost at the server: {reason}. fastdat" in again.stderr
    assert next_step() == LOST_NEXT
    assert (runs.server.bill.total, runs.server.bill.twice()) == (120, [])


def test_output_file_named_after_the_job_was_lost(runs: Runs) -> None:
    """A later resume sees that the batch has changed, and takes its answers."""
    fault = Fault("* /batches*", Kind.NO_OUTPUT_FILE, None)
    runs.server.faults.append(fault)
    with pytest.raises(Unfinished):
        runs.distill()
    fault.times = 0
    assert runs.resume(max_attempts=1).status.state == "done"
    runs.check_done()


def test_lost_jobs_under_cron(runs: Runs) -> None:
    """With --no-wait the looks of several commands add up, and each command ends."""
    runs.server.looks = 0
    runs.server.faults.append(Fault("* /batches*", Kind.NO_OUTPUT_FILE, None))
    runs.distill(wait=False)
    for _ in range(2):
        assert runs.resume(wait=False).status.lost == ()
    with pytest.raises(Unfinished, match="job 00001 is lost"):
        runs.resume(wait=False)
    with pytest.raises(Unfinished, match=r"7 requests are lost at the server: batch_\w+ is 'compl"):
        runs.resume(wait=False).raise_if_left()
    assert (runs.server.bill.total, len(runs.server.batches)) == (7, 1)


# -- fewer lines than completed


@pytest.mark.slow
def test_fewer_lines_than_completed(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    """What is there is stored, the rest is lost and said; asked again only at the user's word."""
    three = [f"Question {number}" for number in (1, 2, 4)]
    fault = LineFault(LineKind.WITHHELD, lambda body: any(asks(one)(body) for one in three))
    runs.server.line_faults.append(fault)
    outcome = runs.distill()
    counted = outcome.status.requests
    assert (counted.done, counted.in_flight, counted.pending) == (4, 3, 0)
    (lost,) = outcome.status.lost
    assert (lost.job, lost.requests) == ("00001", 3)
    assert lost.reason.endswith(
        "is 'completed' with 7 requests completed, but its files have 4 answers"
    )
    assert (runs.server.bill.total, len(runs.server.batches)) == (7, 1)
    assert f"job 00001 is lost: {lost.reason}" in capfd.readouterr().err
    runs.resume()
    assert len(runs.server.batches) == 1
    runs.server.line_faults.clear()
    assert runs.resume(resubmit_lost=True, max_attempts=2).status.state == "done"
    rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
    assert [row["output"] for row in rows] == [f"A: {prompt_of(one)}" for one in QUESTIONS]
    assert runs.server.bill.total == 10


def test_output_file_is_still_being_written(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows is downloaded again until it holds what the batch says."""
    monkeypatch.setenv(GRACE, "600")
    runs.server.faults += [
        Fault(FILE, Kind.SET, None, fields={"bytes": MISSING}),
        *(Fault(CONTENT, Kind.FEW_LINES, keep=size) for size in (0, 1500, 1500, 3000)),
    ]
    assert runs.distill(max_attempts=1).status.state == "done"
    assert [job.name for job in runs.resume().status.cost.jobs] == []
    runs.check_done()


COUNTS = {
    "errors counted as completed": counts(completed=7, failed=0),
    "errors counted twice": counts(completed=7, failed=2),
    "no count of errors": counts(completed=5),
    "counts that are none": counts(completed=-3, failed="x"),
    "too few": counts(completed=1, failed=0),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", COUNTS)
def test_errors_count_towards_the_promise(runs: Runs, name: str) -> None:
    """Servers that count otherwise are not punished, as long as each request has its line."""
    runs.server.faults.append(COUNTS[name])
    runs.server.line_faults += [
        LineFault(LineKind.HTTP_ERROR, asks(question), status=400)
        for question in ("Question 2", "Question 5")
    ]
    outcome = runs.distill()
    assert (outcome.status.requests.failed, outcome.status.lost) == (2, ())
    runs.check_done(without=("Question 2", "Question 5"))


def test_unfinished_lines_are_no_answers(runs: Runs) -> None:
    """Lines that say 'not run' in the error file do not stand for answers that are not there."""
    runs.server.fates.append(expired(3))
    runs.server.line_faults.append(LineFault(LineKind.WITHHELD))
    with pytest.raises(Unfinished, match="with 3 requests completed, but names no output file"):
        runs.distill()
    assert (runs.server.bill.total, len(runs.server.batches)) == (3, 1)


# -- a file that is not there


def test_error_file_that_is_not_there(runs: Runs) -> None:
    """The output file is stored all the same; what has no line was not paid for, and goes again."""
    runs.server.absent_files = ["error"]
    runs.server.line_faults.append(
        LineFault(LineKind.HTTP_ERROR, asks("Question 3"), 1, status=500)
    )
    assert runs.distill(max_attempts=2).status.state == "done"
    runs.check_done()


@pytest.mark.slow
def test_error_file_that_comes_late(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for through the grace time, and what it says counts."""
    monkeypatch.setenv(GRACE, "600")
    runs.server.line_faults.append(
        LineFault(LineKind.HTTP_ERROR, asks("Question 3"), message="No.")
    )
    runs.distill(wait=False)
    runs.server.settle()
    (batch,) = runs.server.batches.values()
    where = f"GET /files/{batch.error_file_id}/content"
    runs.server.faults.append(Fault(where, Kind.REFUSE, times=6, status=404))
    outcome = runs.resume(max_attempts=1)
    assert outcome.reasons == (("refused", "400: No.", 1),)
    runs.check_done(without=("Question 3",))


def test_error_file_that_is_not_there_without_counts(runs: Runs) -> None:
    """Where nobody says what was completed, requests without a line may have been paid for."""
    runs.server.absent_files = ["error"]
    runs.server.faults.append(Fault(LOOK, Kind.NULL_COUNTS, None))
    runs.server.line_faults.append(LineFault(LineKind.HTTP_ERROR, asks("Question 3"), status=500))
    outcome = runs.distill()
    (lost,) = outcome.status.lost
    assert (outcome.status.requests.done, lost.requests, len(runs.server.batches)) == (6, 1, 1)
    assert "is 'completed', but the server has not its file file-" in lost.reason


@pytest.mark.slow
def test_resubmit_lost_ends(runs: Runs) -> None:
    """It asks once a command, for what was lost before, and uses an attempt each time."""
    runs.server.absent_files = ["output"]
    with pytest.raises(Unfinished, match="the server has not its file"):
        runs.distill()
    for batches in (2, 3):
        with pytest.raises(Unfinished, match="the server has not its file"):
            runs.resume(resubmit_lost=True)
        assert len(runs.server.batches) == batches
    outcome = runs.resume(resubmit_lost=True)
    assert (outcome.status.requests.failed, len(runs.server.batches)) == (7, 3)
    ((kind, message, requests),) = outcome.reasons
    assert (kind, requests) == ("server", 7)
    assert message.startswith("the batch was lost: ")


def test_output_file_that_is_there_after_the_job_was_lost(runs: Runs) -> None:
    """A lost file is asked for once more by each resume, and taken where it is there again."""
    fault = Fault(CONTENT, Kind.REFUSE, None, status=404)
    runs.server.faults.append(fault)
    with pytest.raises(Unfinished):
        runs.distill()
    runs.resume()
    fault.times = 0
    assert runs.resume(resubmit_lost=True, max_attempts=1).status.state == "done"
    runs.check_done()


# -- sizes

SIZES: dict[str, tuple[list[Fault], str]] = {
    "no bytes": ([Fault(FILE, Kind.SET, None, fields={"bytes": MISSING})], ""),
    "bytes 0": ([Fault(FILE, Kind.SET, None, fields={"bytes": 0})], ""),
    "bytes as text": ([Fault(FILE, Kind.SET, None, fields={"bytes": "many"})], ""),
    "wrong bytes": (
        [Fault(FILE, Kind.SET, None, fields={"bytes": 7})],
        "bytes where the server says 7: taken as it is",
    ),
    "compressed": ([Fault(CONTENT, Kind.GZIP, None)], ""),
    "compressed, its bytes unknown": (
        [
            Fault(CONTENT, Kind.GZIP, None),
            Fault(FILE, Kind.SET, None, fields={"bytes": 7_000_000}),
        ],
        "bytes where the server says 7000000: taken as it is",
    ),
    "cut at first": (
        [
            Fault(FILE, Kind.SET, None, fields={"bytes": MISSING}),
            Fault(CONTENT, Kind.CUT_SILENT, times=2),
        ],
        "or cut; looking again",
    ),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("last_newline", [True, False])
@pytest.mark.parametrize("wait", [True, False])
def test_sizes(
    runs: Runs, capfd: pytest.CaptureFixture[str], name: str, last_newline: bool, wait: bool
) -> None:
    """A file is collected whatever size the server says, its last line with a newline or not."""
    faults, said = SIZES[name]
    runs.server.looks = 0
    runs.server.faults += [replace(fault) for fault in faults]
    if not last_newline:
        runs.server.line_faults.append(LineFault(LineKind.NO_FINAL_NEWLINE))
    runs.distill(wait=wait)
    for _ in range(3 if not wait else 0):
        runs.resume(wait=False)
    assert runs.resume(max_attempts=1, wait=wait).status.state == "done"
    runs.check_done()
    err = capfd.readouterr().err
    assert (said in err) if said else ("taken as it is" not in err)


def test_last_line_that_is_always_cut(runs: Runs) -> None:
    """It counts as broken: the others are kept, and the one is not sent again by itself."""
    runs.server.line_faults += [
        LineFault(LineKind.NO_FINAL_NEWLINE),
        LineFault(LineKind.BROKEN, asks("Question 6")),
    ]
    runs.server.faults.append(Fault(FILE, Kind.SET, None, fields={"bytes": MISSING}))
    outcome = runs.distill()
    assert outcome.reasons == (("unusable", "the server's line for this answer is broken", 1),)
    runs.check_done(without=("Question 6",))


# -- foreign ids


@pytest.mark.quick(1)
@pytest.mark.parametrize("null_counts", [True, False])
def test_all_ids_are_foreign(
    runs: Runs, capfd: pytest.CaptureFixture[str], null_counts: bool
) -> None:
    """The first such batch stops the run, names the ids once and keeps the files."""
    runs.server.line_faults.append(LineFault(LineKind.OTHER_ID))
    if null_counts:
        runs.server.faults.append(Fault(LOOK, Kind.NULL_COUNTS, None))
    with pytest.raises(Unfinished) as raised:
        runs.distill()
    (kept,) = Path("output/r/jobs").iterdir()
    (batch,) = runs.server.batches.values()
    lines = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    sent = lines[0]["custom_id"].removeprefix("foreign-")
    assert str(raised.value).startswith(
        f"job 00001 is lost: {batch.id} has custom_ids that were not sent ('foreign-{sent}', not "
        f"'{sent}'), kept in {kept}. Nothing more is sent."
    )
    assert "custom_ids" not in capfd.readouterr().err
    assert (len(lines), batch.output_file_id in runs.server.files) == (7, True)
    with pytest.raises(Unfinished, match=r"7 requests are lost at the server: \w+ has custom_ids"):
        runs.resume().raise_if_left()
    assert (runs.server.bill.total, len(runs.server.batches)) == (7, 1)
    runs.server.line_faults.clear()
    assert runs.resume(resubmit_lost=True).status.state == "done"
    assert kept.exists()


# -- cancelled


def test_cancelled_batch_that_delivers_nothing(runs: Runs) -> None:
    """What it says it completed is uncertain in the bill, and is not asked again by itself."""
    runs.server.fates.append(Fate(Status.COMPLETED, 4))
    runs.server.line_faults.append(LineFault(LineKind.WITHHELD))
    runs.distill(wait=False, **PRICE)
    (batch,) = runs.server.batches.values()
    while batch.status != Status.IN_PROGRESS:
        runs.resume(wait=False, **PRICE)
    outcome = cancel("r", None, ExecutionConfig(**PRICE))
    assert outcome is not None
    assert (batch.status, batch.done, runs.server.bill.total) == ("cancelled", 4, 4)
    cost = outcome.status.cost
    tokens = runs.server.bill.tokens
    assert cost.uncertain is not None
    assert cost.uncertain >= tokens.prompt_tokens + tokens.completion_tokens
    assert [job.requests for job in outcome.status.lost] == [7]
    assert runs.resume(**PRICE).status.cost.uncertain == cost.uncertain
    assert runs.server.bill.total == 4


def test_vanished_batch_is_uncertain(runs: Runs) -> None:
    """Of a batch that the server no longer knows all requests may have been billed."""
    runs.server.looks = None
    runs.distill(wait=False, **PRICE)
    runs.server.faults.append(Fault(LOOK, Kind.REFUSE, None, status=404))
    cost = runs.resume(**PRICE).status.cost
    assert cost.uncertain is not None
    assert cost.spent == 0
    assert cost.uncertain > 7 * 4096  # the limit of an answer
    assert next_step() == LOST_NEXT


@pytest.mark.slow
def test_vanished_batch_under_cron(runs: Runs) -> None:
    """With --no-wait the looks add up too; one that is visible again starts anew."""
    runs.server.looks = None
    runs.distill(wait=False)
    runs.server.faults.append(Fault(LOOK, Kind.REFUSE, 3, status=404))
    for _ in range(5):
        assert runs.resume(wait=False).status.lost == ()
    runs.server.faults.append(Fault(LOOK, Kind.REFUSE, None, status=404))
    for _ in range(3):
        assert runs.resume(wait=False).status.lost == ()
    (lost,) = runs.resume(wait=False).status.lost
    assert (lost.requests, len(runs.server.batches)) == (7, 1)


def test_batch_that_vanishes_after_the_limit(runs: Runs) -> None:
    """A refused earlier batch of its file does not make it a duplicate, to be sent again."""
    runs.questions = ["Question 0"]
    runs.server.looks = 0
    runs.server.fates.append(token_limit("gpt-small", 900))
    runs.server.faults.append(Fault(LOOK, Kind.REFUSE, None, after=1, status=404))
    outcome = runs.distill()
    assert (len(outcome.status.lost), len(runs.server.batches)) == (1, 2)
    runs.server.settle()
    assert runs.server.bill.total == 1


# -- crashes

LATER = list(FailPoint)[list(FailPoint).index(FailPoint.ENDED) :]


@pytest.mark.slow
@pytest.mark.parametrize("point", LATER)
def test_kill_at_every_step_after_the_end(runs: Runs, point: FailPoint) -> None:
    """Kill -9 at any step of a batch that delivers late, twice, then resume: nothing is doubled."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    words = ("--backend", "openai-batch", "--model", "gpt-small", "--sample-size", 0)
    runs.server.looks = 0
    looks = 6 if point is FailPoint.LOST else 2
    runs.server.faults += [
        Fault(LOOK, Kind.NO_OUTPUT_FILE, looks),
        Fault(CONTENT, Kind.REFUSE, times=1, after=1, status=404),
    ]
    fault = LineFault(LineKind.HTTP_ERROR, asks("Question 3"), message="No.")
    runs.server.line_faults.append(fault)
    dying = {"FASTDATASETS_FAILPOINT": point.value}
    first = start_command("distill", "--dataset-name", source, "--run", "r", *words, env=dying)
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    start_command("resume", "r", env=dying).communicate(timeout=120)
    for _ in range(3):
        with suppress(Unfinished):  # lost, until the server shows it otherwise
            outcome = runs.resume(max_attempts=1)
    assert outcome.reasons == (("refused", "400: No.", 1),)
    runs.check_done(without=("Question 3",))
