"""Answers that cost a client more than they should: huge, packed to little, a byte at a time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from aiohttp import web

from .faults import Fault, Kind

FLOOD_BYTES = 3 << 30  # where a fault does not say how many
PIECE = b"\n" * (1 << 18)
GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"


async def send_flood(
    request: web.Request, fault: Fault, whole: bytes, content_type: str, status: int
) -> web.StreamResponse:
    """Send a good answer as the fault has it, until the client goes away."""
    response = web.StreamResponse(status=status, headers={"Content-Type": content_type})
    if fault.kind is Kind.BOMB:
        response.headers["Content-Encoding"] = "gzip"
    with suppress(ConnectionError):
        await response.prepare(request)
        async for piece in _pieces(fault, whole):
            await response.write(piece)
        await response.write_eof()
    return response


async def _pieces(fault: Fault, whole: bytes) -> AsyncIterator[bytes]:
    if fault.kind is Kind.TRICKLE:
        for place in range(len(whole)):
            yield whole[place : place + 1]
            await asyncio.sleep(fault.seconds)
        return
    size = FLOOD_BYTES if fault.keep is None else fault.keep
    for piece in (_packed if fault.kind is Kind.BOMB else _plain)(size, whole):
        yield piece


def _plain(size: int, whole: bytes) -> Iterator[bytes]:
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield PIECE[: size % len(PIECE)] + whole


def _packed(size: int, whole: bytes) -> Iterator[bytes]:
    """The same as gzip, of which each piece is packed alike."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(PIECE) + packer.flush(zlib.Z_FULL_FLUSH)
    check = 0
    yield GZIP_HEAD
    for _ in range(size // len(PIECE)):
        check = zlib.crc32(PIECE, check)
        yield packed
    rest = PIECE[: size % len(PIECE)] + whole
    check = zlib.crc32(rest, check)
    yield packer.compress(rest) + packer.flush()
    total = size + len(whole)
    yield check.to_bytes(4, "little") + (total % (1 << 32)).to_bytes(4, "little")
