"""A run's folder: its lock, its progress.json, and atomic writes."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from store.errors import Busy, DiskFull
from store.folder.private_files import check_own, open_private
from store.status import Status

STORE_NAME = "work.duckdb"
PROGRESS_NAME = "progress.json"
LOCK_NAME = "run.lock"
JOBS_NAME = "jobs"
IMAGES_NAME = "images"
# Written in place, and so checked for links and owner first.
IN_PLACE = (
    *(LOCK_NAME, STORE_NAME, f"{STORE_NAME}.wal", "spill"),
    *(JOBS_NAME, IMAGES_NAME, "engine.log"),
)

# Money is Decimal inside and a plain number in JSON, where scripts expect one.
STATUS_JSON = msgspec.json.Encoder(decimal_format="number")


@contextmanager
def atomic_write(path: Path, *, keep: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder and rename it to path at the end.

    On an exception, without keep, or where the block removes the temporary file, path is not
    changed. The temporary file's name is random and its mode 0600. Files left by killed processes
    are removed by the next write to the folder: no process holds the lock on them.
    """
    _remove_leftovers(path.parent)
    temporary = path.with_name(f".fastdatasets-{secrets.token_hex(8)}.tmp")
    descriptor = open_private(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield temporary
        if keep and temporary.exists():
            temporary.replace(path)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_full_raised(path: Path) -> Iterator[None]:
    """Raise DiskFull, naming path, where the block fails on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        raise DiskFull(
            f"the disk is full ({path}: {error.strerror}). Everything received is stored; "
            "free disk space, then resume the run"
        ) from None


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".fastdatasets-*.tmp"):
        with suppress(OSError):  # another process writes it right now, or removed it as well
            descriptor = open_private(leftover, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)


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
        """The path of the work store."""
        return self.path / STORE_NAME

    def exists(self) -> bool:
        """Whether the folder has a work store in it."""
        try:
            return self.store_path.is_file()
        except OSError:  # no permission
            return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for this process; raises Busy, naming the process that holds the lock.

        Raises UserError where a file in the folder must not be written to. A POSIX record lock:
        the kernel releases it when the process ends, and an engine process does not inherit it.
        """
        for path in (*(self.path / name for name in IN_PLACE), *(self.path / JOBS_NAME).glob("*")):
            check_own(path)
        descriptor = open_private(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise Busy(
                    f"run {self.name} is busy: {holder or 'another command'} is working on it. "
                    f"See how far it is: fastdatasets status {self.path}"
                ) from None
            with suppress(OSError):  # on a full disk the lock holds, without its holder's name
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"process %d\n" % os.getpid(), 0)
            yield
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the files of a run that cannot be resumed; other files in the folder are kept."""
        for name in (PROGRESS_NAME, *IN_PLACE):
            path = self.path / name
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):
            self.path.rmdir()

    def write_progress(self, status: Status) -> None:
        """Replace progress.json, which others read while this process has the store open.

        Raises DiskFull.
        """
        path = self.path / PROGRESS_NAME
        with disk_full_raised(path), atomic_write(path) as temporary:
            temporary.write_bytes(STATUS_JSON.encode(status))

    def read_progress(self) -> Status | None:
        """The status last written, None where it is missing or cannot be read."""
        try:
            with os.fdopen(open_private(self.path / PROGRESS_NAME, os.O_RDONLY), "rb") as file:
                return msgspec.json.decode(file.read(), type=Status)
        except (OSError, ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError):
            return None
