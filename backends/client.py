"""The openai client as we use it, and what its errors mean for whoever called."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

import httpx2
import openai

from store import FastDatasetsError

# Whatever the SDK lets out: its own errors, its transport's, and a 200 that is no JSON.
CALL_ERRORS = (openai.OpenAIError, httpx2.HTTPError, json.JSONDecodeError)

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 120.0

# What concerns every request and only the user can mend.
STOP_STATUSES = {401, 403}
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
RETRYABLE_STATUSES = {0, 408, 409, 425, 429}
LIMIT_TEXT = re.compile(r"token_limit_exceeded|enqueued token", re.IGNORECASE)
LIMIT_NUMBER = re.compile(r"limit(?:\s+of|:)\s*([\d,.]*\d)\s*([KMB]?)", re.IGNORECASE)


class Verdict(StrEnum):
    """What an unsuccessful call means."""

    STOP = "stop"  # concerns every request: end the run in good order
    LIMITED = "limited"  # the enqueued-token limit: later, or smaller
    BUSY = "busy"  # a rate limit: later
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    REFUSED = "refused"  # a definite no to this call
    UNKNOWN = "unknown"  # it may or may not have taken effect


@dataclass
class Trouble(FastDatasetsError):
    """A call to a server that did not succeed."""

    verdict: Verdict
    message: str
    status: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        """The server's words, after its status."""
        return f"{self.status}: {self.message}" if self.status else self.message


def make_client(base_url: str, api_key: str) -> openai.OpenAI:
    """A client that repeats nothing by itself and takes nothing from OPENAI_* variables.

    The SDK's retries repeat a POST that had worked, and wait as long as a Retry-After says.
    """
    client = openai.OpenAI(
        api_key=api_key,
        base_url=base_url,
        max_retries=0,
        timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
    )
    # None in the constructor would mean: as the environment says.
    client.organization = client.project = None
    return client


def trouble_of(error: Exception, api_key: str) -> Trouble:
    """What an error of the client means; the key, should a server echo it, is taken out."""
    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message") or error.message).replace(api_key, "***")
        code = body.get("code") or body.get("type")
        code = None if code is None else str(code)
        verdict = verdict_of(error.status_code, code, message)
        return Trouble(verdict, _brief(message), error.status_code, code)
    reason = error.__cause__ or error
    text = f"{type(error).__name__}: {reason}".replace(api_key, "***")
    return Trouble(Verdict.UNKNOWN, _brief(text))


def verdict_of(status: int, code: str | None, message: str) -> Verdict:
    """What an HTTP error means; code and message as OpenAI's error object has them."""
    if status in (408, 409) or status >= 500:
        return Verdict.UNKNOWN  # whatever else it says
    if LIMIT_TEXT.search(f"{code} {message}"):
        return Verdict.LIMITED
    if concerns_every_request(status, code):
        return Verdict.STOP
    named = {
        404: Verdict.NOT_FOUND,
        410: Verdict.NOT_FOUND,
        413: Verdict.TOO_LARGE,
        429: Verdict.BUSY,
    }
    return named.get(status, Verdict.REFUSED)


def concerns_every_request(status: int, code: str | None) -> bool:
    """Whether an error would meet any request: key, quota, model, a parameter."""
    return status in STOP_STATUSES or (code or "").lower() in STOP_CODES


def learnt_limit(message: str) -> int | None:
    """The enqueued-token limit that a refusal's message names, in tokens."""
    if found := LIMIT_NUMBER.search(message):
        number = float(found[1].replace(",", ""))
        return int(number * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9}[found[2].upper()])
    return None


def _brief(message: str) -> str:
    line = " ".join(message.split())
    return line if len(line) <= 500 else f"{line[:499]}…"
