"""Modes: which stages a run has, in order."""

from __future__ import annotations

from collections.abc import Sequence

from fastdatasets.stages.answer import Answer
from fastdatasets.stages.judge import Judge
from fastdatasets.stages.stage import Stage
from fastdatasets.stages.turn import Turn
from fastdatasets.stages.vary import Vary
from store import WorkStore
from store.runs import Mode, Run, Turns

FINAL_STAGE = Answer.name  # in every mode


def stages_of(store: WorkStore, run: Run, max_generations: int) -> Sequence[Stage]:
    """The stages of a run's mode, in order; none where generation is skipped.

    Its records are sampled: a conversation that is answered turn by turn has a stage a turn.
    """
    if run.skip_generation:
        return ()
    judge = () if run.judge is None else (Judge(run),)
    if run.mode is Mode.AUGMENT:
        return (Vary(run, max_generations), Answer(run), *judge)
    if run.turns is Turns.ALL:
        earlier = store.records.max_followups()
        return (*(Turn(run, number) for number in range(earlier)), Turn(run, None), *judge)
    return (Answer(run), *judge)
