"""Reading a chat completion's body: the answer, its reasoning, its tokens, or why there is none."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from backends.reasoning import split_think
from store.models import Failure, FailureKind, Result
from store.money import Usage

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Message(msgspec.Struct):
    # What is beside the answer is taken as it comes: an odd field must not cost a paid answer.
    content: str | list[Any] | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Any = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


_decode_completion = msgspec.json.Decoder(_Completion, strict=False).decode


def read_completion(request_id: str, body: bytes) -> Result | Failure:
    """A 2xx body was paid for: whatever is in it, it is never bought again by itself."""
    try:
        completion = _completion(body)
        choice = completion.choices[0]
    except (msgspec.MsgspecError, ValueError, IndexError):
        return _unusable(request_id, "the answer is no chat completion", body)
    message = choice.message
    usage = completion.usage if isinstance(completion.usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    prompt_tokens = _int(usage.get("prompt_tokens"))
    completion_tokens = _int(usage.get("completion_tokens"))
    cached_tokens = _int(details.get("cached_tokens")) if isinstance(details, dict) else None
    refused = None
    if message.content is None and _str(message.refusal):
        refused = str(message.refusal), "refusal"
    elif choice.finish_reason == "content_filter":
        refused = "a content filter cut the answer off", "content_filter"
    if refused is not None:
        return Failure(
            request_id,
            FailureKind.FILTERED,
            refused[0],
            retryable=False,
            code=refused[1],
            answered=True,
            usage=Usage.told(prompt_tokens, cached_tokens, completion_tokens),
        )
    text = _text(message.content)
    reasoning = _str(message.reasoning) or _str(message.reasoning_content)
    if reasoning is None:
        reasoning, text = split_think(text)
    return Result(
        request_id,
        text,
        reasoning,
        _str(choice.finish_reason) or "stop",
        prompt_tokens,
        completion_tokens,
        cached_tokens,
    )


def _str(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _completion(body: bytes) -> _Completion:
    try:
        if body.lstrip().startswith(b'"'):  # some servers put the body in as a string
            body = msgspec.json.decode(body, type=str).encode()
        return _decode_completion(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_completion(leniently(body))


def _text(content: str | list[Any] | None) -> str:
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content or ""


def _unusable(request_id: str, message: str, body: bytes) -> Failure:
    return Failure(
        request_id,
        FailureKind.UNUSABLE,
        message,
        retryable=False,
        text=body.decode("utf-8", "replace"),
        answered=True,
    )


def leniently(raw: bytes) -> bytes:
    """JSON with replacement characters for what no text can hold; raises ValueError."""
    value = json.loads(raw.decode("utf-8", "replace"))
    text = json.dumps(value, ensure_ascii=False)
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text).encode()
