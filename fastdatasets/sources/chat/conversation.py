"""A row's columns as a conversation that wants an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastdatasets.sources.chat.images import FoundImage, take_images, used_images
from fastdatasets.sources.chat.tools import NotTurns, decoded, kind_of, read_tools
from fastdatasets.sources.chat.turns import (
    LeftOut,
    Message,
    is_talk,
    joined,
    read_content,
    read_history,
    read_turns,
    text_of,
)
from store.images import PLACEHOLDER
from store.records import NO_QUESTION
from store.runs import Turns

TOOL_TURNS = "with tool turns, which cannot be written anew (--turns all)"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(slots=True)
class Conversation:
    """What a record keeps; fields as the columns of the table records, lists not yet as JSON.

    left_out: why the row is no record. unused_turns: turns after the question and its answer.
    """

    instruction: str = ""
    input: str = ""
    output: str = ""
    reasoning: str = ""
    system: str | None = None
    history: list[Message] = field(default_factory=list)
    tools: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    outputs: list[str] = field(default_factory=list)
    followups: list[str] = field(default_factory=list)
    images: list[FoundImage] = field(default_factory=list)
    left_out: str | None = None
    unused_turns: int = 0


def read_row(row: Mapping[str, Any], turns: Turns, folders: Sequence[Path] | None) -> Conversation:
    """Read a row; its keys are roles, its values those of JSON.

    folders: where the paths of images are looked for; None: images are not sent.

    Raises NotTurns, naming the role whose value cannot be read.
    """
    system = row.get("system")
    read = Conversation(system=None if system in (None, "") else read_content(system))
    images: list[Any] = []
    try:
        if folders is not None:
            row, images = take_images(row)
        for role, reader in _READERS.items():
            if (value := row.get(role)) in (None, ""):
                continue
            try:
                reader(read, value, turns)
            except NotTurns as error:
                raise NotTurns(f"{role}: {error}") from None
        if folders is not None and images:
            _keep_images(read, images, folders)
    except LeftOut as reason:
        return Conversation(left_out=str(reason))
    if not f"{read.instruction}{read.input}".strip():
        read.left_out = NO_QUESTION
    return read


def _keep_images(read: Conversation, images: Sequence[Any], folders: Sequence[Path]) -> None:
    """Keep the images of the turns that are used; those of a column alone go first of all."""

    def asked() -> list[str]:
        return [read.instruction, read.input, *read.followups]

    earlier = [message for message in read.history if message["role"] == "user"]
    if not any(PLACEHOLDER in text for text in (*asked(), *(one["content"] for one in earlier))):
        front = PLACEHOLDER * len(images)
        if earlier:
            earlier[0]["content"] = front + earlier[0]["content"]
        elif read.instruction or not read.input:
            read.instruction = front + read.instruction
        else:
            read.input = front + read.input
    read.images = used_images(images, read.system, read.history, asked(), folders)


def _take_chat(read: Conversation, value: Any, turns: Turns) -> None:
    messages = read_turns(value)
    system = [message["content"] for message in messages if message["role"] == "system"]
    read.system = read.system or joined(*system) or None
    talk = [message for message in messages if message["role"] != "system"]
    questions = [place for place, message in enumerate(talk) if message["role"] == "user"]
    if not questions:
        raise LeftOut(NO_QUESTION)
    place = questions[0]
    if turns is Turns.LAST:  # the last one whose earlier questions were answered
        place = next(one for one in reversed(questions) if one - 1 not in questions)
    read.history = talk[:place]
    read.instruction = joined(talk[place]["content"], read.instruction)
    if place + 1 < len(talk) and talk[place + 1]["role"] == "assistant":
        answer = talk[place + 1]
        read.output = answer["content"]
        read.reasoning = answer.get("reasoning_content", "")
        read.tool_calls = answer.get("tool_calls")
        place += 1
    if turns is Turns.ALL:
        if any(message["role"] == "tool" or "tool_calls" in message for message in talk):
            raise LeftOut(TOOL_TURNS)
        read.followups = [talk[question]["content"] for question in questions[1:]]
    else:
        read.unused_turns = len(talk) - place - 1


def _take_preferred(read: Conversation, value: Any, turns: Turns) -> None:
    """A conversation whose answer somebody preferred: it is no answer of the dataset's own."""
    _take_chat(read, value, Turns.FIRST if turns is Turns.FIRST else Turns.LAST)
    read.output, read.reasoning, read.tool_calls = "", "", None


