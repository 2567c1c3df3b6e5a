"""Ctrl-C, SIGTERM and SIGHUP while answers come in: everything that came is stored, and counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import resume
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.runs.status import read_status, to_text
from store import Unfinished
from store.money import PROMPT_MARGIN
from tests.backends.openai_live.test_live import CHAT, QUESTIONS, answer, check_done, prompt_of
from tests.backends.openai_live.test_live import server as server  # noqa: PLC0414 - a fixture
from tests.backends.test_money import CAP, MAX_TOKENS, PRICE, billed
from tests.backends.test_money import distill as distill_priced
from tests.conftest import start as start_command
from tests.conftest import write_jsonl
from tests.llmserver import Fault, Kind, LLMServer

END_SECONDS = 6.0  # from a signal to the end of the command, whatever hangs
HOME = Path(__file__).parents[2]
LIMITS = ("--max-output-tokens", MAX_TOKENS, "--price-in", 10000, "--price-out", 1000000)


def at_call(
    number: int, act: Callable[[], object], text: str | None = None
) -> Callable[[dict[str, Any]], str]:
    """A model that acts before it answers the call of that number; text: its answer."""
    calls = 0

    def model(body: dict[str, Any]) -> str:
        nonlocal calls
        calls += 1
        if calls == number:
            act()
        return text or answer(body)

    return model


def highest_cost(prompt: str) -> Decimal:
    """Dollars that a question costs at most, at PRICE: by its bytes and a template's margin."""
    prompt_bytes = len(json.dumps([{"content": prompt, "role": "user"}], separators=(",", ":")))
    return Decimal(prompt_bytes + PROMPT_MARGIN) / 100 + MAX_TOKENS


def wait_for(process: subprocess.Popen[str], seen: Callable[[], object]) -> None:
    """Wait until something is seen, while the command runs."""
    while not seen():
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended too early: {process.communicate()}")


