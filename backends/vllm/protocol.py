"""The messages between a command and its engine process: msgpack frames over two pipes.

A frame is a length of four bytes (big-endian) and a msgpack message of one of the kinds below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import msgspec


class Load(msgspec.Struct, tag=True, frozen=True):
    """To the engine, first: what to load.

    lora: an adapter's folder. memory_share: of the memory it would use; less than 1 after it ran
    out of memory. params: the run's, which are checked before the model is loaded.
    """

    model: str
    engine_args: dict[str, Any]
    lora: str | None
    compiled: bool
    memory_share: float
    params: dict[str, Any] = {}


class Generate(msgspec.Struct, tag=True, frozen=True):
    """To the engine: a request; params without the model."""

    request_id: str
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    tools: list[dict[str, Any]] | None = None


class Notice(msgspec.Struct, tag=True, frozen=True):
    """From the engine: a line for the user."""

    line: str


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From the engine: it is loaded; max_num_seqs: sequences that run at the same time."""

    max_num_seqs: int


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From the engine: a request that it refuses, and why."""

    request_id: str
    message: str
    code: str | None = None


class Finished(msgspec.Struct, tag=True, frozen=True):
    """A finished request; finish_reason: as vLLM names it."""

    request_id: str
    text: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Stepped(msgspec.Struct, tag=True, frozen=True):
    """From the engine: requests finished by its last step, and its timings so far.

    steps: so far. busy_seconds: in steps and in adding requests; loop_seconds: while there were
    requests; cpu_seconds: CPU time of the process.
    """

    finished: list[Finished]
    steps: int
    busy_seconds: float
    loop_seconds: float
    cpu_seconds: float


class Died(msgspec.Struct, tag=True, frozen=True):
    """From the engine, last: why it ends. started: whether it was Ready."""

    message: str
    started: bool
    out_of_memory: bool


Command = Load | Generate
Reply = Notice | Ready | Refused | Stepped | Died

_ENCODER = msgspec.msgpack.Encoder()
_COMMANDS = msgspec.msgpack.Decoder(Command)
_REPLIES = msgspec.msgpack.Decoder(Reply)


def send(pipe: IO[bytes], messages: list[Any]) -> None:
    """Write messages; raises OSError where the reader is gone."""
    frames = bytearray()
    for message in messages:
        body = _ENCODER.encode(message)
        frames += len(body).to_bytes(4, "big") + body
    pipe.write(frames)
    pipe.flush()


def commands(pipe: IO[bytes]) -> Iterator[Command]:
    """The command's messages, until it closes the pipe."""
    return map(_COMMANDS.decode, _frames(pipe))


def replies(pipe: IO[bytes]) -> Iterator[Reply]:
    """The engine's messages, until it ends."""
    return map(_REPLIES.decode, _frames(pipe))


def _frames(pipe: IO[bytes]) -> Iterator[bytes]:
    while len(head := pipe.read(4)) == 4:
        body = pipe.read(length := int.from_bytes(head, "big"))
        if len(body) < length:  # it died while writing
            return
        yield body
