"""Taking a model's reasoning out of its text."""

from __future__ import annotations

import re

OPENER, CLOSER = "<think>", "</think>"
_CLOSER_ALONE = re.compile(r"^</think>[ \t]*$", re.MULTILINE)


def split_think(text: str, *, opened_by_prompt: bool = False) -> tuple[str | None, str]:
    """Split text into (reasoning, answer) at `<think>…</think>`; no reasoning is None.

    Only a text that begins with the opener has reasoning, or one whose opener the chat template has
    written already (DeepSeek-R1, Qwen3-2507), which then has a closer only: an answer that speaks
    of these tags is kept to the byte. A server does not say what its template did, so a text that
    has a closer on a line of its own, and no opener, is taken as begun by it. An opener that is
    never closed was cut off at the token limit: all of it is reasoning, the answer ''.
    """
    if not (opened_by_prompt or OPENER in text or CLOSER in text):
        return None, text
    begun = text.lstrip().startswith(OPENER)
    head = text.lstrip()[len(OPENER) :] if begun else text
    if not (begun or opened_by_prompt or (_CLOSER_ALONE.search(text) and OPENER not in text)):
        return None, text
    reasoning, closer, answer = head.partition(CLOSER)
    if not closer:
        return _none_if_empty(head), ""
    return _none_if_empty(reasoning), answer.lstrip("\r\n")


def _none_if_empty(text: str) -> str | None:
    return text.strip() or None
