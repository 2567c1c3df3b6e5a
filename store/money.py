"""Money in the store: usage, rates, and what a run was billed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import msgspec


class Charge(StrEnum):
    """What a charge without a result is for."""

    FAILED = "failed"  # billed, without a usable answer
    UNANSWERED = "unanswered"  # maximum: no answer came, but it may have been billed
    IN_FLIGHT = (
        "in flight"  # maximum: reserved before sending; taken back when the command ends in order
    )


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a server billed; cached ones are included in prompt."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @classmethod
    def reported(
        cls, prompt: int | None, cached: int | None, completion: int | None
    ) -> Usage | None:
        """The usage a server reported, None where prompt or completion tokens are missing."""
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
    """Picodollars (USD / 10^12) per token: integers, so that sums are exact.

    0.15 USD per million tokens is 150,000 picodollars per token.
    """

    input: int
    cached: int
    output: int

    def cost(self, usage: Usage) -> int:
        """Picodollars of a usage."""
        plain = usage.prompt - usage.cached
        return self.input * plain + self.cached * usage.cached + self.output * usage.completion


class Billed(msgspec.Struct, frozen=True):
    """A charge without a result; cost in picodollars, None: not known."""

    reason: Charge
    usage: Usage
    cost: int | None


FREE = Rates(0, 0, 0)
UNLIMITED = 1 << 100  # tokens, picodollars; fits a HUGEINT
MAX_COMPLETION_TOKENS = (
    131_072  # of an answer whose request sets no limit; as in the macro limit_of
)
# Prompt tokens beyond one a byte: servers add a chat template, often with a system prompt.
# As in the macro max_prompt_tokens.
PROMPT_MARGIN = 512
# Prompt tokens of an image at most, where that is not known of the model: a limit for what a server
# reports, several times what any known model takes; none for a cap.
UNKNOWN_IMAGE_TOKENS = 100_000


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """Limits of the usage of requests: bytes of their messages' JSON and the tokens of images in
    them, max_tokens of answers.
    """

    prompt_bytes: int
    max_tokens: int
    requests: int = 1

    @property
    def most(self) -> Usage:
        """The maximum that can be billed: a token is at least one byte of the messages' JSON."""
        return Usage(self.prompt_bytes + PROMPT_MARGIN * self.requests, 0, self.max_tokens)

    def allow(self, usage: Usage, *, has_text: bool) -> bool:
        """Whether a request can have had this usage; a text or reasoning takes at least one token.

        As in the macro plausible_usage.
        """
        most = self.most
        return (
            0 < usage.prompt <= most.prompt
            and 0 <= usage.cached <= usage.prompt
            and has_text <= usage.completion <= most.completion
        )


def dollars(picodollars: int) -> Decimal:
    """Picodollars as USD, exactly, without trailing zeros."""
    return Decimal(f"{Decimal(picodollars).scaleb(-12).normalize():f}")


class PriceSnapshot(msgspec.Struct, frozen=True):
    """The price of a run from some time on; live: the rates of live requests, where known."""

    source: str
    rates: Rates
    live: Rates | None = None


def rate_parameters(rates: Rates | None) -> dict[str, int | None]:
    """$input, $cached and $output of a statement; null where no price is known."""
    return {name: getattr(rates, name, None) for name in Rates.__struct_fields__}


@dataclass(frozen=True, slots=True)
class Saved:
    """What was saved, in USD at the prices of the run; None: not known."""

    batch: Decimal | None  # compared with live requests
    dedup: Decimal | None  # records with the same request
    reuse: Decimal | None  # answers taken from earlier runs


@dataclass(frozen=True, slots=True)
class CostItem:
    """What a stage or job was billed; cost in USD, None: not known."""

    name: str
    answers: int
    prompt: int
    cached: int
    completion: int
    cost: Decimal | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run in USD; None: not known. spent: by the usage that the server reported.

    estimate: the whole run, if each request that is left costs the mean. uncertain: maximum of what
    may have been billed besides, for requests without an answer or usage; in_flight: the part of
    it for requests that were in flight when a command was killed, or are now. price: its source.
    """

    currency: str
    spent: Decimal | None
    estimate: Decimal | None
    uncertain: Decimal | None = None
    saved: Saved | None = None
    price: str | None = None
    stages: tuple[CostItem, ...] = ()
    jobs: tuple[CostItem, ...] = ()
    in_flight: Decimal | None = None
