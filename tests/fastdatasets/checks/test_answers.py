"""The checks of every answer, and what looks like their findings and is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from fastdatasets.checks.answers import checks_of
from fastdatasets.checks.kinds import Check
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import Settings
from store.answers.answers import AnswerToCheck
from store.runs import Run

LIGHT = "a city of endless light"
GLASS = "玻璃是在工厂里用沙子、纯碱和石灰石在高温下熔化而成的。"
IN_ENGLISH = (
    "Glass is made of sand, soda and limestone, which are melted in a furnace at a high "
    "temperature and are then given their form by the workers."
)
VERSE = "The river runs down to the sea and the boats go with it. "


def a_run(**options: Any) -> Run:
    """A run of a dataset that need not exist."""
    config = RunConfig("owner/name", backend="openai", model="m", **options)
    return new_run(config, Settings(llm_api_key=SecretStr("sk-test")))


def an_answer(question: str, output: str, **more: Any) -> AnswerToCheck:
    """An answer that ended by itself."""
    fields: dict[str, Any] = {
        "record": 0,
        "ordinal": 0,
        "generation": 0,
        "request_id": "",
        "input": "",
        "row": 0,
        "original_output": "",
        "reasoning": "",
        "finish_reason": "stop",
        "tool_calls": None,
        "has_context": False,
        "expected": None,
    }
    return AnswerToCheck(instruction=question, output=output, **fields | more)


def found(answer: AnswerToCheck, **options: Any) -> dict[str, str]:
    """The checks of a run that reject an answer, and why."""
    checks = checks_of(a_run(**options))
    return {name: reason for name, check in checks.items() if (reason := check(answer)) is not None}


REJECTED = [
    ("Describe Dubai.", f"Dubai is {', '.join([LIGHT] * 15)}", Check.REPETITION,
     f"'{LIGHT},' 14 times"),
    ("Describe Dubai.", "".join(f"{n}. {LIGHT.capitalize()}.\n" for n in range(15)),
     Check.REPETITION, f"'{LIGHT.capitalize()}' 15 times"),
    ("介绍上海。", "上海是" + "一座充满光的城市，" * 12, Check.REPETITION,
     "'一座充满光的城市，' 11 times"),
    ("List ideas.", VERSE * 3 + "and so on " * 40, Check.REPETITION, "'and so on' 39 times"),
    ("Write.", "Good. " + "!" * 1200, Check.REPETITION, "'!' 1200 times"),
    ("Who?", "It was Ada.<|im_end|>\n<|im_start|>user", Check.TEMPLATE_TOKENS, "it has <|im_end|>"),
    ("Who?", "It was Ada. [/INST] Who was she?", Check.TEMPLATE_TOKENS, "it has [/INST]"),
    ("谁？", "</think>\n是她。", Check.TEMPLATE_TOKENS, "it has </think>"),
    ("Who?", "Ada<start_of_turn>user", Check.TEMPLATE_TOKENS, "it has <start_of_turn>"),
    ("Who?", "Ada.</s>", Check.TEMPLATE_TOKENS, "it has </s>"),
    ("Make one.", "I'm sorry, but I can't assist with that.", Check.REFUSAL,
     "it begins with 'I'm sorry, but I can't assist with that.'"),
    ("写一个。", "抱歉，我无法提供这样的内容。", Check.REFUSAL,
     "it begins with '抱歉，我无法提供这样的内容。'"),
    ("How is glass made in a modern factory?", GLASS, Check.LANGUAGE,
     "its script is Chinese, that of the question Latin"),
    ("请介绍一下玻璃在工厂里的生产过程。",
     IN_ENGLISH, Check.LANGUAGE, "its script is Latin, that of the question Chinese"),
    ("What is the green technology deduction?", "What is the green technology deduction?",
     Check.ECHO, "it is the question"),
    ("What is the green technology deduction?",
     "**What is the green technology deduction**\n\nIt is a tax.", Check.ECHO,
     "it begins with the question"),
    ("绿色技术的扣除额是指什么意思？", "绿色技术的扣除额是指什么意思", Check.ECHO,
     "it is the question"),
    ("List three fruits.", "The output of the instruction would be a list.", Check.PROMPT_TALK,
     "it begins with 'The output of the instruction would be a list.'"),
    ("列出三种水果。", "根据您的指令，我会列出水果。", Check.PROMPT_TALK,
     "it begins with '根据您的指令，我会列出水果。'"),
    ("Who?", " \n", Check.EMPTY, "no text"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "output", "check", "reason"), REJECTED)
def test_rejected(question: str, output: str, check: Check, reason: str) -> None:
    """An answer is rejected by one check, for a reason that names what was found."""
    assert found(an_answer(question, output)) == {check: reason}


PASSED = [
    ("Write out the refrain ten times.", f"{LIGHT}, " * 10),
    ("写一首歌。", "一座充满光的城市，" * 12),
    ("Make a table.", "| a | b |\n|---|---|\n" + "|   |   |\n" * 20),
    ("Make a plan.", "".join(f"| {n}:00 | Free | Free | Free |\n" for n in range(8, 20))),
    ("Make a form.", "<table>\n" + "<tr><td></td><td></td></tr>\n" * 12 + "</table>"),
    ("Make a matrix.", "[" + ("[0, 0, 0, 0, 0, 0, 0, 0],\n" * 8) + "]"),
    ("Are these spam?", "".join(f"{n}. No\n" for n in range(60))),
    ("Print a line.", "-" * 300),
    ("Write a program.", "".join(f"if x == {n}:\n    return {n}\n" for n in range(30))),
    ("List sums.", "".join(f"{n} + {n} = {2 * n}\n" for n in range(40))),
    ("Describe a river.", VERSE * 2 + "Then it rains, " + VERSE),
    ("What does <|im_end|> mean?", "The token <|im_end|> ends a turn."),
    ("How do models know where a turn ends?", "By a token such as `<|im_end|>`."),
    ("Show a prompt.", "```\n<s>[INST] Hi [/INST]\n```"),
    ("How do I strike text out in HTML?", "Write <s>old</s> around it."),
    ("Write an apology.", "I'm sorry that the delivery was late. We will send a new one."),
    ("What happened?", "Unfortunately, the ship sank before help came."),
    ("写一封道歉信。", "对不起，昨天我没有准时到。我会补上工作。"),
    ("Can penguins fly?", "No. They cannot fly, but I can help you to find out why."),
    ("把这句话翻译成英文：玻璃是在工厂里做的。", IN_ENGLISH),
    ("用Python写一个函数，求两个数的和。", IN_ENGLISH),
    ("列出十位好莱坞的导演。", "Steven Spielberg, Martin Scorsese, James Cameron, Ridley Scott, "
     "David Fincher, Christopher Nolan, Francis Coppola, Woody Allen, Spike Lee, David Lynch, "
     "George Lucas"),
    ("How do you say thank you in Japanese?", "「ありがとうございます」と言います。"),
    ("Who are you?", "我是一个语言模型。"),
    ("Continue: The river runs down to the sea", "The river runs down to the sea and on."),
    ("def add(a, b):\n    '''The sum.'''", "def add(a, b):\n    '''The sum.'''\n    return a + b"),
    ("Why?", "Why? Because."),
    ("What is a prompt?", "The prompt is what a model is given."),
    ("How is a cake made?", "According to the instructions on the box, with eggs."),
    ("怎么做蛋糕？", "根据您的要求，先打两个鸡蛋。"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "output"), PASSED)
def test_passed(question: str, output: str) -> None:
    """An answer that only looks like one to be rejected is not."""
    assert found(an_answer(question, output)) == {}


def test_context_may_ask_for_a_language() -> None:
    """The language is not checked where earlier turns or a system prompt may have asked for one."""
    question, output = (
        "How is glass made?",
        GLASS,
    )
    assert found(an_answer(question, output, has_context=True)) == {}
    assert found(an_answer(question, output), system_prompt="Answer in Chinese.") == {}
    assert list(found(an_answer(question, output), system_prompt="Be brief.")) == [Check.LANGUAGE]


def test_calls_and_cut_answers() -> None:
    """A tool call is an answer without text; one at the token limit is truncated."""
    json_wanted = {"param": ['response_format={"type":"json_object"}']}
    assert found(an_answer("Who?", "", tool_calls="[]"), **json_wanted) == {}
    assert found(an_answer("Who?", "It", finish_reason="length")) == {
        Check.TRUNCATED: "cut off at the token limit"
    }


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ('{"a": 1}', None),
        ("[1", "no JSON: Input data was truncated"),
        ('```json\n{"a": 1}\n```', "no JSON: it is in a fenced block"),
        ("[" * 100_000, "no JSON: it is nested too deeply"),
    ],
)
def test_json_where_it_was_asked_for(output: str, reason: str | None) -> None:
    """With a response_format of JSON an answer has to be JSON."""
    asked = ['response_format={"type":"json_object"}']
    assert found(an_answer("Who?", output), param=asked).get(Check.JSON) == reason


@pytest.mark.parametrize(
    ("chars", "reason"),
    [("4:6", None), ("6:", "5 characters, fewer than 6"), (":4", "5 characters, more than 4")],
)
def test_length(chars: str, reason: str | None) -> None:
    """--answer-chars counts characters, at least and at most."""
    rejected = {} if reason is None else {Check.LENGTH: reason}
    assert found(an_answer("谁？", "是她做的。"), answer_chars=chars) == rejected


LONG = [
    lambda n: "a" * n,
    lambda n: "ab" * (n // 2),
    lambda n: "<" * n,
    lambda n: "`" * n + "<think>",
    lambda n: "\\boxed{" * (n // 7),
    lambda n: " " * n + "x",
    lambda n: "the answer is " * (n // 14),
    lambda n: "哈" * n,
    lambda n: "，" * n,
    lambda n: "".join(f"{k} {LIGHT}\n" for k in range(n // 28)),
]


@pytest.mark.parametrize("make", LONG)
def test_time_is_linear(make: Callable[[int], str]) -> None:
    """A long answer of any content takes no more than a few milliseconds for each 10 KB."""
    checks = checks_of(a_run())
    for question in ("Who?", make(5_000)):
        answer = an_answer(question, make(200_000))
        began = time.process_time()
        for check in checks.values():
            check(answer)
        assert time.process_time() - began < 1
