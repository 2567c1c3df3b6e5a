"""A run's folder: its lock, its progress.json, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from store.errors import Busy, DiskFull
from store.models import Status

STORE_NAME = "work.duckdb"
PROGRESS_NAME = "progress.json"
LOCK_NAME = "run.lock"

# Money is Decimal inside and a plain number in JSON, where scripts expect one.
STATUS_JSON = msgspec.json.Encoder(decimal_format="number")


@contextmanager
def replacing(path: Path, *, keep: bool = True) -> Iterator[Path]:
    """Give a temporary path beside path and rename it to path at the end: never a half file.

    On an exception, or where it is not to be kept, the temporary file is removed and path stays as
    it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # the next one overwrites what a death left
    try:
        yield temporary
        if keep:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise DiskFull, naming path, where the block finds no room on the disk for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        raise DiskFull(
            f"the disk is full ({path}: {error.strerror}). Everything received is stored; "
            "make room, then resume the run"
        ) from None


class RunFolder:
    """The folder of one run, `output/<timestamp>/` or `output/<NAME>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The run's name: its folder's."""
        return self.path.name

    @property
    def store_path(self) -> Path:
        """Where the work store is."""
        return self.path / STORE_NAME

    def exists(self) -> bool:
        """Whether a run stands here: a folder with a work store in it."""
        return self.store_path.is_file()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; raise Busy, naming the holder, where another has it.

        A POSIX record lock: the kernel frees it when the process dies, however it dies, and a
        forked engine process does not inherit it.
        """
        with (self.path / LOCK_NAME).open("a+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "another command"
                raise Busy(
                    f"run {self.name} is busy: {holder} is working on it. "
                    f"See how far it is: fastdatasets status {self.path}"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()}\n")
            file.flush()
            yield

    def write_progress(self, status: Status) -> None:
        """Replace progress.json, for those who look while this process holds the store.

        Raises DiskFull.
        """
        path = self.path / PROGRESS_NAME
        with room_for(path), replacing(path) as temporary:
            temporary.write_bytes(STATUS_JSON.encode(status))

    def read_progress(self) -> Status | None:
        """The status last written, None where there is none that can be read."""
        try:
            return msgspec.json.decode((self.path / PROGRESS_NAME).read_bytes(), type=Status)
        except (OSError, msgspec.MsgspecError):
            return None
