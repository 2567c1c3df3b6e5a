"""What callers of the store speak in: frozen values, and Enums for every closed set of words.

Where there are millions of a kind they are msgspec's Structs, which are made in a tenth of a frozen
dataclass's time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import msgspec

from store.money import MOST_TOKENS, Bounds, Cost, Usage


class Mode(StrEnum):
    """What a run does with its records."""

    DISTILL = "distill"  # answer each record
    AUGMENT = "augment"  # write variants of each record, then answer all of them


class Language(StrEnum):
    """Which default prompt a record gets."""

    ZH = "zh"
    EN = "en"
    AUTO = "auto"  # decided record by record, by its script


class AskOrder(StrEnum):
    """In which order pending requests are handed to an engine or server."""

    PREFIX = "prefix"  # as asked, but where long beginnings are shared, those side by side
    LONGEST_FIRST = "longest first"  # by expected answer, within groups of a shared beginning


class FailureKind(StrEnum):
    """Why an attempt brought no answer."""

    REFUSED = "refused"  # the request itself is at fault: too long, empty, a 400
    SERVER = "server"  # the server or engine is: 5xx, time-out, rate limit
    FILTERED = "filtered"  # a content filter took the answer
    UNUSABLE = "unusable"  # an answer came that the stage cannot use


class Event(StrEnum):
    """What befell a run as a whole."""

    SAMPLED = "sampled"  # its records are complete
    RETRY_FAILED = "retry_failed"  # failures before this one no longer count
    STOPPED = "stopped"  # nor before this one: what failed concerned every request
    PRICED = "priced"  # from here on tokens cost so much
    LIMIT_CHANGED = "limit_changed"  # from here on an answer may have so many tokens
    MOVED = "moved"  # from here on another server is asked
    OTHER_SERVERS = "other_servers"  # answers that they gave earlier runs may be taken
    ESTIMATED = "estimated"  # it was said what its first answers tell of the rest
    EXPORTED = "exported"  # its files were written
    COST_OPTIONS = "cost_options"  # from here on this cap and these prices hold


class State(StrEnum):
    """Whether a run needs anything more."""

    DONE = "done"  # nothing is pending, in flight or failed, and its files are those of its answers
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a run's files are written. No part of a request, so `export` may override it."""

    formats: tuple[str, ...] = ("alpaca", "sharegpt")
    include_reasoning: bool = False
    output_file: str | None = None
    drop_truncated: bool = False  # from the training files


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is. Frozen: a resume uses this, not the flags or environment of the day.

    base_url: the server's address in its normal form; None where no server is asked.
    """

    run_id: str
    created_at: datetime
    mode: Mode
    backend: str
    base_url: str | None
    model: str
    source: str
    config: str | None
    split: str
    sample_size: int
    seed: int
    columns: dict[str, str | None]
    params: dict[str, Any]
    system_prompt: str | None
    language: Language
    templates: dict[str, str]
    num_aug: int
    skip_generation: bool
    export: ExportOptions


@dataclass(frozen=True, slots=True)
class Exports:
    """Files that were written into the run's folder, and how much was in the store by then.

    Nothing is ever deleted from a store, so with the same counts they would be the same again.
    """

    files: tuple[str, ...]
    asks: int
    results: int
    variants: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """What was in the store by then."""
        return self.asks, self.results, self.variants


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the records came about: rows in the source, rows left out as empty, and the mapping."""

    rows: int
    empty: int
    mapping: dict[str, str | None]


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a stage asks about: a sampled record (ordinal 0) or a variant of one (1, 2, …).

    All texts are strings, '' where there is none. found: the variants a record has so far; sample:
    how often the same has been asked before.
    """

    record: int
    ordinal: int
    instruction: str
    input: str
    original_output: str = ""
    reasoning: str = ""
    system: str | None = None
    found: tuple[str, ...] = ()
    sample: int = 0


@dataclass(frozen=True, slots=True)
class VariedAnswer:
    """An answer of the stage vary that is to become variants of its record."""

    record: int
    sample: int
    request_id: str
    instruction: str
    text: str
    found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """What an answer became: the variants that were kept, and how many near-duplicates were not.

    None for variants: the answer could not be parsed.
    """

    answer: VariedAnswer
    variants: tuple[str, ...] | None
    dropped: int


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A row of a stage and the question it asks; params and messages are canonical JSON.

    sample: how often the very same question was asked before, on purpose. It tells them apart.
    version: how often it was asked before with another limit; the latest supersedes the others.
    """

    record: int
    ordinal: int
    sample: int
    params: str
    messages: str
    version: int = 0

    @property
    def request_id(self) -> str:
        """128 bits of SHA-256 of all that is asked, in hexadecimal: equal asks have equal ids."""
        again = f"\n{self.sample}" if self.sample else ""
        return sha256(f"{self.params}\n{self.messages}{again}".encode()).hexdigest()[:32]


