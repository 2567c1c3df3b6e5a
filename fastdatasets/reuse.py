"""Answers that earlier runs have: taken as they are, not asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fastdatasets.runs import find_run
from store import RunFolder, UserError, WorkStore

WAIT_SECONDS = 5.0  # for a store that another process has open only for a moment


def find_earlier(
    names: Iterable[str], output_dir: Path, wait_seconds: float = WAIT_SECONDS
) -> list[RunFolder]:
    """The runs of those names, each once; raises UserError where one is none or cannot be read."""
    folders = {}
    for name in names:
        folder = find_run(name, output_dir)
        folders[folder.path.resolve()] = folder
    for folder in folders.values():
        try:
            WorkStore.open(folder.store_path, read_only=True, wait_seconds=wait_seconds).close()
        except TimeoutError as holder:
            raise _busy(folder, holder) from None
    return list(folders.values())


class Earlier:
    """Earlier runs from which a run takes answers, as often as it has planned more."""

    def __init__(self, folders: Sequence[RunFolder], say: Callable[[str], None]) -> None:
        self._folders = folders
        self._say = say
        self._said: set[Path] = set()

    def answer(self, store: WorkStore) -> int:
        """Take what they have of what is open; gives how many answers; raises UserError."""
        taken = 0
        for folder in self._folders:
            if not store.has_open():
                break
            try:
                answers = store.reuse(folder.store_path, WAIT_SECONDS)
            except TimeoutError as holder:
                raise _busy(folder, holder) from None
            if answers or folder.path not in self._said:
                self._say(f"reused {answers} answers of run {folder.path}")
            self._said.add(folder.path)
            taken += answers
        return taken


def _busy(folder: RunFolder, holder: TimeoutError) -> UserError:
    return UserError(
        f"run {folder.path}, whose answers are to be reused, is busy: {holder} has it open. "
        "Try again when that is done"
    )
