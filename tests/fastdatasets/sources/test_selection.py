"""Choosing the rows of a sample: lengths, languages, strata, and all options at once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import fastdatasets
from tests.conftest import Command, write_jsonl
from tests.rows import (
    ALL,
    CHINESE,
    KINDS,
    LONG,
    ROWS,
    SKIP,
    left_out,
    questions,
    source_rows,
    write,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-chars", 9, "--max-chars", 3),
         "--min-chars 9 is more than --max-chars 3: no question is both"),
        (("--stratify", "scoe", "--sample-size", 2),
         "--stratify scoe: there is no column 'scoe'; did you mean 'score'? The dataset has "
         "question, answer, score, my col, 分数, ok"),
        (("--stratify", "score", *ALL),
         "--stratify score: all rows are taken; name a --sample-size"),
        (("--question-language", "zh,xx"),
         "--question-language zh,xx: no language of code 'xx' is known; zh, en, ja and de are "
         "examples of ISO 639"),
        (("--question-language", ","),
         "--question-language ,: no code is given; zh, en, ja and de are examples of ISO 639"),
        (("--min-chars", 5),
         "it has no row with a question to ask: 4 shorter than --min-chars 5"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(
    command: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    """Options that contradict each other or the dataset are an error of one line."""
    done = command(*SKIP, "--dataset-name", write(tmp_path / "d.csv", ROWS), *options)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"fastdatasets: {message}")
    assert list(Path("output").glob("r/*")) == []


@pytest.mark.quick(2)
@pytest.mark.parametrize("kind", KINDS)
def test_lengths(command: Command, tmp_path: Path, kind: str) -> None:
    """Lengths are those of instruction and input, in characters."""
    texts = [("ab", ""), ("ab", "cd"), ("一二三四", ""), ("abc", "de")]
    rows = [{"instruction": one, "input": two, "output": "a"} for one, two in texts]
    done = command(*SKIP, *ALL, "--dataset-name", write(tmp_path / f"d.{kind}", rows),
                   "--min-chars", 4, "--max-chars", 4)  # fmt: skip
    assert (source_rows(), left_out(done.stderr)) == (
        [1, 2],
        [
            "left out: 1 rows longer than --max-chars 4",
            "left out: 1 rows shorter than --min-chars 4",
        ],
    )


def test_languages(command: Command, tmp_path: Path) -> None:
    """Questions in other languages are left out: by script, and of one script by their words."""
    path = questions(
        tmp_path,
        "用 Python 写一个排序函数",
        "What is the capital of France, and how many people live there?",
        "日本の首都はどこですか",
        "Wie heißt die Hauptstadt von Frankreich, und wie viele Menschen leben dort?",
        "Quelle est la capitale de la France, et combien de personnes y vivent ?",
        "프랑스의 수도는 어디입니까",
        "Translate こんにちは into English for me, please",
    )
    expected = {"zh,en": [0, 1, 6], "ja": [2], "de, FR": [3, 4], "ko": [5]}
    found = {}
    for codes in expected:
        options = ("--dataset-name", path, "--question-language", codes)
        done = command(*SKIP[:-1], codes.replace(", ", ""), *ALL, *options)
        found[codes] = source_rows(codes.replace(", ", ""))
    assert (found, left_out(done.stderr)) == (
        expected,
        ["left out: 6 rows not in ko (--question-language)"],
    )


def strata(tmp_path: Path, kind: str) -> Path:
    """A hundred rows of three subjects, two without one."""
    subjects = ["maths"] * 68 + ["art"] * 20 + ["law"] * 10 + [None] * 2
    rows = [
        {"question": f"Q{n}", "answer": "a", "subject": subject}
        for n, subject in enumerate(subjects)
    ]
    return write(tmp_path / f"d.{kind}", rows)


def subjects_of(run: str) -> Counter[str]:
    """How many records of each subject a run has."""
    names = ["maths"] * 68 + ["art"] * 20 + ["law"] * 10 + ["none"] * 2
    return Counter(names[row] for row in source_rows(run))


@pytest.mark.quick(2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("subject", {10: {"maths": 7, "art": 2, "law": 1},
                     50: {"maths": 34, "art": 10, "law": 5, "none": 1}}),
        ("subject:equal", {10: {"maths": 3, "art": 3, "law": 2, "none": 2},
                           50: {"maths": 19, "art": 19, "law": 10, "none": 2}}),
    ],
)  # fmt: skip
def test_strata(
    command: Command, tmp_path: Path, kind: str, option: str, expected: dict[int, dict[str, int]]
) -> None:
    """Each value of a column gets its share, or as many as the others while it has rows; a larger
    sample contains a smaller one.
    """
    path = strata(tmp_path, kind)
    for size in (3, *expected, 90):
        assert command(*SKIP[:-1], size, "--dataset-name", path, "--stratify", option,
                       "--sample-size", size).returncode == 0  # fmt: skip
    samples = [set(source_rows(str(size))) for size in (3, *expected, 90)]
    assert {size: subjects_of(str(size)) for size in expected} == expected
    assert [small < large for small, large in pairwise(samples)] == [True] * 3


@pytest.mark.slow
def test_everything_at_once(command: Command, tmp_path: Path) -> None:
    """Reasons are counted one row each; estimate, preview, the run and its card say the same."""
    rows: list[dict[str, object]] = [
        {"question": text, "answer": "a", "score": score, "subject": "a"}
        for text, score in [(LONG, 5), (LONG, 1), ("Why?", 5), (LONG, 5), (CHINESE, 5), ("", 5)]
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    options: dict[str, Any] = {
        "where": "score > 3",
        "min_chars": 10,
        "max_chars": 200,
        "question_language": "en",
        "dedup": "near",
        "stratify": "subject",
    }
    words = [
        word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    done = command(*SKIP, "--dataset-name", path, "--sample-size", 5, *words)
    lines = [
        "sampled 1 of 6 rows",
        "left out: 1 rows for which --where is not true",
        "left out: 1 rows not in en (--question-language)",
        "left out: 1 rows shorter than --min-chars 10",
        "left out: 1 rows that repeat a question (--dedup)",
        "left out: 1 rows without a question of the user",
    ]
    shown = fastdatasets.preview(str(path), sample_size=5, model="m", backend="openai", **options)
    told = fastdatasets.estimate(str(path), sample_size=5, model="m", backend="openai", **options)
    assert (done.stderr.splitlines()[3:9], list(shown.lines)[2:], list(told.lines)[2:]) == (
        lines,
        lines,
        lines,
    )
    card = Path("output/r/README.md").read_text("utf-8")
    reasons = [line.removeprefix("left out: 1 rows ") for line in lines[1:]]
    assert [f"| rows left out: {reason} | 1 |" in card for reason in reasons] == [True] * 5


@pytest.mark.usefixtures("server")
def test_augment(command: Command, tmp_path: Path) -> None:
    """Samples to augment are chosen alike."""
    path = write(tmp_path / "d.jsonl", ROWS)
    done = command("augment", "--high-quality-file", path, "--where", "score > 9", "--model", "m",
                   "--backend", "openai", "--run", "r", "--num-aug", 1)  # fmt: skip
    assert "sampled 1 of 4 rows" in done.stderr.splitlines()


def test_frozen(command: Command, tmp_path: Path) -> None:
    """What was chosen is part of the run: it is continued by name with the same options only."""
    options = (*SKIP, "--dataset-name", write(tmp_path / "d.jsonl", ROWS), *ALL, "--where")
    assert [command(*options, "score > 9").returncode for _ in range(2)] == [0, 0]
    other = command(*options, "score > 1")
    assert (other.returncode, other.stderr.partition("(")[0]) == (
        1,
        "fastdatasets: run r already exists with another selection ",
    )
