"""What the guides promise: the old command lines, the Python example, the settings."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastdatasets
from fastdatasets.config.settings import Settings
from store import UserError
from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/guide.md").read_text("utf-8")
SCRIPT = ROOT / "scripts/distill_dataset.py"
translate = runpy.run_path(str(SCRIPT))["translate"]


def teacher(body: dict[str, Any]) -> str:
    """Variants where they are asked for, else an answer."""
    content: str = body["messages"][-1]["content"]
    if "JSON" in content:
        return json.dumps([f"{content[-40:]} {word}" for word in ("one", "another", "something")])
    return f"A: {content}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    """A server that the environment points at."""
    with LLMServer(answer=teacher) as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("LLM_MODEL", "m")
        yield server


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The old guide's script, in the current folder."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def make_datasets() -> None:
    """The datasets of the guide's examples, as local folders of their names."""
    folder = Path("open-r1/s1K-1.1")
    folder.mkdir(parents=True)
    rows: list[dict[str, object]] = [
        {"question": f"Question {n}", "context": "c", "reasoning": "r", "answer": f"{n}"}
        for n in range(120)
    ]
    write_jsonl(folder / "train.jsonl", rows)
    Path("data").mkdir()
    samples = [{"instruction": "分析以下文本", "input": "", "output": "x"}]
    Path("data/high_quality_samples.json").write_text(json.dumps(samples), "utf-8")


OLD = ("--mode", "distill", "--dataset_name", "open-r1/s1K-1.1")


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("arguments", "rows", "files"),
    [
        ((*OLD, "--sample_size", "100", "--formats", "alpaca,sharegpt"), 100, 3),
        ((*OLD, "--formats", "alpaca"), 3, 2),
        ((*OLD, "--sample_size", "5", "--include_reasoning", "--max_output_tokens", "99"), 5, 3),
        ((*OLD, "--sample_size=4", "--skip_generation", "--output_file", "all.json"), 4, 4),
        (
            (*OLD, "--instruction_col=question", "--input_col=context", "--output_col", "answer"),
            3,
            3,
        ),
        (
            ("--mode=augment", "--high_quality_file", "data/high_quality_samples.json",
             "--num_aug", "3"),
            4,
            3,
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("server")
def test_old_command_lines(
    command: Command, arguments: tuple[str, ...], rows: int, files: int
) -> None:
    """The old guide's command lines run as they stand there."""
    make_datasets()
    done = command(*translate([*arguments]))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, files), done.stderr
    (distilled,) = Path("output").glob("*/distilled.json")
    assert re.fullmatch(r"\d{8}_\d{6}", distilled.parent.name)
    assert len(json.loads(distilled.read_text("utf-8"))) == rows


@pytest.mark.slow
def test_old_script_takes_no_sample_below_0(server: LLMServer) -> None:
    """The script says that 0 means all rows, and asks nothing."""
    make_datasets()
    done = script(*OLD, "--sample_size", "-1")
    assert (done.returncode, done.stderr, server.requests_log) == (
        1,
        "fastdatasets: --sample-size -1: 0 or more is expected; 0 means all rows\n",
        [],
    )


def test_python_takes_no_sample_below_0() -> None:
    """From Python the same is a UserError."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": "a"}])
    with pytest.raises(UserError, match="--sample-size -1: 0 or more is expected; 0 means all"):
        fastdatasets.distill(str(source), model="m", sample_size=-1)


@pytest.mark.slow
def test_generation_settings_reach_the_server(server: LLMServer) -> None:
    """LLM_TEMPERATURE, LLM_TOP_P, LLM_MAX_TOKENS and SYSTEM_PROMPT are in every request."""
    make_datasets()
    Path(".env").write_text(
        "LLM_TEMPERATURE=0.5\nLLM_TOP_P=0.25\nLLM_MAX_TOKENS=77\nSYSTEM_PROMPT=Be kind.\n"
    )
    assert script(*OLD).returncode == 0
    for text in server.bill.executions:
        body = json.loads(text)
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.25, 77)
        assert body["messages"][0] == {"role": "system", "content": "Be kind."}


@pytest.mark.usefixtures("server")
def test_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's Python example runs and prints what it says."""
    write_jsonl(Path("questions.jsonl"), [{"prompt": "a"}, {"prompt": "b"}])
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(compile(example, "guide.md", "exec"), {})
    assert capsys.readouterr().out.startswith("2 output/night/distilled.json output/night/")
    assert fastdatasets.status("night").status.state == "done"


def test_exported_names() -> None:
    """The package's names are those of the docs, and each is there."""
    assert [name for name in fastdatasets.__all__ if getattr(fastdatasets, name) is None] == []
    assert set(fastdatasets.__all__) >= {"distill", "augment", "resume", "export", "estimate"}


def test_config(command: Command) -> None:
    """Config says where each value comes from, and shows no key."""
    Path(".env").write_text("LLM_MODEL=from-file\nLLM_API_KEY=sk-1234567890abcdef\n")
    done = command("config", "--json", env={"LLM_MODEL": "from-environment"})
    found = {one["name"]: (one["value"], one["origin"]) for one in json.loads(done.stdout)}
    assert found["LLM_MODEL"] == ("from-environment", "environment")
    assert found["LLM_API_KEY"] == ("…cdef", ".env")
    assert found["MAX_LLM_CONCURRENCY"] == ("10", "default")
    assert "1234567890" not in done.stdout + command("config").stdout


def test_every_setting_stands_in_the_guide() -> None:
    """Each setting is in the guide and in .env.example."""
    example = (ROOT / ".env.example").read_text("utf-8")
    names = [name.upper() for name in Settings.model_fields]
    assert [name for name in names if name not in example] == []
    shortened = GUIDE.replace("_REQUESTS, _MAX_BYTES", "_REQUESTS, FASTDATASETS_BATCH_MAX_BYTES")
    assert [name for name in names if name not in shortened] == []


def test_both_guides_have_the_same_parts() -> None:
    """The Chinese guide speaks of every backend, file and mode that the English one does."""
    chinese = (ROOT / "docs/guide.zh.md").read_text("utf-8")
    words = ("distill", "augment", "openai-batch", "`openai`", "vllm", ".env", "--prompt-template")
    assert [word for word in words if word not in chinese or word not in GUIDE] == []


def test_python_dash_m(command_process: Command) -> None:
    """Python -m fastdatasets is the command; its help names every command."""
    done = command_process("--help", env={"COLUMNS": "200"})
    assert done.returncode == 0
    for name in (
        "distill",
        "augment",
        "resume",
        "status",
        "estimate",
        "export",
        "cancel",
        "config",
    ):
        assert name in done.stdout
    assert os.environ.get("COLUMNS") != "200"
