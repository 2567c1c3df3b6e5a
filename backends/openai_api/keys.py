"""Masking of keys in messages, whoever echoes them."""

from __future__ import annotations

import re

_QUERY = re.compile(r"(https?://[^\s?#'\"]+\?)[^\s'\")]+", re.IGNORECASE)
_SHORTEST_KEY = 4  # characters; a placeholder such as 'x' would mask parts of words

_keys: set[str] = set()


def hide_key(key: str) -> None:
    """Mask this key from now on."""
    if len(key) >= _SHORTEST_KEY:
        _keys.add(key)


def masked(text: str) -> str:
    """A text with *** for keys, and for the query of an address."""
    for key in _keys:
        text = text.replace(key, "***")
    return _QUERY.sub(r"\1***", text) if "?" in text else text
