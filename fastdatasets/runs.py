"""Finding, making and going on with runs: folders under the output folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from store import RunFolder, UserError, WorkStore
from store.models import ExportOptions, Language, Mode, Run, State
from store.readable import readable
from store.work_store import utc_now

# What may differ when a run is gone on with by name: it enters no request. The address is compared
# by settle_address.
NOT_FROZEN = {"run_id", "created_at", "base_url", "export"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a new run is to be: Run without what is given to it when it is made."""

    mode: Mode
    backend: str
    base_url: str | None
    model: str
    source: str
    config: str | None
    split: str
    sample_size: int
    seed: int
    columns: dict[str, str | None]
    params: dict[str, Any]
    system_prompt: str | None
    language: Language
    templates: dict[str, str]
    num_aug: int
    skip_generation: bool
    export: ExportOptions

    def run(self) -> Run:
        """A run of this kind with an id of its own."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Run(run_id=str(uuid.uuid4()), created_at=utc_now(), **values)


def find_run(name: str, output_dir: Path) -> RunFolder:
    """The run named by a path or by its name under the output folder; raises UserError."""
    for path in (Path(name), output_dir / name):
        folder = RunFolder(path)
        if folder.exists():
            return folder
    known = ", ".join(folder.name for folder in newest_first(output_dir)[:5]) or "none"
    raise UserError(f"no run {name!r}, nor {output_dir / name}; runs in {output_dir}/: {known}")


def newest_first(output_dir: Path) -> list[RunFolder]:
    """All runs under the output folder, the one made last first."""
    if not output_dir.is_dir():
        return []
    folders = [RunFolder(path) for path in output_dir.iterdir() if RunFolder(path).exists()]
    return sorted(folders, key=lambda folder: folder.store_path.stat().st_ctime_ns, reverse=True)


def is_unfinished(folder: RunFolder) -> bool:
    """Whether a run wants something more, by progress.json: that says 'done' only when it is."""
    status = folder.read_progress()
    return status is None or status.state is not State.DONE


def find_unfinished(name: str | None, output_dir: Path) -> RunFolder | None:
    """The run of that name, the newest unfinished one where none is named; raises UserError.

    None where none is named and none is unfinished.
    """
    if name is not None:
        return find_run(name, output_dir)
    return next((folder for folder in newest_first(output_dir) if is_unfinished(folder)), None)


def new_folder(output_dir: Path, name: str | None, now: datetime) -> RunFolder:
    """A folder for a new run, by its name or by the time; raises UserError where a file stands."""
    stem = name or now.strftime("%Y%m%d_%H%M%S")
    if name is not None:
        path = output_dir / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the run's folder {path}: {error.strerror}") from None
        return RunFolder(path)
    output_dir.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):  # two runs may start in one second
        path = output_dir / (stem if number == 1 else f"{stem}_{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return RunFolder(path)
    raise UserError(f"too many runs of one second in {output_dir}")


@contextmanager
def opened(folder: RunFolder, spec: RunSpec | None = None) -> Iterator[WorkStore]:
    """The run's store, held for this command; made from spec where the folder has none yet.

    Raises Busy where another command works on the run, UserError where spec differs from what the
    run is.
    """
    with folder.lock():
        if folder.exists():
            store = WorkStore.open(folder.store_path, on_wait=_say_waiting)
            if spec is not None:
                _check_same(folder, store.run_as_made(), spec)
        elif spec is not None:
            store = WorkStore.create(folder.store_path, spec.run())
        else:
            raise UserError(f"{folder.path} is not a run: there is no {folder.store_path.name}")
        with store:
            yield store


def _check_same(folder: RunFolder, run: Run, spec: RunSpec) -> None:
    for field in fields(spec):
        was, now = getattr(run, field.name), getattr(spec, field.name)
        if field.name not in NOT_FROZEN and was != now:
            raise UserError(
                f"run {folder.name} stands already with another {field.name} "
                f"({_brief(was)}, now {_brief(now)}): go on with it as it is with "
                f"'fastdatasets resume {folder.path}', or choose another --run name"
            )


def _brief(value: object) -> str:
    text = repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _say_waiting(holder: str) -> None:
    import sys

    print(readable(f"waiting for {holder} to give the store free"), file=sys.stderr)
