"""What an error of a server means: one classification for calls, for lines of a batch, and live.

A kind says what the caller does. Where the same status means different things for a call that
concerns the whole run (POST /batches) and for one request of it (a chat completion), the kind
names the status and the caller decides, here: `failure_of` is what it means for one request.
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

# Whatever the SDK lets out: its own errors, its transport's, a 200 that is no JSON or is nested too
# deep, our time-out.
CALL_ERRORS = (
    openai.OpenAIError,
    httpx2.HTTPError,
    json.JSONDecodeError,
    RecursionError,
    TimeoutError,
)

NO_ANSWER = "no_answer"  # our code for a request that was sent and may have been executed
OVERLONG = "overlong"  # our code for an answer that was given up for its length
LINE_CHARACTERS = 500  # of a server's words, at most
HTML_CHARACTERS = 1 << 14  # of a page, in which words are looked for
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
    """What an unsuccessful call means."""

    STOP = "stop"  # concerns every request: key, quota, model, a parameter
    FORBIDDEN = "forbidden"  # 403: the key's rights, or this one prompt
    FILTERED = "filtered"  # a content filter refused this one prompt
    ENQUEUED_LIMIT = "enqueued_limit"  # the enqueued-token limit: later, or smaller
    BUSY = "busy"  # a rate limit: later
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"  # a definite no to this call
    OVERLONG = "overlong"  # it was answered with 2xx, at a length that cannot be
    UNKNOWN = "unknown"  # it may or may not have taken effect
    UNREACHABLE = "unreachable"  # no connection came about, so nothing was sent


# Of one request: it may be answered another time.
RETRYABLE = {ErrorKind.UNKNOWN, ErrorKind.UNREACHABLE, ErrorKind.BUSY, ErrorKind.ENQUEUED_LIMIT}


@dataclass
class ApiError(FastDatasetsError):
    """A call to a server that did not succeed."""

    kind: ErrorKind
    message: str
    status: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        """The server's words, after its status."""
        return f"{self.status}: {self.message}" if self.status else self.message


def classify_error(error: Exception, api_key: str) -> ApiError:
    """What an error of the client means; the key, should a server echo it, is taken out."""
    if isinstance(error, openai.APIStatusError):
        code, words = code_and_words(decode_leniently(error.response.content))
        message = words.replace(api_key, "***") or "no reason given"
        kind = kind_of_status(error.status_code, code, message)
        return ApiError(kind, message, error.status_code, code)
    if isinstance(error, Overlong):
        return ApiError(ErrorKind.OVERLONG, str(error), code=OVERLONG)
    reason = error.__cause__ or error
    # Many errors of a transport have no text of their own.
    words = "no answer in time" if isinstance(error, TimeoutError) else _of_system(reason)
    words = words or str(reason) or type(reason).__name__
    text = one_line(f"{type(error).__name__}: {words}".replace(api_key, "***"))
    if isinstance(reason, httpx2.ConnectError | httpx2.ConnectTimeout):
        return ApiError(ErrorKind.UNREACHABLE, text)
    return ApiError(ErrorKind.UNKNOWN, text, code=NO_ANSWER)


def _of_system(error: BaseException | None) -> str:
    """The operating system's word of what an error came from, such as 'Connection refused'."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
            return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return ""


def kind_of_status(status: int, code: str | None, message: str) -> ErrorKind:
    """What an HTTP error means; code and message as `code_and_words` reads them.

    Status 0, which some servers give lines of requests that they did not finish, is unknown.
    """
    if status in (0, 408, 409, 425) or status >= 500:
        return ErrorKind.UNKNOWN  # whatever else it says
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
    """An attempt of one request that failed, live or in a batch; not for Verdict.STOP."""
    retryable = api_error.kind in RETRYABLE
    named = {ErrorKind.FILTERED: FailureKind.FILTERED, ErrorKind.OVERLONG: FailureKind.UNUSABLE}
    kind = FailureKind.SERVER if retryable else FailureKind.REFUSED
    kind = named.get(api_error.kind, kind)
    code = api_error.code or (None if api_error.status is None else str(api_error.status))
    return Failure(request_id, kind, str(api_error), retryable=retryable, code=code)


def code_and_words(body: object) -> tuple[str | None, str]:
    """Code and message of an error's body, in one line: '' where it has no words.

    OpenAI's {"error": {"code", "message"}}, that object alone, FastAPI's {"detail": …} with a text
    or a list of {"loc", "msg"}, {"message"}, {"error": "…"}, {"msg"}, JSON in a string, plain text,
    HTML.
    """
    if isinstance(body, str):
        try:
            return code_and_words(_json_object(body))
        except ValueError:
            return None, one_line(_HTML.sub(" ", body[:HTML_CHARACTERS]))
    if isinstance(body, list):
        return None, one_line("; ".join(words for item in body if (words := _words_of_item(item))))
    if not isinstance(body, dict):
        return None, "" if body is None else one_line(str(body))
    error = body.get("error")
    if isinstance(error, dict):
        return code_and_words(error)
    code = body.get("code") or body.get("type")
    named = (body.get(name) for name in ("message", "detail", "error", "msg", "error_msg"))
    words = next((code_and_words(value)[1] for value in named if value), "")
    return None if code is None else str(code), words or one_line(json.dumps(body))


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")  # for the caller it is plain text
    return value


def _words_of_item(item: object) -> str:
    """One of FastAPI's reasons: where, and what."""
    if isinstance(item, dict) and "msg" in item:
        place = ".".join(str(part) for part in item.get("loc") or ())
        return f"{place}: {item['msg']}" if place else str(item["msg"])
    return code_and_words(item)[1]


def one_line(message: str) -> str:
    """A text without line ends and keys, cut to a line's length."""
    line = " ".join(masked(message).split())
    return line if len(line) <= LINE_CHARACTERS else f"{line[: LINE_CHARACTERS - 1]}…"


def learnt_limit(message: str) -> int | None:
    """The enqueued-token limit that a refusal's message names, in tokens."""
    found = LIMIT_NUMBER.search(message)
    if found is None:
        return None
    digits, unit = found[1], found[2].upper()
    if not unit and _THOUSANDS.fullmatch(digits):
        return int(re.sub("[.,]", "", digits))
    try:
        number = float(digits.replace(",", ""))
    except ValueError:
        return None
    return int(number * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}[unit])
