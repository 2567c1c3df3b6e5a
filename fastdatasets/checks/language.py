"""The check for answers in another script than their question's."""

from __future__ import annotations

import re

from store.answers.answers import AnswerToCheck
from store.runs import Language, Run

_SCANNED = 2000  # characters; the script of a longer text shows in its beginning
_LEAST = 20  # units of an answer
_SHARE = 0.9  # of an answer's units, and 0.7 of a question's
_QUESTION_SHARE = 0.7
_MOST_IN_QUESTION = 2  # units of the answer's script
_FUNCTION_SHARE = {"Latin": 0.15, "Chinese": 0.02}  # of function words, which lists of names lack

# A unit is a character of a script without spaces, and a word of the others.
_SCRIPTS = {
    "Latin": re.compile(r"[A-Za-z\u00c0-\u024f]+"),
    "Chinese": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"),
    "Japanese kana": re.compile(r"[\u3040-\u30ff]"),
    "Korean": re.compile(r"[\uac00-\ud7af]"),
    "Cyrillic": re.compile(r"[\u0400-\u052f]+"),
    "Greek": re.compile(r"[\u0370-\u03ff]{2,}"),
    "Arabic": re.compile(r"[\u0600-\u06ff]+"),
    "Hebrew": re.compile(r"[\u0590-\u05ff]+"),
    "Devanagari": re.compile(r"[\u0900-\u097f]+"),
    "Thai": re.compile(r"[\u0e00-\u0e7f]"),
}
_FUNCTION_WORDS = {
    "Latin": re.compile(
        r"\b(?:the|of|and|to|is|in|a|an|for|that|it|you|are|with|as|was|on|this|i|be|by|or|can|your)\b",
        re.IGNORECASE,
    ),
    "Chinese": re.compile(r"[的是了在和有不我这]"),
}
# Questions about languages and code, whose answers may be in any script.
_ABOUT_LANGUAGES = re.compile(
    r"translat|language|english|chinese|mandarin|cantonese|pinyin|hanzi|kanji|japan|korea|russia"
    r"|french|france|german|spanish|spain|portug|italian|arab|greek|hebrew|hindi|thai|latin\b"
    r"|ukrain|bulgar|idiom|proverb|poem|haiku|name|word|code|program|script|function|python|java"
    r"|sql|html|css|bash|latex|markdown|json|regex"
    r"|译|[英法德日韩俄中汉藏蒙泰越拉][语文]|西班牙|葡萄牙|意大利|阿拉伯|希腊|希伯来|印地|双语|外语|语言|拼音|单词|字母"
    r"|词汇|名字|名称|代码|编程|程序|函数|脚本|算法|正则|公式|歌词",
    re.IGNORECASE,
)
_NO_PROSE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|\$[^$\n]+\$|https?://\S+|<[^<>\n]+>", re.DOTALL)


def names_language(run: Run) -> bool:
    """Whether a run may ask for answers in another language than that of the questions."""
    said = [run.system_prompt or "", *(run.templates.values() if "answer" in run.templates else ())]
    return run.language is not Language.AUTO or any(map(_ABOUT_LANGUAGES.search, said))


def check_language(answer: AnswerToCheck) -> str | None:
    """Reject an answer in prose whose script is not that of its question.

    Not where the question is about languages or code, nor with a system prompt of the record's own
    or earlier turns, which may ask for a language.
    """
    question = f"{answer.instruction}\n{answer.input}"[:_SCANNED]
    text = answer.output[:_SCANNED]
    if answer.has_context or (question.isascii() and text.isascii()):
        return None
    asked = _units(question)
    expected = _most(asked, _QUESTION_SHARE)
    if expected is None or _SCRIPTS[expected].search(text, 0, _LEAST):
        return None  # nearly every answer ends here
    text = _NO_PROSE.sub(" ", text)
    said = _units(text)
    found = _most(said, _SHARE)
    if found in (None, expected) or said[found] < _LEAST or asked[found] > _MOST_IN_QUESTION:
        return None
    if found in _FUNCTION_WORDS:
        share = len(_FUNCTION_WORDS[found].findall(text)) / said[found]
        if share < _FUNCTION_SHARE[found]:
            return None
    if _ABOUT_LANGUAGES.search(question):
        return None
    return f"its script is {found}, that of the question {expected}"


def _units(text: str) -> dict[str, int]:
    """How many units of each script a text has."""
    if text.isascii():
        return dict.fromkeys(_SCRIPTS, 0) | {"Latin": len(_SCRIPTS["Latin"].findall(text))}
    return {name: len(script.findall(text)) for name, script in _SCRIPTS.items()}


def _most(units: dict[str, int], share: float) -> str | None:
    """The script that has that share of the units; Japanese and Korean may have Chinese ones."""
    total = sum(units.values())
    for name in ("Japanese kana", "Korean"):
        if units[name] > 0.05 * total:
            return name if units[name] + units["Chinese"] >= share * total else None
    name = max(units, key=lambda script: units[script])
    return name if units[name] and units[name] >= share * total else None
