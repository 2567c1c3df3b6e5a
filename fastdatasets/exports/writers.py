"""Writing a run's training files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from store import RunFolder, UserError, WorkStore
from store.database.statements import load_file
from store.folder.run_folder import atomic_write, disk_full_raised
from store.runs import ExportOptions, Mode, Run

STATEMENTS = load_file("fastdatasets.exports", "formats.sql")
RAW = {Mode.DISTILL: "distilled", Mode.AUGMENT: "augmented"}
FORMATS = tuple(name for name in STATEMENTS if name not in RAW.values())


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written and the rows in it."""

    path: Path
    rows: int

    def __str__(self) -> str:
        return f"{self.path}  ({self.rows} rows)"


def parse_formats(text: str) -> tuple[str, ...]:
    """'alpaca,sharegpt' as a tuple; raises UserError for a format that is not known."""
    formats = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"unknown format {unknown[0]!r}; known are {', '.join(FORMATS)}")
    return formats


def export_files(folder: RunFolder, mode: Mode, options: ExportOptions) -> dict[str, Path]:
    """The files an export writes into the run's folder, by statement."""
    names = {RAW[mode]: "distilled.json"} | {
        name: f"distilled-{name}.json" for name in options.formats
    }
    return {statement: folder.path / name for statement, name in names.items()}


def export(
    folder: RunFolder, store: WorkStore, run: Run, options: ExportOptions | None = None
) -> list[Exported]:
    """Write distilled.json and a file for each format, streamed, each whole or not at all.

    options are the run's own, unless given; files of other formats that were written before and are
    gone or out of date are written as well. Equal stores give equal bytes. Records without an
    answer are in none of the files. Raises DiskFull, naming the file.
    """
    options = _with_stale(store, run.mode, options or run.export)
    uses = {  # parameters of the training formats
        "include_reasoning": options.include_reasoning,
        "drop_truncated": options.drop_truncated,
    }
    files = export_files(folder, run.mode, options)
    rows = dict.fromkeys(files, 0)
    with ExitStack() as stack:
        arrays = {statement: stack.enter_context(_array(path)) for statement, path in files.items()}
        pages = stack.enter_context(closing(store.exports.pages()))
        for _ in pages:
            for statement, array in arrays.items():
                parameters = uses if statement in FORMATS else {}
                for count, objects in store.exports.objects(STATEMENTS[statement], parameters):
                    rows[statement] += count
                    array.write(objects)
    written = [Exported(path, rows[statement]) for statement, path in files.items()]
    if options.output_file is not None:
        target = Path(options.output_file)
        with disk_full_raised(target), atomic_write(target) as temporary:
            shutil.copyfile(folder.path / "distilled.json", temporary)
        written.append(Exported(target, written[0].rows))
    store.exports.record_files([path.name for path in files.values()])
    return written


def _with_stale(store: WorkStore, mode: Mode, options: ExportOptions) -> ExportOptions:
    stale = store.exports.stale_files()
    every = export_files(RunFolder(Path()), mode, replace(options, formats=FORMATS))
    left = (name for name in FORMATS if every[name].name in stale and name not in options.formats)
    return replace(options, formats=(*options.formats, *left))


@contextmanager
def _array(path: Path) -> Iterator[IO[bytes]]:
    """A file for a JSON array: takes objects that each end with a comma and a newline."""
    with disk_full_raised(path), atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(b"[\n")
        yield file
        if file.tell() > 2:
            file.seek(-2, os.SEEK_END)  # over the last comma
            file.truncate()
            file.write(b"\n")
        file.write(b"]\n")
