"""Exports: which files were written, and which of them are up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from store.database.connection import Database

from store.planning import Planning
from store.runs import Event, append_event, current_run


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
    verdicts: int
    scores: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows in the store at that time."""
        return self.row_requests, self.results, self.variants, self.verdicts, self.scores


@dataclass(frozen=True, slots=True)
class ExportVolume:
    """Records, the bytes of their texts, and tokens of an answer (None: not known)."""

    records: int
    text_bytes: int
    answer_tokens: float | None


class Exports:
    """Which of a run's files are up to date, and what they lack."""

    def __init__(self, database: Database, planning: Planning) -> None:
        self._db = database
        self._planning = planning

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

    def _exported(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """The exported files: their rows, and the store's row counts at the last export of each."""
        found: dict[str, tuple[int, tuple[int, ...]]] = {}
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
