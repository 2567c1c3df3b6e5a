"""What differs between servers with OpenAI's Files and Batches, as data.

Facts from the providers' pages, read 2026-10 and 2026-11. A server that is not named here gets the
form that most of them take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

OPENAI_BASE = "https://api.openai.com/v1"

# OpenAI's own models refuse max_tokens, or will; others know nothing else.
OPENAI_MODELS = re.compile(r"^(ft:)?(gpt-(?!oss)|chatgpt-|o[1-9](-|$)|codex-|computer-use-)")


@dataclass(frozen=True, slots=True)
class Provider:
    """The limits and names of one kind of server; bytes are of a job file."""

    name: str
    hosts: tuple[str, ...] = ()
    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    completion_window: str = "24h"
    max_tokens_name: str | None = None  # None: by the model's name


PROVIDERS = (
    Provider("openai", ("api.openai.com",), max_tokens_name="max_completion_tokens"),
    Provider("azure", (".openai.azure.com", ".cognitiveservices.azure.com"), max_requests=100_000),
    Provider("groq", ("api.groq.com",), max_tokens_name="max_completion_tokens"),
    Provider("dashscope", (".aliyuncs.com",), max_bytes=500_000_000, max_tokens_name="max_tokens"),
    Provider("siliconflow", ("api.siliconflow.cn", "api.siliconflow.com")),
    Provider("parasail", ("api.parasail.io",)),
)
GENERIC = Provider("generic")


def provider_for(base_url: str) -> Provider:
    """The provider at an address, by its host."""
    host = urlsplit(base_url).hostname or ""
    for provider in PROVIDERS:
        if any(host == known or host.endswith(known) for known in provider.hosts):
            return provider
    return GENERIC


def max_tokens_name(model: str, provider: Provider) -> str:
    """What the limit of an answer's tokens is called in a request's body."""
    if provider.max_tokens_name is not None:
        return provider.max_tokens_name
    return "max_completion_tokens" if OPENAI_MODELS.match(model) else "max_tokens"
