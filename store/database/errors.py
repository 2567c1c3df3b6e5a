"""DuckDB's errors as ours: other SQL errors, an interrupt by a signal, a full disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from store.errors import DiskFull, NoSuchTable, SqlError

# strerror of a write to a full disk, which DuckDB appends to its own message.
_FULL = re.compile(r"No space left on device|File too large|[Qq]uota exceeded")

_PYTHON_INTERRUPT = re.compile(
    r"Python exception: Traceback .*^KeyboardInterrupt$", re.DOTALL | re.MULTILINE
)


@contextmanager
def sql_errors() -> Iterator[None]:
    """Raise DuckDB's errors as SqlError, and what a signal interrupted as KeyboardInterrupt."""
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from None
        if not isinstance(error, duckdb.Error):
            raise
        kind = NoSuchTable if isinstance(error, duckdb.CatalogException) else SqlError
        raise kind(str(error)) from error


def _is_interrupt(error: Exception) -> bool:
    """Whether a Ctrl-C raised an error; not where it only quotes data that speaks of interrupts.

    DuckDB 2.0 raises a bare RuntimeError where a Ctrl-C interrupts a statement. What interrupts
    Python code that reads Arrow's batches is the end of a traceback in an error of its own.
    """
    if not isinstance(error, duckdb.Error):
        return "nterrupt" in str(error)
    return isinstance(error, duckdb.InterruptException) or bool(
        _PYTHON_INTERRUPT.search(str(error))
    )


def disk_full(path: Path, error: str) -> DiskFull | None:
    """DiskFull where an error reports a full disk, else None."""
    reason = _FULL.search(error)
    return None if reason is None else DiskFull(f"the disk is full ({path}: {reason[0]})")
