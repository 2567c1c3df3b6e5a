"""What a server is sent and what it charges: by the provider at its address, not by model names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.openai_api.providers import (
    ENABLE_THINKING,
    TYPE_OF_THINKING,
    Dialect,
    dialect_of,
    provider_for,
)
from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from store import Unfinished
from tests.conftest import write_jsonl
from tests.llmserver import LLMServer

BACKENDS = ("openai-batch", "openai")
OPENAIS, OTHERS = Dialect("max_completion_tokens", True), Dialect("max_tokens", False)


def run_config(backend: str, model: str = "gpt-4o-mini") -> RunConfig:
    """A run over three questions."""
    rows: list[dict[str, object]] = [{"prompt": f"Question {number}"} for number in range(3)]
    source = write_jsonl(Path("d.jsonl"), rows)
    return RunConfig(dataset_name=str(source), sample_size=0, model=model, backend=backend)


@pytest.mark.parametrize(
    ("base_url", "model", "dialect"),
    [
        ("https://api.openai.com/v1", "gpt-4o-mini", OPENAIS),
        ("https://api.openai.com/v1", "babbage-002", OPENAIS),
        ("https://mine.openai.azure.com/openai/v1", "gpt-5", OPENAIS),
        ("https://mine.openai.azure.com/openai/v1", "phi-4", OTHERS),
        ("https://mine.services.ai.azure.com/openai/v1", "gpt-5", OPENAIS),
        ("https://api.groq.com/openai/v1", "gpt-5", Dialect("max_completion_tokens", False)),
        (
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            "qwen-plus",
            Dialect("max_tokens", False, ENABLE_THINKING),
        ),
        (
            "https://api.siliconflow.cn/v1",
            "gpt-5",
            Dialect("max_tokens", False, ENABLE_THINKING),
        ),
        (
            "https://api.deepseek.com",
            "deepseek-chat",
            Dialect("max_tokens", False, TYPE_OF_THINKING),
        ),
        ("https://gateway.example.com/v1", "gpt-5", OTHERS),
        ("http://127.0.0.1:8000/v1", "o3", OTHERS),
    ],
)
def test_dialect_is_the_providers(base_url: str, model: str, dialect: Dialect) -> None:
    """A known provider has its own rules; an unknown one gets what most servers take."""
    assert dialect_of(model, provider_for(base_url), None) == dialect


@pytest.mark.parametrize("backend", BACKENDS)
def test_unknown_server_gets_max_tokens(server: LLMServer, backend: str) -> None:
    """A model named like OpenAI's is asked with max_tokens at a server nobody knows."""
    start(run_config(backend), None, "r", ExecutionConfig())
    assert [set(json.loads(body)) for body in server.bill.executions] == [
        {"model", "messages", "max_tokens"}
    ] * 3


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_server_that_wants_the_other_name(server: LLMServer, backend: str) -> None:
    """One that refuses max_tokens stops the run, which goes on with the name it asks for."""
    server.strict_max_tokens = True
    with pytest.raises(Unfinished) as stopped:
        start(run_config(backend), None, "r", ExecutionConfig())
    assert "Use 'max_completion_tokens' instead" in str(stopped.value)
    assert str(stopped.value).endswith("Resume with --max-tokens-name max_completion_tokens")
    outcome = resume(
        "r", None, ExecutionConfig(max_tokens_name="max_completion_tokens", max_attempts=1)
    )
    assert outcome is not None
    assert (outcome.status.state, server.bill.total) == ("done", 3)
