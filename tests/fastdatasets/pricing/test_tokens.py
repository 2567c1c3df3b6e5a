"""Counting the tokens of prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from backends.vllm.demo_model import DEMO_MODEL
from fastdatasets.pricing.tokens import counter_for

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no') }}"
    "{% endif %}<{{ message.role }}> {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def user(text: str) -> list[Mapping[str, str]]:
    """A prompt of one message."""
    return [{"role": "user", "content": text}]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model whose tokenizer counts words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    folder = tmp_path / "model"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE})
    )
    return folder


@pytest.mark.parametrize(
    ("model", "text", "expected"),
    [
        ("gpt-4o-mini", "Hi", 8),
        ("gpt-4o-mini", "hello world", 9),
        ("gpt-4o-mini", "", 7),
        ("gpt-4o-mini", "中国的首都是北京，它是全国的政治和文化中心。", 21),
        ("gpt-4", "中国的首都是北京，它是全国的政治和文化中心。", 28),
    ],
)
def test_tokens_of_openais_models(model: str, text: str, expected: int) -> None:
    """A chat is its texts' tokens, the role, 3 a message and 3 for the answer."""
    assert counter_for(model).count(user(text)) == expected


def test_names_and_messages_cost_tokens() -> None:
    """Every message costs 3 tokens, a name 1 beside its own."""
    messages = [
        {"role": "system", "content": "hello world"},
        {"role": "user", "name": "Ada", "content": "hello world"},
    ]
    assert counter_for("gpt-4o").count(messages) == (3 + 1 + 2) + (3 + 1 + 2 + 2) + 3


def test_what_looks_special_is_text() -> None:
    """A text that spells a special token is counted as the letters it has, as servers do."""
    assert counter_for("gpt-4o").count(user("<|endoftext|>")) == 14


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "o200k_base"),
        ("openai/gpt-4.1-mini", "o200k_base"),
        ("gpt-5.6-luna", "o200k_base"),
        ("o3", "o200k_base"),
        ("GPT-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base"),
    ],
)
def test_encoding_of_a_model(model: str, encoding: str) -> None:
    """OpenAI's models have the encoding that OpenAI says they have."""
    counter = counter_for(model)
    assert (counter.name, counter.error) == (encoding, 0)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-6-luna",
        "gpt-oss-20b",
        "my-gpt-4o",
        "Qwen/Qwen2.5-7B-Instruct",
        "~vendor/model",
        "/no/such/folder",
        "",
    ],
)
def test_stand_in(model: str) -> None:
    """A model whose tokenizer is not at hand is counted with another, and the error is stated."""
    counter = counter_for(model)
    assert (counter.name, counter.error, counter.count(user("hello world"))) == (
        "o200k_base, not the model's own tokenizer (±25%)",
        0.25,
        9,
    )


@pytest.mark.slow
def test_own_tokenizer(model: Path) -> None:
    """A model's folder gives its own tokenizer and chat template."""
    counter = counter_for(str(model))
    assert (counter.name, counter.error) == ("the model's own tokenizer", 0)
    assert counter.count(user("one two three")) == 5  # <user> one two three <assistant>


def test_quick_count_reads_no_tokenizer(model: Path) -> None:
    """A quick count takes bytes where the model's own tokenizer would have to be read."""
    counter = counter_for(str(model), quick=True)
    assert (counter.name, counter.error) == ("a third of their bytes", 0.7)
    assert counter.count(user("中国的首都")) == 1 + (len("user") + 15) // 3
    assert counter_for("gpt-4o", quick=True).name == "o200k_base"
    assert counter_for("no-such-model", quick=True).error == 0.25


@pytest.mark.slow
def test_refused_by_the_template(model: Path) -> None:
    """A chat that the template refuses is never asked, and counts nothing."""
    assert counter_for(str(model)).count([{"role": "tool", "content": "one"}]) == 0


@pytest.mark.slow
def test_no_template(model: Path) -> None:
    """Without a chat template the model's own tokenizer is of no use."""
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert counter_for(str(model)).error == 0.25


@pytest.mark.slow
def test_spoilt_tokenizer(model: Path) -> None:
    """A tokenizer that cannot be read is stood in for."""
    (model / "tokenizer.json").write_text("{")
    assert counter_for(str(model)).error == 0.25


@pytest.mark.slow
def test_tokenizer_of_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model's tokenizer is read before the model is converted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counter = counter_for(DEMO_MODEL)
    assert (counter.name, counter.count(user("Say hello."))) == ("the model's own tokenizer", 33)
