"""Quotes of the same requests in a batch, live, and on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from backends.registry import LOCAL
from fastdatasets.pricing.prices import PRICE, ModelPrice, usd
from store import RunFolder, UserError, WorkStore
from store.errors import StoreHeld
from store.status import State

HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Tokens: minimum, expected (None: not known) and maximum."""

    prompt_tokens: int
    max_prompt_tokens: int
    min_completion_tokens: int
    completion_tokens: int | None
    max_completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The cost at a server in USD; prices are per million tokens. None: not known.

    min_cost: with one completion token for each request.
    """

    price_in: Decimal | None = None
    price_out: Decimal | None = None
    source: str | None = None
    min_cost: Decimal | None = None
    expected_cost: Decimal | None = None
    max_cost: Decimal | None = None

    def costs(self, model: str, base_url: str | None, options: str = PRICE) -> str:
        """The costs in words; without a price, the model and address that have none.

        options: what those of the price begin with.
        """
        if self.min_cost is None or self.max_cost is None:
            where = f" at {base_url}" if base_url else ""
            return f"no price is known for {model}{where}: give {options}-in and {options}-out"
        return _costs(self.min_cost, self.expected_cost, self.max_cost)

    def describe(self, model: str, base_url: str | None, options: str = PRICE) -> str:
        """The costs in words, with the prices and their source."""
        costs = self.costs(model, base_url, options)
        if self.max_cost is None:
            return costs
        return (
            f"{costs} ({self.price_in} in, {self.price_out} out per million tokens; {self.source})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalQuote:
    """Hours on this machine, at a measured speed, and costs in USD. None: not known."""

    gpu_price: Decimal | None = None
    tokens_per_second: float | None = None
    source: str | None = None
    min_hours: float | None = None
    expected_hours: float | None = None
    max_hours: float | None = None
    min_cost: Decimal | None = None
    expected_cost: Decimal | None = None
    max_cost: Decimal | None = None

    def describe(self, model: str) -> str:
        """The hours and costs in words, with the source of the speed."""
        if self.tokens_per_second is None:
            return f"no speed is known, so no price: no finished local run of {model} shows it"
        speed = f"{self.tokens_per_second:.0f} tokens/s as in {self.source}"
        hours = (
            f"from {self.min_hours:.2f} to {self.max_hours:.2f} hours"
            if self.expected_hours is None
            else f"{self.expected_hours:.2f} hours expected, {self.max_hours:.2f} at most"
        )
        if self.min_cost is None or self.max_cost is None:
            return f"{hours} ({speed}); give --gpu-price for a price"
        return (
            f"{_costs(self.min_cost, self.expected_cost, self.max_cost)} ({hours}; "
            f"{self.gpu_price} USD an hour; {speed})"
        )


def _costs(least: Decimal, expected: Decimal | None, most: Decimal) -> str:
    """An amount as expected and at most, or its range where no expectation is known."""
    if expected is None:
        return f"from {usd(least)} to {usd(most)}"
    return f"{usd(expected)} expected, {usd(most)} at most"


def quote(volume: Volume, price: ModelPrice | None) -> Quote:
    """The quote of a volume at a server's price."""
    if price is None:
        return Quote()
    return Quote(
        price_in=price.input,
        price_out=price.output,
        source=price.source,
        min_cost=price.cost(volume.prompt_tokens, 0, volume.min_completion_tokens),
        expected_cost=None
        if volume.completion_tokens is None
        else price.cost(volume.prompt_tokens, 0, volume.completion_tokens),
        max_cost=price.worst_cost(volume.max_prompt_tokens, volume.max_completion_tokens),
    )


def local_quote(
    volume: Volume, model: str, runs: Iterable[RunFolder], gpu_price: Decimal | None
) -> LocalQuote:
    """The quote of a volume on this machine, at the speed of the first run that has one."""
    for folder in runs:
        speed = _speed(folder, model)
        if speed is None:
            continue
        least, expected, most = (
            None if tokens is None else tokens / speed / HOUR
            for tokens in (
                volume.min_completion_tokens,
                volume.completion_tokens,
                volume.max_completion_tokens,
            )
        )
        return LocalQuote(
            gpu_price=gpu_price,
            tokens_per_second=speed,
            source=f"run {folder.name}",
            min_hours=least,
            expected_hours=expected,
            max_hours=most,
            min_cost=_rent(least, gpu_price),
            expected_cost=_rent(expected, gpu_price),
            max_cost=_rent(most, gpu_price),
        )
    return LocalQuote(gpu_price=gpu_price)


def _rent(hours: float | None, gpu_price: Decimal | None) -> Decimal | None:
    return None if hours is None or gpu_price is None else gpu_price * Decimal(hours)


def _speed(folder: RunFolder, model: str) -> float | None:
    """Completion tokens a second of a finished local run of a model."""
    status = folder.read_progress()
    if status is None or (status.state, status.backend, status.model) != (
        State.DONE,
        LOCAL.name,
        model,
    ):
        return None
    try:
        with WorkStore.open(folder.store_path, read_only=True, wait_seconds=0) as store:
            return store.results.answer_speed()
    except (UserError, StoreHeld):
        return None
