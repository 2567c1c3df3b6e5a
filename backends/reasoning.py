"""Separating a model's reasoning from its answer."""

from __future__ import annotations

import re

OPENER, CLOSER = "<think>", "</think>"

# The variables by which chat templates turn thinking on and off: Qwen3's and GLM's; DeepSeek-V3.1's
# and Granite's. A template ignores the one that it does not have.
TEMPLATE_SWITCHES = ("enable_thinking", "thinking")
_SWITCH_IN_TEMPLATE = re.compile(rf"\{{%[^%]*?(?<![.\w'\"])({'|'.join(TEMPLATE_SWITCHES)})\b")

_CLOSER_ALONE = re.compile(r"^</think>[ \t]*$", re.MULTILINE)


def split_think(text: str, *, opened_by_prompt: bool = False) -> tuple[str | None, str]:
    """Split text into (reasoning, answer) at `<think>…</think>`; no reasoning is None.

    A text has reasoning where it begins with the opener, or where the chat template has written the
    opener (DeepSeek-R1, Qwen3-2507) and the text has the closer only. An answer that mentions these
    tags is not changed. A server does not report what its template wrote, so a text with a closer
    on a line of its own and no opener counts as opened by the template. Without a closer the answer
    was cut off at the token limit: all of the text is reasoning, the answer is ''.
    """
    if not (opened_by_prompt or OPENER in text or CLOSER in text):
        return None, text
    opened = text.lstrip().startswith(OPENER)
    head = text.lstrip()[len(OPENER) :] if opened else text
    if not (opened or opened_by_prompt or (_CLOSER_ALONE.search(text) and OPENER not in text)):
        return None, text
    reasoning, closer, answer = head.partition(CLOSER)
    if not closer:
        return _none_if_empty(head), ""
    return _none_if_empty(reasoning), answer.lstrip("\r\n")


def has_switch(template: str) -> bool:
    """Whether a chat template asks for one of the switches."""
    return _SWITCH_IN_TEMPLATE.search(template) is not None


def _none_if_empty(text: str) -> str | None:
    return text.strip() or None
