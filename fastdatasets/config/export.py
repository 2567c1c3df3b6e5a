"""ExportOptions from the options of a command, and where a file may be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from fastdatasets.checks.kinds import Check, parse_kinds
from fastdatasets.config.run import OutputOptions
from fastdatasets.exports.files import DESCRIPTIONS
from fastdatasets.exports.formats import parse_formats
from fastdatasets.sources.files import expanded
from store import RunFolder, UserError
from store.export_options import ExportOptions, FileType, Keep, Labels, Reasoning
from store.folder.run_folder import atomic_write
from store.runs import Judge

E = TypeVar("E", bound=StrEnum)

RUN_FILES = (
    *("work.", "run.lock", "progress.json", "distilled", "engine.", "jobs", "spill", "."),
    *DESCRIPTIONS,
)


def export_options(output: OutputOptions, base: ExportOptions) -> ExportOptions:
    """What the command gives, else base's, and base's output file; raises UserError."""
    place, share = _member(Reasoning, "--reasoning", output.reasoning), output.test_share
    if share is not None and not 0 <= share < 1:
        raise UserError(f"--test-share {share}: at least 0 and less than 1 is expected")
    given: dict[str, Any] = {
        "formats": None if output.formats is None else parse_formats(output.formats),
        "file_type": _member(FileType, "--file-type", output.file_type),
        "labels": _member(Labels, "--labels", output.labels),
        "reasoning": place,
        "test_share": share,
        "exclude": _excluded(output, base),
        "keep": _member(Keep, "--keep", output.keep),
        "min_score": output.min_score,
    }
    if output.include_reasoning:
        if place not in (None, Reasoning.NONE):
            raise UserError(f"--include-reasoning and --reasoning {place} exclude each other")
        given |= {"include_reasoning": True, "reasoning": Reasoning.NONE}
    elif place is not None:
        given["include_reasoning"] = False
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def check_scores(options: ExportOptions, judge: Judge | None) -> None:
    """Raise UserError where the files need scores, and the run has no judge."""
    if judge is None and (options.keep is Keep.BEST or options.min_score is not None):
        option = "--keep best" if options.keep is Keep.BEST else "--min-score"
        raise UserError(f"{option} takes the scores of a judge: start a run with --judge")


def _excluded(output: OutputOptions, base: ExportOptions) -> tuple[str, ...]:
    """The checks whose rejected answers are in no training file."""
    more = parse_kinds("--exclude-flagged", output.exclude_flagged or "")
    if output.drop_truncated:
        more += (Check.TRUNCATED,)
    if not output.keep_flagged:
        return tuple(dict.fromkeys((*base.exclude, *more)))
    if more:
        raise UserError(
            "--keep-flagged excludes --exclude-flagged and --drop-truncated: choose one"
        )
    return ()


def _member(values: type[E], option: str, value: str | None) -> E | None:
    """The member of a value, which from Python may be a text."""
    try:
        return None if value is None else values(value)
    except ValueError:
        known = ", ".join(values)
        raise UserError(f"{option} {value}: one of {known} is expected") from None


def check_output_file(file: Path | None, sources: Sequence[str]) -> str | None:
    """The absolute path of an --output-file; raises UserError where it cannot be written.

    Checked with a temporary file in the same folder, as the export uses.
    """
    if file is None:
        return None
    local = [data for data in map(Path, sources) if data.is_absolute() and data.exists()]
    try:
        path = expanded(file).resolve()
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it is a folder, a device or a pipe, not a file")
        for data in local:
            if path.exists() and path.samefile(data):
                raise UserError(f"cannot write {path}: it is the source of the run")
            if data.is_dir() and data in path.parents:
                raise UserError(
                    f"cannot write {path}: it is in the source folder {data}, and the next run "
                    "would read it as data. Choose a file outside of it"
                )
        for parent in path.parents:
            if (run := RunFolder(parent)).exists():
                check_not_of_run(path, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, keep=False) as temporary:
            temporary.open("ab").close()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {file}: {reason}") from None
    return str(path)


def check_not_of_run(path: Path, run: RunFolder) -> None:
    """Raise UserError where a path is one of the files that a run keeps in its folder."""
    folder = run.path.resolve()
    if folder not in path.parents:
        return
    if path.parent != folder or path.name.startswith(RUN_FILES):
        raise UserError(f"cannot write {path}: it is a file of run {run.name}")
