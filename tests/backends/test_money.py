"""The budget and the bill, against a server that bills: never above the cap, and to the token."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from itertools import count, groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backends.openai_api.providers import Dialect
from backends.openai_live.backend import OpenAILive
from backends.openai_live.workers import LiveOptions
from fastdatasets.commands import resume, start
from fastdatasets.config.backend import price_of
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.runs.result import RunResult
from fastdatasets.runs.status import read_status
from store import Unfinished, UserError, WorkStore
from store.money import PROMPT_MARGIN, CostItem, PriceSnapshot, Rates
from store.status import Tokens
from tests.batch_runs import prompt_of
from tests.conftest import Command, write_jsonl
from tests.conftest import start as start_command
from tests.doubles import NullProgress
from tests.llmserver import (
    Fault,
    Kind,
    LineFault,
    LineKind,
    LLMServer,
    Reply,
    Usage,
    content_filter,
    expired,
    insufficient_quota,
    verbatim,
)

QUESTIONS = [f"Question {number}" for number in range(30)]
PRICE: dict[str, Any] = {"price_in": "10000", "price_out": "1000000"}  # a cent, a dollar a token
MAX_TOKENS = 40
CAP = 200  # dollars; all would cost 306, and a request at most 46
POST, CHAT = "POST /batches", "POST /chat/completions"
BACKENDS = ("openai-batch", "openai")


def answer(body: dict[str, Any]) -> str:
    """Ten tokens or so."""
    return f"An answer to number {body['messages'][-1]['content'][-60:]}"[:40]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server, and settings under which nothing waits."""
    with LLMServer(answer=answer) as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0")
        yield server


def distill(
    backend: str, *, model: str = "m", questions: list[str] = QUESTIONS, **execution: Any
) -> RunResult:
    """A run over the questions."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in questions])
    run_config = RunConfig(
        dataset_name=str(source),
        sample_size=0,
        model=model,
        backend=backend,
        max_output_tokens=MAX_TOKENS,
    )
    return start(run_config, None, "r", ExecutionConfig(**execution))


def billed(server: LLMServer) -> Decimal:
    """What the server bills, at PRICE."""
    server.settle()
    tokens = server.bill.tokens
    return Decimal(tokens.prompt_tokens) / 100 + tokens.completion_tokens


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_bill_is_the_servers(server: LLMServer, backend: str) -> None:
    """Every token that the server billed is on the bill, and nothing else."""
    status = distill(backend, **PRICE).status
    tokens = server.bill.tokens
    answers = CostItem(
        "answer",
        len(QUESTIONS),
        tokens.prompt_tokens,
        tokens.cached_tokens,
        tokens.completion_tokens,
        billed(server),
    )
    assert status.cost.stages == (answers,)
    assert (status.cost.spent, status.cost.estimate, status.cost.uncertain) == (
        answers.cost,
        answers.cost,
        Decimal(0),
    )
    jobs = sum(job.cost or 0 for job in status.cost.jobs)
    assert jobs == (answers.cost if backend == "openai-batch" else 0)


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_cap_stops_the_run_and_a_higher_one_goes_on(server: LLMServer, backend: str) -> None:
    """A cap buys what it can and says what is left; a resume with a higher one ends the run."""
    with pytest.raises(Unfinished, match=rf"--max-cost {CAP} is reached: .* requests are pending"):
        distill(backend, max_cost=str(CAP), **PRICE)
    assert CAP * 2 // 3 < billed(server) <= CAP
    outcome = resume("r", None, ExecutionConfig(max_cost="100000", **PRICE))
    assert outcome is not None
    assert (outcome.status.state, server.bill.twice()) == ("done", [])
    assert outcome.status.cost.spent == billed(server)


@pytest.mark.slow
@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("backend", BACKENDS)
def test_cap_that_is_named_is_enough(backend: str) -> None:
    """A cap below one request's price is told one that buys all, where no length is known."""
    price: dict[str, Any] = {"price_in": "0.01", "price_out": "1"}
    with pytest.raises(Unfinished, match=r"are pending, at most .* USD more") as raised:
        distill(backend, max_cost="0.00000001", **price)
    named = str(raised.value).rpartition("as ")[2]
    outcome = resume("r", None, ExecutionConfig(max_cost=named, **price))
    assert outcome is not None
    assert outcome.status.state == "done"


