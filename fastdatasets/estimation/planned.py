"""A run whose first stage is planned in a temporary store: nothing of it is sent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastdatasets.runs.folders import open_run
from fastdatasets.sources.sampling import sample_records
from fastdatasets.stages.modes import stages_of
from fastdatasets.stages.prompts import uses_row
from store import RunFolder, WorkStore
from store.runs import Run


@dataclass(frozen=True, slots=True)
class _Said:
    """A Progress that passes lines on."""

    say: Callable[[str], None]

    def update(self, store: WorkStore) -> None:
        """Show nothing."""


@contextmanager
def planned(run: Run, say: Callable[[str], None]) -> Iterator[WorkStore]:
    """Sample a run's records and plan its first stage, for the block.

    say: takes the lines about columns, turns and rows. Raises UserError as the run would.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fastdatasets-") as folder,
        open_run(RunFolder(Path(folder)), run) as store,
    ):
        sample_records(store, run, say, with_fields=uses_row(run.templates))
        for stage in stages_of(store, run, max_generations=1)[:1]:
            stage.plan(store, _Said(say))
        yield store
