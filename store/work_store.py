"""The work store: one DuckDB file that holds everything a run decided or bought."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import duckdb
import msgspec
import pyarrow as pa

from store.bill import bill, current_price
from store.database import Database, OnWait
from store.errors import DiskFull, UserError
from store.identity import Moved, changed_limit, current_run, run_as_made, run_row, servers
from store.journal import Journal
from store.limits import LimitApplied, next_versions
from store.models import (
    Ask,
    AskOrder,
    Counts,
    Derived,
    Event,
    Exports,
    ExportVolume,
    FailedAlike,
    Failure,
    FailureKind,
    Left,
    Outlook,
    Request,
    Result,
    Row,
    Run,
    Sampling,
    State,
    Status,
    Tokens,
    VariedAnswer,
)
from store.money import FREE, Billed, Price, Rates, rate_parameters
from store.queries import QUERIES, SCHEMA
from store.rows import (
    ASK_SCHEMA,
    DERIVATION_SCHEMA,
    FAILURE_SCHEMA,
    RESULT_SCHEMA,
    VARIANT_SCHEMA,
    table,
    table_of,
)

VERSION = 3
PAGE = 2048  # requests read at a time
PREFIX_CHARACTERS = 1024  # of a shared beginning that is worth keeping in an engine's cache
PLAN_PAGE = 20_000  # records planned in one transaction
EXPORT_PAGE_BYTES = 32 << 20  # text exported at a time
EXPORT_SCANS = 3  # how often an export may read the results before it puts them in order
EXPORT_PREFIX = ".export-"  # of the folder in which it does
EXPORT_PAGE = (  # what export_pages gives, as variables of the views
    *("page", "first_record", "last_record"),
    *("first_result", "last_result", "first_variant", "last_variant"),
)


class WorkStore:
    """One run's work store, open in this process."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.journal = Journal(database)

    @classmethod
    def create(cls, path: Path, run: Run) -> WorkStore:
        """Make a new store with its run row, which appears under its name whole or not at all.

        Raises DiskFull. The caller holds the folder's lock: what a killed process left is removed.
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
                    database.run("insert_run", **run_row(run))
                database.run("checkpoint")  # else the tables might be in its log still
            temporary.chmod(0o600)
            temporary.replace(path)
        except DiskFull:
            raise DiskFull(
                f"there is no room on the disk for {path}: make room, then start again"
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
        """Open a store that exists; raises UserError where it is not one or is another version's.

        Raises TimeoutError after wait_seconds in which another process held the file.
        """
        database = Database(path, read_only=read_only, wait_seconds=wait_seconds, on_wait=on_wait)
        try:
            (version,) = database.row("version")
        except duckdb.CatalogException:
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
        """Give the file free."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Give the file free while there is only waiting to do, so that others can look."""
        with self.database.released():
            yield

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection, for readers of datasets that register a relation named source_rows."""
        return self.database.connection

    # -- the run and its records

    def run(self) -> Run:
        """What this run is now: as it was made, but for a changed limit and another server."""
        return current_run(self.database)

    def run_as_made(self) -> Run:
        """What this run was when it was made."""
        return run_as_made(self.database)

    def servers(self) -> set[str | None]:
        """The addresses that its answers are from, those taken over included; None: local."""
        return servers(self.database)

    def move(self, base_url: str) -> None:
        """Go on at another server."""
        self._event(Event.MOVED, Moved(base_url, self.journal.any_result()))

    def add_servers(self, others: Set[str | None]) -> None:
        """Note that answers of these are taken over from earlier runs."""
        if new := others - self.servers():
            self._event(Event.OTHER_SERVERS, list(new))

    def sampling(self) -> Sampling | None:
        """How the records came about; None while sampling has not been completed."""
        row = self.connection.execute(QUERIES["sampled"]).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Sampling)

    def sample(
        self,
        sample_size: int,
        seed: int,
        mapping: Mapping[str, str | None],
        *,
        need_instruction: bool,
    ) -> Sampling:
        """Take records from source_rows in one transaction; all of them where sample_size <= 0.

        Raises UserError, naming the row, where an instruction is needed and a record has none.

        source_rows is a relation of instruction, input, output, reasoning (never null) and system
        (may be).
        The choice depends on seed and row only, so it is the same with any number of threads.
        """
        with self.database.few_threads(), self.database.transaction():
            rows, empty = self.database.row("count_source")
            if sample_size > 0:
                self.database.run("sample_some", seed=seed, sample_size=sample_size)
            else:
                self.database.run("sample_all")
            if not self.record_count():
                raise UserError("no row of it has an instruction or an input")
            if need_instruction and (row := self.first_without_instruction()) is not None:
                raise UserError(f"the sample in row {row + 1} has no instruction to vary")
            sampling = Sampling(rows, empty, dict(mapping))
            self._event(Event.SAMPLED, sampling)
        return sampling

    def record_count(self) -> int:
        """How many records were sampled."""
        (count,) = self.database.row("count_records")
        return int(count)

    # -- planning

    def rows_to_answer(self) -> Iterator[list[Row]]:
        """Records and variants that have no ask for an answer yet, in sample order, in pages."""
        if not self._unasked():
            return
        for first in range(0, self.record_count(), PLAN_PAGE):
            last = first + PLAN_PAGE - 1
            rows = self.database.rows("rows_to_answer", first=first, last=last)
            if rows:
                yield [Row(*row) for row in rows]

    def rows_to_vary(self, num_aug: int, max_samples: int) -> Iterator[list[Row]]:
        """Records that want more variants and may be asked once more, in sample order, in pages."""
        reader = self.connection.cursor().execute(
            QUERIES["rows_to_vary"], {"num_aug": num_aug, "max_samples": max_samples}
        )
        while rows := reader.fetchmany(PLAN_PAGE):
            yield [
                Row(record, 0, text, given, output, reasoning, system, tuple(found), asked)
                for record, text, given, output, reasoning, system, found, asked in rows
            ]

    def answers_to_derive(self) -> Iterator[list[VariedAnswer]]:
        """Answers of the stage vary that did not become variants yet, in sample order, in pages."""
        reader = self.connection.cursor().execute(QUERIES["answers_to_derive"])
        while rows := reader.fetchmany(PLAN_PAGE):
            yield [
                VariedAnswer(record, sample, request_id, instruction, text, tuple(found))
                for record, sample, request_id, instruction, text, found in rows
            ]

    def add_derived(self, derived: Sequence[Derived]) -> None:
        """Store variants, once and for all, and the text of answers that could not be parsed."""
        variants = [
            (one.answer.record, ordinal, instruction)
            for one in derived
            for ordinal, instruction in enumerate(one.variants or (), len(one.answer.found) + 1)
        ]
        derivations = [
            (one.answer.record, one.answer.sample, len(one.variants or ()), one.dropped)
            for one in derived
        ]
        unusable = [
            Failure(
                one.answer.request_id,
                FailureKind.UNUSABLE,
                "no variants could be read from the answer",
                retryable=True,
                text=one.answer.text,
            )
            for one in derived
            if one.variants is None
        ]
        with self.database.transaction():
            if variants:
                rows = [(position, *row) for position, row in enumerate(variants)]
                with self.database.incoming(table(rows, VARIANT_SCHEMA)):
                    self.database.run("insert_variants")
            with self.database.incoming(table(derivations, DERIVATION_SCHEMA)):
                self.database.run("insert_derivations")
            if unusable:
                with self.database.incoming(table_of(unusable, FAILURE_SCHEMA)):
                    self.database.run("insert_failures")

    def short_of_variants(self, num_aug: int) -> tuple[int, int]:
        """How many records have fewer variants than wanted, and how many are missing in all."""
        records, missing = self.database.row("short_of_variants", num_aug=num_aug)
        return int(records), int(missing)

    def first_without_instruction(self) -> int | None:
        """The source row of the first record that has an input only."""
        row = next(iter(self.database.rows("first_without_instruction")), None)
        return None if row is None else int(row[0])

    def add_asks(self, stage: str, asks: Sequence[Ask]) -> None:
        """Store asks and those of their requests that are new, in one transaction."""
        ids = [ask.request_id for ask in asks]
        first: dict[str, int] = {}
        for place, request_id in enumerate(ids):
            first.setdefault(request_id, place)
        columns = {
            "position": range(len(ids)),
            "record": [ask.record for ask in asks],
            "ordinal": [ask.ordinal for ask in asks],
            "sample": [ask.sample for ask in asks],
            "version": [ask.version for ask in asks],
            "request_id": ids,
            "params": [ask.params for ask in asks],
            "messages": [ask.messages for ask in asks],
            "is_first": [first[request_id] == place for place, request_id in enumerate(ids)],
        }
        rows = pa.table(columns, schema=ASK_SCHEMA)
        with self.database.transaction(), self.database.incoming(rows):
            self.database.run("insert_requests")
            self.database.run("insert_asks", stage=stage)

    # -- answering

    def has_pending(self, max_attempts: int) -> bool:
        """Whether any request wants an answer."""
        (pending,) = self.database.row("has_pending", max_attempts=max_attempts)
        return bool(pending)

    def answers(self) -> int:
        """How many requests have an answer."""
        return int(self.database.row("count_results")[0])

    def expected_tokens(self) -> int:
        """Completion tokens that are still to come, by what is known and learnt of lengths."""
        (tokens,) = self.database.row("expected_tokens")
        return int(tokens)

    def left(self, max_attempts: int) -> Left:
        """What is pending, and how long its answers are expected to be."""
        return Left(*self.database.row("left", max_attempts=max_attempts))

    def export_volume(self) -> ExportVolume:
        """What decides how large the exported files will be."""
        return ExportVolume(*self.database.row("export_volume"))

    def outlook(self, max_attempts: int) -> Outlook:
        """What the answers that are still to come should take, as the results so far tell."""
        return Outlook(*self.database.row("outlook", max_attempts=max_attempts))

    def sample_prompts(self, max_attempts: int, prompts: int) -> Iterator[list[dict[str, Any]]]:
        """The messages of so many pending requests, chosen at random, the same each time."""
        reader = self.connection.cursor().execute(
            QUERIES["sample_prompts"], {"max_attempts": max_attempts, "prompts": prompts}
        )
        while rows := reader.fetchmany(PAGE):
            for (messages,) in rows:
                yield msgspec.json.decode(messages)

    def answer_speed(self) -> float | None:
        """Completion tokens a second of the answers so far; None where they do not tell."""
        (speed,) = self.database.row("answer_speed")
        return float(speed) if speed else None

    def pending(self, max_attempts: int, order: AskOrder) -> Iterator[Request]:
        """Requests that want an answer as of now, each once.

        Whenever half of them have been given, the order of the others is renewed: by then more is
        known of the lengths of answers.
        """
        given: set[int] = set()
        while waiting := [
            row for row in self.pending_rows(max_attempts, order) if row not in given
        ]:
            half = waiting[: max(PAGE, len(waiting) // 2)]
            given.update(half)
            for start in range(0, len(half), PAGE):
                rows = self.database.rows("requests_by_rowid", rowids=half[start : start + PAGE])
                for request_id, params, messages, attempts in rows:
                    yield Request(
                        request_id,
                        msgspec.json.decode(params),
                        msgspec.json.decode(messages),
                        attempts,
                    )

    def pending_rows(self, max_attempts: int, order: AskOrder) -> list[int]:
        """Row numbers of the requests that want an answer, in that order."""
        attempts = {"max_attempts": max_attempts}
        by_length = order is AskOrder.LONGEST_FIRST
        prefix = self._shared_prefix(max_attempts)
        if prefix is None:
            name = "pending_longest_first" if by_length else "pending"
            found = self.connection.execute(QUERIES[name], attempts)
        else:
            name = "pending_longest_first_by_prefix" if by_length else "pending_by_prefix"
            found = self.connection.execute(QUERIES[name], {**attempts, "prefix": prefix})
        rows: list[int] = found.fetchnumpy()["position"].tolist()
        return rows

    def _shared_prefix(self, max_attempts: int) -> int | None:
        """How many characters of the prompts tell groups that share a long beginning, if any do.

        What all share is no reason to group: an engine or server has that cached all the time.
        """
        low, high = self.database.row("pending_bounds", max_attempts=max_attempts)
        if low is None:
            return None
        prefix = _in_common(low, high) + PREFIX_CHARACTERS
        groups, requests = self.database.row(
            "prefix_groups", max_attempts=max_attempts, prefix=prefix
        )
        return prefix if 1 < groups <= requests // 2 else None

    def add_outcomes(
        self,
        backend: str,
        results: Sequence[Result],
        failures: Sequence[Failure],
        rates: Rates | None = None,
        charges: Sequence[Billed] = (),
    ) -> None:
        """Store answers, failed attempts and charges in one transaction; the first success wins.

        rates: what the answers cost; None where that is not known, or nothing. Raises DiskFull
        where there is no room for them.
        """
        with self.database.transaction():
            if results:
                rows = table_of(results, RESULT_SCHEMA)
                with self.database.incoming(rows):
                    self.database.run("insert_results", backend=backend, **rate_parameters(rates))
            if failures:
                rows = table_of(failures, FAILURE_SCHEMA)
                with self.database.incoming(rows):
                    self.database.run("insert_failures")
            for charge in charges:
                self.add_charge(charge)

    def set_price(self, price: Price) -> None:
        """Note what tokens cost from now on."""
        if current_price(self.database) != price:
            self._event(Event.PRICED, price)

    def price(self) -> Price | None:
        """What tokens cost now, None where that is not known."""
        return current_price(self.database)

    def has_sent(self) -> bool:
        """Whether anything of the run went to a server, as far as is stored, or was about to."""
        (sent,) = self.database.row("has_sent")
        return bool(sent)

    def is_estimated(self) -> bool:
        """Whether note_estimate was called for this run."""
        (estimated,) = self.database.row("estimated")
        return bool(estimated)

    def note_estimate(self) -> None:
        """Note that the user was told what the run's answers tell of the rest."""
        self._event(Event.ESTIMATED, {})

    def add_charge(self, charge: Billed) -> None:
        """Note what live requests cost, or may cost, beside their results."""
        self.database.run(
            "insert_charge",
            cost=charge.cost,
            reason=charge.reason,
            **msgspec.structs.asdict(charge.usage),
        )

    def spent(self, rates: Rates) -> int:
        """Picodollars that the run may have cost so far, and at most what is in flight.

        rates: of what was bought while no price was known.
        """
        live = self.database.row("spent_live", **rate_parameters(rates))
        return sum(map(int, live)) + self.journal.committed(rates)

    def in_flight_at_kills(self) -> int:
        """Picodollars at most of live requests that were in flight when a command was killed.

        While a command works: and of those that are in flight.
        """
        return int(self.database.row("spent_live", **rate_parameters(FREE))[3])

    def dearest_pending(self, rates: Rates, max_attempts: int, requests: int) -> int:
        """Picodollars that so many pending requests, or all if they are fewer, cost at most."""
        (cost,) = self.database.row(
            "dearest_pending",
            max_attempts=max_attempts,
            requests=requests,
            input=rates.input,
            output=rates.output,
        )
        return int(cost)

    def retry_failed(self) -> None:
        """Let requests that failed for good be asked again: earlier failures no longer count."""
        self._event(Event.RETRY_FAILED, {})

    def failed_alike(self, max_attempts: int, enough: int) -> FailedAlike | None:
        """The one way in which all requests failed so far, where none of the run was answered.

        None where there are several ways, or fewer than `enough` (all, where the run has fewer) or
        than two failed for good.
        """
        failed, ways, kind, code, message, results, total = self.database.row(
            "failed_alike", max_attempts=max_attempts
        )
        if results or ways != 1 or failed < max(2, min(enough, total)):
            return None
        return FailedAlike(failed, FailureKind(kind), code, message)

    def stop(self, reason: str) -> None:
        """Note that what failed concerned every request: failures so far use no attempt."""
        self._event(Event.STOPPED, {"reason": reason})

    def retry_truncated(self) -> int:
        """Ask again, with twice the limit, for answers that were cut off; gives how many.

        Until the new answer is there the old one counts. Rows whose latest ask has no answer are
        let be, so that saying it twice doubles once, and asks for no refused limit again.
        """
        again: set[str] = set()
        pages = next_versions(self.database, "cut_off", lambda limit: limit and 2 * limit)
        for stage, asks in pages:
            self.add_asks(stage, asks)
            again.update(ask.request_id for ask in asks)
        return len(again)

    def cost_options(self) -> dict[str, str | None]:
        """The cap and prices that were given to the run, as they were written; empty: none were."""
        row = next(iter(self.database.rows("cost_options")), None)
        return {} if row is None else msgspec.json.decode(row[0], type=dict[str, str | None])

    def set_cost_options(self, options: Mapping[str, str | None]) -> None:
        """Let a cap and prices hold for this command and those to come."""
        if self.cost_options() != options:
            self._event(Event.COST_OPTIONS, options)

    def change_limit(self, max_tokens: int) -> None:
        """Let answers have so many tokens from now on; apply_limit asks again what that changes."""
        if self.run().params.get("max_tokens") != max_tokens:
            self._event(Event.LIMIT_CHANGED, {"max_tokens": max_tokens})

    def apply_limit(self, folder: Path) -> LimitApplied | None:
        """Ask again, with the run's limit, where that was changed and another limit was asked with.

        Only what has no answer and is not at a server; jobs that were not sent are planned anew,
        their files in folder removed. A death in between leaves what the next call does. None
        where the limit was never changed.
        """
        limit = changed_limit(self.database)
        if limit is None:
            return None
        jobs = {job for (job,) in self.database.rows("jobs_of_other_limits", max_tokens=limit)}
        self.journal.close_unsent(jobs, folder)
        asked, in_flight = self.database.row("count_other_limits", max_tokens=limit)
        pages = next_versions(self.database, "other_limits", lambda _: limit, max_tokens=limit)
        for stage, asks in pages:
            self.add_asks(stage, asks)
        return LimitApplied(limit, asked, in_flight)

    def has_open(self) -> bool:
        """Whether any request has no answer and is in no job that is still going."""
        (found,) = self.database.row("has_open")
        return bool(found)

    def reuse(self, earlier: Path, wait_seconds: float) -> int:
        """Take answers to such requests from another run's store, read-only; gives how many.

        Raises TimeoutError after wait_seconds in which another process held that file.
        """
        with self.database.attached(earlier, wait_seconds):
            (answers,) = self.database.row("reuse_results")
        return int(answers)

    # -- looking

    def status(self, name: str, max_attempts: int) -> Status:
        """What is done, pending and failed of the run, under the given name."""
        run = self.run()
        records, total, done, failed, in_flight, truncated, prompt, completion = self.database.row(
            "status", max_attempts=max_attempts
        )
        pending = total - done - failed - in_flight
        planned = self.sampling() is not None and (run.skip_generation or not self._unasked())
        finished = planned and not (pending or failed or in_flight) and self._is_exported()
        return Status(
            run=name,
            mode=run.mode,
            backend=run.backend,
            model=run.model,
            state=State.DONE if finished else State.INCOMPLETE,
            records=records,
            requests=Counts(total, done, pending, failed, in_flight),
            truncated=truncated,
            tokens=Tokens(prompt, completion),
            cost=bill(self.database, self.journal, done, pending + in_flight),
            as_of=f"{utc_now().isoformat()}Z",
            lost=self.journal.lost(),
        )

    def _unasked(self) -> int:
        """How many records and variants have no ask for an answer yet."""
        (unasked,) = self.database.row("unasked")
        return int(unasked)

    def failure_reasons(self) -> list[tuple[FailureKind, str, int]]:
        """The most frequent (kind, message, requests) among requests whose result is missing."""
        rows = self.connection.execute(QUERIES["failure_reasons"]).fetchall()
        return [(FailureKind(kind), message, count) for kind, message, count in rows]

    def refused_retries(self, max_attempts: int) -> list[tuple[FailureKind, str, int]]:
        """Retries of answers that were cut off which failed for good: (kind, message, requests).

        The most frequent first.
        """
        rows = self.database.rows("refused_retries", max_attempts=max_attempts)
        return [(FailureKind(kind), message, count) for kind, message, count in rows]

    # -- exporting

    def note_exports(self, names: Sequence[str]) -> None:
        """Note that the files of these names in the run's folder are what the store gives now."""
        exports = Exports(tuple(names), *self.database.row("export_counts"))
        noted = self._exported()
        if any(noted.get(name) != exports.counts for name in names):
            self._event(Event.EXPORTED, exports)

    def stale_files(self) -> set[str]:
        """The names of exported files that are gone, or not what the store would give now."""
        counts = self.database.row("export_counts")
        folder = self.database.path.parent
        return {
            name
            for name, noted in self._exported().items()
            if noted != counts or not (folder / name).is_file()
        }

    def _is_exported(self) -> bool:
        return bool(self._exported()) and not self.stale_files()

    def _exported(self) -> dict[str, tuple[int, int, int]]:
        """The files that were exported, and what was in the store by the last time each was."""
        rows = self.database.rows("exported")
        exports = [msgspec.json.decode(detail, type=Exports) for (detail,) in rows]
        return {name: one.counts for one in exports for name in one.files}

    def missing_rows(self, rows: int) -> int:
        """How many rows an export of so many lacks of all that the run is to have."""
        (known,) = self.database.row("count_rows")
        run = self.run()
        if run.skip_generation:
            return 0
        _, variants = self.short_of_variants(run.num_aug) if run.num_aug else (0, 0)
        return int(known) + variants - rows

    def export_pages(self, page_bytes: int = EXPORT_PAGE_BYTES) -> Generator[None]:
        """Make the view export_rows show one page of the exported rows after the other.

        In sample order: the answered rows, or the dataset's own where generation is skipped.
        Raises DiskFull.
        """
        keys, rows = "export_keys_answered", "export_rows_answered"
        if self.run().skip_generation:
            keys, rows = "export_keys_originals", "export_rows_originals"
        self.database.run(keys, page_bytes=page_bytes)
        with self._export_results() as results:
            for page in self.database.rows("export_pages"):
                for name, value in zip(EXPORT_PAGE, page, strict=True):
                    self._set(name, int(value))
                self.database.run(results)
                self.database.run(rows)
                yield

    @contextmanager
    def _export_results(self) -> Iterator[str]:
        """Give the statement that makes the view export_results, the results of the page.

        A page reads all results between its first and its last. Where they came in another order
        than that of their rows, this would be nearly all of them for each page, so they are first
        put side by side, in files that are removed in the end.
        """
        read, results = self.database.row("export_scans")
        if read <= EXPORT_SCANS * results:
            yield "export_results_in_order"
            return
        folder = self.database.path.parent
        for left in folder.glob(f"{EXPORT_PREFIX}*"):  # of an export that was killed
            shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(prefix=EXPORT_PREFIX, dir=folder) as pages:
            self._set("export_folder", pages)
            self.database.run("write_export_results", folder=pages)
            yield "export_results_by_page"

    def _set(self, variable: str, value: int | str) -> None:
        self.connection.execute(f"SET VARIABLE {variable} = $value", {"value": value})

    def export_objects(
        self, select: str, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[int, memoryview]]:
        """The objects of this page by a statement, as JSON, in sample order.

        In pieces of many, with their number; after each object a comma and a newline. select gives
        record, ordinal and object.
        """
        lines = (
            "SELECT line FROM (SELECT record, ordinal, to_json(object) || ',' || chr(10) AS line "
            f"FROM ({select})) ORDER BY record, ordinal"
        )
        return self.database.texts(lines, **parameters)

    def _event(self, event: Event, detail: object) -> None:
        self.database.run("insert_event", event=event, detail=msgspec.json.encode(detail).decode())


def _in_common(one: str, other: str) -> int:
    """How many characters two texts share at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def utc_now() -> datetime:
    """The time in UTC, to the second, without a zone, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
