"""Reading turns: the shapes in which datasets keep a conversation, as messages in OpenAI's form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from backends.reasoning import split_think
from backends.tool_calls import split_tool_calls
from fastdatasets.sources.chat.tools import NotTurns, decoded, kind_of, read_calls

Message = dict[str, Any]

ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "question"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatgpt", "chatbot", "answer", "ai"),
    "tool": ("tool", "function", "observation", "function_response", "tool_response", "ipython"),
    "call": ("function_call", "tool_call"),  # of an assistant, as a turn of its own
}
_ROLE = {name: role for role, names in ROLES.items() for name in names}
ROLE_KEYS = ("role", "from", "speaker")
TEXT_KEYS = ("content", "value", "text")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
MEDIA = ("image", "image_url", "input_image", "audio", "input_audio", "video", "video_url", "file")


class LeftOut(Exception):
    """A row that can be read and is no record of a run; the message goes on 'rows …'."""


HAS_MEDIA = "with images, audio or video"
UNCALLED = "with a tool turn that answers no tool call"


def read_turns(value: Any) -> list[Message]:
    """Messages with role, content, and where there are any tool_calls, tool_call_id, name and
    reasoning_content; turns of one role are joined.

    value: a list of turns, or its JSON. Texts in it are turns of the user. Raises
    NotTurns, LeftOut.
    """
    value = decoded(value)
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, str) and _SPEAKER.match(value):  # as in hh-rlhf
        parts = _SPEAKER.split(value)[1:]
        value = [
            {"role": role, "content": text.strip()}
            for role, text in zip(parts[::2], parts[1::2], strict=True)
        ]
    if not isinstance(value, list):
        raise NotTurns(f"a list of turns is expected, not {kind_of(value)}")
    calls = _CallIds()
    messages: list[Message] = []
    for number, turn in enumerate(value, start=1):
        if isinstance(turn, str):
            messages.append({"role": "user", "content": turn})
        elif isinstance(turn, Mapping):
            _append(messages, _message(turn, number), calls)
        else:
            raise NotTurns(f"turn {number} is {kind_of(turn)}")
    return messages


def read_history(value: Any) -> list[Message]:
    """Earlier turns: pairs of question and answer, or turns; raises NotTurns, LeftOut."""
    value = decoded(value)
    if value in (None, "", []):
        return []
    if isinstance(value, list) and all(isinstance(pair, list) for pair in value):
        messages: list[Message] = []
        for number, pair in enumerate(value, start=1):
            if len(pair) != 2:
                raise NotTurns(f"pair {number} has {len(pair)} texts, not a question and an answer")
            for role, text in zip(("user", "assistant"), pair, strict=True):
                if (content := read_content(text)).strip():
                    messages.append({"role": role, "content": content})
        return messages
    return read_turns(value)


def read_content(content: Any) -> str:
    """The text of a content: a string, or parts with text or value; raises NotTurns, LeftOut."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return _part(content)
    if isinstance(content, list):
        return "\n".join(filter(None, map(_part, content)))
    return msgspec.json.encode(content).decode()


def is_talk(value: Any) -> bool:
    """Whether a value is a list of turns, or of texts."""
    return isinstance(value, list) and all(
        isinstance(turn, str) or (isinstance(turn, Mapping) and _first(turn, ROLE_KEYS) is not None)
        for turn in value
    )


def text_of(value: Any) -> str:
    """The text of a value; its JSON where it is an object or list of another kind."""
    try:
        return read_content(value)
    except NotTurns:
        return msgspec.json.encode(value).decode()


def _message(turn: Mapping[str, Any], number: int) -> Message:
    written = _first(turn, ROLE_KEYS)
    role = _ROLE.get(str(written).strip().lower())
    if written is None:
        raise NotTurns(f"turn {number} has no {' or '.join(ROLE_KEYS[:2])}, but is {kind_of(turn)}")
    if role is None:
        raise NotTurns(f"turn {number} is of the role {written!r}, which is not known")
    content = _first(turn, TEXT_KEYS)
    if role == "call":
        calls = read_calls(content)
        if calls is None:
            raise NotTurns(f"turn {number} has no tool call in it")
        return {"role": "assistant", "content": "", "tool_calls": calls}
    message: Message = {"role": role, "content": read_content(content)}
    for name in ("tool_call_id", "name"):
        if isinstance(turn.get(name), str) and role == "tool":
            message[name] = turn[name]
    if role == "assistant":
        calls = read_calls(turn.get("tool_calls")) or read_calls(turn.get("function_call"))
        if not calls:
            calls, message["content"] = split_tool_calls(message["content"])
        if calls:
            message["tool_calls"] = calls
        reasoning = _first(turn, REASONING_KEYS)
        if not isinstance(reasoning, str) or not reasoning:
            reasoning, message["content"] = split_think(message["content"])
        if reasoning:
            message["reasoning_content"] = reasoning
    return message


def _append(messages: list[Message], message: Message, calls: _CallIds) -> None:
    """Add a message; one of the same role as the last, a tool's aside, becomes a part of that."""
    calls.complete(message)
    last = messages[-1] if messages else None
    if last is None or last["role"] != message["role"] or message["role"] == "tool":
        messages.append(message)
        return
    last["content"] = joined(last["content"], message["content"])
    if "reasoning_content" in message:
        last["reasoning_content"] = joined(
            last.get("reasoning_content", ""), message["reasoning_content"]
        )
    if "tool_calls" in message:
        last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]


def joined(*texts: str) -> str:
    """Texts with a blank line between them."""
    return "\n\n".join(text for text in texts if text)


class _CallIds:
    """Gives ids to tool calls without one, and to the results that follow them."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[str] = []

    def complete(self, message: Message) -> None:
        for call in message.get("tool_calls", ()):
            self._count += 1
            call.setdefault("id", f"call_{self._count}")
            self._waiting.append(call["id"])
        if message["role"] == "tool":
            answered = message.get("tool_call_id")
            if answered not in self._waiting:
                answered = next(iter(self._waiting), None)
            if answered is None:
                raise LeftOut(UNCALLED)
            message["tool_call_id"] = answered
            self._waiting.remove(answered)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise NotTurns(f"a part of a content is {kind_of(part)}")
    if part.get("type") in MEDIA or any(part.get(name) is not None for name in MEDIA):
        raise LeftOut(HAS_MEDIA)
    text = _first(part, TEXT_KEYS)
    if isinstance(text, str):
        return text
    raise NotTurns(f"a part of a content has no text, but is {kind_of(part)}")


def _first(turn: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value of the first of these keys that has one."""
    return next((turn[key] for key in keys if turn.get(key) is not None), None)
