"""Files that only their owner reads and writes, and that are never written through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import UserError

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

    Raises OSError, also where path is a symbolic link, UserError where it is opened for writing and
    not this user's alone. A FIFO does not block.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            _check_own(path, os.fstat(descriptor))
    except UserError:
        os.close(descriptor)
        raise
    return descriptor


def check_own(path: Path) -> None:
    """Raise UserError where what is to be written in place would be written elsewhere, or is
    another user's: somebody else may have made the folder. What is not there is no error.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    _check_own(path, found)


def _check_own(path: Path, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        what = "is a symbolic link, and a run writes through none"
    elif stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        what = "has another name elsewhere (a hard link), and a run writes to no such file"
    elif os.geteuid() not in (0, found.st_uid):
        what = f"is another user's (uid {found.st_uid}), and a run writes to no such file"
    else:
        return
    raise UserError(f"{path} {what}: remove it, or put a copy of your own in its place")