def signal_until_end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Press Ctrl-C, say, again and again until the command ends, in time; gives what it said."""
    began = time.monotonic()
    while process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            assert time.monotonic() - began < END_SECONDS
    _, err = process.communicate()
    assert (process.returncode, "Traceback" in err) == (130, False), err
    return err


def start_distill(*options: object) -> subprocess.Popen[str]:
    """The command over the questions."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    words = ("--dataset-name", source, "--sample-size", 0, "--model", "m", "--run", "r")
    return start_command("distill", *words, *options)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_loses_nothing(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A signal stores what came and what is about to come; nothing is asked for twice."""
    monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "5")
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "7")
    server.latency = 0.1
    process = start_distill()
    server.answer = at_call(9, lambda: process.send_signal(number))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to continue: fastdatasets resume" in err
    assert read_status("r").status.requests.done == server.bill.total
    assert 9 <= server.bill.total < len(QUESTIONS)
    assert resume("r", None, ExecutionConfig()) is not None
    assert server.bill.twice() == []
    check_done()


@pytest.mark.slow
def test_signal_that_is_ignored(server: LLMServer) -> None:
    """Under nohup, which has SIGHUP ignored, a terminal that closes ends nothing."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start_distill()
    finally:
        signal.signal(signal.SIGHUP, before)
    server.answer = at_call(9, lambda: process.send_signal(signal.SIGHUP))
    process.communicate(timeout=60)
    assert process.returncode == 0
    check_done()


def interrupt() -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_cap_holds_through_signals(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted again and again, the run never costs more than its cap, nor loses an answer."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "2")
    execution = {"questions": [str(number) for number in range(100)], "max_cost": "700", **PRICE}
    for _ in range(5):
        server.answer = at_call(3, interrupt, "An answer of ten tokens, or of so.")
        with pytest.raises(KeyboardInterrupt):
            distill_priced("openai", **execution)
    with pytest.raises(Unfinished, match="--max-cost 700 is reached"):
        distill_priced("openai", **execution)
    cost = read_status("r").status.cost
    assert cost.spent is not None
    assert cost.uncertain is not None
    assert cost.in_flight == 0
    assert cost.spent <= billed(server) <= cost.spent + cost.uncertain <= 700


def test_what_is_in_flight_counts(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that are given up at a signal count at their highest cost: they may be billed."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "1")
    server.answer = at_call(1, interrupt)
    server.faults.append(Fault(CHAT, Kind.HANG_AFTER))
    with pytest.raises(KeyboardInterrupt):
        distill_priced("openai", questions=["a", "b"], max_cost=str(CAP), **PRICE)
    cost = read_status("r").status.cost
    highest = highest_cost(prompt_of("a"))
    assert (cost.spent, cost.uncertain, cost.in_flight) == (
        Decimal(0),
        highest,
        Decimal(0),
    )
    assert (
        f"at most {highest:.4f} USD more may have been billed for answers that never came, "
        "or without a usable token count" in to_text(read_status("r"))
    )


@pytest.mark.slow
def test_kill_leaves_what_could_be_in_flight(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill -9 so much is in doubt as could be in flight, under its name."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "2")
    process = start_distill(*LIMITS, "--max-cost", 10 * CAP)
    server.answer = at_call(9, process.kill)
    process.communicate(timeout=60)
    highest = highest_cost(prompt_of(QUESTIONS[-1]))
    view = read_status("r")
    assert view.status.cost.in_flight == view.status.cost.uncertain == 3 * highest
    assert (
        f"at most {3 * highest:.4f} USD more may have been billed for requests that were in "
        "flight when a command was killed"
    ) in to_text(view)
    before = billed(server)
    assert view.status.cost.spent is not None
    # What is left of the cap is less than a request can cost.
    cap = view.status.cost.spent + 4 * highest - 1
    with pytest.raises(
        Unfinished, match=r"[(]\d+\.\d+ of them perhaps, for requests that were in flight when"
    ):
        resume("r", None, ExecutionConfig(max_cost=str(cap), **PRICE))
    assert billed(server) == before


@pytest.mark.slow
def test_closed_terminal_of_a_batch_run(server: LLMServer) -> None:
    """At a SIGHUP everything is left at the server, and a resume collects it."""
    server.looks = None
    process = start_distill("--backend", "openai-batch")
    assert process.stderr is not None
    while "at the server" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to continue: fastdatasets resume" in err
    assert read_status("r").status.requests.in_flight == len(QUESTIONS)
    server.looks = 1
    assert resume("r", None, ExecutionConfig()) is not None
    assert server.bill.twice() == []
    check_done()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_live_answers_at_more_signals(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Answers that came after a first signal are stored at the next, which ends the wait."""
    monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "5")
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "3")
    server.faults.append(Fault(CHAT, Kind.HANG_AFTER, after=3))
    process = start_distill()
    signalled = threading.Event()

    def act() -> None:
        process.send_signal(number)
        signalled.set()

    server.answer = at_call(9, act)
    wait_for(process, signalled.is_set)
    signal_until_end(process, number)
    calls = [call for call in server.requests_log if call.path.endswith("/chat/completions")]
    given = sum(call.status == 200 for call in calls)
    assert (read_status("r").status.requests.done, given) == (given, server.bill.total - 1)
    assert resume("r", None, ExecutionConfig()) is not None
    assert len(server.bill.twice()) == 1
    check_done()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["POST /files", "POST /batches", "GET /files/*/content"])
def test_batch_call_that_hangs_at_signals(server: LLMServer, where: str) -> None:
    """A call that hangs is left at a signal, however many follow, and a resume goes on."""
    fault = Fault(where, Kind.HANG_AFTER)
    server.faults.append(fault)
    process = start_distill("--backend", "openai-batch")
    wait_for(process, lambda: fault.fired)
    err = signal_until_end(process, signal.SIGTERM)
    assert "to continue: fastdatasets resume" in err
    assert resume("r", None, ExecutionConfig()) is not None
    assert server.bill.twice() == []
    check_done()


@pytest.mark.slow
def test_batch_wait_at_signals(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is the wait for a batch."""
    monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "60")
    server.looks = None
    process = start_distill("--backend", "openai-batch")
    assert process.stderr is not None
    while "at the server" not in process.stderr.readline():
        assert process.poll() is None
    signal_until_end(process, signal.SIGINT)
    assert read_status("r").status.requests.in_flight == len(QUESTIONS)


@pytest.mark.slow
def test_engine_that_hangs_at_signals(tmp_path: Path) -> None:
    """What a local engine answered is stored, also where it takes nothing more."""
    prompts = [*(f"question {number}" for number in range(15)), "hang"]
    prompts += [f"long {number} " + "x" * 20_000 for number in range(30)]
    source = write_jsonl(Path("d.jsonl"), [{"prompt": prompt} for prompt in prompts])
    Path("template.txt").write_text("{{ instruction }}")
    journal = tmp_path / "journal"
    words = ("--backend", "vllm", "--dataset-name", source, "--sample-size", 0, "--run", "r")
    options = (*words, "--model", "m", "--prompt-template", "template.txt")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine_command", journal, "distill", *map(str, options)],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(process, lambda: journal.exists() and "ask hang" in journal.read_text())
    signal_until_end(process, signal.SIGINT)
    assert read_status("r").status.requests.done == 15


@pytest.mark.slow
def test_what_hangs_at_last_is_left() -> None:
    """A second signal limits the time of a command that hangs as it ends."""
    code = (
        "import signal, threading\n"
        "from backends.stopping import Interrupts\n"
        "signal.signal(signal.SIGINT, Interrupts(130))\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    signal_until_end(process, signal.SIGINT)
