"""Writing a run's training files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from fastdatasets.exports.card import card, figures_of
from fastdatasets.exports.dataset_info import dataset_info
from fastdatasets.exports.files import BY_NAME, DESCRIPTIONS, ExportFile
from fastdatasets.exports.formats import FORMATS
from store import RunFolder, WorkStore
from store.export_options import ExportOptions
from store.folder.run_folder import atomic_write, disk_full_raised
from store.runs import Run
from store.status import Status


@dataclass(frozen=True, slots=True)
class Exported:
    """A file and its rows; where there are none it was not written. format: of a training file."""

    path: Path
    rows: int
    format: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.path}  ({self.rows} rows{'' if self.rows else ': not written'})"


def export(
    folder: RunFolder,
    store: WorkStore,
    run: Run,
    status: Status,
    options: ExportOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Exported]:
    """Write distilled.json and a file for each format, streamed, each whole or not at all.

    status: for the dataset card. options are the run's own, unless given; files of other formats
    and types that were written before and are gone or out of date are written as well. Equal stores
    give equal bytes. Records without an answer are in none of the files. say: is told how many rows
    the training files lack. Raises DiskFull, naming the file.
    """
    options = options or run.export
    files = _files(store, options)
    rows = dict.fromkeys(files, 0)
    store.answers.select_test(options.test_share, run.seed)
    left_out = store.answers.select_training(options)
    contents = store.answers.contents()
    with ExitStack() as stack:
        writers = {
            file: stack.enter_context(
                file.writing(folder.path, store.answers, run.mode, options, contents)
            )
            for file in files
        }
        pages = stack.enter_context(closing(store.answers.pages()))
        for _ in pages:
            for file, write_page in writers.items():
                rows[file] += write_page()
    written = [
        Exported(
            folder.path / file.name,
            rows[file],
            file.format if file.definition(run.mode).is_training else None,
        )
        for file in files
    ]
    if options.output_file is not None and rows[files[0]]:
        target = Path(options.output_file)
        with disk_full_raised(target), atomic_write(target) as temporary:
            shutil.copyfile(written[0].path, temporary)
        written.append(Exported(target, written[0].rows))
    recorded = _replace(folder, store, rows)
    known = store.exports.files() | recorded
    of_run = {file: count for name, file in BY_NAME.items() if (count := known.get(name))}
    figures = figures_of(store, run, status, left_out)
    texts = (
        card(folder.path.name, run.without_paths(), figures, of_run, options, contents),
        json.dumps(dataset_info(of_run, contents), indent=2) + "\n",
    )
    for name, text in zip(DESCRIPTIONS, texts, strict=True):
        path = folder.path / name
        with disk_full_raised(path), atomic_write(path) as temporary:
            temporary.write_text(text, "utf-8")
    store.exports.record_files(recorded | dict.fromkeys(DESCRIPTIONS, 0))
    for line in _left_out(written, left_out, contents):
        say(line)
    return written


def _files(store: WorkStore, options: ExportOptions) -> list[ExportFile]:
    """distilled.json and the files of the options, then those that are out of date."""
    named = [(name, options.file_type) for name in options.formats]
    stale = (BY_NAME[name] for name in sorted(store.exports.stale_files()) if name in BY_NAME)
    named += [(file.format, file.file_type) for file in stale if file.format is not None]
    files = [ExportFile()]
    for name, file_type in dict.fromkeys(named):
        files.append(ExportFile(name, file_type))
        if options.test_share and FORMATS[name].is_training:
            files.append(ExportFile(name, file_type, is_test=True))
    return files


def _replace(
    folder: RunFolder, store: WorkStore, rows: Mapping[ExportFile, int]
) -> dict[str, int | None]:
    """The rows of these files by name, None: not to be there; removes those of earlier exports."""
    earlier = store.exports.files()
    files: dict[str, int | None] = {file.name: count or None for file, count in rows.items()}
    for file in rows:
        test = ExportFile(file.format, file.file_type, is_test=True)
        if test.name in BY_NAME:
            files.setdefault(test.name, None)
    for name, count in files.items():
        if count is None and name in earlier:
            (folder.path / name).unlink(missing_ok=True)
    return files


def _left_out(
    written: Sequence[Exported], left_out: Mapping[str, int], contents: Set[str]
) -> list[str]:
    """What the training files lack of the rows of distilled.json.

    left_out: answers that are not for training, by the reason.
    """
    counts: Counter[str] = Counter()
    for file in written:
        if file.format is not None:
            counts[file.format] += file.rows
    lacking = {name: written[0].rows - rows for name, rows in counts.items()}
    if not lacking:
        return []
    in_none = min(lacking.values())
    lines = []
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        lines.append(f"in distilled.json, but left out of the training files: {reasons}")
    if without := in_none - sum(left_out.values()):
        why = ""
        if "messages" not in lacking and contents & {"history", "tool_calls"}:
            why += ", or turns that only messages can hold"
        lines.append(f"{without} rows have no output{why}: in distilled.json, in no training file")
    special = "tool calls, images" if "images" in contents else "tool calls"
    lines += (
        f"{rows - in_none} rows with {special} or earlier turns are not in {name}, which cannot "
        "hold them: messages can"
        for name, rows in lacking.items()
        if rows > in_none
    )
    return lines
