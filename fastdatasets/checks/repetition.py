"""The check for answers that say the same over and over: a loop of the model.

In linear time on any text: pieces of the answer are counted in the rest of it, and only where one
of them is found often is there a closer look.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby, pairwise

from store.answers.answers import AnswerToCheck

LEAST = 5  # times that a piece follows itself, or that a sentence stands in an answer
LEAST_BYTES = 150  # of UTF-8, of all these together; where they are numbers, code or a table:
LEAST_BYTES_OF_DATA = 1000
_PIECE = 12  # characters, of a text in ASCII; else half as many
_PIECES = 8  # from all over the answer
_SHARE = 0.5  # of the answer, where the loop is not at its end
_SHOWN = 40  # characters of what is repeated
_DATA = re.compile(r"[<>{}();=|\\&]|\A[\W\d_]*\Z")
_LEAST_OF_SENTENCE = 12  # bytes
_SENTENCE = re.compile(r"[\n.!?;。！？；]+")
_STOP, _SPACE = re.compile(r"[,.!?;:，。！？；：\n]+"), re.compile(r"\s+")
_NUMBERING = " \t-–*•#>|()（）[]:：、,，\"“”'‘’0123456789"
_WANTED = re.compile(
    r"repeat|\btimes\b|lyrics|song|poem|chorus|chant|mantra"
    r"|重复|[一二三四五六七八九十百\d][遍次]|歌|诗|词牌|口号|口诀",
    re.IGNORECASE,
)


def check_repetition(answer: AnswerToCheck) -> str | None:
    """Reject an answer that ends in a loop, or of which half is one piece or sentence again."""
    text = answer.output
    if len(text) < LEAST_BYTES // 3:
        return None
    found = _loop(text)
    if found is None or _WANTED.search(answer.instruction) or _WANTED.search(answer.input):
        return None
    piece, times = found
    shown = " ".join(piece.split())
    return f"'{shown[:_SHOWN]}{'…' if len(shown) > _SHOWN else ''}' {times} times"


def _loop(text: str) -> tuple[str, int] | None:
    """What is repeated, and how often; None where the answer is no loop."""
    size = _PIECE if text.isascii() else _PIECE // 2
    end = len(text) - size
    is_suspect = False
    for place in (end, *range(0, end, end // _PIECES + 1)):
        piece = text[place : place + size]
        if text.count(piece) < LEAST and len(set(piece)) > 2:
            continue
        is_suspect = True
        if found := _period(text, piece):
            start, stop, unit = found
            is_at_end = len(text) - stop <= len(unit) + size
            if is_at_end or stop - start >= _SHARE * len(text):
                return _from_word(unit), (stop - start) // len(unit)
    return _sentences(text) if is_suspect else None


def _from_word(unit: str) -> str:
    """What is repeated, from the beginning of a phrase or word."""
    begins = _STOP.search(unit) or _SPACE.search(unit)
    return unit[begins.end() :] + unit[: begins.end()] if begins else unit


def _period(text: str, piece: str) -> tuple[int, int, str] | None:
    """The longest stretch of equal texts one after the other, around a piece of them.

    Its start, its stop, and the text that is repeated.
    """
    places = []
    place = text.find(piece)
    while place >= 0:
        places.append(place)
        place = text.find(piece, place + 1)
    best = (0, 0, "")
    first = 0
    for distance, same in groupby(b - a for a, b in pairwise(places)):
        last = first + len(list(same))
        start, stop = places[first], places[last] + len(piece)
        first = last
        # Between the pieces there may be something else, such as a number.
        is_periodic = text[start + distance : stop] == text[start : stop - distance]
        if is_periodic and stop - start > best[1] - best[0]:
            best = (start, stop, text[start : start + distance])
    start, stop, unit = best
    if stop - start < LEAST * len(unit):
        return None
    return best if len(text[start:stop].encode()) >= _least_bytes(unit) else None


def _least_bytes(piece: str) -> int:
    return LEAST_BYTES_OF_DATA if _DATA.search(piece) else LEAST_BYTES


def _sentences(text: str) -> tuple[str, int] | None:
    """The sentence or list item that is half of the answer or more, where it stands in it often."""
    counts = Counter(part.strip(_NUMBERING) for part in _SENTENCE.split(text))
    total = sum(len(sentence) * times for sentence, times in counts.items())
    counts.pop("", None)
    for sentence, times in counts.most_common(3):
        if times < LEAST or times * len(sentence) < _SHARE * total:
            continue
        size = len(sentence.encode())
        if size >= _LEAST_OF_SENTENCE and times * size >= _least_bytes(sentence):
            return sentence, times
    return None
