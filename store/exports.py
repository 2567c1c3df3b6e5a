"""Exports: pages of answered rows in sample order, and which files are up to date."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

    from store.database.connection import Database

from store.planning import Planning
from store.runs import Event, Run, Turns, append_event, current_run

EXPORT_PAGE_BYTES = 32 << 20  # text exported at a time

EXPORT_SCANS = 3  # how often an export may read the results before it sorts them into files

EXPORT_PREFIX = ".export-"  # of the folder of these files

EXPORT_PAGE = (  # columns of export_pages, as variables of the views
    *("page", "first_record", "last_record"),
    *("first_result", "last_result", "first_variant", "last_variant"),
)


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    """Files of the run's folder and their rows, and the row counts of the store at that time.

    None: a file that is not to be there, since it would have no row, or is no part of the split;
    0: one that describes the others.
    Nothing is ever deleted from a store: with the same counts an export is the same.
    """

    files: dict[str, int | None]
    row_requests: int
    results: int
    variants: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows in the store at that time."""
        return self.row_requests, self.results, self.variants


@dataclass(frozen=True, slots=True)
class ExportVolume:
    """Records, the bytes of their texts, and tokens of an answer (None: not known)."""

    records: int
    text_bytes: int
    answer_tokens: float | None


class Exports:
    """The rows of a run's files, and which files are up to date."""

    def __init__(self, database: Database, planning: Planning) -> None:
        self._db = database
        self._planning = planning

    def pages(self, page_bytes: int = EXPORT_PAGE_BYTES) -> Generator[None]:
        """Set the view export_rows to one page of the exported rows after the other.

        In sample order: the answered rows, or the records where generation is skipped.
        Raises DiskFull.
        """
        run = current_run(self._db)
        rows = "export_rows_by_turn" if run.turns is Turns.ALL else "export_rows_answered"
        keys = "export_keys_answered"
        views: tuple[str, ...] = ("answered_rows", rows)
        if run.skip_generation:
            keys, views = "export_keys_originals", ("export_rows_originals",)
        self._db.run(keys, page_bytes=page_bytes)
        self._db.run("export_requests")
        self._set_names(run)
        with self._results() as results:
            for page in self._db.rows("export_pages"):
                for name, value in zip(EXPORT_PAGE, page, strict=True):
                    self._db.set_variable(name, int(value))
                self._db.run(results)
                for view in views:
                    self._db.run(view)
                yield

    def _set_names(self, run: Run) -> None:
        """Set the variables of the names that rows have of datasets, model and adapter."""
        shown = run.without_paths()
        changed = {"model": shown.model} | {
            key: value for key, value in shown.params.items() if key == "lora"
        }
        self._db.set_variable("export_sources", shown.source_names)
        self._db.set_variable("export_model", shown.model)
        self._db.set_variable(
            "export_paths", "" if shown == run else msgspec.json.encode(changed).decode()
        )

    def texts(
        self, statement: str, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[int, memoryview]]:
        """The only column of a statement over this page.

        Pairs of a number of texts and their concatenated UTF-8 bytes.
        """
        return self._db.texts(statement, **parameters)

    def table(self, statement: str, parameters: Mapping[str, Any]) -> pa.Table:
        """The rows of a statement over this page."""
        return self._db.table(statement, **parameters)

    def contents(self) -> frozenset[str]:
        """Which of the optional columns any row has."""
        return frozenset(
            name for name, found in self._db.record("export_contents").items() if found
        )

    def select_test(self, share: float, seed: int) -> None:
        """Set the relation export_test to the records of the test set, a share of the questions."""
        self._db.run("export_test", test_share=share, seed=seed)

    @contextmanager
    def _results(self) -> Iterator[str]:
        """The name of the statement that creates the view export_results, the results of a page.

        A page reads all results between its first and its last. Where results were stored in
        another order than that of their rows, that is nearly all of them for each page: then they
        are first written to one file a page, in a temporary folder.
        """
        read, results = self._db.row("export_scans")
        if read <= EXPORT_SCANS * results:
            yield "export_results_in_order"
            return
        folder = self._db.path.parent
        for leftover in folder.glob(f"{EXPORT_PREFIX}*"):  # of an export that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with TemporaryDirectory(prefix=EXPORT_PREFIX, dir=folder) as pages:
            self._db.set_variable("export_folder", pages)
            self._db.run("write_export_results", folder=pages)
            yield "export_results_by_page"

    def record_files(self, files: Mapping[str, int | None]) -> None:
        """Record the rows of files in the run's folder that are up to date; None: to be absent."""
        exports = ExportedFiles(dict(files), *self._db.row("export_counts"))
        recorded = self._exported()
        if any(
            name in recorded if rows is None else recorded.get(name) != (rows, exports.counts)
            for name, rows in files.items()
        ):
            append_event(self._db, Event.EXPORTED, exports)

    def files(self) -> dict[str, int]:
        """The rows of the exported files."""
        return {name: rows for name, (rows, _) in self._exported().items()}

    def volume(self) -> ExportVolume:
        """What the size of the exported files depends on."""
        return ExportVolume(*self._db.row("export_volume"))

    def stale_files(self) -> set[str]:
        """The names of exported files that are gone or out of date."""
        counts = self._db.row("export_counts")
        folder = self._db.path.parent
        return {
            name
            for name, (_, recorded) in self._exported().items()
            if recorded != counts or not (folder / name).is_file()
        }

    def are_written(self) -> bool:
        """Whether files with rows were exported, and all are up to date."""
        return any(self.files().values()) and not self.stale_files()

    def _exported(self) -> dict[str, tuple[int, tuple[int, int, int]]]:
        """The exported files: their rows, and the store's row counts at the last export of each."""
        found: dict[str, tuple[int, tuple[int, int, int]]] = {}
        for (detail,) in self._db.rows("exported"):
            exports = msgspec.json.decode(detail, type=ExportedFiles)
            for name, rows in exports.files.items():
                found.pop(name, None)
                if rows is not None:
                    found[name] = rows, exports.counts
        return found

    def missing_rows(self, rows: int) -> int:
        """How many rows an export of `rows` rows lacks of those the run should have."""
        (known,) = self._db.row("count_rows")
        run = current_run(self._db)
        if run.skip_generation:
            return 0
        _, variants = self._planning.short_of_variants(run.num_aug) if run.num_aug else (0, 0)
        return int(known) + run.samples * variants - rows