@pytest.mark.usefixtures("server")
def test_cap_with_old_outputs() -> None:
    """Where old outputs tell how long answers are, what is left is told as expected."""
    rows: list[dict[str, object]] = [{"prompt": "a", "output": "b" * 30}]
    source = write_jsonl(Path("d.jsonl"), rows)
    run_config = RunConfig(
        dataset_name=str(source), sample_size=0, model="m", max_output_tokens=10_000
    )
    with pytest.raises(Unfinished, match=r"1 requests are pending, about 0\.\d+ USD more"):
        start(run_config, None, "r", ExecutionConfig(max_cost="1", price_in="1", price_out="1000"))


def test_cap_counts_what_was_paid_without_a_price(server: LLMServer) -> None:
    """Answers of a time when no price was known count at today's, under the cap and on the bill."""
    server.faults.append(insufficient_quota(CHAT, times=None))
    server.faults[0].after = 12
    with pytest.raises(Unfinished, match="the server refuses every request"):
        distill("openai")
    server.faults.clear()
    earlier = billed(server)
    with pytest.raises(Unfinished, match="--max-cost 200 is reached"):
        resume("r", None, ExecutionConfig(max_cost=str(CAP), **PRICE))
    assert 0 < earlier < billed(server) <= CAP
    cost = read_status("r").status.cost
    assert (cost.spent, cost.uncertain) == (billed(server), Decimal(0))
    assert [stage.cost for stage in cost.stages] == [billed(server)]


def test_cap_counts_what_came_without_usage_or_price(server: LLMServer) -> None:
    """Where a server told no tokens either, such answers count at their highest cost."""
    server.faults += [Fault(CHAT, Kind.NO_USAGE, None), insufficient_quota(CHAT, times=None)]
    server.faults[1].after = 12
    with pytest.raises(Unfinished, match="the server refuses every request"):
        distill("openai")
    server.faults.clear()
    with pytest.raises(Unfinished, match="--max-cost 600 is reached"):
        resume("r", None, ExecutionConfig(max_cost=str(3 * CAP), **PRICE))
    cost = read_status("r").status.cost
    assert cost.spent is not None
    assert cost.uncertain is not None
    assert cost.spent < billed(server) < cost.spent + cost.uncertain <= 3 * CAP


FAULTS: dict[str, tuple[str, Any]] = {
    "create dropped after": ("openai-batch", Fault(POST, Kind.DROP_AFTER)),
    "create answered 500 after it worked": ("openai-batch", Fault(POST, Kind.ERROR_AFTER)),
    "a duplicate": ("openai-batch", Fault(POST, Kind.DROP_AFTER, hide_lists=2)),
    "expires": ("openai-batch", expired(3)),
    "duplicates": ("openai-batch", LineFault(LineKind.DUPLICATE)),
    "broken lines": ("openai-batch", LineFault(LineKind.BROKEN, None, times=3)),
    "missing lines": ("openai-batch", LineFault(LineKind.MISSING, None, times=3)),
    "filtered": ("openai-batch", content_filter()),
    "live, dropped after": ("openai", Fault(CHAT, Kind.DROP_AFTER, times=5)),
    "live, 500 after it worked": ("openai", Fault(CHAT, Kind.ERROR_AFTER, times=5)),
    "live, cut": ("openai", Fault(CHAT, Kind.CUT, times=5)),
    "live, garbled": ("openai", Fault(CHAT, Kind.GARBLED, times=5)),
}


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize("name", FAULTS)
def test_cap_holds_through_faults(server: LLMServer, name: str) -> None:
    """Whatever fails, the server never bills more than the cap."""
    backend, fault = FAULTS[name]
    if isinstance(fault, Fault):
        server.faults.append(fault)
    elif isinstance(fault, LineFault):
        server.line_faults.append(fault)
    else:
        server.fates.append(fault)
    with pytest.raises(Unfinished):
        distill(backend, max_cost=str(CAP), **PRICE).raise_if_left()
    assert billed(server) <= CAP
    again = resume("r", None, ExecutionConfig(max_cost=str(5 * CAP), **PRICE))
    assert again is not None
    assert billed(server) <= 5 * CAP


IMPOSSIBLE: dict[str, dict[str, Any] | str] = {
    "nothing": {"prompt_tokens": 0, "completion_tokens": 0},
    "no completion tokens": {"prompt_tokens": 20, "completion_tokens": 0},
    "no count of completion tokens": {"prompt_tokens": 20},
    "no prompt tokens": {"prompt_tokens": 0, "completion_tokens": 10},
    "negative prompt": {"prompt_tokens": -20, "completion_tokens": 10},
    "negative completion": {"prompt_tokens": 20, "completion_tokens": -10},
    "cached beside": {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 60},
    },
    "negative cached": {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": -60},
    },
    "prompt beyond its bytes": {"prompt_tokens": 5000, "completion_tokens": 10},
    "completion beyond its limit": {"prompt_tokens": 20, "completion_tokens": MAX_TOKENS + 1},
    "10^14": {"prompt_tokens": 20, "completion_tokens": 10**14},
    "1e400": verbatim('{"prompt_tokens": 20, "completion_tokens": 1e400}'),
}


