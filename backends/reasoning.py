"""Taking a model's reasoning out of its text."""

from __future__ import annotations

OPENER, CLOSER = "<think>", "</think>"


def split_think(text: str, *, opened_by_prompt: bool = False) -> tuple[str | None, str]:
    """Split text into (reasoning, answer) at `<think>…</think>`; no reasoning is None.

    The reasoning runs from the last opener before the first closer to that closer. Where the chat
    template has already opened it (DeepSeek-R1, Qwen3-2507), the text has a closer only. An opener
    that is never closed was cut off at the token limit: all of it is reasoning, the answer ''. Text
    without reasoning comes back as it is, to the byte.
    """
    closer = text.find(CLOSER)
    if closer >= 0:
        opener = text.rfind(OPENER, 0, closer)
        before = text[:opener] if opener >= 0 else ""
        start = opener + len(OPENER) if opener >= 0 else 0
        return _none_if_empty(text[start:closer]), before + text[closer + len(CLOSER) :].lstrip()
    if opened_by_prompt:
        return _none_if_empty(text), ""
    if text.lstrip().startswith(OPENER):
        return _none_if_empty(text.lstrip()[len(OPENER) :]), ""
    return None, text


def _none_if_empty(text: str) -> str | None:
    return text.strip() or None
