"""axolotl's prompt strategies read a run's files by the lines of its dataset card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.vllm.demo_model import demo_model
from tests.conftest import Command
from tests.fastdatasets.exports.test_formats import FORMATS, PLAIN, RUN, distill
from tests.trainers.runs import FILE_TYPES, exported, read
from tests.trainers.test_trl import CALL, CHATS, chatml

pytestmark = pytest.mark.slow

PREFACE = (
    "Below is an instruction that describes a task{}. "
    "Write a response that appropriately completes the request.\n\n"
)
INPUT = ", paired with an input that provides further context"
END = "<|im_end|>"


def tokenized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """By file its rows: the whole text, and the parts that are trained on."""
    card = (RUN / "README.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(datasets:\n.*?)```", card, re.DOTALL)
    configs = [config for block in blocks for config in yaml.safe_load(block)["datasets"]]
    monkeypatch.chdir(RUN.parent)
    arguments = (str(demo_model(print)), str(tmp_path / "cache"), json.dumps(configs))
    rows = read("read_axolotl.py", *arguments)
    monkeypatch.chdir(tmp_path)
    return {
        config["path"]: [(text, answers) for text, answers in found]
        for config, found in zip(configs, rows, strict=True)
    }


def test_conversations(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of conversations and tool calls it reads messages, all of it, and trains on the answers.

    Not alpaca and sharegpt, of which it would drop the earlier turns and the calls.
    """
    exported(command)
    answers = [
        [f"why\n</think>\n\n1{END}"],
        [CALL + END],
        [CALL + END, f"It is 1.{END}", f"3{END}"],
        [f"It is 1.{END}", f"4{END}"],
    ]
    for file_type in FILE_TYPES:
        command("export", "r", "--file-type", file_type, "--reasoning", "think")
        assert tokenized(monkeypatch, tmp_path) == {
            f"r/distilled-messages.{file_type}": list(zip(CHATS, answers, strict=True))
        }


def test_plain_rows(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of plain rows it reads alpaca, sharegpt and messages."""
    distill(command, PLAIN, "--formats", FORMATS)

    def chats(first: str, second: str) -> list[object]:
        think = "<think>\n\n</think>\n\n"
        return [
            (chatml("user", first, "assistant", f"{think}1"), [f"1{END}"]),
            (chatml("user", second, "assistant", f"{think}2"), [f"2{END}"]),
        ]

    start = "### Instruction:\n"
    assert tokenized(monkeypatch, tmp_path) == {
        "r/distilled-alpaca.json": [
            (f"{PREFACE.format('')}{start}A\n\n### Response:\n1{END}", [f"1{END}"]),
            (
                f"{PREFACE.format(INPUT)}{start}B\n\n### Input:\nx\n\n### Response:\n2{END}",
                [f"2{END}"],
            ),
        ],
        "r/distilled-sharegpt.json": chats("指令: A", "指令: B\n\n输入: x"),
        "r/distilled-messages.json": chats("A", "B\n\nx"),
    }
