"""Files with mode 0600, never written through a symbolic or hard link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import UserError

_OTHERS = 0o077

_umasks: list[int] = []  # to restore; the first one is the user's


@contextmanager
def private_files() -> Iterator[None]:
    """Create files in the block with umask 077: DuckDB's log and spill files too."""
    _umasks.append(os.umask(_OTHERS))
    try:
        yield
    finally:
        os.umask(_umasks.pop())


def users_umask() -> int:
    """The user's umask, inside private_files too."""
    if _umasks:
        return _umasks[0]
    os.umask(umask := os.umask(_OTHERS))
    return umask


@contextmanager
def users_files() -> Iterator[None]:
    """Create files in the block with the user's umask: a cache may be shared with others."""
    before = os.umask(users_umask())
    try:
        yield
    finally:
        os.umask(before)


def open_private(path: Path, flags: int) -> int:
    """Open a file and return its descriptor, which is not inherited; a new file has mode 0600.

    Raises OSError, also for a symbolic link; UserError where the file is opened for writing and is
    a hard link or another user's. A FIFO does not block.
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
    """Raise UserError where a file is a symbolic or hard link, or another user's: somebody else
    may have created the folder. A missing file is no error.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    _check_own(path, status)


def _check_own(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        what = "is a symbolic link, and a run writes through none"
    elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        what = "has another name elsewhere (a hard link), and a run writes to no such file"
    elif os.geteuid() not in (0, status.st_uid):
        what = f"is another user's (uid {status.st_uid}), and a run writes to no such file"
    else:
        return
    raise UserError(f"{path} {what}: remove it, or put a copy of your own in its place")
