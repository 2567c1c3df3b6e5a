"""Reusing answers of earlier runs to equal requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastdatasets.config.address import check_servers
from fastdatasets.runs.folders import find_run
from store import RunFolder, UserError, WorkStore
from store.errors import StoreHeld

WAIT_SECONDS = 5.0  # for a store that another process has open only for a moment


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run whose answers are reused, and the addresses of their servers; None: local."""

    folder: RunFolder
    servers: frozenset[str | None]


def find_earlier(
    names: Iterable[str],
    output_dir: Path,
    itself: Path | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> list[EarlierRun]:
    """The runs of those names, each once; raises UserError for one that cannot be read.

    itself: the folder of the run that reuses them, which is skipped.
    """
    folders = {}
    for name in names:
        folder = find_run(name, output_dir)
        folders[folder.path.resolve()] = folder
    if itself is not None:
        folders.pop(itself.resolve(), None)
    earlier = []
    for folder in folders.values():
        try:
            with WorkStore.open(
                folder.store_path, read_only=True, wait_seconds=wait_seconds
            ) as store:
                earlier.append(EarlierRun(folder, frozenset(store.servers())))
        except StoreHeld as held:
            raise _busy(folder, held) from None
    return earlier


def check_same_server(
    earlier: Sequence[EarlierRun], base_url: str | None, *, accept_other: bool
) -> None:
    """Raise UserError where answers of another server would be reused without accept_other."""
    for one in earlier:
        check_servers(one.folder.name, one.servers, base_url, accept_other=accept_other)


class ReusedAnswers:
    """Earlier runs whose answers are copied whenever the run has planned more requests."""

    def __init__(self, runs: Sequence[EarlierRun], say: Callable[[str], None]) -> None:
        self._runs = runs
        self._say = say
        self._reported: set[Path] = set()

    def take(self, store: WorkStore) -> int:
        """Copy their answers to open requests; returns how many; raises UserError."""
        taken = 0
        for run in self._runs:
            if not store.requests.has_open():
                break
            folder = run.folder
            store.add_servers(run.servers)
            try:
                answers = store.results.reuse(folder.store_path, WAIT_SECONDS)
            except StoreHeld as held:
                raise _busy(folder, held) from None
            if answers or folder.path not in self._reported:
                self._say(f"reused {answers} answers of run {folder.path}")
            self._reported.add(folder.path)
            taken += answers
        return taken


def _busy(folder: RunFolder, held: StoreHeld) -> UserError:
    return UserError(
        f"run {folder.path}, whose answers are to be reused, is busy: {held.holder} has it open. "
        "Try again when that is done"
    )
