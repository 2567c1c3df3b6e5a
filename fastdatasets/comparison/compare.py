"""Comparing two runs, and having a judge compare their answers, in a run of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

from fastdatasets.commands import start_run
from fastdatasets.comparison.pairs import (
    as_judge,
    check_can_be_judged,
    file_of_pairs,
    no_preferences,
    preferences,
    write_pairs,
)
from fastdatasets.comparison.report import Comparison, Preferences, report
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.progress import Display
from fastdatasets.runs.folders import find_run, named_folder, new_folder
from store import Busy, RunFolder, Unfinished, UserError, WorkStore
from store.answers.comparison import AnswerOfPair
from store.errors import StoreHeld
from store.runs import Run
from store.work_store import utc_now

ALL = 2**62
WAIT_SECONDS = 0.5  # for a store that another process has open only for a moment


@dataclass(frozen=True, slots=True)
class Judging:
    """Who is asked for a preference. run: the name of its run; pairs: at most so many; 0: all."""

    model: str
    backend: str | None
    run: str | None
    pairs: int


@dataclass(frozen=True, slots=True)
class _Side:
    """One of both runs; place: the column of its answers in the pairs."""

    place: str
    folder: RunFolder
    run: Run


def compare(
    names: tuple[str, str],
    output_dir: Path | None,
    judging: Judging | None,
    execution: ExecutionConfig,
    display: Display | None = None,
) -> Comparison:
    """Compare two runs; with a judge, start or continue its run as far as possible.

    Raises UserError for one run twice, without a common question, or without answers.
    """
    output_dir = output_dir or load_settings().fastdatasets_output_dir
    first, second = (find_run(name, output_dir) for name in names)
    if first.path.resolve() == second.path.resolve():
        raise UserError(f"{names[0]} and {names[1]} are one run: name two")
    with _read(first) as one:  # closed before the other one is opened: each has memory of its own
        sides = [_Side("place_0", first, one.run())]
        numbers = one.comparison.numbers()
    with _read(second) as other:
        sides.append(_Side("place_1", second, other.run()))
        compared = other.comparison.compare(numbers)
        del numbers  # not needed by the judge's run, which has memory of its own too
        if not compared.common:
            raise UserError(
                f"runs {first.name} and {second.name} have no question in common: a question is "
                "the system prompt, history, instruction and input of a record"
            )
        comparison = report(compared, [(side.folder, side.run) for side in sides])
        if judging is None:
            return comparison
        # One run, whichever of the two is named first: its requests are the same.
        ordered = sorted(sides, key=lambda side: (side.folder.name, side.run.run_id))
        name = judging.run or "-".join(("compare", *(side.folder.name for side in ordered)))
        folder = named_folder(name, output_dir)
        file = file_of_pairs(folder.path, [side.run for side in ordered])
        if not folder.exists():
            if not _make_pairs(file, ordered, other, judging.pairs or ALL):
                return replace(comparison, judge=no_preferences(judging.model))
        elif not file.exists():
            raise UserError(
                f"run {name} is of other runs, of the same names or another: choose a name for "
                "this one with --run"
            )
    judged = _judge(folder, name, file, judging, output_dir, execution, display)
    if ordered != sides:
        judged = replace(judged, first=judged.second, second=judged.first)
    return replace(comparison, judge=judged)


def _make_pairs(file: Path, ordered: Sequence[_Side], second: WorkStore, most: int) -> bool:
    """Write the file of pairs, unless there are none. second: the store that has both numbers."""
    pairs = second.comparison.pairs(most)
    if not len(pairs):
        return False
    for side in ordered:
        check_can_be_judged(side.folder.name, side.run)
    new_folder(file.parent.parent, RunFolder(file.parent), utc_now())
    (first,) = (side.folder for side in ordered if side.place == "place_0")
    with _read(first) as one:
        stores = {"place_0": one, "place_1": second}
        texts = [_texts(stores[side.place], pairs, side.place) for side in ordered]
        write_pairs(file, zip(*texts, strict=True))
    return True


@contextmanager
def _read(folder: RunFolder) -> Iterator[WorkStore]:
    """A run's store, the numbers of its answers read; raises UserError where there are none."""
    with _opened(folder) as store:
        if not store.comparison.read(store.run().export.exclude):
            raise UserError(f"run {folder.name} has no answers to compare")
        yield store


def _texts(store: WorkStore, pairs: pa.Table, place: str) -> Iterator[AnswerOfPair]:
    """The answers of a store in pairs; place: their column."""
    places = pairs.select(["question", place]).rename_columns(["question", "place"])
    return store.comparison.texts(places)


@contextmanager
def _opened(folder: RunFolder) -> Iterator[WorkStore]:
    """A run's store, to be read; raises Unfinished where another command has it open."""
    try:
        store = WorkStore.open(folder.store_path, read_only=True, wait_seconds=WAIT_SECONDS)
    except StoreHeld as held:
        raise Unfinished(
            f"run {folder.name} is held by {held.holder}: compare it when that has ended"
        ) from None
    with store:
        yield store


def _judge(
    folder: RunFolder,
    name: str,
    file: Path,
    judging: Judging,
    output_dir: Path,
    execution: ExecutionConfig,
    display: Display | None,
) -> Preferences:
    """Start or continue the judge's run, and count what it says, whether complete or not."""
    config = RunConfig(
        str(file),
        model=judging.model,
        backend=judging.backend,
        sample_size=0,
        instruction_col="instruction",
        input_col="input",
        system_prompt="",
        formats="",
    )
    left = None
    try:
        start_run(
            as_judge(new_run(config, load_settings())),
            output_dir,
            name,
            execution,
            display,
            backend_is_named=judging.backend is not None,
        ).raise_if_left()
    except Busy:
        raise
    except Unfinished as unfinished:
        left = str(unfinished)
    finally:
        if not folder.exists():  # it could not be started
            file.unlink(missing_ok=True)
            with suppress(OSError):
                folder.path.rmdir()
    with _opened(folder) as store:
        return preferences(store, folder.name, left)
