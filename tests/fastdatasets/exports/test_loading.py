"""The run's folder and each of its files, as datasets.load_dataset reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.conftest import Command
from tests.fastdatasets.exports.test_formats import FORMATS, RUN, conversations, rows

ROWS = {"alpaca": 2, "sharegpt": 4, "messages": 4, "prompt_completion": 1, "raw": 4}


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def load(*arguments: str, **options: Any) -> Any:
    """A dataset; without the progress bars."""
    datasets.disable_progress_bars()
    return datasets.load_dataset(*arguments, **options)


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
    """LLaMA-Factory's dataset_info.json names every file, the columns it has, and no others."""
    conversations(command)
    command("export", "r", "--formats", FORMATS)
    info = json.loads((RUN / "dataset_info.json").read_text("utf-8"))
    assert {entry["file_name"] for entry in info.values()} == {
        path.name for path in RUN.glob("distilled*")
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
