"""Uploads: multipart forms read as they come, the file straight to disk.

aiohttp's own reader changes the process's warning filters for a moment, which is not thread-safe:
with warnings as errors it fails now and then while the test's thread does the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.parser import BytesHeaderParser, HeaderParser
from pathlib import Path

from aiohttp import StreamReader, web

from .errors import ApiError, missing


class Form:
    """A multipart form: its text fields, and the file's name once the file is written."""

    def __init__(self, request: web.Request, path: Path, max_bytes: int) -> None:
        if request.content_type != "multipart/form-data":
            raise missing("file")
        head = HeaderParser().parsestr(f"Content-Type: {request.headers['Content-Type']}")
        self._mark = f"\r\n--{head.get_param('boundary')}".encode()
        self._content: StreamReader = request.content
        # The first boundary has no newline of its own before it.
        self._buffer = bytearray(b"\r\n")
        self.path = path
        self._max_bytes = max_bytes
        self.fields: dict[str, str] = {}
        self.filename: str | None = None

    async def read(self) -> None:
        """Read the whole form."""
        await self._text(self._mark)
        while await self._text(b"\r\n") != b"--":
            head = BytesHeaderParser().parsebytes(await self._text(b"\r\n\r\n"))
            name = head.get_param("name", header="content-disposition")
            if name == "file":
                self.filename = head.get_filename() or ""
                await self._save()
            else:
                self.fields[str(name)] = (await self._text(self._mark)).decode()

    async def _save(self) -> None:
        size = 0
        with self.path.open("wb") as out:
            async for piece in self._until(self._mark):
                size += len(piece)
                if size > self._max_bytes:
                    raise ApiError(413, "The file is larger than the maximum size of an upload.")
                out.write(piece)

    async def _text(self, mark: bytes) -> bytes:
        """All that comes before a mark."""
        return b"".join([piece async for piece in self._until(mark)])

    async def _until(self, mark: bytes) -> AsyncIterator[bytes]:
        """What comes before a mark, in pieces; the mark itself is passed over."""
        while (place := self._buffer.find(mark)) < 0:
            safe = max(len(self._buffer) - len(mark) + 1, 0)
            yield bytes(self._buffer[:safe])
            del self._buffer[:safe]
            chunk = await self._content.readany()
            if not chunk:
                raise ApiError(400, "We could not parse the multipart form of your request.")
            self._buffer += chunk
        yield bytes(self._buffer[:place])
        del self._buffer[: place + len(mark)]
