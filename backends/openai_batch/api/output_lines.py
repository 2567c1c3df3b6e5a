"""Reading the lines of a batch's output and error files.

msgspec decodes a line into just the fields that are kept, and lines end at a newline byte only:
answers may hold U+2028. What msgspec refuses (lone surrogates, numbers out of range, deep nesting)
is parsed again leniently, and what is no JSON at all is counted: no line is passed over in silence,
as by a reader that skips errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from backends.openai_api.bounded import answer_bytes
from backends.openai_api.completion import read_completion
from backends.openai_api.errors import (
    ApiError,
    ErrorKind,
    code_and_message,
    failure_of,
    kind_of_status,
)
from backends.openai_api.lenient_json import UNREADABLE, decode_leniently, leniently, whole_number
from store.jobs.events import BatchCounts
from store.money import Bounds
from store.results import Failure, FailureKind, Result

CHUNK_BYTES = 24 << 20  # of lines stored at a time

# Codes of lines whose request was never tried: they use no attempt.
UNATTEMPTED = {"batch_expired", "batch_cancelled", "batch_canceled"}

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID_IN_BROKEN_LINE = re.compile(rf'"custom_id"\s*:\s*"({_UUID})"')


class _Response(msgspec.Struct):
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: Any = None


_decode_line = msgspec.json.Decoder(_Line).decode


@dataclass
class LineReader:
    """Reads files of one batch; what only it sees is counted into counts.

    load_bounds: returns what bounds the usage of the job's requests, by their ids; called once.
    stop: the first error that concerns every request; such lines use no attempt.
    """

    counts: BatchCounts
    load_bounds: Callable[[], Mapping[str, Bounds]]
    stop: str | None = None
    unattempted: list[str] = field(default_factory=list)  # ids of lines that say 'not attempted'
    broken_without_id: int = 0  # lines of the output file: some answer is lost in each
    foreign_id: str | None = None  # the first that is not the job's

    @cached_property
    def _bounds(self) -> Mapping[str, Bounds]:
        return self.load_bounds()

    def read(self, path: Path, *, is_output: bool) -> Iterator[tuple[list[Result], list[Failure]]]:
        """Results and failures, a few thousand lines at a time."""
        results: list[Result] = []
        failures: list[Failure] = []
        size = 0
        with path.open("rb") as file:
            for raw in self._lines(file):
                if not raw.strip():
                    continue
                size += len(raw)
                outcome = self._outcome(raw, is_output=is_output)
                self._bill(outcome)
                if isinstance(outcome, Result):
                    results.append(outcome)
                elif outcome is not None:
                    failures.append(outcome)
                if size >= CHUNK_BYTES:
                    yield results, failures
                    results, failures, size = [], [], 0
        yield results, failures

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        """The lines of a file, cut where one is longer than an answer can be."""
        most = answer_bytes(max(self._bounds.values(), key=answer_bytes))
        while raw := file.readline(most):
            yield raw
            while len(raw) == most and not raw.endswith(b"\n"):
                raw = file.readline(most)

    def _bill(self, outcome: Result | Failure | None) -> None:
        if outcome is None or (isinstance(outcome, Failure) and not outcome.answered):
            return
        if outcome.usage is None:
            self.counts.unmetered += 1
            self.counts.uncertain += self._bounds[outcome.request_id].most
        else:
            self.counts.usage += outcome.usage

    def _outcome(self, raw: bytes, *, is_output: bool) -> Result | Failure | None:
        try:
            line = _decode_line(raw)
        except UNREADABLE:
            try:
                line = _decode_line(leniently(raw))
            except UNREADABLE:
                return self._broken(raw, is_output=is_output)
        bounds = self._bounds.get(line.custom_id)
        if bounds is None:
            self.counts.foreign += 1
            self.foreign_id = self.foreign_id or line.custom_id
            return None
        if line.response is None:
            return self._without_response(line)
        body = bytes(line.response.body)
        status = whole_number(line.response.status_code)
        if status is None:  # left out by some servers beside a whole answer
            status = 200 if b'"choices"' in body else 0
        if 200 <= status < 300:
            return read_completion(line.custom_id, body, bounds)
        return self._http_error(line, status, body)

    def _broken(self, raw: bytes, *, is_output: bool) -> Failure | None:
        """A line that is no JSON. In the output file it was an answer: not bought again."""
        self.counts.broken += 1
        custom_id = _ID_IN_BROKEN_LINE.search(raw.decode("utf-8", "replace"))
        if custom_id is None:
            self.counts.nameless += 1
            self.broken_without_id += is_output
            return None
        if custom_id[1] not in self._bounds:
            return None
        self.counts.uncertain += self._bounds[custom_id[1]].most
        return Failure(
            custom_id[1],
            FailureKind.UNUSABLE,
            "the server's line for this answer is broken",
            retryable=not is_output,
            text=raw.decode("utf-8", "replace"),
        )

    def _without_response(self, line: _Line) -> Failure | None:
        code, words = code_and_message(line.error)
        if (code or "").lower() in UNATTEMPTED:
            self.counts.unattempted += 1
            self.unattempted.append(line.custom_id)
            return None
        words = words or code or "no response and no error"
        kind = kind_of_status(400, code, words)
        if kind not in (ErrorKind.STOP, ErrorKind.FILTERED):
            kind = ErrorKind.UNKNOWN  # a time-out, a worker that died
        return self._failed(line.custom_id, ApiError(kind, words, code=code))

    def _http_error(self, line: _Line, status: int, body: bytes) -> Failure | None:
        code, words = code_and_message(decode_leniently(body))
        if not words:
            code, words = code_and_message(line.error)
        words = words or "no message"
        return self._failed(
            line.custom_id, ApiError(kind_of_status(status, code, words), words, status, code)
        )

    def _failed(self, request_id: str, api_error: ApiError) -> Failure | None:
        """A failed attempt; none where the error concerns every request, which stops the run."""
        if api_error.kind is ErrorKind.STOP:
            self.stop = self.stop or str(api_error)
            self.counts.unattempted += 1
            self.unattempted.append(request_id)
            return None
        return failure_of(request_id, api_error)