def reporting(usage: dict[str, Any] | str) -> Reply:
    """An answer that costs what others do, and whose usage says otherwise."""
    return Reply("An answer", usage=Usage(22, 10), reported=usage)


def worst(server: LLMServer) -> Decimal:
    """What the requests that the server has executed can cost at most."""
    prompts = [json.loads(body)["messages"] for body in server.bill.executions]
    tokens = [len(msgspec.json.encode(prompt)) + PROMPT_MARGIN for prompt in prompts]
    return sum((Decimal(prompt) / 100 + MAX_TOKENS for prompt in tokens), Decimal(0))


@pytest.mark.quick(4)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_usage_that_cannot_be_is_uncertain(server: LLMServer, name: str, backend: str) -> None:
    """Its tokens count for nothing, and the request for what it can cost at most."""
    server.answer = lambda _: reporting(IMPOSSIBLE[name])
    status = distill(backend, questions=["a"], **PRICE).status
    assert (status.cost.spent, status.cost.uncertain) == (Decimal(0), worst(server))
    assert (status.requests.done, status.tokens) == (1, Tokens(0, 0))


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["broken", "withheld", "missing"])
def test_line_that_is_not_there_costs_its_most(server: LLMServer, name: str) -> None:
    """A line that is broken or missing is charged by the request's own bounds, not by a mean."""
    longest = "long " * 200

    def is_long(body: dict[str, Any]) -> bool:
        return longest in body["messages"][-1]["content"]

    server.line_faults.append(LineFault(LineKind(name), is_long))
    if name == "missing":
        server.faults.append(Fault("GET /batches/*", Kind.NULL_COUNTS, None))
    with suppress(Unfinished):
        distill("openai-batch", questions=[*"abcdefg", longest], max_attempts=1, **PRICE)
    prompt_bytes = len(msgspec.json.encode([{"content": prompt_of(longest), "role": "user"}]))
    most = Decimal(prompt_bytes + PROMPT_MARGIN) / 100 + MAX_TOKENS
    assert read_status("r").status.cost.uncertain == most


@pytest.mark.quick(2)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["nothing", "negative prompt", "cached beside", "10^14"])
def test_cap_holds_where_the_usage_cannot_be(server: LLMServer, name: str, backend: str) -> None:
    """What a server reports does not let it bill more than the cap."""
    server.answer = lambda _: reporting(IMPOSSIBLE[name])
    with pytest.raises(Unfinished, match="--max-cost 200 is reached"):
        distill(backend, max_cost=str(CAP), **PRICE)
    assert 0 < billed(server) <= worst(server) <= CAP


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_filtered_answers_are_billed_as_told(server: LLMServer, backend: str) -> None:
    """Without a text it may be that there are no completion tokens; with one it cannot."""
    server.answer = lambda body: Reply(
        "So" if "first" in body["messages"][-1]["content"] else None,
        finish_reason="content_filter",
        usage=Usage(22, 0),
    )
    cost = distill(backend, questions=["The first", "Another"], **PRICE).status.cost
    assert cost.spent == Decimal("0.22")
    assert cost.uncertain is not None
    assert MAX_TOKENS < cost.uncertain < 2 * MAX_TOKENS


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_hidden_system_prompt(server: LLMServer, backend: str) -> None:
    """A server that puts 500 tokens around each prompt is believed, and kept below the cap."""
    server.answer = lambda _: Reply("An answer", usage=Usage(522, 10))
    with pytest.raises(Unfinished):
        distill(backend, max_cost=str(CAP), **PRICE)
    with WorkStore.open(Path("output/r/work.duckdb"), read_only=True) as store:
        found = store.connection.execute("SELECT DISTINCT prompt_tokens FROM results").fetchall()
    assert found == [(522,)]
    assert CAP * 2 // 3 < billed(server) <= CAP


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_price_beyond_reason(server: LLMServer, backend: str) -> None:
    """Amounts that 64 bits do not hold are exact, too."""
    cost = distill(backend, questions=["a", "b"], price_in="1e13", price_out="1e13").status.cost
    tokens = server.bill.tokens
    assert cost.spent == (tokens.prompt_tokens + tokens.completion_tokens) * 10**7


