"""Prompt templates and the language of a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastdatasets.prompts import Prompt, default_templates, language_of, own_template
from store import UserError
from store.models import Language, Row


def row(instruction: str, input_text: str = "") -> Row:
    """A record with a question only."""
    return Row(0, 0, instruction, input_text)


def test_chinese_default_is_the_guides() -> None:
    """The Chinese default prompt is the guide's, with the input left out where there is none."""
    prompt = Prompt("answer", default_templates("answer"), Language.AUTO)
    assert prompt.render(row("写一首诗", "月亮")) == (
        "指令: 写一首诗\n\n输入: 月亮\n\n请根据以上指令和输入生成合适的输出。"
    )
    assert prompt.render(row("写一首诗")) == (
        "指令: 写一首诗\n\n请根据以上指令和输入生成合适的输出。"
    )


def test_english_default() -> None:
    """A record in another script gets the English prompt."""
    prompt = Prompt("answer", default_templates("answer"), Language.AUTO)
    assert prompt.render(row("Add", "1 + 1")) == (
        "Instruction: Add\n\nInput: 1 + 1\n\n"
        "Write a suitable output for the instruction and input above."
    )


def test_language_can_be_set() -> None:
    """A language that is set holds for every record."""
    prompt = Prompt("answer", default_templates("answer"), Language.ZH)
    assert prompt.render(row("Add")) == "指令: Add\n\n请根据以上指令和输入生成合适的输出。"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("写一个 Python 程序 reverse_string", Language.ZH),
        ("Translate 你好 into English, please", Language.EN),
        ("Überprüfe den Satz", Language.EN),
        ("日本語で説明してください", Language.EN),
        ("한국어로 설명해 주세요", Language.EN),
        ("12 + 30 = ？", Language.EN),
        ("", Language.EN),
    ],
)
def test_language_of(text: str, expected: Language) -> None:
    """The language follows the script that weighs most."""
    assert language_of(text) is expected


def test_own_template(tmp_path: Path) -> None:
    """A user's template serves records of every language."""
    path = tmp_path / "own.j2"
    path.write_text("Q: {{ instruction }}{{ '!' if output == '' }}\n", "utf-8")
    prompt = Prompt("answer", own_template("answer", path), Language.AUTO)
    assert prompt.render(row("写")) == "Q: 写!"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{% if %}", "prompt template {path}, line 2: Expected an expression, got 'end of "),
        (
            "{{ question }}",
            "{path}: the prompt template of stage answer fails on record 0: 'question' is "
            "undefined; its variables are instruction, input, output, reasoning",
        ),
        ("{{ ''.__class__.__mro__ }}", "{path}: the prompt template of stage answer fails on rec"),
    ],
)
def test_bad_template(tmp_path: Path, text: str, message: str) -> None:
    """A template that cannot work is refused before anything is sampled."""
    path = tmp_path / "own.j2"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError) as raised:
        own_template("answer", path)
    assert str(raised.value).startswith(message.format(path=path))
