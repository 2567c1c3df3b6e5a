"""What an error of a server means: one classification for calls, for lines of a batch, and live.

A kind decides what the caller does. Where a status means different things for a call that concerns
the whole run (POST /batches) and for one request (a chat completion), the kind names the status and
the caller decides; for one request that is `failure_of`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx2
import openai

from backends.openai_api.bounded import Overlong
from backends.openai_api.keys import masked
from backends.openai_api.lenient_json import decode_leniently
from store import FastDatasetsError
from store.results import Failure, FailureKind

# All errors of a call: the SDK's, its transport's, a 200 that is no JSON or nested too deep, our
# time-out.
CALL_ERRORS = (
    openai.OpenAIError,
    httpx2.HTTPError,
    json.JSONDecodeError,
    RecursionError,
    TimeoutError,
)

NO_ANSWER = "no_answer"  # our code: sent, possibly executed, no answer
OVERLONG = "overlong"  # our code: the answer exceeded its size limit
LINE_CHARACTERS = 500  # of a server's message, at most
HTML_CHARACTERS = 1 << 14  # of a page, that are searched for text
STOP_CODES = {
    "invalid_api_key",
    "insufficient_quota",
    "billing_hard_limit_reached",
    "account_deactivated",
    "model_not_found",
    "unsupported_parameter",
    "unknown_parameter",
    "unsupported_value",
}
# OpenAI has content_filter, content_policy_violation and moderation_blocked, Azure
# ResponsibleAIPolicyViolation, DashScope data_inspection_failed.
FILTER_CODE = re.compile(
    r"content.?(filter|policy)|moderation|responsible.?ai|data.?inspection", re.IGNORECASE
)
LIMIT_TEXT = re.compile(r"token_limit_exceeded|enqueued token", re.IGNORECASE)
LIMIT_NUMBER = re.compile(r"limit(?:\s+of|:)\s*([\d,.]*\d)\s*([KMB]?)", re.IGNORECASE)
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+|\d{1,3}(\.\d{3})+")
_HTML = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


class ErrorKind(StrEnum):
    """The kind of an unsuccessful call."""

    STOP = "stop"  # concerns every request: key, quota, model, a parameter
    FORBIDDEN = "forbidden"  # 403: the key's permissions, or this one prompt
    FILTERED = "filtered"  # a content filter refused this one prompt
    ENQUEUED_LIMIT = "enqueued_limit"  # the enqueued-token limit: later, or smaller
    BUSY = "busy"  # a rate limit: later
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"  # this call is invalid
    OVERLONG = "overlong"  # a 2xx response beyond its size limit
    UNKNOWN = "unknown"  # it may or may not have taken effect
    UNREACHABLE = "unreachable"  # no connection, so nothing was sent


# Kinds after which one request may succeed later.
RETRYABLE = {ErrorKind.UNKNOWN, ErrorKind.UNREACHABLE, ErrorKind.BUSY, ErrorKind.ENQUEUED_LIMIT}


@dataclass
class ApiError(FastDatasetsError):
    """An unsuccessful call to a server."""

    kind: ErrorKind
    message: str
    status: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        """The status and the server's message."""
        return f"{self.status}: {self.message}" if self.status else self.message


def classify_error(error: Exception, api_key: str) -> ApiError:
    """Classify an error of the client; the key is masked, in case a server echoes it."""
    if isinstance(error, openai.APIStatusError):
        code, words = code_and_message(decode_leniently(error.response.content))
        message = words.replace(api_key, "***") or "no reason given"
        kind = kind_of_status(error.status_code, code, message)
        return ApiError(kind, message, error.status_code, code)
    if isinstance(error, Overlong):
        return ApiError(ErrorKind.OVERLONG, str(error), code=OVERLONG)
    reason = error.__cause__ or error
    # Many transport errors have no text.
    words = "no answer in time" if isinstance(error, TimeoutError) else _system_message(reason)
    words = words or str(reason) or type(reason).__name__
    text = one_line(f"{type(error).__name__}: {words}".replace(api_key, "***"))
    if isinstance(reason, httpx2.ConnectError | httpx2.ConnectTimeout):
        return ApiError(ErrorKind.UNREACHABLE, text)
    return ApiError(ErrorKind.UNKNOWN, text, code=NO_ANSWER)