def commands_until_one_ends(
    source: Path, backend: str, cap: int
) -> Iterator[subprocess.Popen[str]]:
    """The same command again and again, once the one before has died, until one ends by itself."""
    words = ("--sample-size", 0, "--model", "m", "--backend", backend, "--run", "r")
    limits = ("--max-output-tokens", MAX_TOKENS, "--max-cost", cap)
    prices = ("--price-in", 10000, "--price-out", 1000000)
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        process = start_command("distill", "--dataset-name", source, *words, *limits, *prices)
        yield process
        _, err = process.communicate(timeout=60)
        code = process.returncode
    assert (code, f"--max-cost {cap} is reached" in err) == (3, True), err


def killing(process: subprocess.Popen[str]) -> Callable[[dict[str, Any]], str]:
    """A model that kills the command at its third call."""
    calls = count(1)

    def model(body: dict[str, Any]) -> str:
        if next(calls) == 3:
            process.kill()
        return answer(body)

    return model


KILLS = ("file-sent", "batch-sent", "ended", "collecting", "deleted")


@pytest.mark.slow
def test_cap_holds_through_kills_of_batches(
    server: LLMServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with -9 at one step after the other, a run of batches never costs above its cap."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": question} for question in QUESTIONS])
    points = iter(KILLS)
    monkeypatch.setenv("FASTDATASETS_FAILPOINT", next(points))
    lived = 0
    for _ in commands_until_one_ends(source, "openai-batch", CAP):
        lived += 1
        monkeypatch.setenv("FASTDATASETS_FAILPOINT", next(points, ""))
    assert lived == len(KILLS) + 1
    assert CAP // 2 < billed(server) <= CAP


