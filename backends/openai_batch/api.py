"""The calls to a server's Files and Batches, each made once; what they give is read leniently."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import openai
from openai.types import Batch as SdkBatch

from backends.openai_api.bounded import Overlong, at_most, bytes_received
from backends.openai_api.client import make_client
from backends.openai_api.errors import CALL_ERRORS, ApiError, ErrorKind, classify_error, one_line
from backends.openai_api.lenient_json import whole_number

T = TypeVar("T")

PAGE = 100  # batches of a listing's page: the most OpenAI gives
TAIL_BYTES = 1 << 16  # of a file, read first in search of its last line
LONGEST_TAIL = 1 << 25  # no line is so long
PAGES = 1000  # of a list at most
LIST_SECONDS = 1800.0  # for all of them
SLOWEST = 1 << 16  # bytes a second of a file, on the average, beyond the time of a call
LAST_SECOND = 253_402_300_800  # unix seconds of the year 10000: no date goes so far
# What is said of one prompt where it is said of a chat completion.
OF_A_CALL = {
    ErrorKind.FORBIDDEN: ErrorKind.STOP,
    ErrorKind.FILTERED: ErrorKind.REFUSED,
    ErrorKind.UNREACHABLE: ErrorKind.UNKNOWN,
}
TERMINAL = {"completed", "failed", "expired", "cancelled"}


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as a server shows it; whatever it leaves out or writes otherwise is made even.

    status is in lower case, 'cancelled' with two l. completed: requests that succeeded so far, None
    where it is not told; failed likewise. created_at, expires_at: unix seconds.
    """

    batch_id: str
    status: str
    input_file_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    expires_at: float | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[dict[str, Any], ...] = ()
    completed: int | None = None
    failed: int | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it will change no more; a status nobody documented means 'still running'."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A download: its bytes, those the server says (0: not told), and whether it is whole."""

    size: int
    reported: int
    sha256: str
    is_whole: bool


class BatchApi:
    """One server, one key, seconds for a call to its last byte. Every method raises Trouble."""

    def __init__(self, base_url: str, api_key: str, timeout_seconds: float) -> None:
        self._client = make_client(base_url, api_key, timeout_seconds=timeout_seconds)
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
        """POST /files under a name; gives the file's id. The file is streamed from the disk."""
        seconds = self._seconds + path.stat().st_size / SLOWEST
        with path.open("rb") as file:
            answer = self._call(
                self._client.files.create(file=(name, file, "application/jsonl"), purpose="batch"),
                seconds,
            )
        return _id(answer)

    def create(
        self, file_id: str, endpoint: str, completion_window: str, metadata: dict[str, str]
    ) -> RemoteBatch:
        """POST /batches, never repeated: an UNKNOWN trouble may have worked."""
        answer = self._call(
            self._client.batches.create(
                input_file_id=file_id,
                endpoint=endpoint,  # type: ignore[arg-type]  # providers have others
                completion_window=completion_window,  # type: ignore[arg-type]
                metadata=metadata,
            )
        )
        return _remote(answer)

    def retrieve(self, batch_id: str) -> RemoteBatch:
        """GET /batches/{id}."""
        return _remote(self._call(self._client.batches.retrieve(batch_id)))

    def list_all(self) -> list[RemoteBatch]:
        """All batches of the key's project, all pages: anything less would not count as a look.

        The order is documented nowhere, so nothing stops early; a page without a new id ends it,
        since some servers say has_more for ever, and so does the thousandth: that is no look.
        """
        return self._call(self._all_pages(), LIST_SECONDS)

    async def _all_pages(self) -> list[RemoteBatch]:
        found: dict[str, RemoteBatch] = {}
        after: str | openai.Omit = openai.omit
        for _ in range(PAGES):
            page = await self._client.batches.list(after=after, limit=PAGE)
            batches = [_remote(item) for item in _page_data(page)]
            new = {batch.batch_id: batch for batch in batches if batch.batch_id not in found}
            found |= new
            if not new or not getattr(page, "has_more", False):
                return list(found.values())
            after = batches[-1].batch_id
        raise Overlong(f"the list of batches has more than {PAGES} pages")

    def cancel(self, batch_id: str) -> None:
        """POST /batches/{id}/cancel."""
        self._call(self._client.batches.cancel(batch_id))

    def download(self, file_id: str, path: Path, most: int) -> Downloaded:
        """GET /files/{id}/content to a path, in pieces: so many bytes at most.

        A connection that is closed early looks like the end of a file where the server gives no
        length, so the size is compared with the file object's, which is that of the file or of what
        was sent of it (Content-Encoding); where none is told, the last line must be whole.
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
        with at_most(most), path.open("wb") as file:
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
        """GET /files/{id}: a file's bytes; 0 where that is not told.

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


def _id(answer: object) -> str:
    """The id of an object the server made; without one nobody knows whether it did."""
    found = _file_id(getattr(answer, "id", None), "id")
    if found is None:
        raise ApiError(ErrorKind.UNKNOWN, "the server's answer has no id", 200)
    return found


def _file_id(value: object, name: str) -> str | None:
    """An id as servers write it: a text, a number, or an object that has it; None for none.

    Anything else is no 'none': what it names may be answers that were paid for.
    """
    if isinstance(value, dict):
        value = value.get("id", value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        return value or None
    raise ApiError(ErrorKind.UNKNOWN, one_line(f"the server's {name} is no id: {value!r}"), 200)


def _page_data(page: object) -> list[object]:
    data = getattr(page, "data", None)
    if not isinstance(data, list):
        raise ApiError(ErrorKind.UNKNOWN, "the server's list of batches cannot be read")
    return data


def _remote(answer: SdkBatch | object) -> RemoteBatch:
    status = str(getattr(answer, "status", "") or "").lower()
    metadata = getattr(answer, "metadata", None)
    counts = getattr(answer, "request_counts", None)
    output = _file_id(getattr(answer, "output_file_id", None), "output_file_id")
    errors = _file_id(getattr(answer, "error_file_id", None), "error_file_id")
    return RemoteBatch(
        batch_id=_id(answer),
        status="cancelled" if status == "canceled" else status,
        input_file_id=_file_id(getattr(answer, "input_file_id", None), "input_file_id"),
        metadata=dict(metadata) if isinstance(metadata, dict) else {},
        created_at=_seconds(getattr(answer, "created_at", None)) or 0.0,
        expires_at=_seconds(getattr(answer, "expires_at", None)),
        output_file_id=output,
        error_file_id=None if errors == output else errors,  # one file with all lines, read once
        errors=_errors(getattr(answer, "errors", None)),
        completed=_count(getattr(counts, "completed", None)),
        failed=_count(getattr(counts, "failed", None)),
    )


def _seconds(value: object) -> float | None:
    known = isinstance(value, int | float) and 0 <= value < LAST_SECOND
    return float(value) if known else None  # type: ignore[arg-type]  # known: it is a number


def _errors(errors: object) -> tuple[dict[str, Any], ...]:
    names = ("code", "line", "message", "param")
    data = getattr(errors, "data", None)
    data = data if isinstance(data, list) else []
    reported = [{name: getattr(item, name, None) for name in names} for item in data]
    for error in reported:
        if isinstance(error["message"], str):
            error["message"] = one_line(error["message"])
    return tuple(reported)


def _count(value: object) -> int | None:
    number = whole_number(value)
    return number if number is not None and number >= 0 else None


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
