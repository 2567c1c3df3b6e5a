"""Writing a run's training files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

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
    store.view_export_rows()
    written = []
    for statement, path in export_files(folder, run.mode, options).items():
        with replacing(path) as temporary:
            select = STATEMENTS[statement]
            # COPY refuses a parameter that the statement does not use
            uses = {"include_reasoning": options.include_reasoning}
            rows = store.copy_to_json(select, temporary, uses if statement in FORMATS else {})
        written.append(Exported(path, rows))
    if options.output_file is not None:
        target = Path(options.output_file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            shutil.copyfile(folder.path / "distilled.json", temporary)
        written.append(Exported(target, written[0].rows))
    return written
