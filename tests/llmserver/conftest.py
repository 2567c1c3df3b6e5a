"""A server and a client of it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from .driver import client_of
from .server import LLMServer


@pytest.fixture
def server() -> Iterator[LLMServer]:
    """A server whose batches end by the first look."""
    with LLMServer(looks=0) as server:
        yield server


@pytest.fixture
def client(server: LLMServer) -> Iterator[OpenAI]:
    """The real client, without retries."""
    with client_of(server) as client:
        yield client
