"""Reading tools and tool calls, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from backends.tool_calls import tool_call

_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


class NotTurns(Exception):
    """A value cannot be read as turns; the message says why."""


def read_tools(value: Any) -> list[dict[str, Any]] | None:
    """Tools in OpenAI's form, from a list of tools or of their functions, or its JSON.

    Raises NotTurns.
    """
    value = decoded(value)
    if value in (None, "", [], {}):
        return None
    tools = [decoded(tool) for tool in (value if isinstance(value, list) else [value])]
    return [_tool(tool) for tool in tools]


def read_calls(value: Any) -> list[dict[str, Any]] | None:
    """Tool calls in OpenAI's form, without an id where they have none; None where value is none.

    Raises NotTurns.
    """
    value = decoded(value)
    if value in (None, "", [], {}):
        return None
    calls = [decoded(call) for call in (value if isinstance(value, list) else [value])]
    return [_call(call) for call in calls]


def decoded(value: Any) -> Any:
    """The value of a text that is a JSON array or object; else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def kind_of(value: Any) -> str:
    """What a value is, for a message."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"an object with {', '.join(map(str, list(value)[:5])) or 'nothing in it'}"
    names = {str: "a text", list: "a list", bool: "a truth value", int: "a number"}
    return names.get(type(value), "a number")


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise NotTurns(f"a tool is an object with a name, not {kind_of(tool)}")
    parameters = decoded(function.get("parameters"))
    if isinstance(parameters, Mapping) and parameters and "type" not in parameters:
        # By name, without the object around them, and with Python's names of types.
        parameters = {"type": "object", "properties": _properties(parameters)}
    known = ("name", "description", "parameters", "strict")
    kept = {**{name: function[name] for name in known if function.get(name) is not None}}
    if isinstance(parameters, Mapping):
        kept["parameters"] = parameters
    return {"type": "function", "function": kept}


def _properties(parameters: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, described in parameters.items():
        if not isinstance(described, Mapping):
            raise NotTurns(f"the parameter {name} of a tool is {kind_of(described)}")
        one = dict(described)
        written = str(one.get("type", "string")).removesuffix(", optional").strip()
        base = written.partition("[")[0].lower()
        one["type"] = _TYPES.get(base, base if base in _TYPES.values() else "string")
        properties[name] = one
    return properties


def _call(call: Any) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise NotTurns(f"a tool call is an object with a name, not {kind_of(call)}")
    read = tool_call(function["name"], function.get("arguments", function.get("parameters", {})))
    if isinstance(call.get("id"), str) and call["id"]:
        read["id"] = call["id"]
    return read
