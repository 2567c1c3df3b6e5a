"""Keys that no message shows, whoever echoes them."""

from __future__ import annotations

import re

_QUERY = re.compile(r"(https?://[^\s?#'\"]+\?)[^\s'\")]+", re.IGNORECASE)
_SHORTEST_KEY = 4  # characters: 'x' for a server that wants none is in every second word

_keys: set[str] = set()


def hide_key(key: str) -> None:
    """From now on show *** for a key."""
    if len(key) >= _SHORTEST_KEY:
        _keys.add(key)


def masked(text: str) -> str:
    """A text without keys, those in the query of an address included."""
    for key in _keys:
        text = text.replace(key, "***")
    return _QUERY.sub(r"\1***", text) if "?" in text else text
