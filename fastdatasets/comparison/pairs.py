"""Pairs of answers for a judge: the file that its run reads, and what the judge prefers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import msgspec

from fastdatasets.comparison.report import Preferences
from fastdatasets.stages.judge import (
    json_objects,
    params_of_judge,
    shown_to_judge,
    turns_of,
)
from fastdatasets.stages.prompts import compare_templates
from store import UserError, WorkStore
from store.answers.comparison import AnswerOfPair
from store.folder.private_files import private_files
from store.folder.run_folder import atomic_write, disk_full_raised
from store.runs import Run, Turns

FIRST, SECOND, TIE = "first", "second", "tie"

PREFERENCE_SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "better": {"type": "string", "enum": [FIRST, SECOND, TIE]},
    },
    "required": ["reason", "better"],
    "additionalProperties": False,
}


def check_can_be_judged(name: str, run: Run) -> None:
    """Raise UserError where a pair would not show the judge what the answers are about."""
    if run.images:
        raise UserError(f"--judge-model reads texts only, and run {name} has images")
    if run.turns is Turns.ALL:
        raise UserError(
            f"--judge-model compares answers to one question, and run {name} has conversations "
            "answered turn by turn (--turns all)"
        )


def as_judge(run: Run) -> Run:
    """A run of pairs with the judge's template and parameters, and a forced schema."""
    limit = {"max_tokens": run.params["max_tokens"]}
    params = {**params_of_judge(run.backend), **limit, "json_schema": PREFERENCE_SCHEMA}
    return replace(run, templates=compare_templates(), params=params)


def file_of_pairs(folder: Path, runs: Iterable[Run]) -> Path:
    """The file's path, which names both runs: a run made anew under an old name is another."""
    return folder / f"pairs-{'-'.join(run.run_id[:8] for run in runs)}.jsonl"


def write_pairs(path: Path, pairs: Iterable[tuple[AnswerOfPair, AnswerOfPair]]) -> None:
    """Write two lines a pair, one for each order; raises DiskFull."""
    encoder = msgspec.json.Encoder()
    with (
        private_files(),
        disk_full_raised(path),
        atomic_write(path) as temporary,
        temporary.open("wb") as file,
    ):
        for one, other in pairs:
            question = {
                "instruction": one.instruction,
                "input": one.input,
                "asked_system": one.system or "",
                "asked_turns": "\n".join(
                    f"{turn['role']}: {turn['text']}" for turn in turns_of(one.history)
                ),
            }
            texts = [shown_to_judge(each.text, each.tool_calls) for each in (one, other)]
            for first, second in (texts, reversed(texts)):
                file.write(encoder.encode(question | {FIRST: first, SECOND: second}) + b"\n")


def read_better(text: str) -> str | None:
    """'first', 'second' or 'tie' of the last JSON object with one; None: nothing is guessed."""
    found = None
    for value in json_objects(text):
        if value.get("better") in (FIRST, SECOND, TIE):
            found = value["better"]
    return found


def no_preferences(model: str) -> Preferences:
    """Where no two answers differ, nothing is asked."""
    return Preferences(None, model, *(0,) * 9, cost=None, left=None)


def preferences(store: WorkStore, run: str, left: str | None) -> Preferences:
    """Count what the judge's run says; first and second are those of its lines of even number."""
    counts = dict.fromkeys(
        (FIRST, SECOND, TIE, "inconsistent", "unreadable", "longer", "shorter"), 0
    )
    for better, longer in _judged(store):
        if better is None:
            counts["unreadable"] += 1
        elif better == "inconsistent":
            counts[TIE] += 1
            counts[better] += 1
        else:
            counts[better] += 1
            if better != TIE and longer is not None:
                counts["longer" if better == longer else "shorter"] += 1
    return Preferences(
        run=run,
        model=store.run().model,
        pairs=store.records.count() // 2,
        judged=counts[FIRST] + counts[TIE] + counts[SECOND],
        first=counts[FIRST],
        ties=counts[TIE],
        second=counts[SECOND],
        inconsistent=counts["inconsistent"],
        unreadable=counts["unreadable"],
        longer=counts["longer"],
        shorter=counts["shorter"],
        cost=store.costs.bill(0, 0).spent,
        left=left,
    )


def _judged(store: WorkStore) -> Iterator[tuple[str | None, str | None]]:
    """Of pairs that were judged in both orders, the better answer and the longer one."""
    swapped = {FIRST: SECOND, SECOND: FIRST, TIE: TIE}
    for _, lines in groupby(store.comparison.judged_pairs(), key=lambda line: line[0] // 2):
        both = list(lines)
        if len(both) < 2:
            continue
        (_, chars, others, one), (_, _, _, other) = both
        better, again = read_better(one), read_better(other)
        if better is None or again is None:
            yield None, None
        else:
            longer = None if chars == others else FIRST if chars > others else SECOND
            yield better if better == swapped[again] else "inconsistent", longer
