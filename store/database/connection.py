"""The DuckDB file of a work store: opening and locking, transactions, named statements."""

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

from store.database.errors import disk_full, sql_errors
from store.database.statements import QUERIES
from store.errors import SqlError, StoreHeld, UserError

MEMORY_LIMIT = "400MB"  # beyond it DuckDB spills to the run's folder
TEXTS = 4096  # read at a time
RETRY_SECONDS = 0.2  # between two attempts to open a file that another process has open

OnWait = Callable[[str], None]
T = TypeVar("T")


class Database:
    """A DuckDB file open in this process.

    DuckDB lets one process at a time have a file open, readers included, so opening waits until
    the file is free; on_wait is called once, with the process that holds it.
    """

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        wait_seconds: float = float("inf"),
        on_wait: OnWait | None = None,
    ) -> None:
        """Open or create the file; raises UserError where it is not a DuckDB file.

        Raises StoreHeld after wait_seconds in which another process had it open.
        """
        self.path = path
        self._read_only = read_only
        self._on_wait = on_wait
        self._invalidated = False
        self._connection = self._connect(wait_seconds)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The open connection; a new one where DuckDB has invalidated the old. Raises DiskFull."""
        if self._invalidated:
            self._connection.close()
            self._connection = self._connect(float("inf"))
            self._invalidated = False
        return self._connection

    def _connect(self, wait_seconds: float) -> duckdb.DuckDBPyConnection:
        def connect() -> duckdb.DuckDBPyConnection:
            return duckdb.connect(
                str(self.path),
                read_only=self._read_only,
                config={
                    "memory_limit": MEMORY_LIMIT,
                    "wal_autocheckpoint": "64MB",
                    "temp_directory": str(self.path.parent / "spill"),
                },
            )

        return _retry_while_locked(self.path, connect, wait_seconds, self._on_wait)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Close the file for the block, then wait until it can be opened again.

        After an exception it stays closed: a Ctrl-C does not wait for another reader.
        """
        self._connection.close()
        yield
        self._connection = self._connect(float("inf"))

    @contextmanager
    def attached(self, path: Path, wait_seconds: float) -> Iterator[None]:
        """Attach another store, read-only, as schema `earlier` for the block.

        Raises UserError and StoreHeld as opening it does.
        """
        attach, parameters = QUERIES["attach_earlier"], {"path": str(path)}
        _retry_while_locked(path, lambda: self.connection.execute(attach, parameters), wait_seconds)
        try:
            yield
        finally:
            self.run("detach_earlier")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements take effect, or none; raises DiskFull."""
        with self.errors():
            self.connection.execute("BEGIN")
            try:
                yield
            except BaseException:
                with suppress(duckdb.Error):  # an interrupted statement may have ended it already
                    self._connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise DuckDB's errors as ours: DiskFull on a full disk, else as sql_errors does.

        Not where the transaction was committed: then DuckDB moves its write-ahead log to the file,
        and where the disk is full it invalidates the connection and reports both.
        """
        try:
            with sql_errors():
                yield
        except SqlError as error:
            self._invalidated = isinstance(error.__cause__, duckdb.FatalException)
            if (full := disk_full(self.path, error.detail)) is None:
                raise
            if not error.detail.startswith("FATAL Error: Transaction COMMIT succeeded"):
                raise full from None

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
        """Run a statement of sql/; raises DiskFull."""
        with self.errors():
            self.connection.execute(QUERIES[name], parameters)

    def row(self, name: str, **parameters: Any) -> tuple[Any, ...]:
        """The only row that a statement returns."""
        (row,) = self.rows(name, **parameters)
        return row

    def record(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The one row a statement returns, by the names of its columns."""
        with self.errors():
            result = self.connection.execute(QUERIES[name], parameters)
            names = [column[0] for column in result.description or ()]
            (row,) = result.fetchall()
        return dict(zip(names, row, strict=True))

    def first(self, name: str, **parameters: Any) -> tuple[Any, ...] | None:
        """The first row that a statement returns, None where it returns none."""
        return next(iter(self.rows(name, **parameters)), None)

    def pages(self, name: str, size: int, **parameters: Any) -> Iterator[list[tuple[Any, ...]]]:
        """All rows that a statement returns, `size` at a time; others may run in between."""
        with self.errors():
            reader = self.connection.cursor().execute(QUERIES[name], parameters)
            while rows := reader.fetchmany(size):
                yield rows

    def column(self, name: str, **parameters: Any) -> list[Any]:
        """The only column, of numbers, that a statement returns; without a tuple for each row."""
        with self.errors():
            columns = self.connection.execute(QUERIES[name], parameters).fetchnumpy()
        (values,) = columns.values()
        return list(values.tolist())

    def set_variable(self, name: str, value: int | str | list[str]) -> None:
        """Set a variable that views read."""
        with self.errors():
            self.connection.execute(f"SET VARIABLE {name} = $value", {"value": value})

    def rows(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """All rows that a statement returns."""
        with self.errors():
            return self.connection.execute(QUERIES[name], parameters).fetchall()

    def texts(self, statement: str, **parameters: Any) -> Iterator[tuple[int, memoryview]]:
        """The only column, of texts without null, that a statement returns: pairs of their number
        and their concatenated UTF-8 bytes.

        As Arrow has them in memory, without a Python object for each text. Raises DiskFull where
        rows are spilled to a full disk.
        """
        with self.errors():
            reader = self.connection.sql(statement, params=parameters).to_arrow_reader(TEXTS)
            for batch in reader:
                texts = batch.column(0)
                _, offsets, data = texts.buffers()
                ends = memoryview(offsets).cast("i")
                first, last = ends[texts.offset], ends[texts.offset + len(texts)]
                yield len(texts), memoryview(data)[first:last]

    def batches(self, name: str, **parameters: Any) -> Iterator[pa.RecordBatch]:
        """All rows that a statement returns, TEXTS at a time; none other may run in between."""
        with self.errors():
            yield from self.connection.sql(QUERIES[name], params=parameters).to_arrow_reader(TEXTS)

    def table(self, statement: str, **parameters: Any) -> pa.Table:
        """All rows that a statement returns, as an Arrow table; raises DiskFull."""
        with self.errors():
            return self.connection.sql(statement, params=parameters).to_arrow_table()

    @contextmanager
    def incoming(self, rows: pa.Table) -> Iterator[None]:
        """Register rows as the relation 'incoming' for the block."""
        with self.errors():
            self.connection.register("incoming", rows)
        try:
            yield
        finally:
            with suppress(duckdb.Error):  # a failed transaction has removed it
                self.connection.unregister("incoming")


def _retry_while_locked(
    path: Path, open_file: Callable[[], T], wait_seconds: float, on_wait: OnWait | None = None
) -> T:
    """Call open_file until no other process has the file open, and return its result."""
    deadline = time.monotonic() + wait_seconds
    reported = False
    while True:
        try:
            return open_file()
        except duckdb.IOException as error:
            holder = _holder(error)
            if holder is None:
                if (full := disk_full(path, str(error))) is not None:
                    raise full from None
                reason = str(error).splitlines()[0]
                raise UserError(f"{path} is not a work store: {reason}") from None
            if time.monotonic() >= deadline:
                raise StoreHeld(holder) from None
            if on_wait is not None and not reported:
                on_wait(holder)
                reported = True
            time.sleep(min(RETRY_SECONDS, max(0.0, deadline - time.monotonic())))
        except duckdb.Error as error:
            if (full := disk_full(path, str(error))) is not None:
                raise full from None
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} cannot be opened: {reason}") from None


def _holder(error: duckdb.IOException) -> str | None:
    """The process that holds the file, from DuckDB's message; None for other errors."""
    if "Could not set lock" not in str(error):
        return None
    match = re.search(r"held in (.+?\(PID \d+\))", str(error))
    return match[1] if match else "another process"
