"""The interface of stages, and the writing of requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from backends import Progress
from fastdatasets.stages.prompts import Prompt
from store import UserError, WorkStore
from store.images import PLACEHOLDER, data_url_bytes
from store.money import UNKNOWN_IMAGE_TOKENS
from store.planning import PlannedRequest, Row, canonical
from store.runs import Run


class Stage(Protocol):
    """A step of a run. Its methods do what can be done now, and may be called at any time."""

    name: str
    run: Run  # with the backend, the server and the model that answer its requests

    def ingest(self, store: WorkStore) -> None:
        """Turn answers into rows of later stages, each answer once."""

    def plan(self, store: WorkStore, progress: Progress) -> None:
        """Store requests for rows without one; equal rows have equal requests."""


class RequestWriter:
    """Writes a stage's requests: system prompt, earlier turns, and the rendered template."""

    def __init__(
        self, run: Run, stage: str, params: dict[str, Any], *, with_history: bool = True
    ) -> None:
        """with_history: whether earlier turns and tools of a record go with its question."""
        self._prompt = Prompt(stage, run.templates, run.language)
        self._system_prompt = run.system_prompt
        self._params = canonical({"model": run.model, **run.params, **params})
        self._with_history = with_history
        self._image_tokens = run.image_tokens or UNKNOWN_IMAGE_TOKENS

    def request(self, row: Row, **variables: object) -> PlannedRequest:
        """The request for a row."""
        messages: list[dict[str, Any]] = []
        # A record's own system prompt replaces the general one.
        if system := row.system or self._system_prompt:
            messages.append({"role": "system", "content": system})
        if self._with_history and row.history is not None:
            messages += map(_as_sent, msgspec.json.decode(row.history))
        for question, answer in zip(row.earlier_questions, row.earlier_answers, strict=True):
            messages += (
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            )
        messages.append({"role": "user", "content": self._prompt.render(row, **variables)})
        tools = row.tools if self._with_history else None
        images = _place_images(messages, row) if row.images is not None else ()
        return PlannedRequest(
            row.record,
            row.ordinal,
            row.generation,
            self._params,
            canonical(messages),
            tools=None if tools is None else canonical(msgspec.json.decode(tools)),
            images=len(images),
            image_tokens=len(images) * self._image_tokens,
            image_bytes=sum(data_url_bytes(image["bytes"] or 0) for image in images),
        )


def _place_images(messages: list[dict[str, Any]], row: Row) -> Sequence[Mapping[str, Any]]:
    """Make parts of the texts and images of the user's messages; returns the images.

    Raises UserError where a template has another number of '<image>' than the record.
    """
    assert row.images is not None, "the row has images"
    images: Sequence[Mapping[str, Any]] = msgspec.json.decode(row.images)
    asked = [message for message in messages if message["role"] == "user"]
    own = sum(text.count(PLACEHOLDER) for text in (row.instruction, row.input))
    written = asked[-1]["content"].count(PLACEHOLDER)
    if own != written:
        raise UserError(
            f"the prompt template writes {written} {PLACEHOLDER} for record {row.record}, whose "
            f"question has {own}: instruction and input go into it once each"
        )
    earlier = sum(message["content"].count(PLACEHOLDER) for message in asked[:-1])
    used = images[: earlier + own]
    rest = iter(used)
    for message in asked:
        if PLACEHOLDER in message["content"]:
            message["content"] = list(_parts(message["content"], rest))
    return used


def _parts(text: str, images: Iterator[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A text's parts: an image for each '<image>', and the texts around them."""
    for place, part in enumerate(text.split(PLACEHOLDER)):
        if place:
            image = next(images)
            detail = {} if image["detail"] is None else {"detail": image["detail"]}
            yield {"type": "image_url", "image_url": {"url": image["url"], **detail}}
        if part.strip():
            yield {"type": "text", "text": part.strip("\n")}


def _as_sent(message: dict[str, Any]) -> dict[str, Any]:
    """A message as servers take it: without a tool's name, and the reasoning of earlier turns,
    which models are not shown.
    """
    return {
        name: value for name, value in message.items() if name not in ("reasoning_content", "name")
    }
