"""The run's folder and each of its files, as datasets.load_dataset reads them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.conftest import Command
from tests.fastdatasets.exports.test_formats import (
    FORMATS,
    PLAIN,
    RUN,
    conversations,
    distill,
    rows,
)

ROWS = {"alpaca": 2, "sharegpt": 4, "messages": 4, "prompt_completion": 1, "raw": 4}


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(*arguments: str, **options: Any) -> Any:
    """A dataset; without the progress bars."""
    datasets.disable_progress_bars()
    return datasets.load_dataset(*arguments, **options)


@pytest.mark.quick(1)
@pytest.mark.parametrize("file_type", ["json", "jsonl", "parquet"])
def test_folder_and_files(command: Command, file_type: str) -> None:
    """A configuration a format, alpaca by default, and every file by itself have every row."""
    conversations(command)
    done = command("export", "r", "--formats", FORMATS, "--file-type", file_type)
    assert done.returncode == 0, done.stderr
    assert load(str(RUN), split="train").to_list() == rows(f"distilled-alpaca.{file_type}")
    reader = "parquet" if file_type == "parquet" else "json"
    for name, count in ROWS.items():
        file = str(RUN / f"distilled-{name}.{file_type}")
        by_file = load(reader, data_files=file, split="train")
        assert (len(load(str(RUN), name, split="train")), len(by_file)) == (count, count)


def test_split(command: Command) -> None:
    """A run with test files has both splits; conversations with one first question are in one."""
    conversations(command)
    command("export", "r", "--test-share", "0.25")
    sizes = {name: len(rows) for name, rows in load(str(RUN), "sharegpt").items()}
    assert sizes == {"train": 2, "test": 2}


def test_dataset_info(command: Command) -> None:
    """LLaMA-Factory's dataset_info.json names the training files, their columns, and no others."""
    conversations(command)
    command("export", "r", "--formats", FORMATS)
    info = json.loads((RUN / "dataset_info.json").read_text("utf-8"))
    assert {entry["file_name"] for entry in info.values()} == {
        f"distilled-{name}.json" for name in ROWS if name != "raw"
    }
    for entry in info.values():
        missing = set(entry["columns"].values()) - set(rows(entry["file_name"])[0])
        assert missing == set()
    assert info["distilled-alpaca"]["columns"] == {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "system": "system",
        "history": "history",
    }
    assert info["distilled-sharegpt"]["tags"]["assistant_tag"] == "assistant"


@pytest.mark.parametrize(("output", "others"), [("3", {"distilled", "distilled-raw"}), ("", set())])
def test_dataset_info_of_all_rows(command: Command, output: str, others: set[str]) -> None:
    """It names distilled.json and raw as well where each of their rows has an answer."""
    last: dict[str, object] = {"instruction": "C", "output": output}
    distill(command, [*PLAIN, last], "--formats", FORMATS, "--test-share", "0.5")
    info = json.loads((RUN / "dataset_info.json").read_text("utf-8"))
    training = {f"distilled-{name}" for name in ROWS if name != "raw"}
    assert set(info) == training | {f"{name}-test" for name in training} | others


def test_card(command: Command) -> None:
    """The card, which push uploads, has no path of this machine, and no lines for files that a
    trainer would drop turns of.
    """
    headings = []
    for make in (distill, conversations):
        make(command)
        command("export", "r", "--formats", FORMATS)
        text = (RUN / "README.md").read_text("utf-8")
        assert str(RUN.resolve().parent) not in text
        headings.append(re.findall("^(axolotl|Unsloth), (.*):$", text, re.MULTILINE))
        shutil.rmtree(RUN)
    assert headings == [
        [("axolotl", "alpaca"), ("axolotl", "sharegpt"), ("axolotl", "messages"),
         ("Unsloth", "sharegpt"), ("Unsloth", "messages")],
        [("axolotl", "messages"), ("Unsloth", "messages")],
    ]  # fmt: skip
