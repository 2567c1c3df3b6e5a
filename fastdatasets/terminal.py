"""Terminals and logs: open standard files, and text without control characters or keys.

Records, column and file names, and the words of servers end up on terminals and in logs. All text
for a person goes through `readable`, JSON for machines through `readable_json`.
"""

from __future__ import annotations

import os
import re
import sys
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING

from backends.openai_api.keys import masked

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FIRST_FREE = 3  # after stdin, stdout and stderr
# C0 without tab and line feed, DEL and C1; marks, overrides and isolates of direction; what else
# ends a line; halves of characters, as in names of files that are no UTF-8.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Lenient(FileIO):
    """A log that ignores write errors: its terminal is closed, or its disk is full.

    Answers that were billed are stored anyway.
    """

    def write(self, text: ReadableBuffer, /) -> int:
        """Write, ignoring errors."""
        try:
            return super().write(text)
        except OSError:
            return memoryview(text).nbytes


class _Output(FileIO):
    """Output that its reader may cut off, as `head` does; another failure is raised, once."""

    failed = False

    def write(self, text: ReadableBuffer, /) -> int:
        """Write, ignoring a closed pipe."""
        try:
            return super().write(text)
        except OSError as error:
            if not (self.failed or isinstance(error, BrokenPipeError)):
                self.failed = True
                raise
            return memoryview(text).nbytes


def open_standard_files() -> None:
    """Open /dev/null on descriptors 0 to 2 that are closed, and let no closed reader end a command.

    To be called before a file is opened: the next one, such as a run's store, would become
    descriptor 1 or 2, and what is printed would be written into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < _FIRST_FREE:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = TextIOWrapper(BufferedReader(FileIO(0, closefd=False)))
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(Lenient(2, "w", closefd=False), sys.stderr)


def _text(raw: FileIO, before: object) -> TextIOWrapper:
    """A raw file as one of text, like the one before it, which was None where that was closed."""
    if isinstance(before, TextIOWrapper):
        before.flush()
        encoding, errors, lines = before.encoding, before.errors, before.line_buffering
    else:
        encoding, errors, lines = "utf-8", "backslashreplace", True
    return TextIOWrapper(
        BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=lines
    )


def readable(text: object) -> str:
    r"""A text as a terminal may have it: keys masked, control characters as \x1b or \u202e."""
    return _CONTROL.sub(_escaped, masked(str(text)))


def readable_json(text: str) -> str:
    """JSON that means the same, keys aside, with the characters escaped that JSON lets stand."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", masked(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
