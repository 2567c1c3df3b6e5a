"""Differences between servers of OpenAI's API, as data.

From the providers' documentation, read 2026-10 and 2026-11. Other servers get GENERIC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from backends.reasoning import TEMPLATE_SWITCHES

OPENAI_BASE = "https://api.openai.com/v1"

# Paths of calls, which users copy along with the address of a server.
CALL_PATHS = ("/chat/completions", "/completions", "/batches", "/files", "/responses", "/models")
DEFAULT_PORTS = {"http": 80, "https": 443}

# Names of OpenAI's own models.
OPENAI_MODELS = re.compile(r"^(ft:)?(gpt-(?!oss)|chatgpt-|o[1-9](-|$)|codex-|computer-use-)")


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a request's body has beside its parameters for thinking turned on, or off."""

    on: dict[str, Any]
    off: dict[str, Any]


ENABLE_THINKING = Thinking({"enable_thinking": True}, {"enable_thinking": False})
TYPE_OF_THINKING = Thinking({"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}})
VLLM_THINKING = Thinking(
    {"chat_template_kwargs": dict.fromkeys(TEMPLATE_SWITCHES, True)},
    {"chat_template_kwargs": dict.fromkeys(TEMPLATE_SWITCHES, False)},
)


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
    thinking: Thinking | None = None
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
        (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
        max_tokens_name=None,
        json_schema=None,
    ),
    Provider("groq", ("api.groq.com",), max_tokens_name="max_completion_tokens"),
    Provider("dashscope", (".aliyuncs.com",), max_bytes=500_000_000, thinking=ENABLE_THINKING),
    Provider(
        "siliconflow",
        ("api.siliconflow.cn", "api.siliconflow.com"),
        max_requests=5_000,
        thinking=ENABLE_THINKING,
    ),
    Provider("deepseek", ("api.deepseek.com",), thinking=TYPE_OF_THINKING),
    Provider(
        "zhipu",
        ("open.bigmodel.cn", "api.z.ai"),
        max_bytes=100_000_000,
        thinking=TYPE_OF_THINKING,
    ),
    Provider("moonshot", ("api.moonshot.cn", "api.moonshot.ai"), thinking=TYPE_OF_THINKING),
    Provider("volcengine", (".volces.com",), thinking=TYPE_OF_THINKING),
    Provider(
        "openrouter",
        ("openrouter.ai",),
        thinking=Thinking({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
    ),
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
    thinking: Thinking | None = None

    def body(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters under the server's names, without the messages."""
        body = dict(params)
        if "max_tokens" in body:
            body[self.max_tokens_name] = body.pop("max_tokens")
        think = body.pop("think", None)
        if think is not None and self.thinking is not None:
            body = with_defaults(body, self.thinking.on if think else self.thinking.off)
        schema = body.pop("json_schema", None)
        if schema is not None and self.json_schema:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        return body


def with_defaults(body: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """A body with keys that it does not have, also in objects of it: what the user named stays."""
    merged = defaults | body
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(merged[name], dict):
            merged[name] = default | merged[name]
    return merged


def thinking_of(provider: Provider, serves_vllm: bool) -> Thinking | None:
    """How thinking is turned on and off at a server; None where that is not known."""
    return VLLM_THINKING if serves_vllm and provider is GENERIC else provider.thinking


def dialect_of(
    model: str,
    provider: Provider,
    max_tokens_name: str | None = None,
    json_schema: bool | None = None,
    *,
    serves_vllm: bool = False,
) -> Dialect:
    """The dialect of a server, by its provider and model; arguments that are given win.

    serves_vllm: whether its list of models says so; vLLM can force a schema.
    """
    is_openais = bool(OPENAI_MODELS.match(model))
    by_model = "max_completion_tokens" if is_openais else "max_tokens"
    if json_schema is None:
        json_schema = serves_vllm or provider.json_schema
    return Dialect(
        max_tokens_name or provider.max_tokens_name or by_model,
        is_openais if json_schema is None else json_schema,
        thinking_of(provider, serves_vllm),
    )
