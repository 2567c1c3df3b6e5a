"""What a run would ask and cost, before anything is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.estimation.estimate import Estimate, estimate, expected
from fastdatasets.estimation.text import one_line, to_text
from fastdatasets.pipeline import advance_run
from fastdatasets.pricing.prices import parse_price
from fastdatasets.pricing.quotes import LocalQuote, Quote
from fastdatasets.pricing.tokens import TokenCounter, counter_for
from fastdatasets.runs.folders import open_run
from store import RunFolder
from store.runs import Mode
from tests.conftest import Command, write_jsonl
from tests.doubles import NullProgress, ScriptedBackend
from tests.llmserver import LLMServer

OPENAI = "https://api.openai.com/v1"
HELLO: list[dict[str, object]] = [{"prompt": text} for text in ("Hi", "hello world", "Hi")]
FROM = "genai-prices 0.2.3: openai gpt-4o-mini"
BATCH = Quote(
    price_in=Decimal("0.075"),
    price_out=Decimal("0.3"),
    source=f"{FROM}, batch",
    min_cost=Decimal("0.000001875"),
    max_cost=Decimal("0.000061275"),
)
LIVE = Quote(
    price_in=Decimal("0.15"),
    price_out=Decimal("0.6"),
    source=f"{FROM}, live",
    min_cost=Decimal("0.00000375"),
    max_cost=Decimal("0.00012255"),
)
# 8 and 9 tokens to ask, at most 100 to answer each.
TWO_ASKED = Estimate(
    model="gpt-4o-mini",
    base_url=OPENAI,
    records=3,
    requests=3,
    unique_requests=2,
    later_answers=0,
    prompt_tokens=17,
    counted_prompts=2,
    tokenizer="o200k_base",
    tokenizer_error=0,
    images=0,
    image_tokens=0,
    min_completion_tokens=2,
    completion_tokens=None,
    completion_basis="not known",
    max_completion_tokens=200,
    batch=BATCH,
    live=LIVE,
    local=LocalQuote(),
)


@pytest.fixture(autouse=True)
def _at_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_API_BASE", OPENAI)


def config_for(rows: list[dict[str, object]], **given: Any) -> RunConfig:
    """All rows, the bare instruction as the prompt, answers of 100 tokens."""
    Path("bare.j2").write_text("{{ instruction }}", "utf-8")
    run_config: dict[str, Any] = {
        "dataset_name": str(write_jsonl(Path("d.jsonl"), rows)),
        "sample_size": 0,
        "backend": "openai",
        "model": "gpt-4o-mini",
        "max_output_tokens": 100,
        "prompt_template": "bare.j2",
    }
    return RunConfig(**(run_config | given))


def local_run(name: str, model: str, seconds: int) -> None:
    """A finished local run of three answers of 7 tokens, one every so many seconds."""
    folder = RunFolder(Path("output") / name)
    folder.path.mkdir(parents=True)
    rows: list[dict[str, object]] = [{"prompt": str(number)} for number in range(3)]
    new = new_run(config_for(rows, model=model), load_settings())
    with open_run(folder, replace(new, backend="vllm")) as store:
        advance_run(folder, store, lambda _: ScriptedBackend(), NullProgress(), 3)
        store.connection.execute(
            "UPDATE results SET happened_at = TIMESTAMP '2026-11-01' "
            "+ to_seconds($seconds * rowid::DOUBLE)",
            {"seconds": seconds},
        )
        folder.write_progress(store.status(name, 3))


def test_tokens_and_prices() -> None:
    """Equal questions are asked once, and each backend has its costs; no run is made."""
    assert estimate(config_for(HELLO)) == TWO_ASKED
    assert not Path("output").exists()


def test_old_outputs_tell_lengths() -> None:
    """A record with an old output is expected to be answered at a third of its bytes."""
    rows: list[dict[str, object]] = [
        {"prompt": "a", "output": "x" * 30},
        {"prompt": "b", "output": "x" * 900},
        {"prompt": "c", "output": ""},
    ]
    found = estimate(config_for(rows))
    assert (found.completion_tokens, found.max_completion_tokens) == (10 + 100 + 50, 300)
    assert found.completion_basis == (
        "a third of the old output's bytes for 2 of them, else half of the limit"
    )
    found = estimate(config_for(rows[:2]))
    assert found.completion_basis == "a third of the old output's bytes"
    tokens = found.prompt_tokens * 15 + 110 * 60
    assert found.live.expected_cost == tokens * Decimal("1e-8")
    assert found.batch.expected_cost == tokens * Decimal("0.5e-8")


def test_unknown_model() -> None:
    """A model without a price says so, and costs nothing that is known."""
    found = estimate(config_for(HELLO, model="m"))
    assert (found.batch, found.live) == (Quote(), Quote())
    assert to_text(found).splitlines()[5:] == [
        "prompt tokens: about 17, counted with o200k_base, not the model's own tokenizer (±25%)",
        "completion tokens: from 2 to 200, as no length of an answer is known",
        f"batch: no price is known for m at {OPENAI}: give --price-in and --price-out",
        f"live: no price is known for m at {OPENAI}: give --price-in and --price-out",
        "local: no speed is known, so no price: no finished local run of m shows it",
    ]


def test_prices_are_those_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's prices hold at OpenAI and for the local engine's model, and nowhere else."""
    model = config_for(HELLO, model="gpt-4o-mini")
    monkeypatch.setenv("LLM_API_BASE", "https://gateway.example.com/v1")
    found = estimate(model)
    assert (found.base_url, found.batch, found.live) == (
        "https://gateway.example.com/v1", Quote(), Quote(),
    )  # fmt: skip
    local = estimate(replace(model, backend="vllm"))
    assert (local.base_url, local.batch, local.live) == (None, BATCH, LIVE)
    monkeypatch.delenv("LLM_API_BASE")
    assert estimate(replace(model, backend="openai-batch")) == TWO_ASKED
    assert estimate(model).base_url == "http://localhost:8000/v1"
    monkeypatch.setenv("LLM_API_KEY", "sk-test")
    assert estimate(model) == TWO_ASKED


