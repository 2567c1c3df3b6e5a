"""One request to the model, live or in a batch: checked as OpenAI does, then answered."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from .bill import Body
from .errors import Json, error_body
from .replies import Reply, ask
from .settings import Settings


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


# Parameters whose values are checked, as far as clients are known to send wrong ones.
VALUES: dict[str, Callable[[Any], bool]] = {
    "temperature": lambda value: _is_number(value, 0, 2),
    "top_p": lambda value: _is_number(value, 0, 1),
    "seed": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "stop": lambda value: isinstance(value, str) or (_is_texts(value) and len(value) <= 4),
    "reasoning_effort": lambda value: (
        value in ("none", "minimal", "low", "medium", "high", "xhigh")
    ),
    "service_tier": lambda value: value in ("auto", "default", "flex", "scale", "priority"),
    "response_format": lambda value: (
        isinstance(value, dict) and value.get("type") in ("text", "json_object", "json_schema")
    ),
}


def no_model(model: object) -> Json:
    """The error object for a model that does not exist."""
    return error_body(
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def respond(body: Body, settings: Settings) -> Reply:
    """The model's reply to a body, or the refusal OpenAI would give."""
    return refusal(body, settings) or ask(settings.answer, body)


def refusal(body: Body, settings: Settings) -> Reply | None:
    """Why the body is refused before it reaches the model, or None."""
    if not isinstance(body.get("model"), str):
        return _refuse(400, error_body("you must provide a model parameter"))
    if settings.models is not None and body["model"] not in settings.models:
        return _refuse(404, no_model(body["model"]))
    if settings.parameters is not None:
        for name in body.keys() - settings.parameters:
            message = f"Unrecognized request argument supplied: {name}"
            return _refuse(400, error_body(message))
    if settings.strict_max_tokens and "max_tokens" in body:
        return _refuse(400, _max_tokens_error())
    for name, is_good in VALUES.items():
        if body.get(name) is not None and not is_good(body[name]):
            message = f"Invalid value for '{name}': {body[name]!r}."
            return _refuse(400, error_body(message, param=name, code="invalid_value"))
    return _bad_messages(body.get("messages"))


def _bad_messages(messages: object) -> Reply | None:
    if messages is None:
        body = error_body(
            "Missing required parameter: 'messages'.",
            param="messages",
            code="missing_required_parameter",
        )
        return _refuse(400, body)
    if (
        not messages
        or not isinstance(messages, list)
        or not all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages)
    ):
        message = "Invalid 'messages': expected a non-empty array of messages with a role."
        return _refuse(400, error_body(message, param="messages", code="invalid_value"))
    return _bad_message(messages)


# The fields of OpenAI's messages by role; it refuses others.
MESSAGE_FIELDS = {
    "developer": {"role", "content", "name"},
    "system": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "audio", "tool_calls", "function_call"},
    "tool": {"role", "content", "tool_call_id"},
    "function": {"role", "content", "name"},
}


def _bad_message(messages: list[Json]) -> Reply | None:
    """A message with an unknown role or field, or a tool's that answers no tool call."""
    waiting: set[str] = set()
    for place, message in enumerate(messages):
        role, param = message["role"], f"messages[{place}]"
        if role not in MESSAGE_FIELDS:
            return _refuse(400, error_body(f"Invalid value: {role!r}.", param=f"{param}.role"))
        for name in message.keys() - MESSAGE_FIELDS[role]:
            text = f"Unknown parameter: '{param}.{name}'."
            return _refuse(400, error_body(text, param=f"{param}.{name}", code="unknown_parameter"))
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                text = (
                    "messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'."
                )
                return _refuse(400, error_body(text, param=f"{param}.role"))
        else:
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
        if isinstance(message.get("content"), list):
            for number, part in enumerate(message["content"]):
                where = f"{param}.content[{number}]"
                if (reason := _bad_part(part, role)) is not None:
                    return _refuse(400, error_body(reason, param=where, code="invalid_value"))
        if message.get("content") is None and not message.get("tool_calls"):
            return _refuse(400, error_body("content is required", param=f"{param}.content"))
    return None


IMAGE_BYTES = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8", "webp": b"RIFF"}
_DATA_URL = re.compile(r"data:image/(\w+);base64,([A-Za-z0-9+/]+={0,2})")


def _bad_part(part: object, role: str) -> str | None:
    """Why a part of a content is refused: only users have images, by address or as a data URL."""
    match part:
        case {"type": "text", "text": str(), **rest} if not rest:
            return None
        case {"type": "image_url", "image_url": {"url": str(url), **more}, **rest} if not rest:
            if role != "user":
                return "Invalid content type. image_url is only supported by certain roles."
            if more.keys() - {"detail"} or more.get("detail") not in (None, "low", "high", "auto"):
                return "Invalid value: 'image_url.detail'."
            return None if url.startswith(("http://", "https://")) else _bad_data(url)
    return f"Invalid content part: {str(part)[:80]}."


def _bad_data(url: str) -> str | None:
    data = _DATA_URL.fullmatch(url)
    if data is None:
        return "Invalid 'image_url'. Expected a valid URL, but got an invalid format."
    begins = IMAGE_BYTES.get(data[1])
    if begins is None or not b64decode(data[2], validate=True).startswith(begins):
        return "You uploaded an unsupported image. Please make sure your image is valid."
    return None


def _max_tokens_error() -> Json:
    return error_body(
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        param="max_tokens",
        code="unsupported_parameter",
    )


def _refuse(status: int, body: Json) -> Reply:
    return Reply(status_code=status, error=body["error"])
