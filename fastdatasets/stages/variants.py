"""Parsing variants from an answer, and removing near-duplicates."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from json import JSONDecoder

import json_repair
from rapidfuzz import fuzz, utils

from fastdatasets.checks.phrases import APOLOGY, REFUSAL

NEAR = 90.0  # percent of equal characters, in order, from which two instructions are the same
SCHEMA_KEY = "variations"  # of the object that is asked for where a server can force a schema
TEXT_KEYS = (
    "instruction",
    "question",
    "prompt",
    "text",
    "content",
    "variation",
    "variant",
    "指令",
    "问题",
)

# Keys under which an object may hold instructions. Any other list in it is of something else:
# reasoning, steps, notes, what could be done instead.
_LIST_KEY = re.compile(
    r"variation|variant|instruction|question|prompt|task|指令|变体|问题|任务"
    r"|^(data|items|list|array|results?|outputs?)$",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*```[a-zA-Z]*|```[ \t]*$", re.MULTILINE)
_ITEM = re.compile(
    r"^(?P<indent>[ \t]*)"
    r"(?:(?P<number>\**(?:[（(]?\d{1,3}[)）.、．:：](?!\d)|[①-⑳]"
    r"|(?:instruction|variation|指令|变体)[ \t]*\d{1,3}[ \t]*[:：.])\**)|[-–*](?=\s)|•)"
    r"[ \t]*(?P<text>\S.*)$",
    re.MULTILINE | re.IGNORECASE,
)
# Where JSON with texts in it may begin: at a line's beginning, or after a colon.
_OPENER = re.compile(r"(?:^|[:：])[ \t]*(?P<json>[\[{]\s*[\[{\"'“])", re.MULTILINE)
_FIRST = re.compile(r"(?<!\d)1(?!\d)|①")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MARK = re.compile(r"[\[{\"'“”]")
_MAX_MARKS = 1_000  # in JSON to repair, which takes time by their square
_DECODER = JSONDecoder(strict=False)  # a line end within a string is a common slip


def parse_variants(text: str) -> list[str] | None:
    """The instructions in an answer; None where none can be read. Nothing is invented.

    Understood are a JSON array of strings or of objects, an object that holds one, either of them
    in prose or in a fenced block, slightly broken or cut off (then without the last, half item),
    and a numbered or bulleted list. A refusal has none, nor does a list of something else: a
    further request is better than a wrong instruction.
    """
    text = _FENCE.sub("", text.rpartition("</think>")[2]).strip()
    items = list(_ITEM.finditer(text))
    openers = [match.start("json") for match in _OPENER.finditer(text) if not _within(match, items)]
    texts = _in_json(text, openers)
    if not texts and not _refuses(text, items):
        if openers and not (items and items[0].start() < openers[0]):
            texts = _repaired(text[openers[0] :])
        else:
            texts = _listed(text, items)
    return None if not texts or _is_refusal(texts[0]) else texts


def distinct(candidates: Sequence[str], taken: Sequence[str], wanted: int) -> tuple[list[str], int]:
    """The first wanted candidates that are no near-duplicates of taken ones or of each other.

    Returns them, and how many were dropped as near-duplicates.
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


def _within(match: re.Match[str], items: Sequence[re.Match[str]]) -> bool:
    """Whether JSON is inside an item of a list, as part of the instruction."""
    before = bisect(items, match.start(), key=lambda item: item.start())
    return before > 0 and match.start() < items[before - 1].end()


def _in_json(text: str, openers: Sequence[int]) -> list[str]:
    """The texts of the JSON values in a text: what the schema's key holds, else the last list.

    What comes before an answer's JSON is what the teacher thought about.
    """
    texts: list[str] = []
    end = 0
    for start in openers:
        if start < end:
            continue  # inside of the value before
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            break  # broken: what opens further on may be inside of it
        if isinstance(value, dict) and (keyed := _texts(value.get(SCHEMA_KEY))):
            return keyed
        texts = _texts(value) or texts
    return texts


def _repaired(text: str) -> list[str]:
    """The texts of a JSON value that is slightly broken, without the last where it was cut off."""
    if len(_MARK.findall(text)) > _MAX_MARKS:
        return []
    try:
        texts = _texts(json_repair.loads(text))
    except RecursionError:
        return []
    between = _QUOTED.sub("", text)
    whole = '"' not in between and between.count("[") <= between.count("]")
    return texts if whole else texts[:-1]


def _listed(text: str, items: Sequence[re.Match[str]]) -> list[str]:
    """The outermost items of a list: of the last numbered one, else of the only bulleted one."""
    numbered = [item for item in items if item["number"]]
    lists = _split(text, numbered or items, numbered=bool(numbered))
    if not lists or (len(lists) > 1 and not numbered):
        return []
    listed = [_unquoted(item["text"]) for item in lists[-1]]
    return [item for item in listed if item]


def _split(
    text: str, items: Sequence[re.Match[str]], *, numbered: bool
) -> list[list[re.Match[str]]]:
    """Items as lists: a new one where numbers begin anew, or bullets after a line of prose."""
    least = min((len(item["indent"]) for item in items), default=0)
    lists: list[list[re.Match[str]]] = []
    for item in items:
        if len(item["indent"]) > least:
            continue
        apart = not lists or bool(
            re.search(r"^\S", text[lists[-1][-1].end() : item.start()], re.MULTILINE)
        )
        anew = apart and (not numbered or _FIRST.search(item["number"]))
        if not lists or anew:
            lists.append([])
        lists[-1].append(item)
    return lists


def _texts(value: object) -> list[str]:
    """The texts of a JSON value: an array's, or those of the first array in an object."""
    if isinstance(value, dict):
        named = (
            item for key, item in value.items() if isinstance(item, dict) or _LIST_KEY.search(key)
        )
        return next((of_item for item in named if (of_item := _texts(item))), [])
    if not isinstance(value, list):
        return []
    texts = [_text_of(item) for item in value]
    return [text.strip() for text in texts if text and text.strip()]


def _text_of(item: object) -> str | None:
    if isinstance(item, dict):
        return next((item[key] for key in TEXT_KEYS if isinstance(item.get(key), str)), None)
    return item if isinstance(item, str) else None


def _unquoted(text: str) -> str:
    """An item without the quotes or the emphasis around it."""
    text = text.strip().removesuffix(",")
    if text.endswith("**") and text.count("**") == 1 + text.startswith("**"):
        text = text.strip("*")
    return text[1:-1].strip() if len(text) > 1 and text[0] + text[-1] in ('""', "“”") else text


def _refuses(text: str, items: Sequence[re.Match[str]]) -> bool:
    """Whether the text before a list is a refusal."""
    before = text[: items[0].start()] if items else text
    return bool(APOLOGY.match(text) or REFUSAL.search(before))


def _is_refusal(item: str) -> bool:
    """Whether an item is a refusal, as with a forced schema."""
    return bool(APOLOGY.match(item) and REFUSAL.search(item))
