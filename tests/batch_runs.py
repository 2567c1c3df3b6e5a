"""Runs of the openai-batch backend against a strict server that bills, for several test modules."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from tests.conftest import write_jsonl
from tests.llmserver import LLMServer

KEY = "sk-test-secret-7f3a"
POST, FILES, LIST = "POST /batches", "POST /files", "GET /batches"
LOOK, CONTENT = "GET /batches/*", "GET /files/*/content"
QUESTIONS = [f"Question {number}" for number in range(7)]


def prompt_of(question: str) -> str:
    """The default prompt of a record without an input."""
    return question


def answer(body: dict[str, Any]) -> str:
    """What the server's model says."""
    return f"A: {body['messages'][-1]['content']}"


def asks(question: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a body asks a question."""
    return lambda body: body["messages"][-1]["content"] == prompt_of(question)


@dataclass
class Runs:
    """Runs of this test against its server."""

    server: LLMServer
    questions: list[str]

    def distill(self, **execution: Any) -> RunResult:
        """Make the run 'r', or go on with it."""
        source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in self.questions])
        run_config = RunConfig(
            dataset_name=str(source), sample_size=0, backend="openai-batch", model="gpt-small"
        )
        return start(run_config, None, "r", ExecutionConfig(**execution))

    def resume(self, *, retry_failed: bool = False, **execution: Any) -> RunResult:
        """Go on with the run."""
        outcome = resume("r", None, ExecutionConfig(**execution), retry_failed=retry_failed)
        assert outcome is not None
        return outcome

    def check_done(self, without: tuple[str, ...] = ()) -> None:
        """Each record is exported with its answer and each body was billed once."""
        rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
        assert [(row["instruction"], row["output"]) for row in rows] == [
            (question, f"A: {prompt_of(question)}")
            for question in self.questions
            if question not in without
        ]
        self.server.settle()
        assert self.server.bill.twice() == []
        assert self.server.bill.total >= len(set(self.questions) - set(without))
        assert not list(Path("output/r/jobs").iterdir())


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """A server whose model is known, and settings under which nothing waits."""
    with LLMServer(answer=answer, keys=[KEY]) as server:
        monkeypatch.setenv("LLM_API_KEY", KEY)
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0")
        yield Runs(server, list(QUESTIONS))
