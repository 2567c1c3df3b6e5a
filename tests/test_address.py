"""The address of a run's server: one form of it, frozen in the run, and what happens elsewhere."""

from __future__ import annotations

import pytest

from backends.providers import normal_base_url

SPELLINGS = {
    "https://h.example/v1": ("https://h.example/v1/", " HTTPS://H.Example:443/v1\n"),
    "http://127.0.0.1:8000/v1": (
        "http://127.0.0.1:8000/v1/chat/completions",
        "http://127.0.0.1:8000/v1/batches/",
        "http://127.0.0.1:8000/v1//models",
    ),
    "http://[::1]:8000/V1": ("http://[::1]:8000/V1/files",),
    "https://h.example": ("https://h.example/", "https://h.example:443/responses"),
    "https://h.example:80": ("https://h.example:80/completions",),
    "https://api.openai.com/v1": ("https://api.openai.com", "https://api.openai.com/v1/files"),
    "https://h.example/v1?v=1": ("https://h.example/v1/?v=1",),
}


@pytest.mark.parametrize("normal", SPELLINGS)
def test_spellings_of_an_address(normal: str) -> None:
    """All spellings of an address have one normal form, which is its own."""
    spellings = (normal, *SPELLINGS[normal])
    assert [normal_base_url(spelling) for spelling in spellings] == [normal] * len(spellings)
