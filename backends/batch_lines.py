"""Reading the lines of a batch's output and error files.

msgspec decodes a line into just the fields that are kept, and lines end at a newline byte only:
answers may hold U+2028. What msgspec refuses (lone surrogates, invalid UTF-8) is parsed again
leniently, and what is no JSON at all is counted: no line is passed over in silence, as by a reader
that skips errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backends.client import RETRYABLE_STATUSES, concerns_every_request
from backends.completion import leniently, read_completion
from store.journal import Collected
from store.models import Failure, FailureKind, Result

CHUNK = 5000  # lines stored at a time

# Codes of lines whose request was never tried: they use no attempt.
UNATTEMPTED = {"batch_expired", "batch_cancelled", "batch_canceled"}

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OURS = re.compile(rf"\A{_UUID}\Z")
_ID_IN_BROKEN_LINE = re.compile(rf'"custom_id"\s*:\s*"({_UUID})"')


class _Response(msgspec.Struct):
    status_code: int | None = None
    body: msgspec.Raw = msgspec.Raw(b"null")


class _LineError(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _LineError | None = None


_decode_line = msgspec.json.Decoder(_Line, strict=False).decode


@dataclass(slots=True)
class LineReader:
    """Reads files of one batch; what only it sees is counted into counts.

    stop: the first error that concerns every request; such lines use no attempt.
    """

    counts: Collected
    stop: str | None = None

    def read(self, path: Path, *, is_output: bool) -> Iterator[tuple[list[Result], list[Failure]]]:
        """Results and failures, a few thousand lines at a time."""
        results: list[Result] = []
        failures: list[Failure] = []
        with path.open("rb") as file:
            for raw in file:
                if not raw.strip():
                    continue
                outcome = self._outcome(raw, is_output=is_output)
                if isinstance(outcome, Result):
                    results.append(outcome)
                elif outcome is not None:
                    failures.append(outcome)
                if len(results) + len(failures) >= CHUNK:
                    yield results, failures
                    results, failures = [], []
        yield results, failures

    def _outcome(self, raw: bytes, *, is_output: bool) -> Result | Failure | None:
        try:
            line = _decode_line(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                line = _decode_line(leniently(raw))
            except (msgspec.MsgspecError, ValueError):
                return self._broken(raw, is_output=is_output)
        if not _OURS.match(line.custom_id):
            self.counts.foreign += 1
            return None
        if line.response is None:
            return self._without_response(line)
        status = line.response.status_code or 0
        if 200 <= status < 300:
            return read_completion(line.custom_id, bytes(line.response.body))
        return self._http_error(line.custom_id, status, line.response.body)

    def _broken(self, raw: bytes, *, is_output: bool) -> Failure | None:
        """A line that is no JSON. In the output file it was an answer: not bought again."""
        self.counts.broken += 1
        found = _ID_IN_BROKEN_LINE.search(raw.decode("utf-8", "replace"))
        if found is None:
            return None
        return Failure(
            found[1],
            FailureKind.UNUSABLE,
            "the server's line for this answer is broken",
            retryable=not is_output,
            text=raw.decode("utf-8", "replace"),
        )

    def _without_response(self, line: _Line) -> Failure | None:
        error = line.error or _LineError()
        code = (error.code or "").lower()
        if code in UNATTEMPTED:
            self.counts.unattempted += 1
            return None
        message = error.message or error.code or "no response and no error"
        return Failure(line.custom_id, FailureKind.SERVER, message, retryable=True, code=error.code)

    def _http_error(self, request_id: str, status: int, body: msgspec.Raw) -> Failure | None:
        code, message = _error_of(body)
        if concerns_every_request(status, code):
            self.stop = self.stop or f"{status}: {message}"
            self.counts.unattempted += 1
            return None
        retryable = status in RETRYABLE_STATUSES or status >= 500
        kind = FailureKind.SERVER if retryable else FailureKind.REFUSED
        if code is not None and "content" in code and ("filter" in code or "policy" in code):
            kind = FailureKind.FILTERED
        return Failure(
            request_id, kind, f"{status}: {message}", retryable=retryable, code=code or str(status)
        )


def _error_of(body: msgspec.Raw) -> tuple[str | None, str]:
    """Code and message of a failed line's body."""
    try:
        value = msgspec.json.decode(body)
        if isinstance(value, str):
            value = msgspec.json.decode(value)
    except msgspec.MsgspecError:
        value = None
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        code = error.get("code") or error.get("type")
        message = str(error.get("message") or code or "no message")
        return None if code is None else str(code), message
    return None, str(error) if error else "no message"
