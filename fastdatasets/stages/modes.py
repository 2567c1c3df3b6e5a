"""Modes: which stages a run has, in order."""

from __future__ import annotations

from collections.abc import Sequence

from fastdatasets.stages.answer import Answer
from fastdatasets.stages.stage import Stage
from fastdatasets.stages.vary import Vary
from store.runs import Mode, Run

FINAL_STAGE = Answer.name  # in every mode


def stages_of(run: Run, max_generations: int) -> Sequence[Stage]:
    """The stages of a run's mode, in order; none where generation is skipped."""
    if run.skip_generation:
        return ()
    if run.mode is Mode.AUGMENT:
        return (Vary(run, max_generations), Answer(run))
    return (Answer(run),)
