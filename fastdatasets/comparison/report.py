"""What a comparison of two runs shows; its fields are the keys of --json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from fastdatasets.runs.folders import is_unfinished
from store import RunFolder, Unfinished
from store.answers.comparison import Compared, RunFigures
from store.money import dollars
from store.runs import Run


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run and its answers to the common questions; None: not known.

    complete: whether the run is done. cost: USD of these answers, wherever they were paid for.
    verdicts: answers by the check that rejected them. scored: answers with a score.
    """

    run: str
    backend: str
    model: str
    complete: bool
    answers: int
    mean_characters: float
    median_characters: float
    mean_completion_tokens: float | None
    cost: Decimal | None
    cost_per_1000: Decimal | None
    verdicts: dict[str, int]
    scored: int
    mean_score: float | None


@dataclass(frozen=True, slots=True)
class Questions:
    """By the question as asked: its system prompt, history, instruction and input."""

    both: int
    only_first: int
    only_second: int


@dataclass(frozen=True, slots=True)
class Wins:
    """Questions that the first run wins by its mean score, ties, and those the second wins."""

    first: int
    ties: int
    second: int


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the judge prefers; each pair is judged in both orders.

    run: of the judge's requests; None where no answers differ. judged: pairs with both judgements;
    first, ties and second sum to it. inconsistent: of the ties, those where the orders disagree.
    unreadable: pairs, not in judged, with a judgement that names none. longer, shorter: how often
    the longer and the shorter answer won. left: what is left of the run, None where it is complete.
    """

    run: str | None
    model: str
    pairs: int
    judged: int
    first: int
    ties: int
    second: int
    inconsistent: int
    unreadable: int
    longer: int
    shorter: int
    cost: Decimal | None
    left: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs over the same questions. Shares are from 0 to 1; None: there is nothing to compare.

    equal_answers: by question the share of equal pairs, an answer of each run, without case and
    white space. final_answers: questions where both have final answers; equal_final_answers: of
    these. scores: None where no question has scores of both.
    """

    questions: Questions
    first: ComparedRun
    second: ComparedRun
    equal_answers: float
    final_answers: int
    equal_final_answers: float | None
    scores: Wins | None
    judge: Preferences | None = None

    def raise_if_left(self) -> None:
        """Raise Unfinished, saying what is left of the judge's run, unless it is complete."""
        if self.judge is not None and self.judge.left is not None:
            raise Unfinished(self.judge.left)


def report(compared: Compared, runs: Sequence[tuple[RunFolder, Run]]) -> Comparison:
    """The comparison of the first and the second run, without a judge's preference."""
    first, second = (
        _run(folder, run, figures)
        for (folder, run), figures in zip(runs, compared.runs, strict=True)
    )
    assert compared.equal_answers is not None, "there are common questions"
    return Comparison(
        Questions(compared.common, compared.only_first, compared.only_second),
        first,
        second,
        compared.equal_answers,
        compared.final_answers,
        compared.equal_final_answers,
        Wins(*compared.scores) if any(compared.scores) else None,
    )


def _run(folder: RunFolder, run: Run, figures: RunFigures) -> ComparedRun:
    cost = None if figures.cost is None else dollars(figures.cost)
    return ComparedRun(
        folder.name,
        run.backend,
        run.model,
        not is_unfinished(folder),
        figures.answers,
        figures.mean_characters,
        figures.median_characters,
        figures.mean_completion_tokens,
        cost,
        None if cost is None else cost * 1000 / figures.answers,
        figures.verdicts,
        figures.scored,
        figures.mean_score,
    )
