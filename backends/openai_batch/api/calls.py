"""The calls to a server's Files and Batches, each made once; what they return is read leniently."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import openai

from backends.openai_api.bounded import Overlong, bytes_received, limit_bytes
from backends.openai_api.client import make_client
from backends.openai_api.errors import CALL_ERRORS, ApiError, ErrorKind, classify_error
from backends.openai_batch.api.remote import RemoteBatch, id_of, page_data, remote_batch

T = TypeVar("T")

PAGE = 100  # batches of a listing's page: the most OpenAI returns
TAIL_BYTES = 1 << 16  # of a file, read first in search of its last line
LONGEST_TAIL = 1 << 25  # no line is so long
PAGES = 1000  # of a list at most
LIST_SECONDS = 1800.0  # for all of them
SLOWEST = 1 << 16  # bytes a second of a file, on the average, beyond the time of a call
# Kinds that concern one prompt of a chat completion mean something else for these calls.
OF_A_CALL = {
    ErrorKind.FORBIDDEN: ErrorKind.STOP,
    ErrorKind.FILTERED: ErrorKind.REFUSED,
    ErrorKind.UNREACHABLE: ErrorKind.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A download: its bytes, those the server says (0: not reported), and whether it is whole."""

    size: int
    reported: int
    sha256: str
    is_whole: bool


class BatchApi:
    """One server, one key, seconds for a call to its last byte. Every method raises ApiError."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        timeout_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._client = make_client(
            base_url, api_key, timeout_seconds=timeout_seconds, headers=headers
        )
        self._key = api_key
        self._seconds = timeout_seconds
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._end())
        self._runner.close()

    async def _end(self) -> None:
        """Give up a call that a signal interrupted, and disconnect."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def upload(self, path: Path, name: str) -> str:
        """POST /files under a name; returns the file's id. The file is streamed from the disk."""
        seconds = self._seconds + path.stat().st_size / SLOWEST
        with path.open("rb") as file:
            answer = self._call(
                self._client.files.create(file=(name, file, "application/jsonl"), purpose="batch"),
                seconds,
            )
        return id_of(answer)

    def create(
        self, file_id: str, endpoint: str, completion_window: str, metadata: dict[str, str]
    ) -> RemoteBatch:
        """POST /batches, never repeated: after an UNKNOWN error it may have worked."""
        answer = self._call(
            self._client.batches.create(
                input_file_id=file_id,
                endpoint=endpoint,  # type: ignore[arg-type]  # providers have others
                completion_window=completion_window,  # type: ignore[arg-type]
                metadata=metadata,
            )
        )
        return remote_batch(answer)

    def retrieve(self, batch_id: str) -> RemoteBatch:
        """GET /batches/{id}."""
        return remote_batch(self._call(self._client.batches.retrieve(batch_id)))

    def list_all(self) -> list[RemoteBatch]:
        """All batches of the key's project, all pages: anything less is no complete list.

        The order is documented nowhere, so nothing stops early; a page without a new id ends it,
        since some servers say has_more for ever, and so does the thousandth, as an error.
        """
        return self._call(self._all_pages(), LIST_SECONDS)

    async def _all_pages(self) -> list[RemoteBatch]:
        known: dict[str, RemoteBatch] = {}
        after: str | openai.Omit = openai.omit
        for _ in range(PAGES):
            page = await self._client.batches.list(after=after, limit=PAGE)
            batches = [remote_batch(item) for item in page_data(page)]
            new = {batch.batch_id: batch for batch in batches if batch.batch_id not in known}
            known |= new
            if not new or not getattr(page, "has_more", False):
                return list(known.values())
            after = batches[-1].batch_id
        raise Overlong(f"the list of batches has more than {PAGES} pages")

    def cancel(self, batch_id: str) -> None:
        """POST /batches/{id}/cancel."""
        self._call(self._client.batches.cancel(batch_id))

    def download(self, file_id: str, path: Path, most: int) -> Downloaded:
        """GET /files/{id}/content to a path, in pieces: so many bytes at most.

        A connection that is closed early looks like the end of a file where the server reports no
        length, so the size is compared with the file object's, which is that of the file or of what
        was sent of it (Content-Encoding); where none is reported, the last line must be whole.
        """
        reported = self.size_of(file_id, lenient=True)
        size, sent, sha256 = self._call(self._fetch(file_id, path, most), math.inf)
        is_whole = reported in (size, sent) if reported else _ends_whole(path)
        return Downloaded(size, reported, sha256, is_whole)

    async def _fetch(self, file_id: str, path: Path, most: int) -> tuple[int, int, str]:
        """The bytes of a file, those that were sent for them, and their SHA-256."""
        size, digest = 0, hashlib.sha256()
        begun = asyncio.get_running_loop().time()
        seconds = self._seconds
        with limit_bytes(most), path.open("wb") as file:
            try:
                async with (
                    asyncio.timeout_at(begun + seconds) as timeout,
                    self._client.files.with_streaming_response.content(file_id) as answer,
                ):
                    async for piece in answer.iter_bytes():
                        file.write(piece)
                        digest.update(piece)
                        size += len(piece)
                        seconds = self._seconds + size / SLOWEST
                        timeout.reschedule(begun + seconds)
            except TimeoutError:
                if not size:
                    raise
                raise Overlong(f"only {size} bytes of it came in {seconds:.0f} seconds") from None
            file.flush()
            os.fsync(file.fileno())  # its name is the promise that it is whole
        return size, bytes_received(answer.http_response), digest.hexdigest()

    def size_of(self, file_id: str, *, lenient: bool = False) -> int:
        """GET /files/{id}: a file's bytes; 0 where that is not reported.

        Lenient: also where the server does not have that call, no such object, or one without end.
        """
        try:
            file = self._call(self._client.files.retrieve(file_id))
        except ApiError as api_error:
            absent = api_error.status in (404, 405, 501) or api_error.kind is ErrorKind.OVERLONG
            if lenient and absent:
                return 0
            raise
        size = getattr(file, "bytes", None)
        return size if isinstance(size, int) else 0

    def delete(self, file_id: str) -> None:
        """DELETE /files/{id}."""
        self._call(self._client.files.delete(file_id))

    def _call(self, call: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """Make a call; seconds: from its start to its last byte, None: those of any call."""
        try:
            return self._runner.run(_within(self._seconds if seconds is None else seconds, call))
        except (*CALL_ERRORS, AttributeError, TypeError, ValueError) as error:
            # the last three: what the SDK makes of an answer that is not the JSON it expects
            api_error = classify_error(error, self._key)
            api_error.kind = OF_A_CALL.get(api_error.kind, api_error.kind)
            raise api_error from None


async def _within(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(seconds):
        return await call


def _ends_whole(path: Path) -> bool:
    """Whether a file's last line has its newline, or is JSON without one."""
    with path.open("rb") as file:
        end, size = file.seek(0, os.SEEK_END), TAIL_BYTES
        file.seek(max(0, end - size))
        while b"\n" not in (tail := file.read()) and size < min(end, LONGEST_TAIL):
            size *= 8
            file.seek(max(0, end - size))
    last = tail.rpartition(b"\n")[2]
    try:
        return not last.strip() or json.loads(last.decode("utf-8", "replace")) is not None
    except (ValueError, RecursionError):
        return False
