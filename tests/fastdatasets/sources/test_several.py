"""Several datasets in one run: weights, shapes, kills between them, and errors that name one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fastdatasets
from fastdatasets.sources.sampling import shares_of
from store.runs import WeightedSource
from tests.conftest import Command, write_jsonl

SKIP = ("distill", "--skip-generation", "--model", "m", "--run", "r")

# A display that kills its process with kill -9 as the second source is opened.
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

distill(sys.argv[1:], model="m", run="r", sample_size=3, skip_generation=True, display=Killing())
"""


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    """Ten rows of instruction and output."""
    rows: list[dict[str, object]] = [
        {"instruction": f"A{n}", "input": "", "output": f"a{n}"} for n in range(10)
    ]
    return write_jsonl(tmp_path / "alpaca.jsonl", rows)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Four conversations of one question, and one without."""
    turns = [
        [{"role": "user", "content": f"B{n}"}, {"role": "assistant", "content": f"b{n}"}]
        for n in range(4)
    ]
    rows: list[dict[str, object]] = [{"messages": some} for some in (*turns, [])]
    return write_jsonl(tmp_path / "chats.jsonl", rows)


def answered(name: str = "distilled.json") -> list[tuple[str, str, str, int]]:
    """Instruction, output, source and its row of each row of a file of the run."""
    rows = json.loads(Path("output/r", name).read_text("utf-8"))
    names = ("instruction", "output", "source", "source_row")
    return [tuple(row[column] for column in names) for row in rows]


def of_alpaca(path: Path, *rows: int) -> list[tuple[str, str, str, int]]:
    """What `answered` has of rows of the first dataset."""
    return [(f"A{row}", f"a{row}", path.name, row) for row in rows]


def of_chats(path: Path, *rows: int) -> list[tuple[str, str, str, int]]:
    """What `answered` has of rows of the second dataset."""
    return [(f"B{row}", f"b{row}", path.name, row) for row in rows]


@pytest.mark.parametrize(
    ("weights", "sample_size", "shares"),
    [
        ((1, 1), 10, [5, 5]),
        ((1, 0.5), 100, [67, 33]),
        ((3, 1), 8, [6, 2]),
        ((1, 1, 1), 10, [4, 3, 3]),
        ((0.2, 0.3, 0.5), 7, [1, 2, 4]),
        ((7,), 5, [5]),
        ((1, 1), 0, [0, 0]),
    ],
)
def test_shares(weights: tuple[float, ...], sample_size: int, shares: list[int]) -> None:
    """The parts of the sources are in proportion to their weights and sum to the sample size."""
    sources = [WeightedSource(str(place), weight) for place, weight in enumerate(weights)]
    assert shares_of(sources, sample_size) == shares


def test_rows_know_their_source(command: Command, alpaca: Path, chats: Path) -> None:
    """Each dataset is mapped on its own and sampled by its weight; rows and card name it."""
    done = command(*SKIP, "--dataset-name", f"{alpaca}:3", "--dataset-name", chats,
                   "--sample-size", 8, "--formats", "raw,alpaca")  # fmt: skip
    expected = of_alpaca(alpaca, 4, 6, 7, 0, 5, 1) + of_chats(chats, 0, 1)
    assert (done.returncode, answered(), answered("distilled-raw.json")) == (0, expected, expected)
    assert done.stderr.splitlines()[1:] == [
        f"sampling {alpaca}",
        "columns: instruction ← instruction, input ← input, output ← output",
        "sampled 6 of 10 rows",
        f"sampling {chats}",
        "columns: instruction, output, system and history ← turns of messages",
        "sampled 2 of 5 rows",
        "left out: 1 rows without a question of the user",
    ]
    training = json.loads(Path("output/r/distilled-alpaca.json").read_text("utf-8"))
    assert {key for row in training for key in row} == {"instruction", "input", "output"}
    card = Path("output/r/README.md").read_text("utf-8")
    assert "Records of `alpaca.jsonl`, `chats.jsonl` (split train, seed 42)" in card


@pytest.mark.usefixtures("server")
def test_files_without_paths(command: Command, tmp_path: Path) -> None:
    """Files have no path of this machine: datasets of one name have the folders that differ."""
    for folder in ("a/x", "b/x"):
        (tmp_path / folder).mkdir(parents=True)
        write_jsonl(tmp_path / folder / "d.jsonl", [{"prompt": folder}])
    write_jsonl(tmp_path / "e.jsonl", [{"prompt": "e"}])
    names = [word for name in ("a/x/d.jsonl", "b/x/d.jsonl", "e.jsonl")
             for word in ("--dataset-name", tmp_path / name)]  # fmt: skip
    options = ("--model", "/models/teacher", "--backend", "openai", "--sample-size", 0)
    formats = ("--formats", "alpaca,sharegpt,messages,prompt_completion,raw", "--run", "r")
    assert command("distill", *names, *options, *formats).returncode == 0
    raw = json.loads(Path("output/r/distilled-raw.json").read_text("utf-8"))
    assert [(row["source"], row["model"], json.loads(row["params"])["model"]) for row in raw] == [
        (name, "teacher", "teacher") for name in ("a/x/d.jsonl", "b/x/d.jsonl", "e.jsonl")
    ]
    written = [*Path("output/r").glob("*.md"), *Path("output/r").glob("d*.json")]
    with_paths = [
        path.name for path in written if re.search(f"/models|{tmp_path}", path.read_text())
    ]
    assert (len(written), with_paths) == (8, [])


def test_parts_of_all_rows(command: Command, alpaca: Path, chats: Path) -> None:
    """With all rows a weight is that part of the usable rows; preview and estimate say the same."""
    options = ("--dataset-name", f"{alpaca}:0.3", "--dataset-name", f"{chats}:0.5",
               "--sample-size", 0, "--model", "m", "--backend", "openai")  # fmt: skip
    lines = json.loads(command("preview", *options, "--json").stdout)["lines"]
    assert lines == [
        f"sampling {alpaca}",
        "columns: instruction ← instruction, input ← input, output ← output",
        "sampled 3 of 10 rows",
        f"sampling {chats}",
        "columns: instruction, output, system and history ← turns of messages",
        "sampled 2 of 5 rows",
        "left out: 1 rows without a question of the user",
    ]
    estimated = fastdatasets.estimate(
        [f"{alpaca}:0.3", f"{chats}:0.5"], sample_size=0, model="m", backend="openai"
    )
    assert (estimated.records, list(estimated.lines)) == (5, lines)


def test_fewer_rows_than_its_part(command: Command, alpaca: Path, chats: Path) -> None:
    """A source with fewer usable rows than its part gives them all, and a line says so."""
    done = command(*SKIP, "--dataset-name", alpaca, "--dataset-name", chats, "--sample-size", 12)
    assert [line for line in done.stderr.splitlines() if line.startswith("sampled")] == [
        "sampled 6 of 10 rows",
        "sampled 4 of 5 rows, fewer than its part of 6",
    ]


@pytest.mark.slow
def test_killed_between_sources(command: Command, alpaca: Path, chats: Path) -> None:
    """After a kill -9 between two sources a resume samples the second only."""
    words = [sys.executable, "-c", KILLED, str(alpaca), str(chats)]
    killed = subprocess.run(words, capture_output=True, check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    alpaca.unlink()
    done = command("resume")
    assert (done.returncode, answered()) == (0, of_alpaca(alpaca, 4, 6) + of_chats(chats, 0))


def test_resume_by_name(command: Command, alpaca: Path, chats: Path) -> None:
    """A run is continued by name with the same sources and weights; others are an error."""
    both = ("--dataset-name", alpaca, "--dataset-name", chats)
    assert [command(*SKIP, *both).returncode for _ in range(2)] == [0, 0]
    other = command(*SKIP, "--dataset-name", alpaca, "--dataset-name", f"{chats}:2")
    assert (other.returncode, other.stderr.partition(":")[2].partition("(")[0]) == (
        1,
        " run r already exists with another sources ",
    )
    assert command(*SKIP, "--dataset-name", alpaca).returncode == 1


def test_a_colon_in_a_path(command: Command, tmp_path: Path) -> None:
    """A local path that exists is taken as a whole, with what looks like a weight."""
    (folder := tmp_path / "b:2").mkdir()
    write_jsonl(folder / "train.jsonl", [{"instruction": "q", "output": "a"}])
    shown = command("preview", "--dataset-name", folder, "--model", "m", "--backend", "openai",
                    "--json")  # fmt: skip
    assert json.loads(shown.stdout)["lines"][0] == f"sampling {folder}"


@pytest.mark.parametrize(
    ("first", "second", "sample_size", "message"),
    [
        ("alpaca.jsonl", "./alpaca.jsonl:2", 4, "--dataset-name {}/alpaca.jsonl is given twice"),
        ("alpaca.jsonl", "chats.jsonl:0", 4,
         "--dataset-name chats.jsonl:0: a weight above 0 is expected after the ':'"),
        ("alpaca.jsonl", "chats.jsonl:nan", 4,
         "--dataset-name chats.jsonl:nan: a weight above 0 is expected after the ':'"),
        ("alpaca.jsonl", "chats.jsonl:2", 0,
         "--dataset-name {}/chats.jsonl:2: with all rows (--sample-size 0) a weight is a part of "
         "the rows, at most 1"),
        ("alpaca.jsonl:100", "chats.jsonl", 4,
         "--dataset-name {}/chats.jsonl: its part of --sample-size 4 is less than one row: raise "
         "its weight, or the sample size"),
        ("alpaca.jsonl", "none.jsonl:2", 4, "no such file or folder: none.jsonl"),
        ("alpaca.jsonl", "empty.jsonl", 4,
         "{}/empty.jsonl: it has no row with a question to ask: 1 without a question of the user"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("alpaca", "chats")
def test_errors(
    command: Command, tmp_path: Path, first: str, second: str, sample_size: int, message: str
) -> None:
    """What is wrong with one of the sources is an error that names it, and leaves no folder."""
    write_jsonl(tmp_path / "empty.jsonl", [{"instruction": "", "output": "a"}])
    done = command(*SKIP, "--dataset-name", first, "--dataset-name", second,
                   "--sample-size", sample_size)  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        f"fastdatasets: {message.format(tmp_path)}",
    )
    assert not Path("output/r").exists()
