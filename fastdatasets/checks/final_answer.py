"""The short final answer of an answer, in a form in which equal ones are equal texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction

import regex

from store import UserError
from store.runs import Run

LONGEST = 60  # characters of a final answer
_PATTERN_SECONDS = 0.2  # for one answer: longer means that the pattern backtracks without end
_PATTERN_CHARACTERS = 20_000  # of the end of an answer

FinalAnswerOf = Callable[[str], str | None]

_MARKER = re.compile(
    r"(?:(?:final answer|the (?:correct )?answer|\banswer|答案|结果)\W{0,4}"
    r"(?:\b(?:is|are|was|equals|would be|will be)\b|[:：=]|[是为选])+|故选\W{0,2})"
    r"[ \t]*(?P<answer>[^\n]+)",
    re.IGNORECASE,
)
_FRACTION_SIGNS = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")  # '1½' would become '11/2'
_EXPONENTS = re.compile(r"[⁰¹²³⁴-⁹]+")  # and '5²' '52'
_BOXES = 10  # of the end of an answer, where braces are not balanced
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_LATEX = (
    (re.compile(r"\\[dtc]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r"\1/\2"),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:left|right|displaystyle)\b|\\[,!;:() \[\]]|\^\s*\{?\s*\\circ\s*\}?"), ""),
)
_EDGES = " \t\n.,;:!?。，；：！？、*_`'\"“”‘’$¥€£￥~≈"
_NUMBER = re.compile(
    r"(?<![A-Za-z\d.,/])[-+−]?(?P<whole>\d+\s+(?=\d+/\d))?"
    r"(?P<value>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:/\d+(?:\.\d+)?)?)"
)
# What may stand around the number of an answer: words, a currency, a unit; no formula.
_BEFORE = re.compile(r"[^-+*/^=<>(){}\[\]_\\|\d]*")
_AFTER = re.compile(
    r"(?:(?:\s*[%°]|\s|[a-zA-Z]{2}|[^\W\d_a-zA-Z])(?:(?!\s[-/]\s)[^-+*^=<>\d])*|-\w[\w\s]*)?"
)
_OPTION = re.compile(r"[(\[]?(?P<letter>[A-Ha-h])(?:[)\].:：、]|$)(?!\w)")


def wants_final_answers(run: Run) -> bool:
    """Whether a run compares final answers."""
    return run.samples > 1 or run.checks.answer_pattern is not None or run.checks.verify is not None


def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """--answer-pattern; raises UserError where it is no regular expression."""
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UserError(
            f"--answer-pattern {pattern}: no regular expression: {error.msg}"
            + ("" if error.pos is None else f" at character {error.pos + 1}")
        ) from None


def final_answers_by(pattern: str | None) -> FinalAnswerOf:
    """How final answers are found in a run's answers: by the pattern, or as final_answer does."""
    if pattern is None:
        return final_answer
    compiled = compile_pattern(pattern)

    def by_pattern(text: str) -> str | None:
        end = text[-_PATTERN_CHARACTERS:]
        try:
            found = [*compiled.finditer(end, timeout=_PATTERN_SECONDS)]
        except TimeoutError:
            return None
        return normal(found[-1][1 if compiled.groups else 0] or "") if found else None

    return by_pattern


def final_answer(text: str) -> str | None:
    r"""The final answer of a text in its normal form; None where it has none.

    The last \boxed{…}, else what follows the last '####', else the last 'answer:' or '答案：', else
    a last line that is short.
    """
    if (boxed := _last_boxed(text)) is not None:
        return normal(boxed)
    if "####" in text:
        marked = text.rpartition("####")[2].strip()
        if marked:
            return normal(marked.splitlines()[0])
    marked_answers = [found["answer"] for found in _MARKER.finditer(text)]
    if marked_answers and (answer := normal(_first_sentence(marked_answers[-1]))) is not None:
        return answer
    last = text.rstrip().rpartition("\n")[2]
    return normal(last) if len(last) <= LONGEST else None


def normal(text: str) -> str | None:
    """A final answer in its normal form; None where nothing is left, or it is no short one.

    A text that has one number, such as '$1,000.00', '50%' or '3 apples', is that number: '1000',
    '50', '3'. An option such as '(B) Paris' is its letter. Else without case, spaces and marks.
    """
    text = _EXPONENTS.sub(r"^\g<0>", _FRACTION_SIGNS.sub(r" \g<0>", text))
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    text = text.replace("\\%", "%").replace("\\$", "$").strip(_EDGES).strip()
    if len(text) > LONGEST or not text:
        return None
    if option := _OPTION.match(text):
        return option["letter"].lower()
    if "=" in text and "," not in text.partition("=")[2]:
        text = text.rpartition("=")[2].strip(_EDGES)
    numbers = list(_NUMBER.finditer(text))
    if (
        len(numbers) == 1
        and _BEFORE.fullmatch(text, 0, numbers[0].start())
        and _AFTER.fullmatch(text, numbers[0].end())
    ):
        return _number(numbers[0])
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|[{}$\\*_`\"'“”‘’]+", "", text).lower() or None


def _number(found: re.Match[str]) -> str:
    """A number, or a fraction, as the shortest text of its exact value."""
    top, _, bottom = found["value"].replace(",", "").partition("/")
    divisor = Fraction(bottom or 1)
    if not divisor:
        return found[0]
    value = Fraction(found["whole"] or 0) + Fraction(top) / divisor
    if found[0][0] in "-−":
        value = -value
    if value.denominator == 1:
        return str(value.numerator)
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    scaled, places = value, 0
    while scaled.denominator != 1:
        scaled, places = scaled * 10, places + 1
    digits = str(abs(scaled.numerator)).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _first_sentence(text: str) -> str:
    """A line up to the end of its first sentence, and not only its opening marks."""
    return re.split(r"(?<=\w)[.。!！](?:\s|\*|$)", text.strip(), maxsplit=1)[0]


def _last_boxed(text: str) -> str | None:
    r"""The content of the last \boxed{…} whose braces are balanced."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return None
    for found in reversed(list(_BOXED.finditer(text))[-_BOXES:]):
        depth = 1
        for place in range(found.end(), min(len(text), found.end() + 20 * LONGEST)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if not depth:
                return text[found.end() : place]
    return None
