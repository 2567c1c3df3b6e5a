"""The backend of a run and its price, from a command's options and the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from backends.base import Backend, BackendOptions
from backends.openai_api.providers import GENERIC, provider_for, thinking_of
from backends.registry import BackendInfo, find_backend
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.request_params import parse_headers, parse_pair
from fastdatasets.config.settings import Settings
from fastdatasets.pricing.prices import (
    JUDGE_PRICE,
    PRICE,
    ModelPrice,
    find_price,
    parse_price,
)
from fastdatasets.stages.judge import run_of_judge
from store import RunFolder, UserError
from store.money import UNLIMITED, PriceSnapshot, Rates
from store.runs import Mode, Run

LONGEST_PROMPT = 128_000  # tokens; tiered prices are those of prompts up to this length


def check(execution: ExecutionConfig, run: Run, settings: Settings) -> None:
    """Raise UserError for what would fail later, before the run is created."""
    parse_engine_args(execution.engine_arg)
    runs = runs_of_requests(run)
    is_local = not any(find_backend(one.backend).uses_server for one in runs)
    if parse_headers(execution.header) and is_local:
        raise UserError(f"--header is for calls to a server, and {run.backend} makes none")
    for one in () if run.skip_generation else runs:
        backend = find_backend(one.backend)
        if backend.uses_server:
            key_for(backend, settings)
            may_be_vllm = provider_for(str(one.base_url)) is GENERIC
            check_thinking(one, serves_vllm=may_be_vllm)
        backend.check(one.model)
    check_prices(execution, run)


def runs_of_requests(run: Run) -> list[Run]:
    """The run as its requests are sent: to the teacher and, where it has one, to the judge."""
    return [run] if run.judge is None else [run, run_of_judge(run)]


def check_prices(execution: ExecutionConfig, run: Run) -> None:
    """Raise UserError where --max-cost has nothing to limit, or a paid model has no price."""
    runs = [] if run.skip_generation else runs_of_requests(run)
    is_local = not any(find_backend(one.backend).uses_server for one in runs)
    if budget_of(execution) is not None and is_local:
        raise UserError("--max-cost is for paid requests, and this run makes none")
    for one in runs:
        options = PRICE if one.model == run.model else JUDGE_PRICE
        price_of(prices_for(execution, run, one), one, options)


def prices_for(execution: ExecutionConfig, run: Run, one: Run) -> ExecutionConfig:
    """The options with the prices of the judge's tokens, where its model is another.

    one: of runs_of_requests(run).
    """
    if one.model == run.model:
        return execution
    return replace(
        execution, price_in=execution.judge_price_in, price_out=execution.judge_price_out
    )


def make_backend(
    execution: ExecutionConfig,
    run: Run,
    settings: Settings,
    folder: RunFolder,
    *,
    serves_vllm: bool = False,
) -> Backend:
    """The run's backend, with the command's options; raises UserError.

    serves_vllm: whether the server is vLLM's own, see probe_server.
    """
    backend = find_backend(run.backend)
    price = price_of(execution, run)
    return backend.make(
        run,
        BackendOptions(
            folder=folder.path,
            api_key=key_for(backend, settings) if backend.uses_server else "",
            max_attempts=execution.max_attempts,
            rates=None if price is None else price.rates,
            max_cost=budget_of(execution),
            wait=execution.wait,
            keep_files=execution.keep_files,
            resubmit_lost=execution.resubmit_lost,
            max_enqueued_tokens=execution.max_enqueued_tokens,
            completion_window=execution.completion_window,
            max_tokens_name=execution.max_tokens_name,
            json_schema=execution.json_schema,
            serves_vllm=serves_vllm,
            headers=headers_of(execution, backend),
            engine_args=parse_engine_args(execution.engine_arg),
            concurrency=settings.max_llm_concurrency,
            timeout_seconds=settings.fastdatasets_timeout_seconds,
            poll_seconds=settings.fastdatasets_poll_seconds,
            grace_seconds=settings.fastdatasets_adopt_grace_seconds,
            batch_max_requests=settings.fastdatasets_batch_max_requests,
            batch_max_bytes=settings.fastdatasets_batch_max_bytes,
        ),
    )


def probe_server(execution: ExecutionConfig, run: Run, settings: Settings, *, is_new: bool) -> bool:
    """Whether the server's list of models says vLLM, whose abilities are known.

    The list is read for a new run, and where it decides something: for an augment or a judge
    without --json-schema, for --think. Raises UserError without a connection to a new run's
    server, and where --think depends on it; a run that has sent something waits for it otherwise.
    """
    from backends.openai_api.errors import ApiError
    from backends.openai_api.model_list import is_vllm

    assert run.base_url is not None, "the backend uses a server"
    thinks = "think" in run.params and provider_for(run.base_url) is GENERIC
    asks_for_json = run.mode is Mode.AUGMENT or run.judge is not None or "json_schema" in run.params
    has_schema = asks_for_json and execution.json_schema is None
    if not (is_new or has_schema or thinks):
        return False
    backend = find_backend(run.backend)
    try:
        return is_vllm(
            run.base_url,
            key_for(backend, settings),
            run.model,
            settings.fastdatasets_poll_seconds,
            headers_of(execution, backend),
        )
    except ApiError as api_error:
        if not (is_new or thinks):
            return False
        raise UserError(
            f"no connection to {run.base_url}: {api_error}. Check the address (LLM_API_BASE) and "
            "that the server is up"
        ) from None


def check_thinking(run: Run, *, serves_vllm: bool) -> None:
    """Raise UserError where --think is part of the run and its server's way is not known."""
    assert run.base_url is not None, "the backend uses a server"
    if "think" in run.params and thinking_of(provider_for(run.base_url), serves_vllm) is None:
        option = "--think" if run.params["think"] else "--no-think"
        raise UserError(
            f"{option}: how {run.base_url} turns thinking on and off is not known. Start a run "
            "with the server's own parameter, such as --param reasoning_effort=low"
        )


