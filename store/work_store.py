"""The work store: one DuckDB file that holds everything a run decided or bought."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import duckdb
import msgspec
import pyarrow as pa

from store.errors import UserError
from store.models import (
    Ask,
    Cost,
    Counts,
    Event,
    ExportOptions,
    Failure,
    FailureKind,
    Language,
    Mode,
    Record,
    Request,
    Result,
    Run,
    Sampling,
    State,
    Status,
    Tokens,
)
from store.queries import QUERIES, SCHEMA

VERSION = 1
MEMORY_LIMIT = "512MB"  # beyond it DuckDB spills to the run's folder
PAGE = 1024  # requests read at a time

RESULT_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("text", pa.string()),
        ("reasoning", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
    ]
)
FAILURE_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("kind", pa.string()),
        ("message", pa.string()),
        ("retryable", pa.bool_()),
        ("code", pa.string()),
    ]
)
ASK_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("record", pa.int64()),
        ("ordinal", pa.int32()),
        ("sample", pa.int32()),
        ("params", pa.string()),
        ("messages", pa.string()),
    ]
)


class WorkStore:
    """One run's work store, open in this process.

    DuckDB lets one process at a time have the file open, readers included, so opening waits for
    whoever holds it; `on_wait` is told who that is.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._db = connection

    @classmethod
    def create(cls, path: Path, run: Run) -> WorkStore:
        """Make a new store with its run row, which appears under its name whole or not at all."""
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        store = cls(_connect(temporary, read_only=False))
        with store.transaction():
            store._db.execute(SCHEMA)
            store._run("insert_version", version=VERSION)
            store._run("insert_run", **_run_row(run))
        store.close()
        temporary.replace(path)
        return cls.open(path)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        read_only: bool = False,
        wait_seconds: float = float("inf"),
        on_wait: Callable[[str], None] | None = None,
    ) -> WorkStore:
        """Open a store that exists; raises UserError where it is not one or is a newer version's.

        Raises TimeoutError after wait_seconds in which another process held the file.
        """
        deadline = time.monotonic() + wait_seconds
        waited = False
        while True:
            try:
                store = cls(_connect(path, read_only=read_only))
                break
            except duckdb.IOException as error:
                holder = _lock_holder(error)
                if holder is None:
                    raise UserError(f"{path} is not a work store: {_first_line(error)}") from None
                if time.monotonic() >= deadline:
                    raise TimeoutError(holder) from None
                if on_wait is not None and not waited:
                    on_wait(holder)
                    waited = True
                time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
        store._check_version(path)
        return store

    def _check_version(self, path: Path) -> None:
        try:
            (version,) = self._row("version")
        except duckdb.CatalogException:
            raise UserError(f"{path} is a DuckDB file, but not a work store of this tool") from None
        if version > VERSION:
            raise UserError(
                f"{path} was written by a newer version of this tool (store version {version}, "
                f"this one reads up to {VERSION}): upgrade fastdatasets-distill"
            )

    def close(self) -> None:
        """Give the file free."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection, for readers of datasets that hand DuckDB a view named source_rows."""
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements take effect, or none."""
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- the run and its records

    def run(self) -> Run:
        """What this run is."""
        names = [field.name for field in fields(Run)]
        row = dict(zip(names, self._row("run"), strict=True))
        for name in ("columns", "params", "templates", "export"):
            row[name] = msgspec.json.decode(row[name])
        row["mode"] = Mode(row["mode"])
        row["language"] = Language(row["language"])
        row["export"] = msgspec.convert(row["export"], ExportOptions)
        return Run(**row)

    def sampling(self) -> Sampling | None:
        """How the records came about; None while sampling has not been completed."""
        row = self._db.execute(QUERIES["sampled"]).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Sampling)

    def sample(self, sample_size: int, seed: int, mapping: Mapping[str, str | None]) -> Sampling:
        """Take records from the view source_rows in one transaction; all where sample_size <= 0.

        source_rows has instruction, input, output, reasoning (never null) and system (may be).
        The choice depends on seed and row only, so it is the same with any number of threads.
        """
        with self.transaction():
            rows, empty = self._row("count_source")
            if sample_size > 0:
                self._run("sample_some", seed=seed, sample_size=sample_size)
            else:
                self._run("sample_all")
            sampling = Sampling(rows, empty, dict(mapping))
            self._event(Event.SAMPLED, sampling)
        return sampling

    def record_count(self) -> int:
        """How many records were sampled."""
        (count,) = self._row("count_records")
        return int(count)

    # -- planning

    def records_to_ask(self, stage: str, batch: int = 10_000) -> Iterator[list[Record]]:
        """Records for which the stage has no ask yet, in sample order, in lists of up to batch."""
        reader = self._db.cursor().execute(QUERIES["records_to_ask"], {"stage": stage})
        while rows := reader.fetchmany(batch):
            yield [Record(*row) for row in rows]

    def add_asks(self, stage: str, asks: Sequence[Ask]) -> None:
        """Store asks and those of their requests that are new, in one transaction."""
        rows = [(position, *astuple(ask)) for position, ask in enumerate(asks)]
        with self.transaction(), self._incoming(rows, ASK_SCHEMA):
            self._run("insert_requests")
            self._run("insert_asks", stage=stage)

    # -- answering

    def pending(self, max_attempts: int) -> Iterator[Request]:
        """Requests that want an answer as of now, in the order they were first asked."""
        rowids = self._db.execute(QUERIES["pending"], {"max_attempts": max_attempts}).fetchnumpy()
        order = list(rowids["rowid"])
        for start in range(0, len(order), PAGE):
            page = [int(rowid) for rowid in order[start : start + PAGE]]
            rows = self._db.execute(
                QUERIES["requests_by_rowid"],
                {"first": page[0], "last": page[-1], "rowids": page},
            ).fetchall()
            for request_id, params, messages in rows:
                yield Request(
                    request_id, msgspec.json.decode(params), msgspec.json.decode(messages)
                )

    def add_outcomes(
        self, backend: str, results: Sequence[Result], failures: Sequence[Failure]
    ) -> None:
        """Store answers and failed attempts in one transaction; the first success wins."""
        with self.transaction():
            if results:
                with self._incoming([astuple(result) for result in results], RESULT_SCHEMA):
                    self._run("insert_results", backend=backend)
            if failures:
                with self._incoming([astuple(failure) for failure in failures], FAILURE_SCHEMA):
                    self._run("insert_failures")

    def retry_failed(self) -> None:
        """Let requests that failed for good be asked again: earlier failures no longer count."""
        self._event(Event.RETRY_FAILED, {})

    # -- looking

    def status(self, name: str, max_attempts: int) -> Status:
        """What is done, pending and failed of the run, under the given name."""
        run = self.run()
        records, total, done, failed, truncated, prompt, completion = self._row(
            "status", max_attempts=max_attempts
        )
        pending = total - done - failed
        finished = self.sampling() is not None and not pending and not failed
        return Status(
            run=name,
            mode=run.mode,
            backend=run.backend,
            model=run.model,
            state=State.DONE if finished else State.INCOMPLETE,
            records=records,
            requests=Counts(total, done, pending, failed, in_flight=0),
            truncated=truncated,
            tokens=Tokens(prompt, completion),
            cost=Cost("USD", None, None),
            as_of=f"{utc_now().isoformat()}Z",
        )

    def failure_reasons(self) -> list[tuple[FailureKind, str, int]]:
        """The most frequent (kind, message, requests) among requests without a result."""
        rows = self._db.execute(QUERIES["failure_reasons"]).fetchall()
        return [(FailureKind(kind), message, count) for kind, message, count in rows]

    # -- exporting

    def view_export_rows(self) -> None:
        """Make the view export_rows: one row an exported record, or the dataset's own outputs."""
        name = "originals" if self.run().skip_generation else "answered"
        self._db.execute(f"CREATE OR REPLACE TEMP VIEW export_rows AS {QUERIES[name]}")

    def copy_to_json(self, select: str, path: Path, parameters: Mapping[str, Any]) -> int:
        """Write the rows of a statement to path as one JSON array, streamed; gives their number."""
        row = self._db.execute(
            f"COPY ({select}) TO $path (FORMAT json, ARRAY true)",
            {"path": str(path), **parameters},
        ).fetchone()
        assert row is not None
        return int(row[0])

    # -- plumbing

    def _run(self, name: str, **parameters: Any) -> None:
        self._db.execute(QUERIES[name], parameters)

    def _row(self, name: str, **parameters: Any) -> tuple[Any, ...]:
        row = self._db.execute(QUERIES[name], parameters).fetchone()
        assert row is not None, f"{name} gives one row"
        return row

    def _event(self, event: Event, detail: object) -> None:
        self._run("insert_event", event=event, detail=msgspec.json.encode(detail).decode())

    @contextmanager
    def _incoming(self, rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> Iterator[None]:
        columns = [
            pa.array(column, field.type)
            for column, field in zip(zip(*rows, strict=True), schema, strict=True)
        ]
        self._db.register("incoming", pa.table(columns, schema=schema))
        try:
            yield
        finally:
            self._db.unregister("incoming")


def _run_row(run: Run) -> dict[str, Any]:
    row = {field.name: getattr(run, field.name) for field in fields(Run)}
    for name in ("columns", "params", "templates", "export"):
        row[name] = msgspec.json.encode(row[name]).decode()
    return row


def _connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        str(path),
        read_only=read_only,
        config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(path.parent / "spill")},
    )


def _lock_holder(error: duckdb.IOException) -> str | None:
    """Who holds the file, by DuckDB's message; None where the error is another one."""
    if "Could not set lock" not in str(error):
        return None
    match = re.search(r"held in (.+?\(PID \d+\))", str(error))
    return match[1] if match else "another process"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def utc_now() -> datetime:
    """The time in UTC, to the second, without a zone, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
