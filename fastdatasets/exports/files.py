"""The files of a run: their names, and writing them page by page as JSON, JSON lines or Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdatasets.exports.formats import (
    DISTILLED,
    FORMATS,
    Format,
    columns_of,
    parameters_of,
    select_json,
    select_typed,
)
from store.answers.answers import Answers
from store.export_options import ExportOptions, FileType
from store.folder.run_folder import atomic_write, disk_full_raised
from store.runs import Mode

if TYPE_CHECKING:
    import pyarrow.parquet as pq

WritePage = Callable[[], int]  # writes the rows of the current page, returns their number


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file of a run's folder; format: None for distilled.json."""

    format: str | None = None
    file_type: FileType = FileType.JSON
    is_test: bool = False

    @property
    def name(self) -> str:
        """Such as distilled.json, distilled-alpaca.json or distilled-alpaca-test.jsonl."""
        parts = ("distilled", self.format, "test" if self.is_test else None)
        return "-".join(part for part in parts if part) + f".{self.file_type}"

    def definition(self, mode: Mode) -> Format:
        """The format's columns and statement."""
        return DISTILLED[mode] if self.format is None else FORMATS[self.format]

    @contextmanager
    def writing(
        self,
        folder: Path,
        answers: Answers,
        mode: Mode,
        options: ExportOptions,
        contents: Set[str],
    ) -> Iterator[WritePage]:
        """Write the file whole or not at all, and not where it has no row; raises DiskFull.

        contents: of the answers.
        """
        definition = self.definition(mode)
        columns = columns_of(definition, contents, options)
        parameters = parameters_of(definition, contents, options, is_test=self.is_test)
        path = folder / self.name
        with disk_full_raised(path), atomic_write(path) as temporary:
            if self.file_type is FileType.PARQUET:
                select = select_typed(definition, columns, contents, options)
                write = _parquet(temporary, answers, select, parameters)
            else:
                select = select_json(definition, columns, self.file_type)
                write = _json(temporary, answers, select, parameters, self.file_type)
            with write as write_page:
                yield write_page


DESCRIPTIONS = ("README.md", "dataset_info.json")  # of the files, beside them
BY_NAME = {
    file.name: file
    for file in (
        ExportFile(),
        *(
            ExportFile(name, file_type, is_test)
            for name, its in FORMATS.items()
            for file_type in FileType
            for is_test in ((False, True) if its.is_training else (False,))
        ),
    )
}


@contextmanager
def _json(
    path: Path, answers: Answers, select: str, parameters: dict[str, Any], file_type: FileType
) -> Iterator[WritePage]:
    with path.open("wb") as file:
        if file_type is FileType.JSON:
            file.write(b"[\n")
        start = file.tell()

        def write_page() -> int:
            rows = 0
            for count, objects in answers.texts(select, parameters):
                rows += count
                file.write(objects)
            return rows

        yield write_page
        is_empty = file.tell() == start
        if file_type is FileType.JSON and not is_empty:
            file.seek(-2, os.SEEK_END)  # over the last comma
            file.truncate()
            file.write(b"\n]\n")
    if is_empty:
        path.unlink()


@contextmanager
def _parquet(
    path: Path, answers: Answers, select: str, parameters: dict[str, Any]
) -> Iterator[WritePage]:
    """A row group for each page."""
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None
    with path.open("wb") as file:

        def write_page() -> int:
            nonlocal writer
            table = answers.table(select, parameters)
            if table.num_rows:
                writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
                writer.write_table(table)
            return int(table.num_rows)

        yield write_page
        if writer is not None:
            writer.close()
    if writer is None:
        path.unlink()
