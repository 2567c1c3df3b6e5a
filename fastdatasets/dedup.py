"""Near-duplicates among texts: MinHash and LSH by rensa, over n-grams of characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count

import numpy as np
from rensa import RMinHash, RMinHashDeduplicator

from fastdatasets.languages import CJK

THRESHOLD = 0.8  # Jaccard similarity of two texts' n-grams
N_GRAM = 5  # characters
N_GRAM_CJK = 3  # of a text with Chinese, Japanese or Korean characters, which say more each
PERMUTATIONS = 128  # the standard error of an estimated similarity of 0.8 is 0.035
BANDS = 16  # of 8 values: pairs at the threshold are found with 95 %, at 0.9 with 99.99 %
SEED = 42

# Chinese numerals are numbers too, but for 一, which is in many words.
_NUMBER = re.compile(r"\d+|[零〇二两三四五六七八九十百千万亿]+")
_CJK = re.compile(f"[{CJK}]")
_FACTORS = np.random.default_rng(SEED).integers(2**62, size=PERMUTATIONS // BANDS // 2) * 2 + 1

Text = tuple[str, str]  # a text, normalised, and its group


def near_duplicates(texts: Callable[[], Iterable[list[Text]]]) -> Iterator[bool]:
    """Whether each text is a near-duplicate of an earlier one that is none itself.

    texts: returns all texts, in batches of a few thousand; called twice. Two texts are compared
    only where their groups are equal, and the numbers in them: a question with another number has
    another answer. Takes 40 µs a text, and 130 bytes; 2 KB for one of which another text is a
    candidate, which is then compared by rensa.
    """
    is_candidate = _with_common_band(texts)
    deduplicator = RMinHashDeduplicator(
        threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True, num_bands=BANDS, seed=SEED
    )
    place, number = 0, count()
    for batch in texts():
        candidates = is_candidate[place : place + len(batch)]
        place += len(batch)
        kept = iter(
            deduplicator.add_pairs(
                [
                    (str(next(number)), _n_grams(*text))
                    for text, is_one in zip(batch, candidates, strict=True)
                    if is_one
                ]
            )
        )
        yield from (bool(is_one) and not next(kept) for is_one in candidates)


def _with_common_band(texts: Callable[[], Iterable[list[Text]]]) -> np.ndarray:
    """Whether each text has a band of its MinHash in common with another."""
    keys = [np.empty((0, BANDS), np.int64), *map(_band_keys, texts())]
    bands = np.concatenate(keys)
    del keys
    found = np.zeros(len(bands), bool)
    for band in bands.T:
        order = np.argsort(band)
        ordered = band[order]
        equal = ordered[1:] == ordered[:-1]
        found[order[1:][equal]] = True
        found[order[:-1][equal]] = True
    return found


def _band_keys(texts: list[Text]) -> np.ndarray:
    """A hash of each band of each text: texts x BANDS."""
    hashes = RMinHash.digest_matrix_from_token_sets(
        [_n_grams(*text) for text in texts], PERMUTATIONS, SEED
    )
    values = np.array(hashes.to_rows(), np.uint32).reshape(len(texts), BANDS, -1).view(np.int64)
    keys: np.ndarray = (values * _FACTORS).sum(axis=2)
    return keys


def _n_grams(text: str, group: str) -> list[str]:
    """A text's n-grams, each with the group and the numbers of the text before it."""
    size = N_GRAM_CJK if _CJK.search(text) else N_GRAM
    tag = ",".join((group, *_NUMBER.findall(text)))
    return [f"{tag}|{text[at : at + size]}" for at in range(max(1, len(text) - size + 1))]
