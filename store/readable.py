"""Text for a person: nothing in it moves a cursor, rings, hides or turns what is read, or is a key.

Records, column and file names, and the words of servers end up on terminals and in logs. All text
for a person goes through `readable`, JSON for machines through `readable_json`.
"""

from __future__ import annotations

import re

# C0 without tab and line feed, DEL and C1; marks, overrides and isolates of direction; what else
# ends a line; halves of characters, as in names of files that are no UTF-8.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_QUERY = re.compile(r"(https?://[^\s?#'\"]+\?)[^\s'\")]+", re.IGNORECASE)
_SHORTEST_KEY = 4  # characters: 'x' for a server that wants none is in every second word

_keys: set[str] = set()


def hide_key(key: str) -> None:
    """From now on show *** for a key, whoever echoes it."""
    if len(key) >= _SHORTEST_KEY:
        _keys.add(key)


def masked(text: str) -> str:
    """A text without keys, those in the query of an address included."""
    for key in _keys:
        text = text.replace(key, "***")
    return _QUERY.sub(r"\1***", text) if "?" in text else text


def readable(text: object) -> str:
    r"""A text as a terminal may have it: keys masked, control characters as \x1b or \u202e."""
    return _CONTROL.sub(_escaped, masked(str(text)))


def readable_json(text: str) -> str:
    """JSON that means the same, keys aside, with the characters escaped that JSON lets stand."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", masked(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