def headers_of(execution: ExecutionConfig, backend: BackendInfo) -> dict[str, str]:
    """The headers of this command's calls, none for a local backend; raises UserError."""
    headers = parse_headers(execution.header)
    return headers if backend.uses_server else {}


def price_of(execution: ExecutionConfig, run: Run, options: str = PRICE) -> PriceSnapshot | None:
    """The current price at the run's server; None where it is not known, or nothing is billed.

    options: what those of the price begin with. Raises UserError for an invalid price, and where
    --max-cost has no price.
    """
    max_cost = budget_of(execution)
    given = parse_price(execution.price_in, execution.price_out, options)
    backend = find_backend(run.backend)
    if not backend.uses_server or run.skip_generation:
        return None
    batch = backend.uses_batches
    price = given or find_price(run.model, run.base_url, batch=batch, longest_prompt=LONGEST_PROMPT)
    if price is None:
        if max_cost is not None:
            where = "in a batch" if batch else "live"
            raise UserError(
                f"--max-cost needs a price, and none of {run.model} {where} at {run.base_url} is "
                f"known: give {options}-in and {options}-out, in USD per million tokens"
            )
        return None
    if max_cost is not None and run.images and run.image_tokens is None:
        raise UserError(
            f"--max-cost with --images needs the most tokens of an image, and these are not known "
            f"of {run.model}: leave --max-cost out and try a small --sample-size first"
        )
    live = None
    if batch and given is None:
        live = find_price(run.model, run.base_url, batch=False, longest_prompt=LONGEST_PROMPT)
    return PriceSnapshot(price.source, rates_of(price), None if live is None else rates_of(live))


def budget_of(execution: ExecutionConfig) -> int | None:
    """--max-cost in picodollars; raises UserError where it is no amount."""
    if execution.max_cost is None:
        return None
    try:
        amount = Decimal(execution.max_cost)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not (amount.is_finite() and amount > 0):
        raise UserError(f"--max-cost {execution.max_cost}: an amount of USD above 0 is expected")
    return min(int(amount.scaleb(12)), UNLIMITED)


def rates_of(price: ModelPrice) -> Rates:
    """A price in picodollars a token, rounded up; input: with cache writes."""

    def rate(usd: Decimal) -> int:
        return int(usd.scaleb(6).to_integral_value(ROUND_CEILING))

    highest = max(price.input, price.written_input)
    return Rates(rate(highest), rate(price.cached_input), rate(price.output))


def key_for(backend: BackendInfo, settings: Settings) -> str:
    """The API key, stripped of whitespace; raises UserError.

    Backends that do not need a key get a placeholder.
    """
    if settings.llm_api_key is None:
        if not backend.needs_key:
            return "none"
        raise UserError("there is no key: set LLM_API_KEY in the environment or in .env")
    key = settings.llm_api_key.get_secret_value().strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError("LLM_API_KEY has characters that no key has: copy it again")
    return key


def parse_engine_args(pairs: Sequence[str]) -> dict[str, Any]:
    """Arguments of vLLM's engine from KEY=VALUE pairs; raises UserError."""
    parsed = (parse_pair("--engine-arg", pair) for pair in pairs)
    return {key.replace("-", "_"): value for key, value in parsed}
