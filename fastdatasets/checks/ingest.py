"""Checking the answers that were not checked yet."""

from __future__ import annotations

from fastdatasets.checks.answers import checks_of
from store import WorkStore
from store.answers import CheckedAnswer
from store.planning import Verdict
from store.runs import Run


def check_answers(store: WorkStore, run: Run) -> None:
    """Store a verdict for each check that rejects an answer of the final stage.

    May be called at any time: an answer is checked once.
    """
    checks = checks_of(run)
    for answers in store.answers.to_check():
        verdicts = [
            Verdict(
                answer.record,
                run.final_stage,
                answer.ordinal,
                answer.generation,
                answer.request_id,
                name,
                reason,
            )
            for answer in answers
            for name, check in checks.items()
            if (reason := check(answer)) is not None
        ]
        checked = [
            CheckedAnswer(answer.record, answer.ordinal, answer.generation, answer.request_id, None)
            for answer in answers
        ]
        store.answers.add_checked(checked, verdicts)
