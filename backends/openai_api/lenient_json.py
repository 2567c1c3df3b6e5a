"""Reading invalid JSON of servers, with all of its texts."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any

import msgspec

MAX_DEPTH = 64  # decoders recurse; an answer's text is 7 deep
# Errors of a decoder for bytes that are not what it decodes.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

_SURROGATE = re.compile("[\ud800-\udfff]")
# An unterminated string counts as one: else each quote would be tried as the start of another.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}(\.0*)?")


def leniently(raw: bytes) -> bytes:
    """The same value as valid JSON; raises ValueError where it is no JSON.

    Replacement characters replace invalid UTF-8 and surrogates, null replaces numbers out of range
    and values nested deeper than MAX_DEPTH.
    """
    text = raw.decode("utf-8", "replace").lstrip("\N{BYTE ORDER MARK}")
    value = json.loads(
        shallow(text),
        parse_int=_int,
        parse_float=_float,
        parse_constant=lambda _: None,  # NaN, Infinity
        strict=False,  # control characters in strings
    )
    clean = json.dumps(value, ensure_ascii=False)
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", clean).encode()


def decode_leniently(raw: bytes) -> Any:
    """The value of JSON, or of JSON in a string, as some servers send a body; else the text."""
    value: Any = raw.decode("utf-8", "replace")
    for _ in range(2):
        if isinstance(value, str):
            with suppress(ValueError):
                value = msgspec.json.decode(leniently(value.encode()))
    return value


def whole_number(value: object) -> int | None:
    """A count in the forms that servers use: 20, 20.0 or "20"; None for anything else."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def shallow(text: str) -> str:
    """JSON with null for values nested too deep, without recursion."""
    kept: list[str] = []
    depth = start = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += text[start : token.start()], "null"
        elif token[0] in "]}":
            if depth == MAX_DEPTH + 1:
                start = token.end()
            depth -= 1
    if depth <= MAX_DEPTH:
        kept.append(text[start:])
    return "".join(kept)


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
