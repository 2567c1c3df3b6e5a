"""Stopping a run whose first requests all failed for the same reason, for all backends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backends.openai_api.errors import NO_ANSWER
from store import Unfinished
from store.results import FailureKind

if TYPE_CHECKING:
    from store import WorkStore

MIN_FAILURES = 20  # requests that failed for good, without a single answer
# Of a prompt longer than a local model's context: the longest prompts go first, so many may fail
# before the first answer.
TOO_LONG = "prompt_too_long"

_LENGTH = re.compile(
    r"context.?length|context window|max(imum)?.?(model|completion|new|output)?.?(len|tokens)"
    r"|too long|too many tokens",
    re.IGNORECASE,
)
# The parameter name that a server expects, or the one that it refuses.
_WANTED_NAME = re.compile(r"use '?(max_(?:completion_)?tokens)", re.IGNORECASE)
_UNKNOWN_NAME = re.compile(
    r"(?:unrecogni[sz]ed|unknown|unsupported|unexpected|extra|not permitted|not allowed)"
    r".*\b(max_(?:completion_)?tokens)",
    re.IGNORECASE,
)
# Advice by the server's message, or ours, where neither key nor parameters are wrong.
_ADVICE = (
    (
        re.compile(r"cancelled, not by this tool"),
        "Find out who cancels batches with this key, then resume",
    ),
    (
        re.compile(r"ended without an answer \(expired"),
        "Resume when the server has more room, or with a longer --completion-window",
    ),
    (
        re.compile(r"quota|billing|credit", re.IGNORECASE),
        "Check the credit and the limits of the account, then resume",
    ),
    (
        re.compile(r"\b429\b|rate.?limit", re.IGNORECASE),
        "Resume later, or with a lower MAX_LLM_CONCURRENCY",
    ),
    (re.compile(r"\b5\d\d: "), "The server has failed by itself: resume later"),
)
_SCHEMA = re.compile(r"response.?format|json.?schema|structured.?outputs?", re.IGNORECASE)
OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


class Unanswered(Unfinished):
    """The first requests have no answer but may be billed: they count as attempts."""


def all_failed_alike(
    store: WorkStore, max_attempts: int, server: str, *, live: bool = False
) -> Unfinished | None:
    """The error to stop a run with, where its first requests failed for one reason; else None.

    Checked on the first MIN_FAILURES requests, or on all where the run has fewer. Their failures do
    not count as attempts: the caller calls store.results.stop when no more failures will come. But
    not for Unanswered, since each resume would pay again: a server may bill an unusable answer, a
    live request that it answers with a 5xx, and one that it never answers. Answers refused by a
    content filter show that the server works.
    """
    alike = store.results.failed_alike(max_attempts, MIN_FAILURES)
    if alike is None or alike.kind is FailureKind.FILTERED or alike.code == TOO_LONG:
        return None
    reason = f"the first {alike.requests} requests all failed alike: {alike.message}"
    if alike.kind is FailureKind.UNUSABLE:
        return Unanswered(
            f"{reason}. Nothing more is sent; the server bills them. Check {server} and the model, "
            "then resume with --retry-failed"
        )
    if alike.code == NO_ANSWER:
        return Unanswered(
            f"{reason.rstrip('.')}. Nothing more is sent; the server may bill them. Check {server} "
            "and FASTDATASETS_TIMEOUT_SECONDS, then resume with --retry-failed"
        )
    if live and alike.kind is FailureKind.SERVER:
        return Unanswered(
            f"{reason.rstrip('.')}. Nothing more is sent; the server may bill them. Check {server} "
            "and the model, then resume with --retry-failed"
        )
    return stopped(reason, server, alike.code)


def stopped(reason: str, server: str, code: str = "") -> Unfinished:
    """The error for a run whose every request would fail; reason: with the server's message."""
    return Unfinished(
        f"{reason.rstrip('.')}. Nothing more is sent and no attempt used. "
        + advice(code, reason, server)
    )


def advice(code: str, message: str, server: str) -> str:
    """What to change before a resume, by the server's message."""
    if wanted := _WANTED_NAME.search(message):
        return f"Resume with --max-tokens-name {wanted[1].lower()}"
    if unknown := _UNKNOWN_NAME.search(message):
        return f"Resume with --max-tokens-name {OTHER_NAME[unknown[1].lower()]}"
    if _SCHEMA.search(message):
        return "Resume with --no-json-schema"
    if code == "404" or "404: " in message:
        return (
            f"Check the address {server} (LLM_API_BASE, which ends in /v1 for most servers: "
            "https://api.example.com/v1) and the model's name, then resume"
        )
    if "APIConnectionError" in message:
        return f"Check the address {server} (LLM_API_BASE) and that it is up, then resume"
    if _LENGTH.search(message):
        return "Resume with a lower --max-output-tokens, which makes other requests"
    for pattern, text in _ADVICE:
        if pattern.search(message):
            return text
    return "Check key, model and parameters, then resume"
