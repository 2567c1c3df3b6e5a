"""Finding, creating and opening runs: folders in the output folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import msgspec

from fastdatasets.terminal import readable
from store import RunFolder, UserError, WorkStore
from store.errors import SqlError, StoreHeld
from store.folder.private_files import private_files
from store.runs import Run
from store.status import State

PRIVATE = 0o700  # the mode of a run's folder

# Fields that may differ when a run is continued by name: they enter no request. resolve_address
# compares the address.
NOT_FROZEN = {"run_id", "created_at", "base_url", "export"}


def find_run(name: str, output_dir: Path) -> RunFolder:
    """The run named by a path or by its name under the output folder; raises UserError."""
    if not name.strip():
        raise UserError(f"{name!r} names no run: its folder, or its name in {output_dir}/, does")
    for path in (Path(name), output_dir / name):
        folder = RunFolder(path)
        if folder.exists():
            return folder
    known = ", ".join(folder.name for folder in newest_first(output_dir)[:5]) or "none"
    raise UserError(f"no run {name!r}, nor {output_dir / name}; runs in {output_dir}/: {known}")


def newest_first(output_dir: Path) -> list[RunFolder]:
    """All runs in the output folder, the newest first."""
    if not output_dir.is_dir():
        return []
    folders = [RunFolder(path) for path in output_dir.iterdir() if RunFolder(path).exists()]
    return sorted(folders, key=lambda folder: folder.store_path.stat().st_ctime_ns, reverse=True)


def readable_runs(folders: Iterable[RunFolder]) -> Iterator[RunFolder]:
    """The runs whose stores can be read, or are open elsewhere; prints which ones cannot."""
    for folder in folders:
        try:
            _read_run(folder)
        except StoreHeld:
            yield folder
        except UserError as error:
            print(readable(f"run {folder.path} is skipped: {error}"), file=sys.stderr)
        else:
            yield folder


def sources_of(folder: RunFolder) -> list[str] | None:
    """The names of a run's sources, None where its store cannot be read right now."""
    try:
        return _read_run(folder).source_names
    except (UserError, StoreHeld):
        return None


def _read_run(folder: RunFolder) -> Run:
    """What a run is; raises UserError where its store cannot be read, StoreHeld where held."""
    try:
        with WorkStore.open(folder.store_path, read_only=True, wait_seconds=0) as store:
            return store.run()
    except (SqlError, msgspec.MsgspecError, ValueError) as error:
        reason = getattr(error, "detail", str(error)).partition("\n")[0]
        raise UserError(f"{folder.store_path} cannot be read: {reason}") from None


def is_unfinished(folder: RunFolder) -> bool:
    """Whether a run is not done, by progress.json."""
    status = folder.read_progress()
    return status is None or status.state is not State.DONE


def find_unfinished(name: str | None, output_dir: Path) -> RunFolder | None:
    """The run of that name, the newest unfinished one where none is named; raises UserError.

    None where none is named and none is unfinished.
    """
    if name is not None:
        return find_run(name, output_dir)
    unfinished = (folder for folder in newest_first(output_dir) if is_unfinished(folder))
    return next(readable_runs(unfinished), None)


def find_or_newest(name: str | None, output_dir: Path) -> RunFolder:
    """The run of that name, the newest where none is named; raises UserError."""
    if name is not None:
        return find_run(name, output_dir)
    folders = newest_first(output_dir)
    if not folders:
        raise UserError(f"there is no run in {output_dir}/ yet")
    for folder in readable_runs(folders):
        return folder
    raise UserError(f"there is no run in {output_dir}/ that can be read")


def named_folder(name: str, output_dir: Path) -> RunFolder:
    """The folder of a run of that name, existing or not; raises UserError for an invalid name.

    A name is that of a folder in the output folder; with a slash it is a path, from there.
    """
    path = output_dir / name
    if not name.strip() or "\0" in name or output_dir.resolve().is_relative_to(path.resolve()):
        raise UserError(
            f"--run {name!r} is no name for a run: its folder would be {output_dir} or one around "
            "it. Choose a name, or a path with a slash in it"
        )
    return RunFolder(path)


def new_folder(output_dir: Path, named: RunFolder | None, now: datetime) -> RunFolder:
    """Create the private folder of a new run: the named one, else one named by the time.

    Raises UserError where it cannot be created.
    """
    path = output_dir / now.strftime("%Y%m%d_%H%M%S") if named is None else named.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if named is not None:
            path.mkdir(mode=PRIVATE, exist_ok=True)
            return named
        for number in range(1, 1000):  # two runs may start in one second
            numbered = path if number == 1 else path.with_name(f"{path.name}_{number}")
            with suppress(FileExistsError):
                numbered.mkdir(mode=PRIVATE)
                return RunFolder(numbered)
    except OSError as error:
        raise UserError(f"cannot make the run's folder {path}: {error.strerror}") from None
    raise UserError(f"too many runs of one second in {output_dir}")


@contextmanager
def open_run(folder: RunFolder, new: Run | None = None) -> Iterator[WorkStore]:
    """The run's store, locked for this command; created for `new` where the folder has none.

    A new run that fails before there is anything to resume is removed. Raises Busy
    where another command works on the run, UserError where the run is another than `new`.
    """
    with private_files(), folder.lock():
        if folder.exists():
            with WorkStore.open(folder.store_path, on_wait=_say_waiting) as store:
                if new is not None:
                    _check_same(folder, store.run_as_made(), new)
                yield store
        elif new is not None:
            with _created(folder, new) as store:
                yield store
        else:
            raise UserError(f"{folder.path} is not a run: there is no {folder.store_path.name}")


@contextmanager
def _created(folder: RunFolder, new: Run) -> Iterator[WorkStore]:
    """A new store; on an error the run is removed where there is nothing in it to resume."""
    keep = False
    try:
        with WorkStore.create(folder.store_path, new) as store:
            try:
                yield store
            except BaseException as error:
                keep = _can_be_resumed(store, error)
                raise
    except BaseException:
        if not keep:
            folder.remove()
        raise


def _can_be_resumed(store: WorkStore, error: BaseException) -> bool:
    """Whether a new run that ended with an error can be resumed.

    Not without records, nor where the user has to change something and nothing was sent.
    """
    if not isinstance(error, Exception):
        return True  # a Ctrl-C, say
    if not store.records.are_sampled():
        return False
    return not isinstance(error, UserError) or store.requests.has_sent()


def _check_same(folder: RunFolder, run: Run, new: Run) -> None:
    for field in fields(Run):
        was, now = getattr(run, field.name), getattr(new, field.name)
        if field.name not in NOT_FROZEN and was != now:
            raise UserError(
                f"run {folder.name} already exists with another {field.name} "
                f"({_brief(was)}, now {_brief(now)}): continue it as it is with "
                f"'fastdatasets resume {folder.path}', or choose another --run name"
            )


def _brief(value: object) -> str:
    if isinstance(value, tuple):
        value = ", ".join(map(str, value))
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _say_waiting(holder: str) -> None:
    print(readable(f"waiting for {holder} to close the store"), file=sys.stderr)
