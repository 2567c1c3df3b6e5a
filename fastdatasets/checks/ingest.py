"""Checking the answers that were not checked yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastdatasets.checks.answers import CheckAnswer, checks_of
from fastdatasets.checks.final_answer import final_answers_by, wants_final_answers
from fastdatasets.checks.kinds import Check
from fastdatasets.checks.own import CheckFailedError
from store import WorkStore
from store.answers.answers import AnswerToCheck, CheckedAnswer
from store.planning import Verdict
from store.runs import Run

LEAST_OF_DUPLICATES = 40  # letters and digits: shorter answers may be right for many questions


def check_answers(store: WorkStore, run: Run) -> None:
    """Store a verdict for each check that rejects an answer of the final stage.

    May be called at any time: an answer is checked once. Raises UserError where a check of the
    user's own cannot be loaded.
    """
    checks = checks_of(run)
    final_answer_of = None
    if wants_final_answers(run):
        final_answer_of = final_answers_by(run.checks.answer_pattern)
    for answers in store.answers.to_check(run.checks.verify):
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
            for name, reason in _rejected(answer, checks)
        ]
        checked = [
            CheckedAnswer(
                answer.record,
                answer.ordinal,
                answer.generation,
                answer.request_id,
                final_answer_of(answer.output) if final_answer_of else None,
            )
            for answer in answers
        ]
        store.answers.add_checked(checked, verdicts)


def check_all(store: WorkStore, run: Run) -> None:
    """Check the answers that a run has, also for what one alone does not show: duplicates.

    May be called at any time; of all answers at once, so best when they are there. Raises UserError
    as check_answers.
    """
    if run.skip_generation:
        return
    check_answers(store, run)
    store.answers.reject_duplicates(Check.DUPLICATE, LEAST_OF_DUPLICATES)


def describe_flagged(store: WorkStore) -> list[str]:
    """How many answers each check rejected, and why the first check of the user's own failed."""
    flagged = store.answers.flagged()
    if not flagged:
        return []
    counts = ", ".join(f"{count} {name}" for name, count in flagged.items())
    lines = [f"flagged by checks: {counts}"]
    if (first := store.answers.first_reason(Check.FAILED_TO_RUN)) is not None:
        lines.append(f"a check failed to run: {first}")
    return lines


def _rejected(
    answer: AnswerToCheck, checks: Mapping[str, CheckAnswer]
) -> Iterator[tuple[str, str]]:
    """The checks that reject an answer, and why."""
    for name, check in checks.items():
        try:
            reason = check(answer)
        except CheckFailedError as error:
            yield Check.FAILED_TO_RUN, str(error)
        else:
            if reason is not None:
                yield name, reason
