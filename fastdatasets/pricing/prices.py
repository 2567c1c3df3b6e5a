"""Prices of models, in USD per million tokens, from the library genai-prices.

The table is as old as the library's release; nothing is read online. Names and addresses are
matched more strictly than by the library: it also matches names that only begin or end like a known
one, or prices of another provider, and a wrong price is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from backends.openai_api.providers import OPENAI_MODELS
from store.errors import UserError

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, PriceCalculation, TieredPrices

MILLION = Decimal(1_000_000)
LEAST_SHOWN = Decimal("0.0001")
BATCH = {"processing": "batch"}
EDITION = re.compile(r"-(latest|\d{4}|\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrice:
    """USD per million tokens, and where they are from.

    cached_input: for prompt tokens read from the server's cache. written_input: for those written
    to it, as OpenAI charges since gpt-5.6. Both default to input.
    """

    input: Decimal
    cached_input: Decimal
    written_input: Decimal
    output: Decimal
    source: str

    def cost(
        self,
        prompt_tokens: int,
        cached_tokens: int,
        completion_tokens: int,
        *,
        written_tokens: int = 0,
    ) -> Decimal:
        """USD of a usage; cached and written tokens are included in prompt_tokens."""
        plain_tokens = prompt_tokens - cached_tokens - written_tokens
        return (
            self.input * plain_tokens
            + self.cached_input * cached_tokens
            + self.written_input * written_tokens
            + self.output * completion_tokens
        ) / MILLION

    def worst_cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """Maximum USD, for any use of the server's cache."""
        highest = max(self.input, self.cached_input, self.written_input)
        return (highest * prompt_tokens + self.output * completion_tokens) / MILLION


def given_price(price_in: Decimal, price_out: Decimal) -> ModelPrice:
    """The price of the user's options, without a discount for cached tokens."""
    return ModelPrice(
        input=price_in,
        cached_input=price_in,
        written_input=price_in,
        output=price_out,
        source="--price-in/--price-out",
    )


PRICE = "--price"  # what the options of the teacher's price begin with
JUDGE_PRICE = "--judge-price"


def parse_price(
    price_in: str | None, price_out: str | None, options: str = PRICE
) -> ModelPrice | None:
    """The price that two options give; None where neither is given; raises UserError."""
    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        raise UserError(f"{options}-in and {options}-out go together: give both or none")
    return given_price(parse_usd(f"{options}-in", price_in), parse_usd(f"{options}-out", price_out))


def parse_usd(option: str, text: str) -> Decimal:
    """An option's amount of USD, which may be 0; raises UserError."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UserError(f"{option} {text}: a number of USD is expected, 0 or more")
    return amount


def usd(amount: Decimal) -> str:
    """An amount for a person: cents, or a hundredth of one where it is under a dollar."""
    if 0 < amount < LEAST_SHOWN:
        return f"under {LEAST_SHOWN} USD"
    return f"{amount:.2f} USD" if amount >= 1 else f"{amount:.4f} USD"


def find_price(
    model: str,
    base_url: str | None,
    *,
    batch: bool,
    longest_prompt: int | None = None,
    at: datetime | None = None,
) -> ModelPrice | None:
    """The price of a model at the provider that has an address; None where none is known.

    Without an address the price of the model's maker, by its name alone. Also None where the table
    has no batch price and one is asked for: it may be half the live one, or the same. A price that
    depends on a prompt's length is that for longest_prompt tokens, or the highest without it; one
    that depends on the hour is the day's highest, since a run takes hours. Cached tokens of a batch
    cost less only where the table says so of batches. at: the time the tokens are bought, which is
    now by default.
    """
    when = (at or datetime.now(UTC)).astimezone(UTC)
    calculation = _lookup(model.lower(), base_url and base_url.lower(), when)
    if calculation is None:
        return None
    entry = calculation.model
    # Without any, the library would give the live price.
    batch_prices = [
        variant.prices
        for variant in entry.price_variants or ()
        if variant.when == BATCH and (variant.constraint is None or variant.constraint.active(when))
    ]
    if batch and not batch_prices:
        return None
    prices = [
        entry.get_prices(datetime.combine(when, time(hour), UTC), BATCH if batch else None)
        for hour in range(24)
    ]

    def rate(unit: str) -> Decimal | None:
        return _highest((getattr(hour, unit) for hour in prices), longest_prompt)

    paid, answered = rate("input_mtok"), rate("output_mtok")
    if not paid or not answered:  # priced by the hour of audio, by the page, or not at all
        return None
    has_cached = not batch or any(price.cache_read_mtok is not None for price in batch_prices)
    return ModelPrice(
        input=paid,
        cached_input=(rate("cache_read_mtok") if has_cached else None) or paid,
        written_input=rate("cache_write_mtok") or paid,
        output=answered,
        source=f"genai-prices {version('genai-prices')}: {calculation.provider.id} {entry.id}, "
        + ("batch" if batch else "live"),
    )


def _lookup(name: str, base_url: str | None, when: datetime) -> PriceCalculation | None:
    """The library's entry of a model and its provider, if it is exactly this model there."""
    from genai_prices import Usage, calc_price

    is_openais = bool(OPENAI_MODELS.match(name))
    # The library does not find the provider of fine-tuned models by their names.
    maker = "openai" if is_openais else None
    try:
        calculation = (
            calc_price(Usage(), name, provider_id=maker, genai_request_timestamp=when)
            if base_url is None
            else calc_price(Usage(), name, provider_api_url=base_url, genai_request_timestamp=when)
        )
    except LookupError:
        return None
    if calculation.provider.id == "openai" and not is_openais:
        return None  # gpt-oss: its weights are open, and each server has a price of its own
    if base_url is not None and not _is_of(calculation, base_url):
        return None
    return calculation if _means(calculation.model, name) else None


def _is_of(calculation: PriceCalculation, base_url: str) -> bool:
    """Whether a price is that of the provider whose host is the address's."""
    address = urlsplit(base_url)
    matched = re.match(calculation.provider.api_pattern, base_url)
    return (
        matched is not None
        and matched.end() >= len(f"{address.scheme}://{address.hostname}")
        # not in those of a provider it falls back to
        and calculation.model in calculation.provider.models
    )


def _means(entry: ModelInfo, name: str) -> bool:
    """Whether an entry is of exactly this model, not of all models with similar names."""
    if EDITION.sub("", name) == EDITION.sub("", entry.id):
        return True
    if name.startswith("ft:"):
        return entry.id.startswith("ft:")  # more expensive than the base model
    return not (entry.is_match(f"{name}-x") or entry.is_match(f"x-{name}"))


def _highest(
    rates: Iterable[Decimal | TieredPrices | None], longest_prompt: int | None
) -> Decimal | None:
    """The highest of the rates, in tiers up to that of the longest prompt."""
    known: list[Decimal] = []
    for rate in rates:
        if isinstance(rate, Decimal):
            known.append(rate)
        elif rate is not None:
            known.append(rate.base)
            known += [
                tier.price
                for tier in rate.tiers
                if longest_prompt is None or longest_prompt > tier.start
            ]
    return max(known, default=None)
