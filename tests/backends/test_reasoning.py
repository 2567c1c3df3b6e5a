"""Splitting reasoning from an answer."""

from __future__ import annotations

import pytest

from backends.reasoning import split_think


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("Plain.\n", False, (None, "Plain.\n")),
        ("<think>\nhm\n</think>\n\nAnswer", False, ("hm", "Answer")),
        ("hm\n</think>\nAnswer", False, ("hm", "Answer")),
        ("hm</think>Answer", True, ("hm", "Answer")),
        ("<think></think>Answer", False, (None, "Answer")),
        ("<think>cut off", False, ("cut off", "")),
        ("cut off", True, ("cut off", "")),
        ("<think>a</think>b <think>c</think>", False, ("a", "b <think>c</think>")),
        ("Use the </think> tag: x", False, (None, "Use the </think> tag: x")),
        ("`<think>` and `</think>` are tags", False, (None, "`<think>` and `</think>` are tags")),
        ("<think>a</think>\n\n    indented", False, ("a", "    indented")),
        ("Use the <think> tag", False, (None, "Use the <think> tag")),
        ("```py\nx = 1\n```", False, (None, "```py\nx = 1\n```")),
    ],
)
def test_split(text: str, opened: bool, expected: tuple[str | None, str]) -> None:
    """Reasoning ends at the first closer; a text without any is kept to the byte."""
    assert split_think(text, opened_by_prompt=opened) == expected
