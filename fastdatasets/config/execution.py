"""What a command takes from the day, since it enters no request, and the backend made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from backends import Backend
from fastdatasets.config.settings import Settings
from fastdatasets.pricing.prices import ModelPrice, find_price, parse_price
from store import RunFolder, UserError
from store.costs.money import PriceSnapshot, Rates
from store.jobs.journal import UNLIMITED
from store.runs import Mode, Run

if TYPE_CHECKING:
    from backends.openai_api.providers import Dialect, Provider
    from backends.openai_batch.backend import OpenAIBatch

BACKENDS = ("openai-batch", "openai", "vllm")
LONGEST_PROMPT = 128_000  # tokens; prices that rise with a prompt's length rise beyond that


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """Options of the day; None where the settings, or what is known of the provider, decide."""

    engine_arg: Sequence[str] = ()
    max_attempts: int = 3
    reuse: Sequence[str] = ()
    accept_other_server: bool = False
    wait: bool = True
    keep_files: bool = False
    resubmit_lost: bool = False
    max_enqueued_tokens: int | None = None
    completion_window: str | None = None
    max_tokens_name: str | None = None
    json_schema: bool | None = None
    max_cost: str | None = None  # USD, as the user wrote it
    price_in: str | None = None  # USD per million tokens
    price_out: str | None = None
    yes: bool = False

    def check(
        self,
        backend: str,
        model: str,
        base_url: str | None,
        settings: Settings,
        *,
        generates: bool,
    ) -> None:
        """Raise UserError for what would fail later, before anything is made."""
        parse_engine_args(self.engine_arg)
        if generates and backend != "vllm":
            _key_for(backend, settings)
        self.price(backend, model, base_url, generates=generates)
        if backend == "vllm" and generates:
            from backends.vllm.engine import check_installed, check_model

            check_installed()
            check_model(model)

    def price(
        self, backend: str, model: str, base_url: str | None, *, generates: bool
    ) -> PriceSnapshot | None:
        """What tokens cost today at the server, None where nobody knows or asks; raises UserError.

        Under --max-cost somebody has to know.
        """
        max_cost = self.budget()
        given = parse_price(self.price_in, self.price_out)
        if backend == "vllm" or not generates:
            if max_cost is not None:
                raise UserError("--max-cost is for paid requests, and this run makes none")
            return None
        batch = backend == "openai-batch"
        found = given or find_price(model, base_url, batch=batch, longest_prompt=LONGEST_PROMPT)
        if found is None:
            if max_cost is not None:
                where = "in a batch" if batch else "live"
                raise UserError(
                    f"--max-cost needs a price, and none of {model} {where} at {base_url} is "
                    "known: give --price-in and --price-out, in USD per million tokens"
                )
            return None
        live = None
        if batch and given is None:
            live = find_price(model, base_url, batch=False, longest_prompt=LONGEST_PROMPT)
        return PriceSnapshot(
            found.source, rates_of(found), None if live is None else rates_of(live)
        )

    def budget(self) -> int | None:
        """--max-cost in picodollars; raises UserError where it is no amount."""
        if self.max_cost is None:
            return None
        try:
            amount = Decimal(self.max_cost)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not (amount.is_finite() and amount > 0):
            raise UserError(f"--max-cost {self.max_cost}: an amount of USD above 0 is expected")
        return min(int(amount.scaleb(12)), UNLIMITED)

    def backend(self, run: Run, settings: Settings, folder: RunFolder) -> Backend:
        """The run's backend, with the options of the day; raises UserError."""
        if run.backend == "openai-batch":
            return self.batch(run, settings, folder)
        if run.backend == "openai":
            return self.live(run, settings)
        from backends.vllm.backend import EngineOptions, VllmBackend

        return VllmBackend(
            EngineOptions(
                model=run.model,
                engine_args=parse_engine_args(self.engine_arg),
                lora=run.params.get("lora"),
                max_attempts=self.max_attempts,
                log=folder.path / "engine.log",
            )
        )

    def at_server(self, run: Run, settings: Settings, *, is_new: bool) -> ExecutionConfig:
        """The options with what the server's list of models tells, where they leave it open.

        A new run asks for it, and an augment that may force a schema. Raises UserError where a new
        run's server cannot be connected to; one that has sent something waits for its server.
        """
        from backends.openai_api.errors import ApiError
        from backends.openai_api.model_list import is_vllm

        base_url = _address(run)
        has_schema = run.mode is Mode.AUGMENT and self.json_schema is None
        if not is_new and not has_schema:
            return self
        try:
            serves_vllm = is_vllm(
                base_url,
                _key_for(run.backend, settings),
                run.model,
                settings.fastdatasets_poll_seconds,
            )
        except ApiError as api_error:
            if not is_new:
                return self
            raise UserError(
                f"no connection to {base_url}: {api_error}. Check the address (LLM_API_BASE) and "
                "that the server is up"
            ) from None
        return replace(self, json_schema=True) if has_schema and serves_vllm else self

    def live(self, run: Run, settings: Settings) -> Backend:
        """Live requests to the run's server; raises UserError."""
        from backends.openai_api.providers import provider_for
        from backends.openai_live.backend import LiveOptions, OpenAILive

        base_url = _address(run)
        return OpenAILive(
            LiveOptions(
                base_url=base_url,
                api_key=_key_for(run.backend, settings),
                max_attempts=self.max_attempts,
                concurrency=settings.max_llm_concurrency,
                timeout_seconds=settings.fastdatasets_timeout_seconds,
                max_wait_seconds=settings.fastdatasets_poll_seconds,
                dialect=self._dialect(run, provider_for(base_url)),
                rates=self._rates(run),
                max_cost=self.budget(),
            )
        )

    def _dialect(self, run: Run, provider: Provider) -> Dialect:
        from backends.openai_api.providers import dialect_of

        return dialect_of(run.model, provider, self.max_tokens_name, self.json_schema)

    def _rates(self, run: Run) -> Rates | None:
        price = self.price(run.backend, run.model, run.base_url, generates=True)
        return None if price is None else price.rates

    def batch(self, run: Run, settings: Settings, folder: RunFolder) -> OpenAIBatch:
        """The Batch API of the run's server; raises UserError."""
        from backends.openai_api.providers import provider_for
        from backends.openai_batch.backend import OpenAIBatch
        from backends.openai_batch.context import BatchOptions

        base_url = _address(run)
        provider = provider_for(base_url)
        return OpenAIBatch(
            BatchOptions(
                base_url=base_url,
                api_key=_key_for(run.backend, settings),
                folder=folder.path,
                max_attempts=self.max_attempts,
                max_requests=settings.fastdatasets_batch_max_requests or provider.max_requests,
                max_bytes=settings.fastdatasets_batch_max_bytes or provider.max_bytes,
                dialect=self._dialect(run, provider),
                completion_window=self.completion_window or provider.completion_window,
                max_enqueued_tokens=self.max_enqueued_tokens,
                timeout_seconds=settings.fastdatasets_timeout_seconds,
                poll_seconds=settings.fastdatasets_poll_seconds,
                grace_seconds=settings.fastdatasets_adopt_grace_seconds,
                wait=self.wait,
                keep_files=self.keep_files,
                resubmit_lost=self.resubmit_lost,
                rates=self._rates(run),
                max_cost=self.budget(),
            )
        )