class Request(msgspec.Struct, frozen=True, gc=False):
    """One question to the teacher, in the terms of OpenAI's chat completions.

    attempts: those that failed so far, in the current round.
    """

    request_id: str
    params: dict[str, Any]
    messages: list[dict[str, Any]]
    attempts: int = 0

    @property
    def bounds(self) -> Bounds:
        """What bounds its usage."""
        max_tokens = self.params.get("max_tokens") or MOST_TOKENS
        return Bounds(len(msgspec.json.encode(self.messages)), int(max_tokens))


class Result(msgspec.Struct, frozen=True, gc=False):
    """A request's answer. text is as the model gave it, less the reasoning; tokens are counts."""

    request_id: str
    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def usage(self) -> Usage | None:
        """What was billed, where the server told."""
        return Usage.told(self.prompt_tokens, self.cached_tokens, self.completion_tokens)


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One attempt that brought no answer."""

    request_id: str
    kind: FailureKind
    message: str
    retryable: bool
    code: str | None = None
    text: str | None = None
    answered: bool = False  # it was billed, though there is nothing to keep
    usage: Usage | None = None  # so much, where the server told


@dataclass(frozen=True, slots=True)
class FailedAlike:
    """What all requests that failed for good have in common; code is '' where they have none."""

    requests: int
    kind: FailureKind
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many requests a run has, and what became of them. They add up to total.

    Not counted are requests that nobody waits for: superseded by one with another limit, without a
    result and in no job; and retries of answers that were cut off, once they have failed for good.
    """

    total: int
    done: int
    pending: int
    failed: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of all stored answers."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is pending, and what is known of its answers.

    asks: rows that ask for these requests. with_old: requests whose records have an old output;
    learnt: those whose answer's length the results tell. answers_planned: rows of the stage answer,
    of the whole run.
    """

    requests: int
    asks: int
    with_old: int
    learnt: int
    prompt_tokens: int
    completion_tokens: int
    max_completion_tokens: int
    answers_planned: int


@dataclass(frozen=True, slots=True)
class ExportVolume:
    """Records, bytes of their own texts in all, and tokens of an answer (None: nothing tells)."""

    records: int
    text_bytes: int
    answer_tokens: float | None


@dataclass(frozen=True, slots=True)
class Outlook:
    """Answers that are still to come, in flight included, and the tokens they should take.

    learnt: of the requests, those whose answer's length the results tell.
    """

    requests: int
    learnt: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_learnt(self) -> bool:
        """Whether the tokens are rather what the results tell than a guess."""
        return 2 * self.learnt > self.requests


@dataclass(frozen=True, slots=True)
class Lost:
    """A job whose answers the server does not deliver: its unanswered requests, and the reason."""

    job: str
    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """What is done and what is left of a run, as of a moment (UTC, ISO 8601)."""

    run: str
    mode: Mode
    backend: str
    model: str
    state: State
    records: int
    requests: Counts
    truncated: int
    tokens: Tokens
    cost: Cost
    as_of: str
    lost: tuple[Lost, ...] = ()  # their requests are among those in flight

    @property
    def lost_requests(self) -> int:
        """Requests whose answers the server does not deliver."""
        return sum(job.requests for job in self.lost)