def _system_message(error: BaseException | None) -> str:
    """The strerror of the OSError behind an error, such as 'Connection refused'."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
            return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return ""


def kind_of_status(status: int, code: str | None, message: str) -> ErrorKind:
    """Classify an HTTP error; code and message as from `code_and_message`.

    Status 0, which some servers report for unfinished requests of a batch, is unknown.
    """
    if status in (0, 408, 409, 425) or status >= 500:
        return ErrorKind.UNKNOWN  # whatever the message is
    if LIMIT_TEXT.search(f"{code} {message}"):
        return ErrorKind.ENQUEUED_LIMIT
    if status == 401 or (code or "").lower() in STOP_CODES:
        return ErrorKind.STOP
    if FILTER_CODE.search(code or ""):
        return ErrorKind.FILTERED
    named = {
        403: ErrorKind.FORBIDDEN,
        404: ErrorKind.NOT_FOUND,
        410: ErrorKind.NOT_FOUND,
        413: ErrorKind.TOO_LARGE,
        429: ErrorKind.BUSY,
    }
    return named.get(status, ErrorKind.REFUSED)


def failure_of(request_id: str, api_error: ApiError) -> Failure:
    """The failed attempt of one request, live or in a batch; not for ErrorKind.STOP."""
    retryable = api_error.kind in RETRYABLE
    named = {ErrorKind.FILTERED: FailureKind.FILTERED, ErrorKind.OVERLONG: FailureKind.UNUSABLE}
    kind = FailureKind.SERVER if retryable else FailureKind.REFUSED
    kind = named.get(api_error.kind, kind)
    code = api_error.code or (None if api_error.status is None else str(api_error.status))
    return Failure(request_id, kind, str(api_error), retryable=retryable, code=code)


def code_and_message(body: object) -> tuple[str | None, str]:
    """Code and message of an error's body, in one line: '' where it has no message.

    OpenAI's {"error": {"code", "message"}}, that object alone, FastAPI's {"detail": …} with a text
    or a list of {"loc", "msg"}, {"message"}, {"error": "…"}, {"msg"}, JSON in a string, plain text,
    HTML.
    """
    if isinstance(body, str):
        try:
            return code_and_message(_json_object(body))
        except ValueError:
            return None, one_line(_HTML.sub(" ", body[:HTML_CHARACTERS]))
    if isinstance(body, list):
        return None, one_line(
            "; ".join(words for item in body if (words := _message_of_item(item)))
        )
    if not isinstance(body, dict):
        return None, "" if body is None else one_line(str(body))
    error = body.get("error")
    if isinstance(error, dict):
        return code_and_message(error)
    code = body.get("code") or body.get("type")
    named = (body.get(name) for name in ("message", "detail", "error", "msg", "error_msg"))
    words = next((code_and_message(value)[1] for value in named if value), "")
    return None if code is None else str(code), words or one_line(json.dumps(body))


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")  # the caller reads it as plain text
    return value


def _message_of_item(item: object) -> str:
    """One of FastAPI's errors: location and message."""
    if isinstance(item, dict) and "msg" in item:
        place = ".".join(str(part) for part in item.get("loc") or ())
        return f"{place}: {item['msg']}" if place else str(item["msg"])
    return code_and_message(item)[1]


def one_line(message: str) -> str:
    """A text in one line, with keys masked, cut to LINE_CHARACTERS."""
    line = " ".join(masked(message).split())
    return line if len(line) <= LINE_CHARACTERS else f"{line[: LINE_CHARACTERS - 1]}…"


def parse_token_limit(message: str) -> int | None:
    """The enqueued-token limit in a refusal's message, in tokens."""
    match = LIMIT_NUMBER.search(message)
    if match is None:
        return None
    digits, unit = match[1], match[2].upper()
    if not unit and _THOUSANDS.fullmatch(digits):
        return int(re.sub("[.,]", "", digits))
    try:
        number = float(digits.replace(",", ""))
    except ValueError:
        return None
    return int(number * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}[unit])
