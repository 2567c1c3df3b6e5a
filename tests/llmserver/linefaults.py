"""Faults in the output and error files of a batch, chosen line by line."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from .bill import Body
from .errors import Json, error_body
from .replies import INVALID_BYTES_MARK, Reply, to_json, to_json_bytes, verbatim


class LineKind(StrEnum):
    """What is wrong with a line, or with the whole file."""

    # The request fails and stands in the error file; it is not billed.
    HTTP_ERROR = "http_error"  # response with `status` and body.error of `code`, `message`
    NOT_RUN = "not_run"  # response null, error of `code`, `message`: batch_expired and the like
    # The request is nowhere, or has no result; it is not billed.
    MISSING = "missing"  # in neither file, and in no count
    STATUS_ZERO = "status_zero"  # in the output file with status_code 0 and no body
    # The request was executed and is billed, but its answer is odd.
    LONE_SURROGATE = "lone_surrogate"  # a \ud800 escape in the content
    LINE_SEPARATORS = "line_separators"  # raw U+2028, U+2029 and U+0085 in the content
    INVALID_UTF8 = "invalid_utf8"  # bytes FF FE in the content
    STRING_BODY = "string_body"  # response.body is a string of JSON
    DEEP = "deep"  # arrays nested 20,000 deep beside what it says, in each of its objects
    BROKEN = "broken"  # the line is cut in half: its answer is lost
    WITHHELD = "withheld"  # in neither file, though it counts as completed
    OTHER_ID = "other_id"  # the line has a custom_id that nobody sent
    # A whole, good line, and one more before or after it.
    BROKEN_COPY = "broken_copy"  # a cut copy of the line comes before it
    DUPLICATE = "duplicate"  # the same custom_id comes again with another text
    FOREIGN_ID = "foreign_id"  # a copy with a custom_id that nobody sent comes before it
    # Both files as a whole; `when` is not asked.
    SHUFFLE = "shuffle"
    BLANK_LINES = "blank_lines"  # one after each line
    CRLF = "crlf"
    NO_FINAL_NEWLINE = "no_final_newline"
    EMPTY_ERROR_FILE = "empty_error_file"  # of zero bytes, where there would be none


FILE_KINDS = frozenset(
    {
        LineKind.SHUFFLE,
        LineKind.BLANK_LINES,
        LineKind.CRLF,
        LineKind.NO_FINAL_NEWLINE,
        LineKind.EMPTY_ERROR_FILE,
    }
)
UNBILLED = frozenset({LineKind.MISSING, LineKind.STATUS_ZERO})

NOT_RUN_MESSAGES = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
    "request_timeout": "This request timed out.",
}

NESTED = verbatim("[" * 20_000 + "]" * 20_000)

_ODD_TEXT = {
    LineKind.LONE_SURROGATE: "\ud800",
    LineKind.LINE_SEPARATORS: "\u2028\u2029\u0085",
    LineKind.INVALID_UTF8: INVALID_BYTES_MARK,
}


@dataclass(eq=False)
class LineFault:
    """One fault of the lines whose body satisfies `when`, `times` times (None: always), in the
    `batch`-th batch created (from 0; None: in each). `fired` names the custom_ids it hit, or
    the batches where it is about whole files.
    """

    kind: LineKind
    when: Callable[[Body], bool] | None = None
    times: int | None = None
    batch: int | None = None
    status: int = 400
    code: str | None = None
    message: str = "The request failed."
    fired: list[str] = field(default_factory=list, init=False)

    def is_for(self, batch: int) -> bool:
        """Whether it is about this batch and has some of its times left."""
        return self.batch in (None, batch) and (self.times is None or len(self.fired) < self.times)

    def strikes(self, body: Body, custom_id: str) -> bool:
        """Whether it hits this line, which uses up one of its times."""
        if self.times is not None and len(self.fired) >= self.times:
            return False
        if self.when is not None and not self.when(body):
            return False
        self.fired.append(custom_id)
        return True

    @property
    def reply(self) -> Reply:
        """The refusal that an HTTP_ERROR line carries."""
        body = error_body(self.message, code=self.code)
        return Reply(status_code=self.status, error=body["error"])


def content_filter(when: Callable[[Body], bool] | None = None) -> LineFault:
    """HTTP 400 of the content filter."""
    message = "The response was filtered due to the prompt triggering the content policy."
    return LineFault(LineKind.HTTP_ERROR, when, status=400, code="content_filter", message=message)


def rate_limited_line(
    when: Callable[[Body], bool] | None = None, times: int | None = None
) -> LineFault:
    """HTTP 429 of one request."""
    return LineFault(
        LineKind.HTTP_ERROR,
        when,
        times,
        status=429,
        code="rate_limit_exceeded",
        message="Rate limit reached for requests",
    )


def not_run(code: str) -> Json:
    """The error of a line whose request was never executed."""
    return {"code": code, "message": NOT_RUN_MESSAGES.get(code, "This request was not executed.")}


def odd_reply(reply: Reply, kinds: set[LineKind]) -> Reply:
    """The reply with the odd characters in the middle of its content."""
    odd = "".join(text for kind, text in _ODD_TEXT.items() if kind in kinds)
    if not odd or reply.content is None:
        return reply
    middle = len(reply.content) // 2
    return replace(reply, content=reply.content[:middle] + odd + reply.content[middle:])


def written(line: Json, kinds: set[LineKind]) -> list[bytes]:
    """The lines of the file, without their newlines, that stand for one request."""
    response = line["response"]
    if response is not None and LineKind.STATUS_ZERO in kinds:
        response.update(status_code=0, body=None)
    duplicate = to_json_bytes(_duplicate(line)) if LineKind.DUPLICATE in kinds else None
    if LineKind.DEEP in kinds:
        _nest(line)
    if response is not None and LineKind.STRING_BODY in kinds:
        response["body"] = to_json(response["body"])
    if LineKind.OTHER_ID in kinds:
        line = line | {"custom_id": _other_id(line)}
    raw = to_json_bytes(line)
    lines = [raw[: len(raw) // 2] if LineKind.BROKEN in kinds else raw]
    if LineKind.BROKEN_COPY in kinds:
        lines.insert(0, raw[: len(raw) // 2])
    if LineKind.FOREIGN_ID in kinds:
        lines.insert(0, to_json_bytes(line | {"custom_id": _other_id(line)}))
    if duplicate is not None:
        lines.append(duplicate)
    return lines


def _nest(value: Json) -> None:
    for item in value.values():
        if isinstance(item, dict):
            _nest(item)
    value["nested"] = NESTED


def _other_id(line: Json) -> str:
    return f"foreign-{line['custom_id']}"[:64]


def _duplicate(line: Json) -> Json:
    """The same request with another answer."""
    response = line["response"]
    if response is None or "choices" not in (response["body"] or {}):
        return line
    choice = response["body"]["choices"][0]
    message = choice["message"] | {"content": f"Another answer. {choice['message']['content']}"}
    body = response["body"] | {"choices": [choice | {"message": message}]}
    return line | {"response": response | {"body": body}}


def spoil_file(path: Path, kinds: set[LineKind], seed: int) -> None:
    """Rewrite a finished file with the faults that concern it as a whole."""
    if not kinds - {LineKind.EMPTY_ERROR_FILE}:
        return
    lines = path.read_bytes().split(b"\n")[:-1]
    if LineKind.SHUFFLE in kinds:
        random.Random(seed).shuffle(lines)
    end = b"\r\n" if LineKind.CRLF in kinds else b"\n"
    between = end * 2 if LineKind.BLANK_LINES in kinds else end
    last = b"" if LineKind.NO_FINAL_NEWLINE in kinds else between
    path.write_bytes(between.join(lines) + last)
