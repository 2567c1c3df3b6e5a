"""Prompt templates and the language of a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastdatasets.stages.prompts import Prompt, answer_templates, language_of, own_template
from store import UserError
from store.planning import Row
from store.runs import Language
from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer


def row(instruction: str, input_text: str = "") -> Row:
    """A record with a question only."""
    return Row(0, 0, instruction, input_text)


def test_default_without_an_input() -> None:
    """A record without an input is sent as it is, one with an input in the guide's prompt."""
    prompt = Prompt("answer", answer_templates(None), Language.AUTO)
    assert [prompt.render(row("写一首诗")), prompt.render(row("Add", "1 + 1"))] == [
        "写一首诗",
        "Instruction: Add\n\nInput: 1 + 1\n\n"
        "Write a suitable output for the instruction and input above.",
    ]


def test_plain_prompt() -> None:
    """The prompt 'plain' is the instruction, a blank line and the input, as far as there are."""
    prompt = Prompt("answer", answer_templates("plain"), Language.ZH)
    rows = (row("Add", "1 + 1"), row("Add"), row("", "1 + 1"))
    assert [prompt.render(one) for one in rows] == ["Add\n\n1 + 1", "Add", "1 + 1"]


def test_file_named_like_a_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the name of a built-in prompt is taken where it is written as a path."""
    monkeypatch.chdir(tmp_path)
    Path("plain").write_text("Mine: {{ instruction }}", "utf-8")
    assert answer_templates("./plain") == {"answer": "Mine: {{ instruction }}"}


def test_guides_prompt_in_chinese() -> None:
    """The prompt 'guide' is the guide's, with the input left out where there is none."""
    prompt = Prompt("answer", answer_templates("guide"), Language.AUTO)
    assert prompt.render(row("写一首诗", "月亮")) == (
        "指令: 写一首诗\n\n输入: 月亮\n\n请根据以上指令和输入生成合适的输出。"
    )
    assert prompt.render(row("写一首诗")) == (
        "指令: 写一首诗\n\n请根据以上指令和输入生成合适的输出。"
    )


def test_guides_prompt_in_english() -> None:
    """A record in another script gets the English prompt."""
    prompt = Prompt("answer", answer_templates("guide"), Language.AUTO)
    assert prompt.render(row("Add", "1 + 1")) == (
        "Instruction: Add\n\nInput: 1 + 1\n\n"
        "Write a suitable output for the instruction and input above."
    )


def test_language_can_be_set() -> None:
    """A language that is set holds for every record."""
    prompt = Prompt("answer", answer_templates("guide"), Language.ZH)
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


FAILS = "{path}: the prompt template of stage answer fails on record 0: "
TOO_LONG = FAILS + "it takes longer than 0.5 s"
LONG = "range(99999)"


def test_loops_know_where_they_are(tmp_path: Path) -> None:
    """The limits change nothing about what a loop knows of itself."""
    path = tmp_path / "own.j2"
    path.write_text(
        "{% for n in range(9) if n is odd %}{{ loop.index }}/{{ loop.length }}:{{ n * 2 }}"
        "{{ ', ' if not loop.last }}{% endfor %}"
        "{% for one in [] %}{% else %} none{% endfor %} {{ '%s-%03d' % (instruction, 7) }}",
        "utf-8",
    )
    prompt = Prompt("answer", own_template("answer", path), Language.AUTO)
    assert prompt.render(row("q")) == "1/4:2, 2/4:6, 3/4:10, 4/4:14 none q-007"


def test_own_template(tmp_path: Path) -> None:
    """A user's template serves records of every language."""
    path = tmp_path / "own.j2"
    path.write_text("Q: {{ instruction }}{{ '!' if output == '' }}\n", "utf-8")
    prompt = Prompt("answer", own_template("answer", path), Language.AUTO)
    assert prompt.render(row("写")) == "Q: 写!"


@pytest.mark.quick(6)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{% if %}", "prompt template {path}, line 2: Expected an expression, got 'end of "),
        (
            "{{ question }}",
            "{path}: the prompt template of stage answer fails on record 0: 'question' is "
            "undefined; its variables are instruction, input, output, reasoning",
        ),
        (
            f"{'{{'}{'(' * 3000}1{')' * 3000}{'}}'}",
            "{path}: the prompt template is nested too deeply",
        ),
        (
            "{% if 1 %}" * 150 + "{% endif %}" * 150,
            "{path}: the prompt template is nested too deeply",
        ),
        ("{{ ''.__class__.__mro__ }}", "{path}: the prompt template of stage answer fails on rec"),
        ("{{ lipsum(10000000) }}", FAILS + "'lipsum' is undefined"),
        (f"{{% for a in {LONG} %}}{{% for b in {LONG} %}}{{% endfor %}}{{% endfor %}}", TOO_LONG),
        ("{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}", FAILS + "maximum recurs"),
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
            "{{ f(60) }}",
            TOO_LONG,
        ),
        ("{{ 'x' * 10 ** 10 }}", FAILS + "a product is longer than 1000000"),
        ("{{ 10 ** 10 ** 10 ** 10 ** 10 ** 10 }}", FAILS + "a power has more than 100000 bits"),
        ("{{ 'x'.ljust(10 ** 10) }}", FAILS + "a text is filled up to more than 1000000"),
        ("{{ 'x'|center(10 ** 10) }}", FAILS + "a text is filled up to more than 1000000"),
        ("{{ '%10000000000d' % 1 }}", FAILS + "a text is filled up to more than 1000000"),
        ("{{ '{:>10000000000}'.format(1) }}", FAILS + "a text is filled up to more than 1000000"),
        (
            f"{{% for a in {LONG} %}}{{{{ 'x' * 9999 }}}}{{% endfor %}}",
            FAILS + "it makes more than 20000000 characters",
        ),
    ],
)
def test_bad_template(tmp_path: Path, text: str, message: str) -> None:
    """A template that cannot work is refused before anything is sampled."""
    path = tmp_path / "own.j2"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError) as raised:
        own_template("answer", path)
    assert str(raised.value).startswith(message.format(path=path))


def test_template_over_all_columns(command: Command, server: LLMServer, tmp_path: Path) -> None:
    """A template may use any column of the row, with lists and objects as they are."""
    rows: list[dict[str, object]] = [
        {"question": "Which?", "id": 7, "tags": ["a", "b"], "meta": {"level": "hard"}, "no": None}
    ]
    source = write_jsonl(tmp_path / "d.jsonl", rows)
    template = tmp_path / "own.j2"
    template.write_text("{{ row.id }} {{ row.tags|join('+') }} {{ row.meta.level }} {{ row.no }}")
    options = ("--backend", "openai", "--model", "m", "--prompt-template", template)
    assert command("distill", "--dataset-name", source, *options).returncode == 0
    (body,) = map(json.loads, server.bill.executions)
    assert body["messages"] == [{"content": "7 a+b hard None", "role": "user"}]


def test_template_with_a_column_that_is_not_there(
    command: Command, server: LLMServer, tmp_path: Path
) -> None:
    """It is an error before anything is sent."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"question": "Which?"}])
    template = tmp_path / "own.j2"
    template.write_text("{{ row.choices }}")
    options = ("--backend", "openai", "--model", "m", "--prompt-template", template)
    done = command("distill", "--dataset-name", source, *options)
    assert (done.returncode, server.bill.total) == (1, 0)
    assert done.stderr.splitlines()[-1] == (
        "fastdatasets: the prompt template of stage answer fails on record 0: 'dict object' has no "
        "attribute 'choices'; its variables are instruction, input, output, reasoning, row"
    )
