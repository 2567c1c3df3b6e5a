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
from store.runs import Event, append_event, current_run

EXPORT_PAGE_BYTES = 32 << 20  # text exported at a time

EXPORT_SCANS = 3  # how often an export may read the results before it puts them in order

EXPORT_PREFIX = ".export-"  # of the folder in which it does

EXPORT_PAGE = (  # what export_pages gives, as variables of the views
    *("page", "first_record", "last_record"),
    *("first_result", "last_result", "first_variant", "last_variant"),
)


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    """Files that were written into the run's folder, and how much was in the store by then.

    Nothing is ever deleted from a store, so with the same counts they would be the same again.
    """

    files: tuple[str, ...]
    asks: int
    results: int
    variants: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """What was in the store by then."""
        return self.asks, self.results, self.variants


@dataclass(frozen=True, slots=True)
class ExportVolume:
    """Records, bytes of their own texts in all, and tokens of an answer (None: nothing tells)."""

    records: int
    text_bytes: int
    answer_tokens: float | None


class Exports:
    """What a run's files are made of."""

    def __init__(self, database: Database, planning: Planning) -> None:
        self._db = database
        self._planning = planning

    def pages(self, page_bytes: int = EXPORT_PAGE_BYTES) -> Generator[None]:
        """Make the view export_rows show one page of the exported rows after the other.

        In sample order: the answered rows, or the dataset's own where generation is skipped.
        Raises DiskFull.
        """
        keys, rows = "export_keys_answered", "export_rows_answered"
        if current_run(self._db).skip_generation:
            keys, rows = "export_keys_originals", "export_rows_originals"
        self._db.run(keys, page_bytes=page_bytes)
        with self._results() as results:
            for page in self._db.rows("export_pages"):
                for name, value in zip(EXPORT_PAGE, page, strict=True):
                    self._db.set_variable(name, int(value))
                self._db.run(results)
                self._db.run(rows)
                yield

    def objects(
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
        return self._db.texts(lines, **parameters)

    @contextmanager
    def _results(self) -> Iterator[str]:
        """Give the statement that makes the view export_results, the results of the page.

        A page reads all results between its first and its last. Where they came in another order
        than that of their rows, this would be nearly all of them for each page, so they are first
        put side by side, in files that are removed in the end.
        """
        read, results = self._db.row("export_scans")
        if read <= EXPORT_SCANS * results:
            yield "export_results_in_order"
            return
        folder = self._db.path.parent
        for left in folder.glob(f"{EXPORT_PREFIX}*"):  # of an export that was killed
            shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(prefix=EXPORT_PREFIX, dir=folder) as pages:
            self._db.set_variable("export_folder", pages)
            self._db.run("write_export_results", folder=pages)
            yield "export_results_by_page"

    def note(self, names: Sequence[str]) -> None:
        """Note that the files of these names in the run's folder are what the store gives now."""
        exports = ExportedFiles(tuple(names), *self._db.row("export_counts"))
        noted = self._exported()
        if any(noted.get(name) != exports.counts for name in names):
            append_event(self._db, Event.EXPORTED, exports)

    def volume(self) -> ExportVolume:
        """What decides how large the exported files will be."""
        return ExportVolume(*self._db.row("export_volume"))

    def stale_files(self) -> set[str]:
        """The names of exported files that are gone, or not what the store would give now."""
        counts = self._db.row("export_counts")
        folder = self._db.path.parent
        return {
            name
            for name, noted in self._exported().items()
            if noted != counts or not (folder / name).is_file()
        }

    def are_written(self) -> bool:
        """Whether files were exported, and are those of the store's answers."""
        return bool(self._exported()) and not self.stale_files()

    def _exported(self) -> dict[str, tuple[int, int, int]]:
        """The files that were exported, and what was in the store by the last time each was."""
        rows = self._db.rows("exported")
        exports = [msgspec.json.decode(detail, type=ExportedFiles) for (detail,) in rows]
        return {name: one.counts for one in exports for name in one.files}

    def missing_rows(self, rows: int) -> int:
        """How many rows an export of so many lacks of all that the run is to have."""
        (known,) = self._db.row("count_rows")
        run = current_run(self._db)
        if run.skip_generation:
            return 0
        _, variants = self._planning.short_of_variants(run.num_aug) if run.num_aug else (0, 0)
        return int(known) + variants - rows
