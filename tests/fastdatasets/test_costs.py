"""What a run says of its cost, and asks on a terminal, before it sends anything and later."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.pricing.prices import usd
from store import Unfinished
from tests.conftest import write_jsonl
from tests.llmserver import LLMServer, Reply, Usage

FLAGS = ("--price-in", 1_000_000, "--price-out", 1_000_000)  # a dollar a token
CENT = ExecutionConfig(price_in="100", price_out="100")  # 0.01 cents a token
NO_QUOTA = Reply(status_code=429, error={"message": "No.", "code": "insufficient_quota"})
QUESTION = re.compile(r"([\d.]+) USD are more than FASTDATASETS_CONFIRM_ABOVE \(25\)")


@pytest.fixture
def server(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> LLMServer:
    """The server, and the question before an expensive run as it is by default."""
    monkeypatch.delenv("FASTDATASETS_CONFIRM_ABOVE")
    return server


def run_config(backend: str, records: int, **fields: object) -> RunConfig:
    """A run over so many questions of one length; a limit of 100 tokens, a bare prompt."""
    Path("bare.j2").write_text("{{ instruction }}", "utf-8")
    rows: list[dict[str, object]] = [
        {"prompt": f"Question {number:03}"} | fields for number in range(records)
    ]
    return RunConfig(
        dataset_name=str(write_jsonl(Path("d.jsonl"), rows)),
        sample_size=0,
        model="gpt-4o-mini",
        backend=backend,
        max_output_tokens=100,
        prompt_template="bare.j2",
    )


def on_terminal(typed: str, *words: object) -> tuple[int, str]:
    """The command with a terminal at stdin and stderr: its exit code, and what is seen there."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastdatasets", *map(str, words)],
        stdin=slave,
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    os.write(master, typed.encode())
    seen = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux says so where the other side has closed
            piece = b""
        if not piece:
            break
        seen += piece
    os.close(master)
    return process.wait(timeout=60), seen.decode()


def distill_words(backend: str, **fields: object) -> tuple[object, ...]:
    """A run of two records at a dollar a token, as a command line: 22 USD to 220 USD."""
    wanted = run_config(backend, 2, **fields)
    return (
        "distill", "--dataset-name", wanted.dataset_name, "--sample-size", 0, "--backend", backend,
        "--model", wanted.model, "--max-output-tokens", 100, "--prompt-template", "bare.j2",
        "--run", "r", *FLAGS,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "no", "then", "question"),
    [
        ("openai-batch", "n\n", ("y\n", "resume", "r"), ["220.00"]),
        ("openai", "\n", ("", "resume", "r", "--yes"), []),
    ],
)
def test_expensive_run_is_asked_for(
    server: LLMServer, backend: str, no: str, then: tuple[str, ...], question: list[str]
) -> None:
    """On a terminal an expensive run is sent at a yes only; at a no a resume asks again."""
    code, seen = on_terminal(no, *distill_words(backend))
    assert (code, server.requests_log, QUESTION.findall(seen)) == (3, [], ["220.00"])
    assert "fastdatasets: nothing was sent. 'fastdatasets resume output/r --yes' sends it" in seen
    code, seen = on_terminal(*then, *FLAGS)
    assert (code, QUESTION.findall(seen), server.bill.total) == (0, question, 2)
    assert "2 requests left: " in seen
    assert "; from 22.00 USD to 220.00 USD" in seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "words", "fields"),
    [
        ("0", (), {}),  # never
        ("220", (), {}),
        ("25", ("--max-cost", 25), {}),
        ("25", (), {"output": "xxx"}),  # 22 USD are expected: a token an answer
    ],
)
@pytest.mark.usefixtures("server")
def test_cheap_run_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    words: tuple[object, ...],
    fields: dict[str, object],
) -> None:
    """What should cost no more than the setting, or may cost no more by its cap, is sent."""
    monkeypatch.setenv("FASTDATASETS_CONFIRM_ABOVE", limit)
    _, seen = on_terminal("n\n", *distill_words("openai", **fields), *words)
    assert " requests left: " in seen
    assert "nothing was sent" not in seen


