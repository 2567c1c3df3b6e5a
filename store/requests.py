"""Requests: pending ones and their order, and expected tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database

from store.images import DIGEST, Images, ImageUnreadable, digests_in, with_data
from store.money import MAX_COMPLETION_TOKENS, Bounds

PAGE = 2048  # requests read at a time

# Beyond the prefix of all prompts: from here on a shared prefix pays in a prefix cache.
PREFIX_CHARACTERS = 1024


class RequestOrder(StrEnum):
    """The order in which pending requests are sent to an engine or server."""

    PREFIX = "prefix"  # as planned, but requests with a long common prefix are adjacent
    # by expected completion tokens, within groups of a common prefix
    LONGEST_FIRST = "longest first"


class Request(msgspec.Struct, frozen=True, gc=False):
    """One chat completion request, in OpenAI's terms.

    attempts: failed ones so far, in the current round. image_tokens: the most prompt tokens of its
    images; image_paths: the files of these that are in messages by their SHA-256.
    """

    request_id: str
    params: dict[str, Any]
    messages: list[dict[str, Any]]
    attempts: int = 0
    tools: list[dict[str, Any]] | None = None
    image_tokens: int = 0
    image_paths: dict[str, Path] = {}

    @property
    def bounds(self) -> Bounds:
        """Limits of its usage; prompt bytes: as in the macro prompt_bytes_of, and image_tokens."""
        max_tokens = self.params.get("max_tokens") or MAX_COMPLETION_TOKENS
        sent = len(msgspec.json.encode(self.messages))
        if self.tools is not None:
            sent += len(msgspec.json.encode(self.tools))
        if (form := self.params.get("response_format")) is not None:
            sent += len(msgspec.json.encode(form))
        return Bounds(sent + self.image_tokens, int(max_tokens))

    def sent_messages(self) -> list[dict[str, Any]]:
        """The messages with the images that are in files; raises ImageUnreadable."""
        return with_data(self.messages, self.image_paths)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Pending requests and their expected tokens.

    row_requests: rows that these requests are for. with_old: requests whose records have an old
    output; learnt: requests whose length is predicted from results. final_row_requests:
    of the final stage, in the whole run. image_tokens: the most of its images, which are among
    the prompt tokens.
    """

    requests: int
    row_requests: int
    with_old: int
    learnt: int
    prompt_tokens: int
    completion_tokens: int
    max_completion_tokens: int
    final_row_requests: int
    images: int
    image_tokens: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Requests of the final stage without an answer, in flight included, and their tokens.

    learnt: requests whose length is predicted from results.
    """

    requests: int
    learnt: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_learnt(self) -> bool:
        """Whether the length of most requests is predicted from results."""
        return 2 * self.learnt > self.requests


class Requests:
    """The requests of a run."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._images = Images(database)

    def has_pending(self, max_attempts: int) -> bool:
        """Whether any request is pending."""
        (pending,) = self._db.row("has_pending", max_attempts=max_attempts)
        return bool(pending)

    def has_open(self) -> bool:
        """Whether any request has no answer and is in no open job."""
        (has_open,) = self._db.row("has_open")
        return bool(has_open)

    def has_sent(self) -> bool:
        """Whether any request of the run was sent, or about to be sent."""
        (sent,) = self._db.row("has_sent")
        return bool(sent)

    def pending(self, max_attempts: int, order: RequestOrder) -> Iterator[Request]:
        """The requests that are pending now, each once.

        After half of them the order of the others is computed again: more results are known then.
        """
        yielded: set[int] = set()
        while waiting := [
            row for row in self.pending_positions(max_attempts, order) if row not in yielded
        ]:
            half = waiting[: max(PAGE, len(waiting) // 2)]
            yielded.update(half)
            for start in range(0, len(half), PAGE):
                rows = self._db.rows("requests_by_rowid", rowids=half[start : start + PAGE])
                for row in rows:
                    yield self._request(*row)

    def _request(
        self,
        request_id: str,
        params: str,
        messages: str,
        tools: str | None,
        attempts: int,
        image_tokens: int,
    ) -> Request:
        decoded = msgspec.json.decode(messages)
        return Request(
            request_id,
            msgspec.json.decode(params),
            decoded,
            attempts,
            None if tools is None else msgspec.json.decode(tools),
            image_tokens,
            self._images.paths(digests_in(decoded)) if image_tokens else {},
        )

    def refuse_image(self, error: ImageUnreadable, max_attempts: int) -> None:
        """Let the pending requests fail that have an image that cannot be read."""
        reference = DIGEST + error.sha256
        self._db.run(
            "refuse_image", reference=reference, message=str(error), max_attempts=max_attempts
        )

    def refuse_large_lines(self, max_bytes: int, max_attempts: int) -> None:
        """Let the pending requests fail whose images make them larger than a job file may be."""
        self._db.run("refuse_large_lines", max_bytes=max_bytes, max_attempts=max_attempts)

    def pending_positions(self, max_attempts: int, order: RequestOrder) -> list[int]:
        """Rowids of the pending requests, in that order."""
        attempts = {"max_attempts": max_attempts}
        by_length = order is RequestOrder.LONGEST_FIRST
        prefix = self._shared_prefix(max_attempts)
        if prefix is None:
            name = "pending_longest_first" if by_length else "pending"
            return self._db.column(name, **attempts)
        name = "pending_longest_first_by_prefix" if by_length else "pending_by_prefix"
        return self._db.column(name, **attempts, prefix=prefix)

    def _shared_prefix(self, max_attempts: int) -> int | None:
        """The prefix length in characters that groups requests by a long common prefix, if any do.

        The prefix of all prompts does not count: it is in the prefix cache in any order.
        """
        low, high = self._db.row("pending_bounds", max_attempts=max_attempts)
        if low is None:
            return None
        prefix = _common_prefix_length(low, high) + PREFIX_CHARACTERS
        groups, requests = self._db.row("prefix_groups", max_attempts=max_attempts, prefix=prefix)
        return prefix if 1 < groups <= requests // 2 else None

    def backlog(self, max_attempts: int) -> Backlog:
        """The pending requests and their expected tokens."""
        return Backlog(*self._db.row("backlog", max_attempts=max_attempts))

    def outlook(self, max_attempts: int) -> Outlook:
        """The final stage's requests without an answer, and their tokens predicted from results."""
        return Outlook(*self._db.row("outlook", max_attempts=max_attempts))

    def expected_tokens(self) -> int:
        """Expected completion tokens of all requests without an answer."""
        (tokens,) = self._db.row("expected_tokens")
        return int(tokens)

    def sample_prompts(
        self, max_attempts: int, prompts: int
    ) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]] | None]]:
        """Messages and tools of so many pending requests: a random choice, the same each time."""
        pages = self._db.pages("sample_prompts", PAGE, max_attempts=max_attempts, prompts=prompts)
        for rows in pages:
            for messages, tools in rows:
                yield (
                    msgspec.json.decode(messages),
                    None if tools is None else msgspec.json.decode(tools),
                )


def _common_prefix_length(one: str, other: str) -> int:
    """The length of the common prefix of two texts, in characters."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
