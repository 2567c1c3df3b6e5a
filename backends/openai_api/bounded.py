"""Size limits of a server's responses, counted before and after decompression."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx2
import openai

from store.money import Bounds

OBJECT_BYTES = 16 << 20  # a batch, whose errors may be many, a file object, a page of a list
ERROR_BYTES = 1 << 20  # of an error, which is cut there
# Of an answer: a token is at most 128 blanks. Beside it there may be reasoning that max_tokens does
# not count, or an echo of the prompt, each of whose bytes may be an escape (\u0000).
TOKEN_BYTES, PROMPT_BYTES, BESIDE_BYTES = 128, 6, 4 << 20
LINE_BYTES = 16 << 10  # of a line of a batch's file: ids, headers and errors beside the answer


class Overlong(openai.OpenAIError):
    """A server's response exceeds its limit of bytes, pages or seconds."""


def answer_bytes(bounds: Bounds) -> int:
    """Maximum bytes of the answers to requests: one body, or the lines of a batch's file."""
    escaped = PROMPT_BYTES * bounds.prompt_bytes
    lines = LINE_BYTES * bounds.requests
    return BESIDE_BYTES + lines + escaped + TOKEN_BYTES * bounds.max_tokens


_max_bytes: ContextVar[int] = ContextVar("max_bytes", default=OBJECT_BYTES)


@contextmanager
def limit_bytes(size: int) -> Iterator[None]:
    """Limit responses in the block to so many decompressed bytes; longer ones raise Overlong."""
    token = _max_bytes.set(size)
    try:
        yield
    finally:
        _max_bytes.reset(token)


async def bound(response: httpx2.Response) -> None:
    """A response hook of the client: reading a too long body raises Overlong; errors are cut.

    Received bytes are counted too: compressed data may decompress to nothing, without end.
    """
    is_error = response.status_code >= 400
    max_bytes = ERROR_BYTES if is_error else _max_bytes.get()
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    name = f"{response.request.method} {response.request.url.path}"
    received = _Counted(response.stream, max_bytes, name, cut=is_error)
    decoded = _Decoded(httpx2.Response(200, headers=response.headers, stream=received))
    response.stream = _Counted(decoded, max_bytes, name, cut=is_error)
    response.headers.pop("content-encoding", None)
    response.extensions["received"] = received


def bytes_received(response: httpx2.Response) -> int:
    """The number of received bytes of a body, before decompression."""
    received: _Counted = response.extensions["received"]
    return received.size


class _Decoded(httpx2.AsyncByteStream):
    """A decompressed body, in pieces of at most a megabyte."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class _Counted(httpx2.AsyncByteStream):
    """A stream with a maximum size: beyond it Overlong is raised, or the stream is cut."""

    def __init__(
        self, stream: httpx2.AsyncByteStream, max_bytes: int, name: str, *, cut: bool
    ) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._name = name
        self._cut = cut
        self.size = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self.size += len(piece)
            if self.size <= self._max_bytes:
                yield piece
            elif self._cut:
                yield piece[: self._max_bytes - self.size + len(piece)]
                return
            else:
                raise Overlong(
                    f"the answer to {self._name} has more than {self._max_bytes / 1e6:,.1f} MB, "
                    "which it cannot have"
                )

    async def aclose(self) -> None:
        await self._stream.aclose()
