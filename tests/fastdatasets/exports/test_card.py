"""The dataset card of a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

from fastdatasets.exports.card import COLUMNS
from fastdatasets.exports.formats import DISTILLED
from fastdatasets.exports.formats import FORMATS as DEFINITIONS
from tests.conftest import Command, write_jsonl
from tests.fastdatasets.exports.test_formats import FORMATS, RUN, conversations, distill, rows
from tests.llmserver import LLMServer, Reply, Usage

USAGE = Usage(prompt_tokens=100, completion_tokens=10)


def answer(body: dict[str, Any]) -> Reply:
    """An answer, one that is cut off, and a request that is refused."""
    match body["messages"][-1]["content"]:
        case "cut":
            return Reply("An", finish_reason="length", usage=USAGE)
        case "bad":
            return Reply(status_code=400, error={"message": "no | way"})
        case _:
            return Reply("An answer", usage=USAGE)


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the card, without its first two lines."""
    section = (RUN / "README.md").read_text("utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_figures(command: Command, server: LLMServer) -> None:
    """It has the records, rows left out, tokens, cost, and the requests without a whole answer."""
    server.answer = answer
    asked: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": text}]} for text in ("a", "cut", "bad")
    ]
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}
    later = [*asked[0]["messages"], {"role": "assistant", "content": "b"}, asked[1]["messages"][0]]
    source = write_jsonl(
        Path("d.jsonl"),
        [*asked, {"messages": []}, {"messages": [image]}, {"messages": later}],
    )
    done = command(
        *(
            "distill",
            "--dataset-name",
            source,
            "--sample-size",
            0,
            "--run",
            "r",
            "--turns",
            "first",
        ),
        *("--backend", "openai", "--model", "m", "--price-in", 10, "--price-out", 100),
    )
    assert done.returncode == 3
    assert table("Files") == [
        ["distilled.json", "3"],
        ["distilled-alpaca.json", "2"],
        ["distilled-sharegpt.json", "2"],
    ]
    assert table("Figures") == [
        ["records", "4"],
        ["rows left out: with images, audio or video", "1"],
        ["rows left out: without a question of the user", "1"],
        ["not used: turns after the question that is asked", "1"],
        ["requests", "3"],
        ["requests without an answer", "1"],
        ["the last attempt failed: the request was refused", "1"],
        ["answers that the check truncated rejected", "1"],
        ["answers left out of the training files: truncated", "1"],
        ["prompt tokens", "200"],
        ["completion tokens", "20"],
        ["cost in USD", "0.0040"],
    ]


@pytest.mark.parametrize("make", [distill, conversations])
def test_columns(command: Command, make: Any) -> None:
    """It says of each column of the files which configurations have it."""
    make(command)
    command("export", "r", "--formats", FORMATS, "--reasoning", "field")
    columns = {
        (column, name) for column, names, _ in table("Columns") for name in names.split(", ")
    }
    files = {"distilled": rows("distilled.json")}
    files |= {name: rows(f"distilled-{name}.json") for name in FORMATS.split(",")}
    assert columns == {(column, name) for name, its in files.items() for column in its[0]}


def test_every_column_is_explained() -> None:
    """There is a text for each column that a file may have, and for no other."""
    formats = [*DEFINITIONS.values(), *DISTILLED.values()]
    assert set(COLUMNS) == {name for one in formats for name in (*one.columns, *one.optional)}


def test_metadata(command: Command) -> None:
    """The Hub's library reads the YAML: a configuration a format, with the files of each split."""
    distill(command)
    command("export", "r", "--test-share", "0.5")
    data = DatasetCard.load(RUN / "README.md").data.to_dict()

    def files(name: str, *splits: str) -> list[dict[str, str]]:
        return [
            {"split": split, "path": f"distilled{name}{'-test' * (split == 'test')}.json"}
            for split in splits
        ]

    assert data == {
        "pretty_name": "distilled answers",
        "configs": [
            {
                "config_name": "alpaca",
                "default": True,
                "data_files": files("-alpaca", "train", "test"),
            },
            {"config_name": "sharegpt", "data_files": files("-sharegpt", "train", "test")},
            {"config_name": "distilled", "data_files": files("", "train")},
        ],
    }