def _take_instruction(read: Conversation, value: Any, turns: Turns) -> None:
    if is_talk(value):
        _take_chat(read, value, turns)
    else:
        read.instruction = joined(text_of(value), read.instruction)


def _take_history(read: Conversation, value: Any, _: Turns) -> None:
    messages = read_history(value)
    read.system = read.system or (
        joined(*(one["content"] for one in messages if one["role"] == "system")) or None
    )
    read.history = [message for message in messages if message["role"] != "system"]


def _take_instances(read: Conversation, value: Any, _: Turns) -> None:
    """[{input, output}, …]: the first one; further ones are counted as not used."""
    value = decoded(value)
    if not (isinstance(value, list) and all(isinstance(one, Mapping) for one in value)):
        raise NotTurns(f"a list of objects with input and output is expected, not {kind_of(value)}")
    if value:
        read.input = read_content(value[0].get("input"))
        read.output = read_content(value[0].get("output"))
        read.unused_turns = len(value) - 1


def _take_output(read: Conversation, value: Any, _: Turns) -> None:
    """A text, a list of texts (the first one is the answer), or an assistant's turns."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        read.output, read.outputs = value[0], value
    elif is_talk(value):
        answers = [one for one in read_turns(value) if one["role"] == "assistant"]
        if answers:
            read.output = answers[-1]["content"]
            read.reasoning = read.reasoning or answers[-1].get("reasoning_content", "")
            read.tool_calls = answers[-1].get("tool_calls")
    elif isinstance(value, Mapping) and isinstance(value.get("text"), list):
        texts = list(map(read_content, value["text"]))  # SQuAD's answers
        read.output, read.outputs = (texts or [""])[0], texts
    else:
        read.output = text_of(value)


def _take_options(read: Conversation, value: Any, _: Turns) -> None:
    """Options of a multiple-choice question: its last lines, 'A. …'."""
    read.instruction = joined(read.instruction, "\n".join(_options(decoded(value))))


def _options(value: Any) -> list[str]:
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        labels = value.get("label") or LETTERS  # ARC's {text: […], label: […]}
        return [f"{label}. {text}" for label, text in zip(labels, value["text"], strict=False)]
    if isinstance(value, Mapping):
        return [f"{label}. {read_content(text)}" for label, text in value.items()]
    if isinstance(value, list) and len(value) <= len(LETTERS):
        texts = [
            read_content(one.get("text") or one.get("content")) if isinstance(one, Mapping) else one
            for one in value
        ]
        labels = [one.get("label") if isinstance(one, Mapping) else None for one in value]
        return [
            f"{label or letter}. {read_content(text)}"
            for letter, label, text in zip(LETTERS, labels, texts, strict=False)
        ]
    raise NotTurns(f"a list of options is expected, not {kind_of(value)}")


def _take_text(name: str) -> Callable[[Conversation, Any, Turns], None]:
    def take(read: Conversation, value: Any, _: Turns) -> None:
        setattr(read, name, text_of(value))

    return take


def _take_tools(read: Conversation, value: Any, _: Turns) -> None:
    read.tools = read_tools(value)


# Roles are read in this order: the chat first, then what replaces or completes it.
_READERS: dict[str, Callable[[Conversation, Any, Turns], None]] = {
    "chat": _take_chat,
    "preferred": _take_preferred,
    "instances": _take_instances,
    "history": _take_history,
    "instruction": _take_instruction,
    "input": _take_text("input"),
    "options": _take_options,
    "output": _take_output,
    "reasoning": _take_text("reasoning"),
    "tools": _take_tools,
}