def rates_of(price: ModelPrice) -> Rates:
    """A price in picodollars a token, rounded up; what is put into a server's cache costs more."""

    def rate(usd: Decimal) -> int:
        return int(usd.scaleb(6).to_integral_value(ROUND_CEILING))

    dearest = max(price.input, price.written_input)
    return Rates(rate(dearest), rate(price.cached_input), rate(price.output))


def _key_for(backend: str, settings: Settings) -> str:
    """The key without the line end that a file may have left on it; raises UserError.

    Servers for live requests, as local ones are, may do without.
    """
    if settings.llm_api_key is None:
        if backend == "openai":
            return "none"
        raise UserError("there is no key: set LLM_API_KEY in the environment or in .env")
    key = settings.llm_api_key.get_secret_value().strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError("LLM_API_KEY has characters that no key has: copy it once more")
    return key


def _address(run: Run) -> str:
    """The server of a run that asks one."""
    assert run.base_url is not None, f"{run.backend} asks a server"
    return run.base_url


def parse_engine_args(pairs: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs as a dict; a value is JSON where it is valid JSON, else text."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--engine-arg {pair}: KEY=VALUE is expected")
        if value in ("True", "False"):
            value = value.lower()
        try:
            arguments[key.strip().replace("-", "_")] = json.loads(value)
        except ValueError:
            arguments[key.strip().replace("-", "_")] = value
    return arguments
