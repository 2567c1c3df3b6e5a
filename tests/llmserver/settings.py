"""What the server accepts and how it behaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .batches import Fate
from .faults import FaultScript
from .linefaults import LineFault
from .replies import Answer, default_answer

Command = Literal["newest", "oldest", "shuffled"]

# The parameters of OpenAI's POST /chat/completions; it refuses a body with any other.
CHAT_PARAMETERS = frozenset(
    [
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)


@dataclass(kw_only=True, eq=False)
class Settings:
    """The server's rules; each may be given at the start and changed while it runs."""

    port: int = 0
    """Port on 127.0.0.1; 0 takes a free one."""
    answer: Answer = default_answer
    """The model: body → text, JSON object or Reply. Called from several threads."""
    latency: float = 0.0
    """Seconds that a live call takes."""

    keys: Collection[str] | None = ("sk-test",)
    """Bearer keys that are accepted; None accepts any."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that every call must have, as a gateway wants them."""
    models: Collection[str] | None = None
    """Models that exist; None means all of them do."""
    owned_by: str = "llmserver"
    """Whose the listed models are said to be; of vLLM's own server: vllm."""
    parameters: Collection[str] | None = CHAT_PARAMETERS
    """Body parameters that exist; None means all of them do."""
    strict_max_tokens: bool = False
    """Refuse `max_tokens`, as OpenAI's newer models do."""
    endpoints: Collection[str] = ("/v1/chat/completions",)
    """Endpoints that a batch may name."""
    completion_windows: Collection[str] = ("24h",)
    """Completion windows that a batch may name."""
    splitlines: bool = False
    """Read input files with str.splitlines(), as some servers do: U+2028 ends a line, too."""
    max_requests: int = 50_000
    """Requests in one batch."""
    max_bytes: int = 200_000_000
    """Bytes in one batch's input file; more fail its validation."""
    max_upload_bytes: int = 512_000_000
    """Bytes in one upload; more are answered with 413."""

    looks: int | None = 1
    """Retrieves or lists that a batch stays in each status; 0: it has ended by the first look;
    None: it moves only by `finish`, `expire`, `fail` and `settle`."""
    patience: float = 2.0
    """Seconds that a look waits for work in the background before it shows no progress."""
    list_unfinished: bool = True
    """Name the unfinished requests of an expired or cancelled batch in its error file."""
    absent_files: Collection[Literal["output", "error"]] = ()
    """Files of results that an ended batch names and that are not there: 404."""
    page_cap: int | None = None
    """The most items on a list's page, whatever limit was asked for."""
    list_order: Command = "newest"
    """Order of the batches in lists."""

    enqueued_limit: int | Mapping[str, int] | None = None
    """Prompt tokens that may be enqueued per model, over all unfinished batches."""
    enqueued_form: Literal["failed", 400, 429] = "failed"
    """How more is refused: by a batch that fails, or by the status of POST /batches."""
    token_factor: float = 1.0
    """Multiplies the server's count of enqueued tokens, to differ from the client's."""

    faults: FaultScript = field(default_factory=FaultScript)
    """Faults of HTTP calls."""
    line_faults: list[LineFault] = field(default_factory=list)
    """Faults in the files of results."""
    fates: list[Fate | None] = field(default_factory=list)
    """Ends of the next batches, used up in order; None, and any beyond, completes."""

    seed: int = 0
    """Seed of the shuffles."""
    bill_digests: bool = False
    """Keep digests instead of bodies on the bill, to save memory; only read at the start."""

    def limit_of(self, model: str) -> int | None:
        """The enqueued-token limit of a model, or None."""
        if isinstance(self.enqueued_limit, Mapping):
            return self.enqueued_limit.get(model)
        return self.enqueued_limit
