"""Files that only their owner reads and writes, and that are never written through a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OTHERS = 0o077

_before: list[int] = []  # the umasks to go back to: the first one is the user's


@contextmanager
def private_files() -> Iterator[None]:
    """Make whatever is made in the block its owner's alone: DuckDB's log and spill files too."""
    _before.append(os.umask(_OTHERS))
    try:
        yield
    finally:
        os.umask(_before.pop())


def users_umask() -> int:
    """What files of the user are made with, inside private_files too."""
    if _before:
        return _before[0]
    os.umask(umask := os.umask(_OTHERS))
    return umask


@contextmanager
def users_files() -> Iterator[None]:
    """Make files in the block as the user wants them: a cache may be shared with others."""
    before = os.umask(users_umask())
    try:
        yield
    finally:
        os.umask(before)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file, not inherited; a new one has mode 0600.

    Raises OSError, also where path is a symbolic link. A FIFO does not block.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
