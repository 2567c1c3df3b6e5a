"""What a command and its engine process say to each other: frames of msgpack over two pipes.

A frame is its length in four bytes, then a msgpack message of one of the kinds below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import msgspec


class Load(msgspec.Struct, tag=True, frozen=True):
    """To the engine, first: what to load.

    lora: a folder with an adapter. memory_share: of the memory it would take; less than 1 after a
    lack of it.
    """

    model: str
    engine_args: dict[str, Any]
    lora: str | None
    compiled: bool
    memory_share: float


class Generate(msgspec.Struct, tag=True, frozen=True):
    """To the engine: a request; params without the model."""

    request_id: str
    messages: list[dict[str, Any]]
    params: dict[str, Any]


class Said(msgspec.Struct, tag=True, frozen=True):
    """From the engine: a line for the user."""

    line: str


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From the engine: it is loaded, and steps so many sequences at once."""

    max_num_seqs: int


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From the engine: a request that it will not have, and why."""

    request_id: str
    message: str
    code: str | None = None


class Finished(msgspec.Struct, tag=True, frozen=True):
    """A request that left the engine; finish_reason as vLLM names it, token numbers as counts."""

    request_id: str
    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Stepped(msgspec.Struct, tag=True, frozen=True):
    """From the engine: what came of its latest steps, and its clocks so far.

    steps: how many were made. busy_seconds: spent in them and in taking requests in; loop_seconds:
    since the first request, time without any request left out; cpu_seconds: of the process.
    """

    finished: list[Finished]
    steps: int
    busy_seconds: float
    loop_seconds: float
    cpu_seconds: float


class Died(msgspec.Struct, tag=True, frozen=True):
    """From the engine, last: why it ends. started: whether it had been Ready."""

    message: str
    started: bool
    out_of_memory: bool


Command = Load | Generate
Reply = Said | Ready | Refused | Stepped | Died

_ENCODER = msgspec.msgpack.Encoder()
_COMMANDS = msgspec.msgpack.Decoder(Command)
_REPLIES = msgspec.msgpack.Decoder(Reply)


def send(pipe: IO[bytes], messages: list[Any]) -> None:
    """Write messages; raises OSError where nobody is left to read them."""
    frames = bytearray()
    for message in messages:
        body = _ENCODER.encode(message)
        frames += len(body).to_bytes(4, "big") + body
    pipe.write(frames)
    pipe.flush()


def commands(pipe: IO[bytes]) -> Iterator[Command]:
    """The command's messages until its end closes."""
    return map(_COMMANDS.decode, _frames(pipe))


def replies(pipe: IO[bytes]) -> Iterator[Reply]:
    """The engine's messages until its end closes, which its death does too."""
    return map(_REPLIES.decode, _frames(pipe))


def _frames(pipe: IO[bytes]) -> Iterator[bytes]:
    while len(head := pipe.read(4)) == 4:
        body = pipe.read(length := int.from_bytes(head, "big"))
        if len(body) < length:  # it died in the middle of a word
            return
        yield body
