"""How long a server's answer may be: counted as it comes, before and after it is decompressed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2
import openai

from store.money import Bounds

OBJECT_BYTES = 16 << 20  # a batch, whose errors may be many, a file object, a page of a list
ERROR_BYTES = 1 << 20  # of an error, which is cut there: its status and first words count
# Of an answer: a token is 128 blanks at most, and beside it stands what max_tokens may leave out, a
# reasoning or an echo of the prompt, each of whose bytes may be an escape (\u0000).
TOKEN_BYTES, PROMPT_BYTES, BESIDE_BYTES = 128, 6, 4 << 20
LINE_BYTES = 16 << 10  # of a batch's file: ids, headers and errors beside an answer


class Overlong(openai.OpenAIError):
    """A server's answer has more bytes, pages or seconds than what was asked for can have."""


def answer_bytes(bounds: Bounds) -> int:
    """The most bytes of what answers requests: one body, or a batch's file with a line for each."""
    escaped = PROMPT_BYTES * bounds.prompt_bytes
    lines = LINE_BYTES * bounds.requests
    return BESIDE_BYTES + lines + escaped + TOKEN_BYTES * bounds.max_tokens


_most: ContextVar[int] = ContextVar("most", default=OBJECT_BYTES)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Let answers in the block have so many bytes, decompressed; longer ones raise Overlong."""
    token = _most.set(size)
    try:
        yield
    finally:
        _most.reset(token)


async def bound(response: httpx2.Response) -> None:
    """As a client's hook: let a response raise Overlong where it gets too long; cut an error's.

    What comes over the line is counted too: compressed data may stand for nothing, for ever.
    """
    is_error = response.status_code >= 400
    most = ERROR_BYTES if is_error else _most.get()
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    name = f"{response.request.method} {response.request.url.path}"
    received = _Counted(response.stream, most, name, cut=is_error)
    decoded = _Decoded(httpx2.Response(200, headers=response.headers, stream=received))
    response.stream = _Counted(decoded, most, name, cut=is_error)
    response.headers.pop("content-encoding", None)
    response.extensions["received"] = received


def bytes_received(response: httpx2.Response) -> int:
    """The bytes of a body as they came over the line."""
    received: _Counted = response.extensions["received"]
    return received.size


class _Decoded(httpx2.AsyncByteStream):
    """A body without its Content-Encoding, in pieces of a megabyte at most."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class _Counted(httpx2.AsyncByteStream):
    """A stream that ends at a size: with Overlong, or cut."""

    def __init__(self, stream: httpx2.AsyncByteStream, most: int, name: str, *, cut: bool) -> None:
        self._stream = stream
        self._most = most
        self._name = name
        self._cut = cut
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self.size += len(piece)
            if self.size <= self._most:
                yield piece
            elif self._cut:
                yield piece[: self._most - self.size + len(piece)]
                return
            else:
                raise Overlong(
                    f"the answer to {self._name} has more than {self._most / 1e6:,.1f} MB, which "
                    "it cannot have"
                )

    async def aclose(self) -> None:
        await self._stream.aclose()
