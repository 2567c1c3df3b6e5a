"""What a run would ask, before anything is sent."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fastdatasets.pipeline import sample
from fastdatasets.runs import opened
from fastdatasets.settings import load_settings
from fastdatasets.stages import stages_of
from fastdatasets.wishes import Wishes
from store import RunFolder, WorkStore


@dataclass(frozen=True, slots=True)
class Estimate:
    """The first stage's requests, counted; tokens are bounds, not prices.

    requests are distinct: equal questions are asked once. prompt_tokens: a third of the prompts'
    UTF-8 bytes, which is more than English needs and about right for Chinese.
    max_completion_tokens: all answers at their limit.
    """

    records: int
    requests: int
    prompt_tokens: int
    max_completion_tokens: int


class _Quiet:
    """Progress of what nobody waits for."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def look(self, store: WorkStore) -> None:
        """Count nothing."""


def estimate(wishes: Wishes) -> Estimate:
    """Sample and plan in a temporary store, and count; raises UserError as the run would."""
    spec = wishes.spec(load_settings())
    quiet = _Quiet()
    with (
        tempfile.TemporaryDirectory(prefix="fastdatasets-") as folder,
        opened(RunFolder(Path(folder)), spec) as store,
    ):
        run = store.run()
        sample(store, run, quiet.say)
        for stage in stages_of(run, max_samples=1)[:1]:
            stage.plan(store, quiet)
        requests, tokens = store.planned()
        return Estimate(
            store.record_count(), requests, tokens, requests * int(run.params["max_tokens"])
        )
