"""A comparison as JSON, and as lines for a person."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from fastdatasets.comparison.report import ComparedRun, Comparison, Preferences


def to_json(comparison: Comparison) -> str:
    """A comparison as one JSON object, its amounts as numbers."""
    return msgspec.json.Encoder(decimal_format="number").encode(comparison).decode()


def to_text(comparison: Comparison) -> str:
    """A comparison as lines for a person."""
    first, second = comparison.first, comparison.second
    questions = comparison.questions
    lines = [
        f"{questions.both} questions in both runs, {questions.only_first} only in {first.run}, "
        f"{questions.only_second} only in {second.run}",
        *_columns(_figures(first), _figures(second)),
        f"equal answers: {_share(comparison.equal_answers)}",
    ]
    if comparison.equal_final_answers is not None:
        lines.append(
            f"equal final answers: {_share(comparison.equal_final_answers)} "
            f"of {comparison.final_answers} questions"
        )
    if (scores := comparison.scores) is not None:
        lines.append(
            f"by score: {first.run} wins {scores.first}, {second.run} {scores.second}, "
            f"ties {scores.ties}"
        )
    if comparison.judge is not None:
        lines += _preferences(comparison.judge, first.run, second.run)
    return "\n".join(lines)


def _figures(run: ComparedRun) -> dict[str, str]:
    """The rows of a run's column; '': its own verdicts follow."""
    return {
        "run": run.run if run.complete else f"{run.run} (unfinished)",
        "backend": run.backend,
        "model": run.model,
        "answers": str(run.answers),
        "characters, mean": _number(run.mean_characters),
        "characters, median": _number(run.median_characters),
        "completion tokens, mean": _number(run.mean_completion_tokens),
        "cost": _usd(run.cost),
        "cost of 1000 answers": _usd(run.cost_per_1000),
        "score, mean": _number(run.mean_score),
        **{f"rejected: {check}": str(count) for check, count in run.verdicts.items()},
    }


def _columns(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """The rows of both runs side by side, without those that neither has."""
    names = [
        name for name in {**first, **second} if (first.get(name), second.get(name)) != ("", "")
    ]
    rows = [(name, first.get(name, "0"), second.get(name, "0")) for name in names]
    widths = [max(len(row[place]) for row in rows) for place in range(2)]
    return [
        f"  {name:<{widths[0]}}  {one:<{widths[1]}}  {other}".rstrip() for name, one, other in rows
    ]


def _preferences(judge: Preferences, first: str, second: str) -> list[str]:
    if judge.run is None:
        return ["the judge was not asked: no two usable answers to a question differ"]
    lines = [
        f"the judge {judge.model}, asked both ways round about {judge.judged} of {judge.pairs} "
        f"pairs (run {judge.run}): {first} wins {judge.first}, {second} {judge.second}, ties "
        f"{judge.ties}, of which {judge.inconsistent} inconsistent"
    ]
    if decided := judge.longer + judge.shorter:
        lines.append(f"  the longer answer won {judge.longer} of {decided}")
    if judge.unreadable:
        lines.append(f"  {judge.unreadable} pairs without a preference that can be read")
    if judge.cost is not None:
        lines.append(f"  {_usd(judge.cost)} spent")
    return lines


def _share(share: float) -> str:
    return f"{100 * share:.1f}%"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _usd(value: Decimal | None) -> str:
    return "" if value is None else f"{value:.4f} USD"
