"""A strict, fault-injecting, billing double of OpenAI's Files, Batches and chat completions."""

from .batches import TERMINAL, Batch, Fate, Status, expired, failed, token_limit
from .bill import Bill, Usage, canonical, digest
from .faults import (
    MISSING,
    SCHEDULING,
    UPPER_CASE,
    Fault,
    FaultScript,
    Fired,
    Kind,
    forbidden,
    http_date,
    insufficient_quota,
    no_batch_api,
    rate_limited,
)
from .files import StoredFile
from .gate import Logged
from .linefaults import LineFault, LineKind, content_filter, rate_limited_line
from .replies import Reply, default_answer, prompt_tokens, text_tokens, verbatim
from .server import LLMServer
from .settings import Settings

__all__ = [
    "MISSING",
    "SCHEDULING",
    "TERMINAL",
    "UPPER_CASE",
    "Batch",
    "Bill",
    "Fate",
    "Fault",
    "FaultScript",
    "Fired",
    "Kind",
    "LLMServer",
    "LineFault",
    "LineKind",
    "Logged",
    "Reply",
    "Settings",
    "Status",
    "StoredFile",
    "Usage",
    "canonical",
    "content_filter",
    "default_answer",
    "digest",
    "expired",
    "failed",
    "forbidden",
    "http_date",
    "insufficient_quota",
    "no_batch_api",
    "prompt_tokens",
    "rate_limited",
    "rate_limited_line",
    "text_tokens",
    "token_limit",
    "verbatim",
]
