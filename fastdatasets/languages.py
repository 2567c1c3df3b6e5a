"""The language of a text: Chinese, Japanese and Korean by their scripts, others by py3langid."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from store import UserError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SCANNED_CHARACTERS = 2000  # the language of a longer text shows in its beginning
BY_SCRIPT = {"zh", "ja", "ko"}

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
KANA = r"\u3040-\u30ff"
HANGUL = r"\u1100-\u11ff\uac00-\ud7af"
CJK = HAN + KANA + HANGUL  # of a character class of a regular expression
_HAN, _KANA, _HANGUL, _CJK = (re.compile(f"[{script}]") for script in (HAN, KANA, HANGUL, CJK))
_OTHER_WORD = re.compile(rf"[^\W\d_{CJK}]+")


def language_by_script(text: str) -> str | None:
    """zh, ja or ko where a text is mostly written in their scripts, else None.

    A character of these weighs like a word of another script, so that Chinese with program names or
    formulas in it is Chinese and English that quotes a Chinese word is not. Any kana makes it
    Japanese, any hangul Korean.
    """
    text = text[:SCANNED_CHARACTERS]
    if text.isascii():
        return None
    han, kana, hangul = (len(script.findall(text)) for script in (_HAN, _KANA, _HANGUL))
    characters = han + kana + hangul
    if not characters or characters < len(_OTHER_WORD.findall(text)):
        return None
    return "ja" if kana else "ko" if hangul else "zh"


def language_of(text: str) -> str:
    """The ISO 639 code of a text's language, of BY_SCRIPT or of those that py3langid knows.

    Takes 20 to 150 µs, by the length. Of a few words, or of code, it is a guess.
    """
    if (language := language_by_script(text)) is not None:
        return language
    # A quoted word in one of these scripts would decide.
    code, _ = _identifier().classify(_CJK.sub(" ", text[:SCANNED_CHARACTERS]))
    return str(code)


def parse_languages(option: str, text: str) -> tuple[str, ...]:
    """The codes of 'zh,en', sorted; raises UserError, which names the option, for unknown ones."""
    codes = sorted({code.strip().lower() for code in text.split(",")} - {""})
    known = BY_SCRIPT | set(_identifier().labels)
    unknown = [code for code in codes if code not in known]
    if unknown or not codes:
        what = f"no language of code {unknown[0]!r} is known" if unknown else "no code is given"
        raise UserError(f"{option} {text}: {what}; zh, en, ja and de are examples of ISO 639")
    return tuple(codes)


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 0.2 s

    return LanguageIdentifier.from_model_file(MODEL_FILE)
