"""--dedup: questions that repeat another, exactly or nearly."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, write_jsonl
from tests.rows import (
    ALL,
    CHINESE,
    LONG,
    SKIP,
    left_out,
    questions,
    source_rows,
)


@pytest.mark.parametrize(
    ("dedup", "expected", "lines"),
    [
        ("exact", [0, 2, 3, 4, 5, 6, 7], ["left out: 2 rows that repeat a question (--dedup)"]),
        ("near", [0, 3, 4, 6, 7],
         ["left out: 2 rows that nearly repeat a question (--dedup near)",
          "left out: 2 rows that repeat a question (--dedup)"]),
    ],
)  # fmt: skip
def test_duplicates(
    command: Command, tmp_path: Path, dedup: str, expected: list[int], lines: list[str]
) -> None:
    """The first of equal questions stays, with near also the first of nearly equal ones, in Chinese
    too; questions with other numbers are others.
    """
    path = questions(
        tmp_path,
        LONG,
        f" {LONG.upper()}\n",
        f"{LONG}?",
        f"{LONG} 2",
        CHINESE,
        f"{CHINESE}。",
        f"{CHINESE}三",
        "Why is the sky blue in the day?",
        CHINESE,
    )
    done = command(*SKIP, *ALL, "--dataset-name", path, "--dedup", dedup)
    assert (source_rows(), left_out(done.stderr)) == (expected, lines)


def test_duplicates_in_conversations(command: Command, tmp_path: Path) -> None:
    """A question is repeated only where what comes before it is the same."""
    rows: list[dict[str, object]] = [
        {
            "messages": [
                {"role": "user", "content": first},
                {"role": "assistant", "content": "An answer"},
                {"role": "user", "content": last},
                {"role": "assistant", "content": "Another answer"},
            ]
        }
        for first in ("Who was Goethe?", "Who was Schiller?")
        for last in (LONG, f"{LONG}?")
    ]
    path = write_jsonl(tmp_path / "d.jsonl", [*rows, rows[0]])
    assert command(*SKIP, *ALL, "--dataset-name", path, "--dedup", "near").returncode == 0
    assert source_rows() == [0, 2]


def test_duplicates_with_images(command: Command, tmp_path: Path) -> None:
    """A question about another image is another one."""
    rows: list[dict[str, object]] = [
        {"question": "What is it?", "answer": "a", "image": f"https://example.com/{name}.png"}
        for name in "abac"
    ]
    first = write_jsonl(tmp_path / "a.jsonl", rows[:3])
    second = write_jsonl(tmp_path / "b.jsonl", rows[2:])
    options = ("--dataset-name", first, "--dataset-name", second, "--images", "--dedup", "near")
    assert command(*SKIP, *ALL, *options).returncode == 0
    assert source_rows() == [0, 1, 1]


def test_duplicates_and_samples(command: Command, tmp_path: Path) -> None:
    """Duplicates are left out before rows are sampled: a larger sample contains a smaller one."""
    texts = [f"{LONG}, in {word} words" for word in "abcdefghij"]
    path = questions(tmp_path, *texts, *[f"{LONG} of {n} years" for n in range(20)], *texts)
    for size in (4, 9, 0):
        options = ("--dataset-name", path, "--dedup", "near", "--sample-size", size)
        assert command(*SKIP[:-1], size, *options).returncode == 0
    assert source_rows("0") == [0, *range(10, 30)]
    assert set(source_rows("4")) < set(source_rows("9")) < set(source_rows("0"))


@pytest.mark.parametrize("dedup", ["exact", "near"])
def test_duplicates_of_another_dataset(command: Command, tmp_path: Path, dedup: str) -> None:
    """Questions that the sample has from an earlier dataset are left out of a later one."""
    first = questions(tmp_path, "A", LONG, name="a.jsonl")
    second = questions(tmp_path, LONG.lower(), "B", "a", name="b.jsonl")
    done = command(*SKIP, *ALL, "--dataset-name", first, "--dataset-name", second, "--dedup", dedup)
    assert (source_rows(), left_out(done.stderr)) == (
        [0, 1, 1],
        ["left out: 2 rows that repeat a question (--dedup)"],
    )


# A display that kills its process with kill -9 as the second dataset is opened.
KILLED = """
import os, signal, sys
from fastdatasets import distill

class Killing:
    def __enter__(self): return self
    def __exit__(self, *exc): pass
    def show(self, status): pass
    def confirm(self, question): return True
    def say(self, line):
        if line == f"sampling {sys.argv[2]}":
            os.kill(os.getpid(), signal.SIGKILL)

distill(sys.argv[1:], model="m", run="r", sample_size=0, skip_generation=True, dedup="near",
        where="length(question) > 0", display=Killing())
"""


@pytest.mark.slow
def test_killed_while_sampling(command: Command, tmp_path: Path) -> None:
    """After a kill -9 between two datasets a resume leaves out what the first one has already."""
    first = questions(tmp_path, "A", LONG, name="a.jsonl")
    second = questions(tmp_path, f"{LONG}?", "B", "a", name="b.jsonl")
    words = [sys.executable, "-c", KILLED, str(first), str(second)]
    killed = subprocess.run(words, capture_output=True, check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    first.unlink()
    done = command("resume")
    assert (done.returncode, source_rows(), left_out(done.stderr)) == (
        0,
        [0, 1, 1],
        [
            "left out: 1 rows that nearly repeat a question (--dedup near)",
            "left out: 1 rows that repeat a question (--dedup)",
        ],
    )
