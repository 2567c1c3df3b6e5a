"""The DuckDB file under a work store: opening it among others, transactions, named statements."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from store.errors import UserError
from store.queries import QUERIES

MEMORY_LIMIT = "400MB"  # beyond it DuckDB spills to the run's folder
TEXTS = 4096  # of them at a time where many are read
RETRY_SECONDS = 0.2  # between two tries for a file that another process has open

OnWait = Callable[[str], None]
T = TypeVar("T")


class Database:
    """A DuckDB file open in this process.

    DuckDB lets one process at a time have a file open, readers included, so opening waits for
    whoever holds it; `on_wait` is told who that is.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        wait_seconds: float = float("inf"),
        on_wait: OnWait | None = None,
    ) -> None:
        """Open or make the file; raises UserError where it is none of DuckDB's.

        Raises TimeoutError after wait_seconds in which another process held it.
        """
        self._path = path
        self._read_only = read_only
        self._on_wait = on_wait
        self.connection = self._connect(wait_seconds)

    def _connect(self, wait_seconds: float) -> duckdb.DuckDBPyConnection:
        def connect() -> duckdb.DuckDBPyConnection:
            return duckdb.connect(
                str(self._path),
                read_only=self._read_only,
                config={
                    "memory_limit": MEMORY_LIMIT,
                    "wal_autocheckpoint": "64MB",
                    "temp_directory": str(self._path.parent / "spill"),
                },
            )

        return _when_free(self._path, connect, wait_seconds, self._on_wait)

    def close(self) -> None:
        """Give the file free."""
        self.connection.close()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Give the file free for the block, and take it again however long that takes.

        After an exception it stays free: a Ctrl-C does not wait for somebody else's look.
        """
        self.connection.close()
        yield
        self.connection = self._connect(float("inf"))

    @contextmanager
    def attached(self, path: Path, wait_seconds: float) -> Iterator[None]:
        """Have another store's tables as earlier.… in the block, read-only.

        Raises UserError and TimeoutError as opening it does.
        """
        _when_free(path, lambda: self.run("attach_earlier", path=str(path)), wait_seconds)
        try:
            yield
        finally:
            self.run("detach_earlier")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements take effect, or none."""
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            with suppress(duckdb.Error):  # an interrupted statement may have ended it already
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    @contextmanager
    def few_threads(self) -> Iterator[None]:
        """Read with few threads in the block: DuckDB's readers of JSON take 32 MB each."""
        self.connection.execute("SET threads = $threads", {"threads": min(4, os.cpu_count() or 1)})
        try:
            yield
        finally:
            with suppress(duckdb.Error):
                self.connection.execute("RESET threads")

    def run(self, name: str, **parameters: Any) -> None:
        """Run a statement of queries.sql."""
        self.connection.execute(QUERIES[name], parameters)

    def row(self, name: str, **parameters: Any) -> tuple[Any, ...]:
        """The one row a statement gives."""
        (row,) = self.rows(name, **parameters)
        return row

    def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """All rows a statement gives."""
        return self.connection.execute(QUERIES[name], parameters).fetchall()

    def texts(self, statement: str, **parameters: Any) -> Iterator[tuple[int, memoryview]]:
        """A statement's one column of texts, none of them null: how many, and their UTF-8 bytes.

        End to end as Arrow has them in memory, so that no text becomes an object of Python's.
        """
        reader = self.connection.sql(statement, params=parameters).to_arrow_reader(TEXTS)
        for batch in reader:
            texts = batch.column(0)
            _, offsets, data = texts.buffers()
            ends = memoryview(offsets).cast("i")
            yield len(texts), memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]]

    @contextmanager
    def incoming(self, rows: pa.Table) -> Iterator[None]:
        """Make rows the relation 'incoming' of the block's statements."""
        self.connection.register("incoming", rows)
        try:
            yield
        finally:
            with suppress(duckdb.Error):  # in a transaction that failed it goes by itself
                self.connection.unregister("incoming")


def _when_free(
    path: Path, open_file: Callable[[], T], wait_seconds: float, on_wait: OnWait | None = None
) -> T:
    """What open_file gives, called again while another process has the file open."""
    deadline = time.monotonic() + wait_seconds
    said = False
    while True:
        try:
            return open_file()
        except duckdb.IOException as error:
            holder = _holder(error)
            if holder is None:
                reason = str(error).splitlines()[0]
                raise UserError(f"{path} is not a work store: {reason}") from None
            if time.monotonic() >= deadline:
                raise TimeoutError(holder) from None
            if on_wait is not None and not said:
                on_wait(holder)
                said = True
            time.sleep(min(RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} cannot be opened: {reason}") from None


def _holder(error: duckdb.IOException) -> str | None:
    """Who holds the file, by DuckDB's message; None where the error is another one."""
    if "Could not set lock" not in str(error):
        return None
    match = re.search(r"held in (.+?\(PID \d+\))", str(error))
    return match[1] if match else "another process"
