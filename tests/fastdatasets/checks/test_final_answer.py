"""Final answers: where they stand, and which are equal."""

from __future__ import annotations

import time

import pytest

from fastdatasets.checks.final_answer import final_answer, final_answers_by

FINAL = [
    ("so \\boxed{\\frac{1}{2}}", "0.5"),
    ("first \\boxed{3}, then \\boxed{x^{2}+1}.", "x^2+1"),
    ("\\boxed{\\text{Paris}}", "paris"),
    ("He has 3.\n#### 1,000", "1000"),
    ("Answer: $1000.00", "1000"),
    ("Answer: US$5", "5"),
    ("The answer is 50%.", "50"),
    ("**Answer:** 42 apples", "42"),
    ("The answer is: **\\(42\\)**", "42"),
    ("The answer is 42. But maybe not.", "42"),
    ("答案：42个", "42"),
    ("因此答案是42元。", "42"),
    ("共４２个", "42"),
    ("故选C。", "c"),
    ("Answer: (B) Paris", "b"),
    ("Answer: 1/3", "1/3"),
    ("Answer: 1 1/2", "1.5"),
    ("Answer: -1/2", "-0.5"),
    ("Answer: 2½", "2.5"),
    ("Answer: 5²", "5^2"),
    ("Answer: x = 5", "5"),
    ("Therefore, Tom has 3 + 4 = 7 apples.", "7"),
    ("It is so.\n3/4", "0.75"),
    ("Answer: H2O", "h2o"),
    ("Answer: 2x", "2x"),
    ("Answer: x - 5", "x-5"),
    ("Answer: 5,10", "5,10"),
    ("Answer: 12:30", "12:30"),
    ("Answer: New York", "newyork"),
    ("Nothing short is said here, and the last line goes on and on without an end.", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "answer"), FINAL)
def test_final_answer(text: str, answer: str | None) -> None:
    """The final answer of a text is the marked one, else a short last line, in its normal form."""
    assert final_answer(text) == answer


def test_pattern() -> None:
    """A pattern's last match counts: its first group, or all of it; nothing else is tried."""
    by_group, whole = final_answers_by(r"=> (\w+)"), final_answers_by(r"\d+ km")
    assert by_group("=> 3\n=> 4.0\n#### 7") == "4"
    assert by_group("#### 7") is None
    assert whole("5 km or 7 km") == "7"


def test_pattern_that_backtracks_without_end() -> None:
    """A pattern is given up on an answer for which it takes too long."""
    began = time.monotonic()
    assert final_answers_by(r"(a+)+$")("a" * 40 + "b") is None
    assert time.monotonic() - began < 5