def test_given_price() -> None:
    """A price that is given takes the place of both; at most counts the tokenizer's error in."""
    given = Quote(
        price_in=Decimal(1),
        price_out=Decimal(10),
        source="--price-in/--price-out",
        min_cost=Decimal("0.000037"),
        expected_cost=Decimal("0.001017"),
        max_cost=Decimal("0.002022"),  # 17 tokens and a quarter, rounded up: 22
    )
    rows = [row | {"output": "x" * 150} for row in HELLO]
    found = estimate(config_for(rows, model="m"), price=parse_price("1", "10"))
    assert (found.batch, found.live) == (given, given)


@pytest.mark.slow
def test_price_of_this_machine() -> None:
    """The newest finished local run of the same model tells how long it takes."""
    local_run("slow", "m", seconds=100)
    local_run("night", "m", seconds=7)
    local_run("other", "another", seconds=1)
    (Path("output") / "spoilt").mkdir()
    (Path("output") / "spoilt" / "work.duckdb").write_text("nothing")
    rows: list[dict[str, object]] = [{"prompt": "a", "output": "x" * 3600 * 3}]
    found = estimate(config_for(rows, model="m", max_output_tokens=7200))
    assert found.local == LocalQuote(
        tokens_per_second=1.0,
        source="run night",
        min_hours=1 / 3600,
        expected_hours=1.0,
        max_hours=2.0,
    )
    assert found.local.describe("m") == (
        "1.00 hours expected, 2.00 at most (1 tokens/s as in run night); "
        "give --gpu-price for a price"
    )
    priced = estimate(config_for(rows, model="m", max_output_tokens=7200), gpu_price=Decimal("1.5"))
    assert priced.local == replace(
        found.local,
        gpu_price=Decimal("1.5"),
        min_cost=Decimal("1.5") * Decimal(1 / 3600),
        expected_cost=Decimal("1.5"),
        max_cost=Decimal(3),
    )
    assert priced.local.describe("m") == (
        "1.50 USD expected, 3.00 USD at most (1.00 hours expected, 2.00 at most; 1.5 USD an hour; "
        "1 tokens/s as in run night)"
    )


def test_time_on_this_machine_is_a_range_too() -> None:
    """Where nothing tells an answer's length, hours and their price are from least to most."""
    local_run("night", "m", seconds=7)
    run_config = config_for([{"prompt": "a"}], model="m", max_output_tokens=7200)
    assert estimate(run_config, gpu_price=Decimal("1.5")).local.describe("m") == (
        "from 0.0004 USD to 3.00 USD (from 0.00 to 2.00 hours; 1.5 USD an hour; "
        "1 tokens/s as in run night)"
    )


def test_answers_of_one_moment_tell_no_speed() -> None:
    """A run whose answers were all stored at once does not tell how fast it was."""
    local_run("night", "m", seconds=0)
    assert estimate(config_for(HELLO, model="m")).local == LocalQuote()


