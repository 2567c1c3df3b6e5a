"""Tool calls that a model wrote into its text, as Hermes, Qwen and others are trained to."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


def tool_call(name: str, arguments: Any) -> dict[str, Any]:
    """A tool call in OpenAI's form, without an id; arguments: a text, or what becomes JSON."""
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def split_tool_calls(text: str) -> tuple[list[dict[str, Any]], str]:
    """Split a text into its tool calls, in OpenAI's form without ids, and what else it says.

    Without calls, or where one of them cannot be read, the text stays as it is.
    """
    calls = []
    for written in _CALL.findall(text):
        try:
            call = msgspec.json.decode(written)
            name, arguments = call["name"], call.get("arguments", {})
        except (msgspec.DecodeError, KeyError, RecursionError):
            return [], text
        if not isinstance(name, str):
            return [], text
        calls.append(tool_call(name, arguments))
    return calls, _CALL.sub("", text).strip() if calls else text
