"""What a run would send: the mapping of its dataset, and its first requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from backends.openai_api.providers import dialect_of, provider_for
from backends.registry import find_backend
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.estimation.planned import planned
from fastdatasets.pricing.tokens import counter_for
from store.requests import Request, RequestOrder
from store.runs import Run

SHOWN = 3  # requests


@dataclass(frozen=True, slots=True)
class PreviewedRequest:
    """A request's body as it is sent, and its prompt tokens."""

    body: dict[str, Any]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The lines about the dataset, and the first requests.

    tokenizer: what counted their tokens; tokenizer_error: its relative error.
    """

    lines: Sequence[str]
    records: int
    requests: Sequence[PreviewedRequest]
    tokenizer: str
    tokenizer_error: float

    def to_text(self) -> str:
        """The preview as lines for a person."""
        about = "about " if self.tokenizer_error else ""
        shown = [*self.lines, f"the first {len(self.requests)} requests:"]
        for request in self.requests:
            shown += (
                "",
                msgspec.json.format(msgspec.json.encode(request.body), indent=2).decode(),
                f"({about}{request.prompt_tokens} prompt tokens, counted with {self.tokenizer})",
            )
        return "\n".join(shown)

    def to_json(self) -> str:
        """The preview as one JSON object."""
        return msgspec.json.encode(self).decode()


def preview(config: RunConfig) -> Preview:
    """Sample and plan in a temporary store, and show what would be sent first.

    Nothing is sent, except to the Hub for a dataset of its own. Raises UserError as the run would.
    """
    run = new_run(config, load_settings())
    counter = counter_for(run.model)
    lines: list[str] = []
    with planned(run, lines.append) as store:
        pending = store.requests.pending(1, RequestOrder.PREFIX)
        requests = [
            PreviewedRequest(_body(run, one), counter.count(one.messages, one.tools))
            for one in islice(pending, SHOWN)
        ]
        records = store.records.count()
    return Preview(lines, records, requests, counter.name, counter.error)


def _body(run: Run, request: Request) -> dict[str, Any]:
    """The body; for the local engine the parameters have the names that a run keeps."""
    params = request.params
    if find_backend(run.backend).uses_server:
        assert run.base_url is not None, "the backend uses a server"
        params = dialect_of(run.model, provider_for(run.base_url)).body(params)
    tools = {} if request.tools is None else {"tools": request.tools}
    return {**params, "messages": request.messages, **tools}