def test_augment_assumes_the_answers() -> None:
    """Of an augment, answers to each record and its variants are assumed to be as its own."""
    rows: list[dict[str, object]] = [{"prompt": "Hi", "output": "x" * 30}]
    two, five = (estimate(config_for(rows, mode=Mode.AUGMENT, num_aug=count)) for count in (2, 5))
    assert (two.requests, two.unique_requests, two.later_answers, five.later_answers) == (
        1, 1, 3, 6,
    )  # fmt: skip
    assert five.prompt_tokens - two.prompt_tokens == 3 * 8
    assert (two.completion_tokens, two.max_completion_tokens) == (50 + 3 * 10, 100 + 3 * 100)
    assert to_text(two).splitlines()[4:6] == [
        "requests: 1, unique: 1",
        "then: 3 answers, assumed: no variant is missing, and its prompt and answer are as long "
        "as its record's own",
    ]


def test_sample_is_scaled_up(tmp_path: Path) -> None:
    """Where there are more prompts than are counted, a sample stands for all, and that is said."""
    rows: list[dict[str, object]] = [{"prompt": f"q{number}"} for number in range(10)]
    counter = TokenCounter("the length", 0, lambda messages, _=None: len(messages[0]["content"]))
    with open_run(RunFolder(tmp_path), new_run(config_for(rows), load_settings())) as store:
        with pytest.raises(InterruptedError):
            advance_run(RunFolder(tmp_path), store, no_backend, NullProgress(), 3)
        found = expected(store, store.run(), counter, prompts=4)
    assert (found.unique_requests, found.counted_prompts, found.prompt_tokens) == (10, 4, 20)
    assert to_text(found).splitlines()[2] == (
        "prompt tokens: about 20, counted with the length in a sample of 4 prompts"
    )


def no_backend(run: object) -> ScriptedBackend:
    """Stop before the first request."""
    raise InterruptedError(run)


def test_what_is_left(tmp_path: Path) -> None:
    """In the midst of a run only what is pending counts, and its own answers tell lengths."""
    rows: list[dict[str, object]] = [{"prompt": f"{number}"} for number in range(22)]
    with open_run(RunFolder(tmp_path), new_run(config_for(rows), load_settings())) as store:
        with pytest.raises(KeyboardInterrupt):
            advance_run(
                RunFolder(tmp_path),
                store,
                lambda _: ScriptedBackend(dies_after=20),
                NullProgress(),
                3,
            )
        found = expected(store, store.run(), counter_for("gpt-4o-mini"))
    assert (found.unique_requests, found.prompt_tokens, found.completion_tokens) == (2, 16, 14)
    assert found.completion_basis == "from the results so far"
    assert one_line(found, "openai-batch") == (
        "2 requests left: 16 prompt tokens, 14 completion tokens expected; "
        "under 0.0001 USD expected, under 0.0001 USD at most"
    )


def opening_line(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    run_config: RunConfig,
    **execution: Any,
) -> tuple[str, str]:
    """What a run with a server says before it asks, and the server's address."""
    with LLMServer() as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        start(run_config, None, "r", ExecutionConfig(**execution))
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "requests left" in line]
    return line, server.base_url


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", ["openai", "openai-batch"])
def test_line_at_the_start_of_a_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], backend: str
) -> None:
    """A run with a server says what it is going to ask and what that costs, before it asks."""
    run_config = config_for(HELLO, backend=backend)
    line, _ = opening_line(capfd, monkeypatch, run_config, price_in="1000", price_out="10000")
    assert line == (
        "2 requests left: 17 prompt tokens, from 2 to 200 completion tokens, as no length of an "
        "answer is known; from 0.0370 USD to 2.02 USD"
    )


@pytest.mark.parametrize("model", ["gpt-4o-mini", "m"])
def test_line_at_the_start_without_a_price(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], model: str
) -> None:
    """At a server that nobody knows no name has a price, and that is said with the address."""
    rows: list[dict[str, object]] = [{"prompt": "Hi", "output": "x" * 30}]
    line, base_url = opening_line(capfd, monkeypatch, config_for(rows, model=model))
    about = "about " if model == "m" else ""
    assert line == (
        f"1 requests left: {about}8 prompt tokens, 10 completion tokens expected; "
        f"no price is known for {model} at {base_url}: give --price-in and --price-out"
    )