@pytest.mark.slow
def test_run_of_which_something_was_sent_is_not_asked_for(server: LLMServer) -> None:
    """A resume of a run that has answers goes on without the question."""
    asked = iter(range(1))
    server.answer = lambda body: NO_QUOTA if next(asked, None) is None else yes(body)
    code, seen = on_terminal("y\n", *distill_words("openai"))
    assert (code, QUESTION.findall(seen), server.bill.total) == (3, ["220.00"], 1)
    server.answer = yes
    code, seen = on_terminal("n\n", "resume", "r", *FLAGS)
    assert (code, server.bill.total, QUESTION.findall(seen)) == (0, 2, [])


def test_nobody_to_ask(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a terminal an expensive run goes on; its costs are shown all the same."""
    expensive = ExecutionConfig(price_in="1000000", price_out="1000000")
    start(run_config("openai-batch", 2), None, "r", expensive).raise_if_left()
    said = capfd.readouterr().err
    assert ("; from 22.00 USD to 220.00 USD" in said, "CONFIRM" in said) == (True, False)
    assert server.bill.total == 2


def yes(_: dict[str, Any]) -> Reply:
    """An answer of 10 tokens to a prompt of 50."""
    return Reply("yes", usage=Usage(50, 10))


def said_once(said: str, requests: int, budget: str = "") -> None:
    """Check the one estimate from first answers, which are at least twenty."""
    (line,) = re.findall(r"^estimate from \d+ answers: .*", said, re.MULTILINE)
    answers = int(re.findall(r"\d+", line)[0])
    left = requests - answers
    each = 60 * Decimal("0.0001")
    assert answers >= 20
    assert line == (
        f"estimate from {answers} answers: {left} more will take about {50 * left} prompt and "
        f"{10 * left} "
        f"completion tokens; {usd(answers * each)} spent, {usd(requests * each)} "
        f"expected in all{budget}"
    )


@pytest.mark.quick(1)
@pytest.mark.parametrize(("cap", "fits"), [("2", "within"), ("0.4", "more than")])
def test_live_answers_tell_a_new_estimate(
    server: LLMServer, capfd: pytest.CaptureFixture[str], cap: str, fits: str
) -> None:
    """Once there are twenty, it is said what the rest will cost, and how that is to the cap."""
    asked = iter(range(25))
    server.answer = lambda body: NO_QUOTA if next(asked, None) is None else yes(body)
    execution = replace(CENT, max_cost=cap)
    with pytest.raises(Unfinished, match="the server refuses every request"):
        start(run_config("openai", 75), None, "r", execution)
    server.answer = yes
    with suppress(Unfinished):  # at the cap
        resume("r", None, execution)
    said_once(capfd.readouterr().err, 75, f", {fits} --max-cost {cap}")


@pytest.mark.slow
def test_batch_answers_tell_a_new_estimate(
    server: LLMServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in flight at the server is in the new estimate; no later command says it again."""
    monkeypatch.setenv("FASTDATASETS_BATCH_MAX_REQUESTS", "25")
    server.answer, server.looks = yes, None
    no_wait = replace(CENT, wait=False)
    start(run_config("openai-batch", 75), None, "r", no_wait)
    server.finish(next(iter(server.batches)))
    for _ in range(3):
        resume("r", None, no_wait)
    server.looks = 0
    resume("r", None, CENT)
    said_once(capfd.readouterr().err, 75)


@pytest.mark.slow
def test_opening_that_is_learnt_is_enough(
    server: LLMServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """With answers of an earlier run the first line says what they tell, and no second comes."""
    server.answer = yes
    start(run_config("openai", 25), None, "earlier", CENT)
    capfd.readouterr()
    start(run_config("openai", 75), None, "r", replace(CENT, reuse=("earlier",)))
    said = capfd.readouterr().err
    assert "50 requests left: 500 prompt tokens, 500 completion tokens expected; " in said
    assert "estimate from" not in said
