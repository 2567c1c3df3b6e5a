"""The work store: one DuckDB file with all the data of a run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Set
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from store.answers.answers import Answers
from store.answers.comparison import Comparison
from store.answers.exports import Exports
from store.answers.scores import Scores
from store.costs.costs import Costs
from store.database.connection import Database, OnWait
from store.database.relations import Connection
from store.database.statements import SCHEMA
from store.errors import DiskFull, NoSuchTable, UserError
from store.images import Images
from store.jobs.journal import Journal
from store.limits import Limits
from store.planning import Planning
from store.records import Records
from store.requests import Requests
from store.results import Results
from store.runs import (
    Event,
    Run,
    ServerChanged,
    append_event,
    current_run,
    insert_run,
    run_as_made,
    servers,
)
from store.status import Counts, State, Status, Tokens

VERSION = 6


class WorkStore:
    """A run's work store, open in this process; an attribute for each kind of data."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.journal = Journal(database)
        self.records = Records(database)
        self.images = Images(database)
        self.planning = Planning(database)
        self.costs = Costs(database, self.journal)
        self.requests = Requests(database)
        self.limits = Limits(database, self.planning, self.journal)
        self.results = Results(database, self.costs)
        self.answers = Answers(database)
        self.scores = Scores(database, self.answers)
        self.comparison = Comparison(database)
        self.exports = Exports(database, self.planning)

    @classmethod
    def create(cls, path: Path, run: Run) -> WorkStore:
        """Create a store with its run row, in a temporary file that is renamed when complete.

        Raises DiskFull. The caller holds the folder's lock: files of killed processes are removed.
        """
        log = path.with_name(f"{path.name}.wal")
        for leftover in (log, *path.parent.glob(f".{path.name}.*")):
            leftover.unlink(missing_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with closing(Database(temporary)) as database:
                with database.transaction():
                    database.connection.execute(SCHEMA)
                    database.run("insert_version", version=VERSION)
                    insert_run(database, run)
                database.run("checkpoint")  # else the tables may be in the write-ahead log only
            temporary.chmod(0o600)
            temporary.replace(path)
        except DiskFull:
            raise DiskFull(
                f"the disk is full ({path}): free disk space, then start again"
            ) from None
        finally:
            for leftover in path.parent.glob(f"{temporary.name}*"):
                leftover.unlink(missing_ok=True)
        return cls.open(path)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        read_only: bool = False,
        wait_seconds: float = float("inf"),
        on_wait: OnWait | None = None,
    ) -> WorkStore:
        """Open a store; raises UserError where the file is no store or has another version.

        Raises StoreHeld after wait_seconds in which another process had the file open.
        """
        database = Database(path, read_only=read_only, wait_seconds=wait_seconds, on_wait=on_wait)
        try:
            (version,) = database.row("version")
        except NoSuchTable:
            database.close()
            raise UserError(f"{path} is a DuckDB file, but not a work store of this tool") from None
        if version < VERSION:
            database.close()
            raise UserError(
                f"{path} was written by an older version of this tool (store version {version}, "
                f"this one reads {VERSION}): finish it with that one"
            )
        if version > VERSION:
            database.close()
            raise UserError(
                f"{path} was written by a newer version of this tool (store version {version}, "
                f"this one reads up to {VERSION}): upgrade fastdatasets-distill"
            )
        return cls(database)

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Close the file while the command waits, so that others can open it."""
        with self.database.released():
            yield

    @property
    def connection(self) -> Connection:
        """The connection, for readers of datasets that register a relation named source_rows."""
        return self.database.connection

    def run(self) -> Run:
        """The run with the changed limit and server, if any."""
        return current_run(self.database)

    def run_as_made(self) -> Run:
        """The run as it was created."""
        return run_as_made(self.database)

    def servers(self) -> set[str | None]:
        """Addresses of the servers of its answers, reused ones included; None: local."""
        return servers(self.database)

    def change_server(self, base_url: str) -> None:
        """Record that requests go to another server from now on."""
        append_event(
            self.database, Event.SERVER_CHANGED, ServerChanged(base_url, self.journal.any_result())
        )

    def add_servers(self, others: Set[str | None]) -> None:
        """Record servers of earlier runs whose answers are reused."""
        if new := others - self.servers():
            append_event(self.database, Event.OTHER_SERVERS, list(new))

    def status(self, name: str, max_attempts: int) -> Status:
        """The status of the run; name: the run's, for the report."""
        run = self.run()
        counts = dict(self.database.rows("status", max_attempts=max_attempts))
        total = counts["requests"] - counts["uncounted"]
        done, failed, in_flight = counts["done"], counts["failed"], counts["in_flight"]
        pending = total - done - failed - in_flight
        planned = self.records.are_sampled() and (
            run.skip_generation or not self.planning.unplanned(run.final_stage)
        )
        finished = planned and not (pending or failed or in_flight) and self.exports.are_written()
        return Status(
            run=name,
            mode=run.mode,
            backend=run.backend,
            model=run.model,
            state=State.DONE if finished else State.INCOMPLETE,
            records=counts["records"],
            requests=Counts(total, done, pending, failed, in_flight),
            truncated=counts["truncated"],
            tokens=Tokens(counts["prompt_tokens"], counts["completion_tokens"]),
            cost=self.costs.bill(done, pending + in_flight),
            as_of=f"{utc_now().isoformat()}Z",
            lost=self.journal.lost(),
        )


def utc_now() -> datetime:
    """The time in UTC, to the second, without a zone, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
