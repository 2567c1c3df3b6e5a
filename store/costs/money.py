"""Money in the store: tokens, what they cost, and what a run was billed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import msgspec


class Charge(StrEnum):
    """What a cost beside the results is for."""

    FAILED = "failed"  # billed, and nothing to keep
    UNANSWERED = "unanswered"  # at most: no answer came, but it may have been billed
    IN_FLIGHT = "in flight"  # at most: what a death would lose; taken back at an orderly end


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a server billed; cached ones are among the prompt's."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @classmethod
    def reported(
        cls, prompt: int | None, cached: int | None, completion: int | None
    ) -> Usage | None:
        """What a server told, None where it left out what counts."""
        if prompt is None or completion is None:
            return None
        return cls(prompt, cached or 0, completion)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt - other.prompt,
            self.cached - other.cached,
            self.completion - other.completion,
        )


class Rates(msgspec.Struct, frozen=True):
    """What tokens cost, in picodollars (USD / 10^12) each: whole numbers, so that sums are exact.

    A price of 0.15 USD per million tokens is 150,000 of them.
    """

    input: int
    cached: int
    output: int

    def cost(self, usage: Usage) -> int:
        """Picodollars of what a server counted."""
        plain = usage.prompt - usage.cached
        return self.input * plain + self.cached * usage.cached + self.output * usage.completion


class Billed(msgspec.Struct, frozen=True):
    """What was billed, or may have been, beside results; cost in picodollars, None: not known."""

    reason: Charge
    usage: Usage
    cost: int | None


FREE = Rates(0, 0, 0)
UNLIMITED = 1 << 100  # tokens, picodollars; fits a HUGEINT
MOST_TOKENS = 131_072  # of an answer whose request sets no limit; the macro limit_of has it too
# Prompt tokens beyond one a byte: servers put a template, often a system prompt, around a prompt.
# The macro most_prompt_tokens has it too.
PROMPT_MARGIN = 512


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """What bounds the usage of requests: bytes of their messages' JSON, limits of their answers."""

    prompt_bytes: int
    max_tokens: int
    requests: int = 1

    @property
    def most(self) -> Usage:
        """The most they can be billed: no token is less than a byte of the messages' JSON."""
        return Usage(self.prompt_bytes + PROMPT_MARGIN * self.requests, 0, self.max_tokens)

    def allow(self, usage: Usage, *, has_text: bool) -> bool:
        """Whether a request can have had this usage; a text or reasoning takes a token at least.

        The macro plausible_usage says the same.
        """
        most = self.most
        return (
            0 < usage.prompt <= most.prompt
            and 0 <= usage.cached <= usage.prompt
            and has_text <= usage.completion <= most.completion
        )


def dollars(picodollars: int) -> Decimal:
    """USD, exactly, without zeros at the end."""
    return Decimal(f"{Decimal(picodollars).scaleb(-12).normalize():f}")


class PriceSnapshot(msgspec.Struct, frozen=True):
    """What a run pays from a moment on; live: what live requests would cost, where known."""

    source: str
    rates: Rates
    live: Rates | None = None


def rate_parameters(rates: Rates | None) -> dict[str, int | None]:
    """$input, $cached and $output of a statement; null where no price is known."""
    return {name: getattr(rates, name, None) for name in Rates.__struct_fields__}


@dataclass(frozen=True, slots=True)
class Saved:
    """What was not spent, at the prices of the run; None: not known."""

    batch: Decimal | None  # against live requests
    dedup: Decimal | None  # records that ask the same
    reuse: Decimal | None  # answers of earlier runs


@dataclass(frozen=True, slots=True)
class Bought:
    """What a stage or job was billed; cost in USD, None: not known."""

    name: str
    answers: int
    prompt: int
    cached: int
    completion: int
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Cost:
    """Money; None: not known. spent is by the server's own counts.

    estimate: what the run comes to, if what is left costs as much each. unsure: at most what was
    billed besides, of requests whose answers or counts never came; in_flight: so much of it for
    those that were in flight when a command was killed, or are now. price: where it is from.
    """

    currency: str
    spent: Decimal | None
    estimate: Decimal | None
    unsure: Decimal | None = None
    saved: Saved | None = None
    price: str | None = None
    stages: tuple[Bought, ...] = ()
    jobs: tuple[Bought, ...] = ()
    in_flight: Decimal | None = None
