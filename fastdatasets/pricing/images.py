"""The most prompt tokens of an image, by the model.

From OpenAI's guide 'Images and vision', read 2026-11: an image is scaled down, so it has a maximum
whatever its size. Models in tiles: a base and up to 8 tiles of 512 pixels, which are 2048 by 768
pixels. Models in patches: up to 1,536 patches of 32 pixels, times a factor. Of gpt-4.1 the guide
has said both; the larger is taken. Models that are not here have no bound: a wrong one is worse.
"""

from __future__ import annotations

import re
from math import ceil

from fastdatasets.pricing.prices import EDITION

TILES = 8
PATCHES = 1536


def _in_tiles(base: int, tile: int) -> int:
    return base + TILES * tile


def _in_patches(factor: str) -> int:
    whole, _, hundredths = factor.partition(".")
    return ceil(PATCHES * int(whole + hundredths) / 100)


MOST_TOKENS = {
    "gpt-4-turbo": _in_tiles(85, 170),
    "gpt-4o": _in_tiles(85, 170),
    "chatgpt-4o": _in_tiles(85, 170),
    "gpt-4.5-preview": _in_tiles(85, 170),
    "gpt-4o-mini": _in_tiles(2833, 5667),
    "gpt-4.1": _in_patches("1.00"),
    "gpt-4.1-mini": _in_patches("1.62"),
    "gpt-4.1-nano": _in_patches("2.46"),
    "gpt-5": _in_tiles(70, 140),
    "gpt-5-chat": _in_tiles(70, 140),
    "gpt-5-mini": _in_patches("1.62"),
    "gpt-5-nano": _in_patches("2.46"),
    "o1": _in_tiles(75, 150),
    "o1-pro": _in_tiles(75, 150),
    "o3": _in_tiles(75, 150),
    "o4-mini": _in_patches("1.72"),
}
_FINE_TUNED = re.compile(r"^ft:([^:]+):.*")


def most_image_tokens(model: str) -> int | None:
    """The most prompt tokens of an image; None where that is not known of the model."""
    name = _FINE_TUNED.sub(r"\1", model.lower().removeprefix("openai/"))
    return MOST_TOKENS.get(EDITION.sub("", name))
