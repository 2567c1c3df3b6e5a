"""The characters of a job's file that servers split lines at, or refuse."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from fastdatasets.commands import start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from store import Unfinished
from tests.conftest import write_jsonl
from tests.llmserver import Fault, Kind, LLMServer

FRAGILE = "\u2028\u2029" + "".join(map(chr, range(0x7F, 0xA0)))
QUESTIONS = [
    *(f"What is {character} here?" for character in FRAGILE),
    FRAGILE,
    "a façade, a\u00a0space, “quotes”, 汉字 and 😀",
    "plain",
]


@pytest.fixture
def server(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> LLMServer:
    """The server, which reads files with str.splitlines()."""
    server.splitlines = True
    server.answer = lambda body: f"To: {body['messages'][-1]['content']}"
    monkeypatch.setenv("SYSTEM_PROMPT", f"Be{FRAGILE}brief")
    return server


def run_config(backend: str) -> RunConfig:
    """A run whose questions, model and system prompt hold such characters."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    return RunConfig(dataset_name=str(source), sample_size=0, model=f"m{FRAGILE}", backend=backend)


def answered(run: str) -> list[tuple[str, str]]:
    """The questions and answers of a run's export."""
    rows = json.loads(Path(f"output/{run}/distilled.json").read_text())
    return [(row["instruction"], row["output"]) for row in rows]


@pytest.mark.slow
def test_server_that_splits_lines_elsewhere_too(server: LLMServer) -> None:
    """A batch goes through whole, with the answers and the request bodies of live calls."""
    start(run_config("openai-batch"), None, "batch", ExecutionConfig()).raise_if_left()
    bodies = set(server.bill.executions)
    start(run_config("openai"), None, "live", ExecutionConfig()).raise_if_left()
    assert server.bill.executions == dict.fromkeys(bodies, 2)
    assert answered("batch") == answered("live")
    assert [question for question, _ in answered("batch")] == QUESTIONS
    assert all(question in answer for question, answer in answered("batch"))


def test_file_has_them_escaped(server: LLMServer) -> None:
    """No control character but the newline stands raw in a job's file; nothing else changes."""
    server.faults.append(Fault("POST /files", Kind.REFUSE, None, status=401))
    with pytest.raises(Unfinished):
        start(run_config("openai-batch"), None, "r", ExecutionConfig())
    (file,) = Path("output/r/jobs").glob("*.jsonl")
    text = file.read_bytes().decode()
    controls = {one for one in text if unicodedata.category(one) in ("Cc", "Zl", "Zp")}
    assert controls == {"\n"}
    prompts = [json.loads(line)["body"]["messages"][-1]["content"] for line in text.splitlines()]
    assert all(question in prompt for question, prompt in zip(QUESTIONS, prompts, strict=True))
    assert "façade, a\u00a0space, “quotes”, 汉字 and 😀" in text
