"""Exports: pages of answered rows in sample order, and which files are up to date."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database

from store.planning import Planning
from store.runs import Event, Turns, append_event, current_run

EXPORT_PAGE_BYTES = 32 << 20  # text exported at a time

EXPORT_SCANS = 3  # how often an export may read the results before it sorts them into files

EXPORT_PREFIX = ".export-"  # of the folder of these files

EXPORT_PAGE = (  # columns of export_pages, as variables of the views
    *("page", "first_record", "last_record"),
    *("first_result", "last_result", "first_variant", "last_variant"),
)


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    """Files that were written into the run's folder, and the row counts of the store at that time.

    Nothing is ever deleted from a store: with the same counts an export is the same.
    """

    files: tuple[str, ...]
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
        with self._results() as results:
            for page in self._db.rows("export_pages"):
                for name, value in zip(EXPORT_PAGE, page, strict=True):
                    self._db.set_variable(name, int(value))
                self._db.run(results)
                for view in views:
                    self._db.run(view)
                yield

    def objects(
        self, select: str, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[int, memoryview]]:
        """The objects of this page as JSON, in sample order: pairs of their number and UTF-8 bytes.

        A comma and a newline follow each object. select returns record, ordinal and object.
        """
        lines = (
            "SELECT line FROM (SELECT record, ordinal, to_json(object) || ',' || chr(10) AS line "
            f"FROM ({select})) ORDER BY record, ordinal"
        )
        return self._db.texts(lines, **parameters)

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

    def record_files(self, names: Sequence[str]) -> None:
        """Record that these files in the run's folder are up to date with the store."""
        exports = ExportedFiles(tuple(names), *self._db.row("export_counts"))
        recorded = self._exported()
        if any(recorded.get(name) != exports.counts for name in names):
            append_event(self._db, Event.EXPORTED, exports)

    def volume(self) -> ExportVolume:
        """What the size of the exported files depends on."""
        return ExportVolume(*self._db.row("export_volume"))

    def stale_files(self) -> set[str]:
        """The names of exported files that are gone or out of date."""
        counts = self._db.row("export_counts")
        folder = self._db.path.parent
        return {
            name
            for name, recorded in self._exported().items()
            if recorded != counts or not (folder / name).is_file()
        }

    def are_written(self) -> bool:
        """Whether files were exported and are up to date."""
        return bool(self._exported()) and not self.stale_files()

    def _exported(self) -> dict[str, tuple[int, int, int]]:
        """The exported files, with the row counts of the store at the last export of each."""
        rows = self._db.rows("exported")
        exports = [msgspec.json.decode(detail, type=ExportedFiles) for (detail,) in rows]
        return {name: one.counts for one in exports for name in one.files}

    def missing_rows(self, rows: int) -> int:
        """How many rows an export of `rows` rows lacks of those the run should have."""
        (known,) = self._db.row("count_rows")
        run = current_run(self._db)
        if run.skip_generation:
            return 0
        _, variants = self._planning.short_of_variants(run.num_aug) if run.num_aug else (0, 0)
        return int(known) + variants - rows
