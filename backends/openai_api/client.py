"""The openai client, without settings from the environment, retries, or unlimited responses."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

import httpx2
import openai

from backends.openai_api.bounded import bound

CONNECT_SECONDS = 10.0


def make_client(
    base_url: str,
    api_key: str,
    *,
    timeout_seconds: float,
    connections: int = 1,
    headers: Mapping[str, str] | None = None,
) -> openai.AsyncOpenAI:
    """A client without retries; timeout_seconds: between bytes; connections: at the same time.

    The SDK's retries would repeat a POST that had succeeded, and wait for any Retry-After. Size
    limits of responses are in `backends.openai_api.bounded`.
    """
    with _without_openai_variables():
        return openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            default_headers=headers,
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

    OPENAI_CUSTOM_HEADERS, for example, may hold an Authorization header that replaces our key.
    """
    hidden = {name: value for name, value in os.environ.items() if name.startswith("OPENAI_")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
