"""Reading a chat completion's body: the answer, its reasoning, its usage, or why there is none.

A body was billed, so its text is kept whatever else is in it. The usual form is decoded into the
fields that are kept; of other forms the usable fields are read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from backends.openai_api.lenient_json import UNREADABLE, decode_leniently, whole_number
from backends.reasoning import split_think
from store.money import Bounds, Usage
from store.planning import canonical
from store.results import Failure, FailureKind, Result


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decode_completion = msgspec.json.Decoder(_Completion).decode


def read_completion(request_id: str, body: bytes, bounds: Bounds) -> Result | Failure:
    """Read a 2xx body. It was billed: whatever is in it, the failure is not retryable.

    A usage beyond the bounds is ignored.
    """
    try:
        completion = _decode_completion(body)
    except UNREADABLE:
        completion = _usable_fields(decode_leniently(body))
    if not completion.choices:
        return Failure(
            request_id,
            FailureKind.UNUSABLE,
            "the answer is not a chat completion",
            retryable=False,
            text=body.decode("utf-8", "replace"),
            answered=True,
            usage=_usage(completion, bounds, has_text=False),
        )
    choice = completion.choices[0]
    message = choice.message
    text, reasoning = message.content or "", message.reasoning or message.reasoning_content
    calls = canonical(message.tool_calls) if message.tool_calls else None
    written = text or reasoning or message.refusal or calls
    usage = _usage(completion, bounds, has_text=bool(written))
    refused = None
    if message.content is None and message.refusal:
        refused = message.refusal, "refusal"
    elif choice.finish_reason == "content_filter":
        refused = "a content filter cut the answer off", "content_filter"
    if refused is not None:
        return Failure(
            request_id,
            FailureKind.FILTERED,
            refused[0],
            retryable=False,
            code=refused[1],
            text=message.content,
            answered=True,
            usage=usage,
        )
    if not reasoning:
        reasoning, text = split_think(text)
    finish_reason = choice.finish_reason or "stop"
    if usage is None:
        return Result(request_id, text, reasoning, finish_reason, tool_calls=calls)
    cached = usage.cached if _cached(completion.usage) is not None else None
    return Result(
        request_id, text, reasoning, finish_reason, usage.prompt, usage.completion, cached, calls
    )


def _usage(completion: _Completion, bounds: Bounds, *, has_text: bool) -> Usage | None:
    """The reported usage; None where it is missing or beyond the bounds."""
    reported = completion.usage
    if reported is None:
        return None
    usage = Usage.reported(reported.prompt_tokens, _cached(reported), reported.completion_tokens)
    return usage if usage and bounds.allow(usage, has_text=has_text) else None


def _cached(usage: _Usage | None) -> int | None:
    details = usage.prompt_tokens_details if usage else None
    return details.cached_tokens if details else None


def _usable_fields(body: Any) -> _Completion:
    """The usable fields of an unusual body; without choices where there is no message."""
    usage = _dict(_dict(body).get("usage"))
    details = _dict(usage.get("prompt_tokens_details"))
    picked = _Completion(
        [],
        _Usage(
            whole_number(usage.get("prompt_tokens")),
            whole_number(usage.get("completion_tokens")),
            _Details(whole_number(details.get("cached_tokens"))),
        ),
    )
    choices = _dict(body).get("choices")
    choice = _dict(choices[0]) if isinstance(choices, list) and choices else {}
    message = choice.get("message")
    content = _dict(message).get("content")
    if isinstance(message, dict) and (content is None or (content := _text(content)) is not None):
        reasoning, named_otherwise, refusal = (
            _str(message.get(name)) for name in ("reasoning", "reasoning_content", "refusal")
        )
        read = _Message(content, reasoning, named_otherwise, refusal)
        calls = message.get("tool_calls")
        if isinstance(calls, list) and all(isinstance(call, dict) for call in calls):
            read.tool_calls = calls
        picked.choices.append(_Choice(read, _str(choice.get("finish_reason"))))
    return picked


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _text(content: Any) -> str | None:
    """A message's text, a string or in parts; None where it is neither."""
    if isinstance(content, list):
        parts = (_str(_dict(part).get("text")) for part in content)
        return "".join(part for part in parts if part)
    return _str(_dict(content).get("text")) if isinstance(content, dict) else _str(content)
