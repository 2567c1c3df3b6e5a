"""The interface of backends, which answer the pending requests of a work store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from store.money import Rates
from store.results import Failure, Result

if TYPE_CHECKING:
    from store import WorkStore  # DuckDB, which the command line imports when it needs it

Options = TypeVar("Options", bound="BackendOptions")

# Answers and failed attempts that came since the last poll of an engine or server; may be empty.
Outcomes = Sequence[Result | Failure]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """Options of a backend from a command and the settings; each backend uses some of them.

    None of them enters a request. None: the default of the backend or its provider.
    """

    folder: Path  # the run's
    max_attempts: int
    # a server
    api_key: str = ""
    rates: Rates | None = None  # None: no price is known
    max_cost: int | None = None  # picodollars of the whole run; needs rates
    max_tokens_name: str | None = None
    json_schema: bool | None = None
    serves_vllm: bool = False  # by the server's list of models
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # secrets, perhaps
    concurrency: int
    timeout_seconds: float  # of one request, from sending it to its last byte
    poll_seconds: float  # maximum wait of any kind between two polls of a server
    # jobs
    wait: bool = True
    keep_files: bool = False
    resubmit_lost: bool = False
    max_enqueued_tokens: int | None = None
    completion_window: str | None = None
    grace_seconds: float  # how long a batch is searched for after a POST without an answer
    batch_max_requests: int | None = None
    batch_max_bytes: int | None = None
    # the local engine
    engine_args: Mapping[str, Any] | None = None


def extended(kind: type[Options], options: BackendOptions, **more: Any) -> Options:
    """A command's options with what a backend knows besides, or instead of them."""
    given = {one.name: getattr(options, one.name) for one in fields(BackendOptions)}
    return kind(**(given | more))


class Progress(Protocol):
    """Where a backend reports its progress."""

    def say(self, line: str) -> None:
        """Show one line to the user."""

    def update(self, store: WorkStore) -> None:
        """Show the state of the store; cheap enough to be called after every flush."""


class Backend(Protocol):
    """Answers requests; answers are stored before they are reported as done."""

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer the pending requests, until nothing more can be done now.

        Raises UserError where every request fails until the user changes something, Unfinished
        where something is left for a later resume.
        """

    def cancel(
        self,
        store: WorkStore,  # noqa: ARG002 - most have nothing at a server
        progress: Progress,  # noqa: ARG002
        *,
        forget: bool = False,  # noqa: ARG002
    ) -> None:
        """Cancel its jobs at the server; forget: give up jobs that do not end, or are lost."""
        return

    def close(self) -> None:
        """Release what is kept between two calls of work: by default nothing."""
        return
