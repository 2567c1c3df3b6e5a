"""Differences between servers of OpenAI's API, as data.

From the providers' documentation, read 2026-10 and 2026-11. Other servers get GENERIC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

OPENAI_BASE = "https://api.openai.com/v1"

# Paths of calls, which users copy along with the address of a server.
CALL_PATHS = ("/chat/completions", "/completions", "/batches", "/files", "/responses", "/models")
DEFAULT_PORTS = {"http": 80, "https": 443}

# Names of OpenAI's own models.
OPENAI_MODELS = re.compile(r"^(ft:)?(gpt-(?!oss)|chatgpt-|o[1-9](-|$)|codex-|computer-use-)")


@dataclass(frozen=True, slots=True)
class Provider:
    """The limits and names of one kind of server; bytes are of a job file.

    max_tokens_name, json_schema: None where they depend on the model: OpenAI's own models refuse
    max_tokens, or will, and accept a schema; other models do not.
    """

    name: str
    hosts: tuple[str, ...] = ()
    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    completion_window: str = "24h"
    max_tokens_name: str | None = "max_tokens"
    json_schema: bool | None = False  # whether response_format json_schema is accepted
    path: str = ""  # of its API, where there is only one


PROVIDERS = (
    Provider(
        "openai",
        ("api.openai.com",),
        max_tokens_name="max_completion_tokens",
        json_schema=True,
        path="/v1",
    ),
    Provider(
        "azure",
        (".openai.azure.com", ".cognitiveservices.azure.com"),
        max_requests=100_000,
        max_tokens_name=None,
        json_schema=None,
    ),
    Provider("groq", ("api.groq.com",), max_tokens_name="max_completion_tokens"),
    Provider("dashscope", (".aliyuncs.com",), max_bytes=500_000_000),
    Provider("siliconflow", ("api.siliconflow.cn", "api.siliconflow.com")),
    Provider("parasail", ("api.parasail.io",)),
)
GENERIC = Provider("generic")


def provider_for(base_url: str) -> Provider:
    """The provider of an address, by its host."""
    host = urlsplit(base_url).hostname or ""
    for provider in PROVIDERS:
        if any(host == known or host.endswith(known) for known in provider.hosts):
            return provider
    return GENERIC


def normal_base_url(base_url: str) -> str:
    """A server's address in its normal form.

    Without surrounding whitespace, a call's path, a slash at the end, and the default port; scheme
    and host in lower case; with the provider's path where none is given. Expects a valid address.
    """
    parts = urlsplit(base_url.strip())
    path = parts.path.rstrip("/")
    call = next((known for known in CALL_PATHS if path.endswith(known)), "")
    path = path.removesuffix(call).rstrip("/") or provider_for(base_url.strip()).path
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if parts.port is not None and parts.port != DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    return urlunsplit((parts.scheme, host, path, parts.query, ""))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How parameters are written for a server; not part of a request's identity."""

    max_tokens_name: str
    json_schema: bool

    def body(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters under the server's names, without the messages."""
        body = dict(params)
        if "max_tokens" in body:
            body[self.max_tokens_name] = body.pop("max_tokens")
        schema = body.pop("json_schema", None)
        if schema is not None and self.json_schema:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        return body


def dialect_of(
    model: str,
    provider: Provider,
    max_tokens_name: str | None = None,
    json_schema: bool | None = None,
) -> Dialect:
    """The dialect of a server, by its provider and model; arguments that are given win."""
    is_openais = bool(OPENAI_MODELS.match(model))
    by_model = "max_completion_tokens" if is_openais else "max_tokens"
    forces_schema = provider.json_schema if json_schema is None else json_schema
    return Dialect(
        max_tokens_name or provider.max_tokens_name or by_model,
        is_openais if forces_schema is None else forces_schema,
    )
