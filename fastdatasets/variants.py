"""Reading variants out of an answer, and leaving out those that are nearly the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import json_repair
from rapidfuzz import fuzz, utils

NEAR = 90.0  # percent of equal characters, in order, from which two instructions are the same
TEXT_KEYS = ("instruction", "question", "prompt", "text", "content", "variation", "variant")

_FENCED = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_LISTED = re.compile(r"^\s*(?:\d+\s*[.)、．:：]|[-*•])\s*(\S.*)$", re.MULTILINE)


def parse_variants(text: str) -> list[str] | None:
    """The instructions in an answer; None where none can be read. Nothing is invented.

    Understood are a JSON array of strings or of objects, an object that holds one, either of them
    in prose or in a fenced block, slightly broken or cut off (then without the last, half item),
    and a numbered or bulleted list.
    """
    text = text.rpartition("</think>")[2]
    for part in _json_parts(text):
        try:
            value = json.loads(part)
        except ValueError:
            continue
        if found := _strings(value):
            return found
    start = text.find("[")
    if start >= 0 and (found := _strings(json_repair.loads(text[start:]))):
        whole = "]" in text[start:]
        return found if whole else found[:-1] or None
    listed = [_unquoted(match[1]) for match in _LISTED.finditer(text)]
    return [item for item in listed if item] or None


def distinct(candidates: Sequence[str], taken: Sequence[str], wanted: int) -> tuple[list[str], int]:
    """The first wanted candidates that are no near-duplicates of taken ones or of each other.

    Gives them and how many were dropped as near-duplicates.
    """
    kept: list[str] = []
    dropped = 0
    for candidate in candidates:
        if len(kept) == wanted:
            break
        if any(_is_near(candidate, other) for other in (*taken, *kept)):
            dropped += 1
        else:
            kept.append(candidate)
    return kept, dropped


def _is_near(one: str, other: str) -> bool:
    return fuzz.ratio(one, other, processor=utils.default_process, score_cutoff=NEAR) > 0


def _json_parts(text: str) -> Iterator[str]:
    """Where JSON may stand in a text, the likeliest first."""
    yield text
    yield from _FENCED.findall(text)
    for opener, closer in ("[]", "{}"):
        start, end = text.find(opener), text.rfind(closer)
        if 0 <= start < end:
            yield text[start : end + 1]


def _strings(value: object) -> list[str]:
    """The texts of a JSON value: an array's, or those of the first array in an object."""
    if isinstance(value, dict):
        return next((found for item in value.values() if (found := _strings(item))), [])
    if not isinstance(value, list):
        return []
    texts = [_text_of(item) for item in value]
    return [text.strip() for text in texts if text and text.strip()]


def _text_of(item: object) -> str | None:
    if isinstance(item, dict):
        return next((item[key] for key in TEXT_KEYS if isinstance(item.get(key), str)), None)
    return item if isinstance(item, str) else None


def _unquoted(text: str) -> str:
    text = text.strip().removesuffix(",")
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text