def test_json(command: Command) -> None:
    """--json is one object; amounts are numbers, and null where they are not known."""
    source = Path(str(config_for(HELLO).dataset_name)).resolve()
    done = command(
        "estimate", "--dataset-name", "d.jsonl", "--sample-size", 0, "--backend", "openai-batch",
        "--model", "gpt-4o-mini", "--max-output-tokens", 100, "--prompt-template", "bare.j2",
        "--gpu-price", "2", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout) == {
        "model": "gpt-4o-mini",
        "base_url": OPENAI,
        "lines": [f"sampling {source}", "columns: instruction ← prompt", "sampled 3 of 3 rows"],
        "records": 3,
        "requests": 3,
        "unique_requests": 2,
        "later_answers": 0,
        "prompt_tokens": 17,
        "counted_prompts": 2,
        "tokenizer": "o200k_base",
        "tokenizer_error": 0,
        "images": 0,
        "image_tokens": 0,
        "min_completion_tokens": 2,
        "completion_tokens": None,
        "completion_basis": "not known",
        "max_completion_tokens": 200,
        "batch": {
            "price_in": 0.075,
            "price_out": 0.3,
            "source": f"{FROM}, batch",
            "min_cost": 0.000001875,
            "expected_cost": None,
            "max_cost": 0.000061275,
        },
        "live": {
            "price_in": 0.15,
            "price_out": 0.6,
            "source": f"{FROM}, live",
            "min_cost": 0.00000375,
            "expected_cost": None,
            "max_cost": 0.00012255,
        },
        "judge": None,
        "local": {
            "gpu_price": 2,
            "tokens_per_second": None,
            "source": None,
            "min_hours": None,
            "expected_hours": None,
            "max_hours": None,
            "min_cost": None,
            "expected_cost": None,
            "max_cost": None,
        },
        "currency": "USD",
    }


def test_text(command: Command) -> None:
    """The lines for a person are these; --num-aug makes it an augment's."""
    source = Path(str(config_for(HELLO).dataset_name)).resolve()
    arguments = (
        "estimate", "--dataset-name", "d.jsonl", "--sample-size", 0, "--backend", "openai",
        "--model", "gpt-4o-mini", "--max-output-tokens", 100, "--prompt-template", "bare.j2",
        "--price-in", "1000", "--price-out", "10000",
    )  # fmt: skip
    given = "(1000 in, 10000 out per million tokens; --price-in/--price-out)"
    assert command(*arguments).stdout.splitlines() == [
        f"sampling {source}",
        "columns: instruction ← prompt",
        "sampled 3 of 3 rows",
        "records: 3",
        "requests: 3, unique: 2",
        "prompt tokens: 17, counted with o200k_base",
        "completion tokens: from 2 to 200, as no length of an answer is known",
        f"batch: from 0.0370 USD to 2.02 USD {given}",
        f"live: from 0.0370 USD to 2.02 USD {given}",
        "local: no speed is known, so no price: no finished local run of gpt-4o-mini shows it",
    ]
    assert command(*arguments, "--num-aug", 1).stdout.splitlines()[5].startswith("then: 6 answers")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--price-in", "1"], "--price-in and --price-out go together: give both or none"),
        (["--gpu-price", "-2"], "--gpu-price -2: a number of USD is expected, 0 or more"),
        (["--num-aug", "0"], "--num-aug 0: at least 1 variant is expected"),
    ],
)
def test_users_errors(command: Command, arguments: list[str], message: str) -> None:
    """A user's mistake is one line, and exit 1."""
    config_for(HELLO)
    done = command("estimate", "--dataset-name", "d.jsonl", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"fastdatasets: {message}\n")


@pytest.mark.slow
def test_prompt_tokens_are_those_of_the_engine(command: Command, tmp_path: Path) -> None:
    """For a model whose tokenizer is at hand the estimate is what the engine then counts."""
    rows: list[dict[str, object]] = [
        {"prompt": f"Was ist {number} + {number}? 请回答。 {'word ' * number}"}
        for number in range(8)
    ]
    options = ("--dataset-name", write_jsonl(tmp_path / "d.jsonl", rows), "--sample-size", 0)
    reported = json.loads(command("estimate", *options, "--backend", "vllm", "--json").stdout)
    run = ("--backend", "vllm", "--max-output-tokens", 4, "--run", "r", "--keep-flagged")
    assert command("distill", *options, *run).returncode == 0
    counted = json.loads(command("status", "r", "--json").stdout)["tokens"]["prompt"]
    assert reported["prompt_tokens"] == counted


def test_judge(command: Command) -> None:
    """The judge's requests are estimated apart, at the price of its own model."""
    config_for([{"prompt": "Hi", "output": "x" * 30}] * 2)
    done = command(
        "estimate", "--dataset-name", "d.jsonl", "--sample-size", 0, "--backend", "openai-batch",
        "--model", "gpt-4o-mini", "--samples", 3, "--judge-model", "gpt-4.1-mini", "--json",
    )  # fmt: skip
    judge = json.loads(done.stdout)["judge"]
    assert (judge["model"], judge["requests"], judge["completion_tokens"]) == (
        "gpt-4.1-mini", 6, 6 * 80,
    )  # fmt: skip
    cost = judge["prompt_tokens"] * judge["batch"]["price_in"]
    cost += judge["completion_tokens"] * judge["batch"]["price_out"]
    assert judge["batch"]["expected_cost"] == pytest.approx(cost / 1e6)
    assert 6 * 150 < judge["prompt_tokens"] < 6 * 400
