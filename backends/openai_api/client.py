"""The openai clients as we use them: nothing from the environment, repeated or endless."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx2
import openai

from backends.openai_api.bounded import bound

CONNECT_SECONDS = 10.0


def make_client(
    base_url: str, api_key: str, *, timeout_seconds: float, connections: int = 1
) -> openai.AsyncOpenAI:
    """A client for calls of which each is made once: so many at once, and seconds between bytes.

    The SDK's retries repeat a POST that had worked, and wait as long as a Retry-After says. How
    long answers may be is in `backends.openai_api.bounded`.
    """
    with _without_openai_variables():
        return openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            timeout=httpx2.Timeout(timeout_seconds, connect=CONNECT_SECONDS),
            http_client=openai.DefaultAsyncHttpxClient(
                limits=httpx2.Limits(
                    max_connections=connections, max_keepalive_connections=connections
                ),
                event_hooks={"response": [bound]},
                verify=_certificates(),
            ),
        )


@cache
def _certificates() -> ssl.SSLContext:
    """The certificates that are trusted, read once: that takes 20 ms."""
    return httpx2.create_ssl_context()


@contextmanager
def _without_openai_variables() -> Iterator[None]:
    """Hide OPENAI_* from the SDK, which reads keys, projects and headers from there.

    OPENAI_CUSTOM_HEADERS, for one, may hold an Authorization that takes the place of our key.
    """
    hidden = {name: value for name, value in os.environ.items() if name.startswith("OPENAI_")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
