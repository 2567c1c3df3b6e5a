"""Writing a run's training files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from store import RunFolder, UserError, WorkStore
from store.folder import replacing
from store.models import ExportOptions, Mode, Run
from store.queries import load_file

STATEMENTS = load_file("fastdatasets", "exports.sql")
RAW = {Mode.DISTILL: "distilled", Mode.AUGMENT: "augmented"}
FORMATS = tuple(name for name in STATEMENTS if name not in RAW.values())


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written and the rows in it."""

    path: Path
    rows: int


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

    options are the run's own, unless given. Equal stores give equal bytes. Records without an
    answer are in none of the files.
    """
    options = options or run.export
    uses = {"include_reasoning": options.include_reasoning}  # parameters of the training formats
    files = export_files(folder, run.mode, options)
    rows = dict.fromkeys(files, 0)
    with ExitStack() as stack:
        arrays = {statement: stack.enter_context(_array(path)) for statement, path in files.items()}
        page = stack.enter_context(replacing(folder.path / "page.jsonl", keep=False))
        for _ in store.export_pages():
            for statement, array in arrays.items():
                parameters = uses if statement in FORMATS else {}
                rows[statement] += store.copy_to_json(STATEMENTS[statement], page, parameters)
                array.add_lines(page)
    written = [Exported(path, rows[statement]) for statement, path in files.items()]
    if options.output_file is not None:
        target = Path(options.output_file)
        with replacing(target) as temporary:
            shutil.copyfile(folder.path / "distilled.json", temporary)
        written.append(Exported(target, written[0].rows))
    return written


class _Array:
    """A JSON array on its way into a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"[\n"

    def add_lines(self, path: Path) -> None:
        """Append the objects of a file with one a line; a newline is never inside one."""
        with path.open("rb") as lines:
            for line in lines:
                self._file.write(self._separator + line.rstrip(b"\n"))
                self._separator = b",\n"

    def close(self) -> None:
        """End the array."""
        self._file.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


@contextmanager
def _array(path: Path) -> Iterator[_Array]:
    with replacing(path) as temporary, temporary.open("wb") as file:
        array = _Array(file)
        yield array
        array.close()