@pytest.mark.slow
def test_cap_holds_through_kills_of_live_calls(
    server: LLMServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with -9 at every third call, a live run never costs above its cap."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "2")
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": question} for question in QUESTIONS])
    lived = 0
    for process in commands_until_one_ends(source, "openai", 3 * CAP):
        lived += 1
        server.answer = killing(process)
    assert lived > 3
    assert CAP // 2 < billed(server) <= 3 * CAP


def openais_price(backend: str) -> PriceSnapshot:
    """What gpt-4o-mini costs at OpenAI's own address, the test server's aside."""
    config = RunConfig(dataset_name="owner/name", backend=backend, model="gpt-4o-mini")
    run = replace(new_run(config, load_settings()), base_url="https://api.openai.com/v1")
    price = price_of(ExecutionConfig(), run)
    assert price is not None
    return price


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_cap_holds_for_resumes_that_do_not_name_it(server: LLMServer, backend: str) -> None:
    """The cap and the price are the run's: a resume without them buys nothing beyond the cap."""
    with pytest.raises(Unfinished, match="is reached"):
        distill(backend, max_cost=str(CAP), **PRICE)
    with pytest.raises(Unfinished, match=f"--max-cost {CAP} is reached"):
        resume("r", None, ExecutionConfig())
    assert billed(server) <= CAP
    outcome = resume("r", None, ExecutionConfig(max_cost="100000"))
    assert outcome is not None
    assert outcome.status.state == "done"


def test_known_price_without_a_word(server: LLMServer) -> None:
    """At OpenAI a batch costs half of live without a word, and the bill says what that saved."""
    half: dict[str, Any] = {"price_in": "0.075", "price_out": "0.3"}
    spent = distill("openai-batch", model="gpt-4o-mini", **half).status.cost.spent
    tokens = server.bill.tokens
    live = (15 * tokens.prompt_tokens + 60 * tokens.completion_tokens) * Decimal("1e-8")
    assert spent == live / 2
    price = openais_price("openai-batch")
    assert (price.rates, price.live) == (
        Rates(75_000, 75_000, 300_000),
        Rates(150_000, 75_000, 600_000),
    )
    with WorkStore.open(Path("output/r/work.duckdb")) as store:
        store.costs.set_price(price)
        cost = store.status("r", 3).cost
    assert cost.saved is not None
    assert (cost.spent, cost.saved.batch) == (live / 2, live / 2)


def test_cached_tokens_have_their_price(server: LLMServer) -> None:
    """Prompt tokens that the server had in its cache cost half of the others, live."""
    price = openais_price("openai")
    server.answer = lambda _: Reply("yes", usage=Usage(100, 10, cached_tokens=60))
    with pytest.raises(Unfinished):  # all is made and nothing sent: the cap is too low for it
        distill("openai", questions=["a"], max_cost="0.01", **PRICE).raise_if_left()
    assert server.bill.total == 0
    options = LiveOptions(
        folder=Path("output/r"),
        base_url=server.base_url,
        api_key="sk-test",
        max_attempts=1,
        concurrency=1,
        timeout_seconds=60,
        poll_seconds=0,
        grace_seconds=0,
        dialect=Dialect("max_tokens", json_schema=False),
        rates=price.rates,
    )
    with WorkStore.open(Path("output/r/work.duckdb")) as store:
        store.costs.set_price(price)
        OpenAILive(options).work(store, NullProgress())
        cost = store.status("r", 3).cost
    assert cost.spent == Decimal(40 * 150 + 60 * 75 + 10 * 600) * Decimal("1e-9")
    assert [(stage.prompt, stage.cached, stage.completion) for stage in cost.stages] == [
        (100, 60, 10)
    ]


def test_shared_beginnings_go_side_by_side(server: LLMServer) -> None:
    """In a job's file, prompts that share a long beginning follow each other."""
    documents = [f"Document {letter}: " + letter * 2000 for letter in "xyz"]
    questions = [f"{document} Question {n}?" for n in range(4) for document in documents]
    bodies: list[str] = []

    def remember(body: dict[str, Any]) -> str:
        bodies.append(body["messages"][-1]["content"])
        return "yes"

    server.answer = remember
    distill("openai-batch", questions=questions)
    letters = [body[len("Document ")] for body in bodies]
    assert [letter for letter, _ in groupby(letters)] == sorted(set(letters), key=letters.index)


def test_same_questions_are_paid_once(server: LLMServer) -> None:
    """Records that ask the same are one request, and what that saved is told."""
    status = distill("openai-batch", questions=["a"] * 3, **PRICE).status
    cost = billed(server)
    assert status.cost.saved is not None
    assert (status.cost.spent, status.cost.saved.dedup) == (cost, 2 * cost)


def test_second_run_over_the_same_data_costs_nothing(server: LLMServer) -> None:
    """With --reuse the same data asks nothing, and what that saved is what it had cost."""
    distill("openai-batch", **PRICE)
    spent = billed(server)
    Path("output/r").rename("output/earlier")
    second = distill("openai-batch", reuse=("earlier",), max_cost="0.01", **PRICE).status
    assert (second.state.value, billed(server)) == ("done", spent)
    assert second.cost.spent == 0
    assert second.cost.saved is not None
    assert second.cost.saved.reuse == spent


@pytest.mark.slow
def test_reuse_is_told_on_the_bill(server: LLMServer) -> None:
    """A larger sample pays for what is new, and is told what the rest would have cost."""
    distill("openai-batch", questions=QUESTIONS[:20], **PRICE)
    old = billed(server)
    Path("output/r").rename("output/earlier")
    cost = distill("openai-batch", reuse=("earlier",), **PRICE).status.cost
    assert cost.saved is not None
    assert (cost.spent, cost.saved.reuse) == (billed(server) - old, old)


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"max_cost": "0", **PRICE}, "--max-cost 0: an amount of USD above 0 is expected"),
        ({"max_cost": "-1", **PRICE}, "--max-cost -1: an amount of USD above 0 is expected"),
        ({"max_cost": "much", **PRICE}, "--max-cost much: an amount of USD above 0 is expected"),
        (
            {"max_cost": "5"},
            r"none of m live at http://127\.0\.0\.1:\d+/v1 is known: give --price-in",
        ),
        ({"price_in": "1"}, "--price-in and --price-out go together"),
        ({"price_in": "x", "price_out": "1"}, "--price-in x: a number of USD is expected"),
    ],
)
def test_errors(server: LLMServer, execution: dict[str, Any], message: str) -> None:
    """An amount that is none, and a cap without a price, are said before anything is made."""
    with pytest.raises(UserError, match=message):
        distill("openai", **execution)
    assert (server.bill.total, Path("output").exists()) == (0, False)


def test_cap_of_what_is_not_paid_for() -> None:
    """The local engine has no price to cap."""
    with pytest.raises(UserError, match="--max-cost is for paid requests"):
        distill("vllm", max_cost="5")


def test_status_tells_the_bill(server: LLMServer, command: Command) -> None:
    """The status has spent, saved and stages, for people and for machines."""
    distill("openai", price_in="0.15", price_out="0.6")
    shown = command("status", "r").stdout
    cost = json.loads(command("status", "r", "--json").stdout)["cost"]
    tokens = server.bill.tokens
    spent = (15 * tokens.prompt_tokens + 60 * tokens.completion_tokens) * Decimal("1e-8")
    assert f"{spent:.4f} USD spent (--price-in/--price-out)" in shown
    assert (cost["spent"], cost["saved"]) == (
        float(spent),
        {"batch": None, "dedup": 0, "reuse": 0},
    )
