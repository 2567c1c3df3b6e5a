"""TRL reads the exports of a run with its own data functions, and a real model learns from them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import pytest

from backends.vllm.demo_model import demo_model
from fastdatasets.demo import demo_dataset
from tests.conftest import Command
from tests.trainers.runs import FILE_TYPES, exported

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_demo.py"
SYSTEM = (
    "Be kind.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    '{"type": "function", "function": {"name": "add", "parameters": {}}}\n</tools>\n\n'
    "For each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
RESULT = "<tool_response>\n1\n</tool_response>"


def chatml(*turns: str) -> str:
    """A chat as Qwen3's template has it; turns: role, text, role, text, …."""
    return "".join(
        f"<|im_start|>{role}\n{text}<|im_end|>\n"
        for role, text in zip(turns[::2], turns[1::2], strict=True)
    )


NO_THOUGHTS = "<think>\n\n</think>\n\n"
CHATS = [
    chatml("user", "A\n\nx", "assistant", "<think>\nwhy\n</think>\n\n1"),
    chatml("system", SYSTEM, "user", "B", "assistant", NO_THOUGHTS + CALL),
    chatml(
        *("user", "Add.", "assistant", CALL, "user", RESULT, "assistant", "It is 1."),
        *("user", "C", "assistant", f"{NO_THOUGHTS}3"),
    ),
    chatml("user", "Add.", "assistant", "It is 1.", "user", "D", "assistant", f"{NO_THOUGHTS}4"),
]


def prepared(dataset: Any, tokenizer: Any) -> list[str]:
    """The texts that SFTTrainer would train a model on."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    arguments = SFTConfig(
        output_dir="trl", use_cpu=True, bf16=False, report_to="none", disable_tqdm=True
    )
    trainer = SFTTrainer(
        LlamaForCausalLM(config), arguments, train_dataset=dataset, processing_class=tokenizer
    )
    return [tokenizer.decode(ids) for ids in trainer.train_dataset["input_ids"]]


def test_sft_trainer(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SFTTrainer has every row, with system prompts, tools, calls and results in their places."""
    from transformers import AutoTokenizer

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    exported(command)
    package = find_spec("trl")
    assert package is not None
    assert package.origin is not None
    tokenizer = AutoTokenizer.from_pretrained(demo_model(print))
    template = Path(package.origin).parent / "chat_templates" / "qwen3.jinja"
    tokenizer.chat_template = template.read_text("utf-8")
    for file_type in FILE_TYPES:
        command("export", "r", "--file-type", file_type, "--reasoning", "think")
        texts = {
            name: prepared(datasets.load_dataset("output/r", name, split="train"), tokenizer)
            for name in ("messages", "prompt_completion")
        }
        assert texts == {
            "messages": CHATS,
            "prompt_completion": ["A\n\nx<think>\nwhy\n</think>\n\n1<|im_end|>"],
        }


def test_the_loss_falls(command: Command) -> None:
    """8 steps of make demo-train on the demo's dataset lower the loss by more than a third.

    In one thread: more would wait for each other on cores that other tests use.
    """
    copied = ("--skip-generation", "--backend", "openai", "--model", "m", "--run", "r")
    command("distill", "--dataset-name", demo_dataset(), "--sample-size", "24", *copied)
    done = subprocess.run(
        [sys.executable, SCRIPT, "r", "8"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"^loss at step 1: (.+), at step 8: (.+)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    first, last = map(float, found.groups())
    assert last < first * 2 / 3
