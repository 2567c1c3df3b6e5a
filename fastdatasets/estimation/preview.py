"""What a run would send: the mapping of its dataset, and its first requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import msgspec

from backends.openai_api.providers import GENERIC, Dialect, dialect_of, provider_for
from backends.registry import find_backend
from fastdatasets.config.backend import check_thinking
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.estimation.planned import planned
from fastdatasets.pricing.tokens import counter_for
from store.requests import Request, RequestOrder
from store.runs import Mode, Run

SHOWN = 3  # requests
MAX_DATA = 60  # characters of a data URL


@dataclass(frozen=True, slots=True)
class PreviewedRequest:
    """A request's body as it is sent, and its prompt tokens, without those of its images."""

    body: dict[str, Any]
    prompt_tokens: int
    images: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The lines about the dataset, and the first requests.

    notes: what of the requests depends on the server, which preview does not ask, and how often
    each is sent. tokenizer: what counted their tokens; tokenizer_error: its relative error.
    image_tokens: the most of an image; None: not known.
    """

    lines: Sequence[str]
    records: int
    requests: Sequence[PreviewedRequest]
    notes: Sequence[str]
    tokenizer: str
    tokenizer_error: float
    image_tokens: int | None

    def to_text(self) -> str:
        """The preview as lines for a person."""
        about = "about " if self.tokenizer_error else ""
        shown = [*self.lines, *self.notes, f"the first {len(self.requests)} requests:"]
        for request in self.requests:
            shown += (
                "",
                msgspec.json.format(msgspec.json.encode(_short(request.body)), indent=2).decode(),
                f"({about}{request.prompt_tokens} prompt tokens, counted with {self.tokenizer}"
                f"{self._images(request.images)})",
            )
        return "\n".join(shown)

    def _images(self, images: int) -> str:
        if not images:
            return ""
        if self.image_tokens is None:
            return f"; and {images} images, whose tokens are not known of this model"
        return f"; and at most {self.image_tokens} for each of {images} images"

    def to_json(self) -> str:
        """The preview as one JSON object."""
        return msgspec.json.encode(self).decode()


def preview(
    config: RunConfig, *, json_schema: bool | None = None, max_tokens_name: str | None = None
) -> Preview:
    """Sample and plan in a temporary store, and show what would be sent first.

    Nothing is sent, except to the Hub for a dataset of its own. Raises UserError as the run would.
    """
    run = new_run(config, load_settings())
    dialect: Dialect | None = None
    notes: list[str] = []
    if find_backend(run.backend).uses_server:
        dialect, notes = _dialect(run, json_schema, max_tokens_name)
    counter = counter_for(run.model)
    lines: list[str] = []
    if run.samples > 1:
        notes.append(f"each request is sent {run.samples} times, for --samples")
    with planned(replace(run, samples=1), lines.append) as store:
        pending = store.requests.pending(1, RequestOrder.PREFIX)
        requests = [
            PreviewedRequest(
                _body(one, dialect), counter.count(one.messages, one.tools), _images_of(one)
            )
            for one in islice(pending, SHOWN)
        ]
        records = store.records.count()
    return Preview(lines, records, requests, notes, counter.name, counter.error, run.image_tokens)


def _dialect(
    run: Run, json_schema: bool | None, max_tokens_name: str | None
) -> tuple[Dialect, list[str]]:
    """How the server's requests are written, and what of it only its list of models decides."""
    assert run.base_url is not None, "the backend uses a server"
    provider = provider_for(run.base_url)
    # Of an unknown server --think is an error unless it is vLLM's.
    is_vllm = "think" in run.params and provider is GENERIC
    check_thinking(run, serves_vllm=is_vllm)
    dialect = dialect_of(run.model, provider, max_tokens_name, json_schema, serves_vllm=is_vllm)
    opened = "open until the server is asked for its models:"
    notes: list[str] = []
    if is_vllm:
        option = "--think" if run.params["think"] else "--no-think"
        notes.append(f"{opened} {option} is sent like this to vLLM, and is an error elsewhere")
    elif run.mode is Mode.AUGMENT and json_schema is None and not dialect.json_schema:
        notes.append(f"{opened} vLLM gets a JSON schema as well (--json-schema shows it)")
    return dialect, notes


def _body(request: Request, dialect: Dialect | None) -> dict[str, Any]:
    """The body; for the local engine (None) the parameters have the names that a run keeps."""
    params = request.params if dialect is None else dialect.body(request.params)
    tools = {} if request.tools is None else {"tools": request.tools}
    return {**params, "messages": request.sent_messages(), **tools}


def _images_of(request: Request) -> int:
    contents = (message.get("content") for message in request.messages)
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return sum(part["type"] == "image_url" for part in parts)


def _short(value: Any) -> Any:
    """A body for a person: of a data URL the beginning, and its length."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, list):
        return list(map(_short, value))
    if isinstance(value, str) and value.startswith("data:image/") and len(value) > MAX_DATA:
        return f"{value[:MAX_DATA]}… ({len(value)} characters)"
    return value
