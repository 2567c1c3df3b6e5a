"""What the tests do with a server: through the real `openai` client, and in as few words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from openai import OpenAI
from openai.types import Batch

from .bill import Body
from .errors import Json
from .server import LLMServer

URL: Final = "/v1/chat/completions"


def client_of(server: LLMServer, key: str = "sk-test", timeout: float = 10) -> OpenAI:
    """A client that tries everything once."""
    return OpenAI(base_url=server.base_url, api_key=key, max_retries=0, timeout=timeout)


def body_of(text: str, **more: Any) -> Body:
    """A chat request with one user message."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def line_of(number: int, **changes: Any) -> Json:
    """The input line `r-<number>`, which asks `Question <number>?`."""
    body = body_of(f"Question {number}?")
    return {"custom_id": f"r-{number}", "method": "POST", "url": URL, "body": body} | changes


def jsonl(lines: Iterable[Json]) -> bytes:
    """An input file."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def upload(client: OpenAI, content: bytes, name: str = "in.jsonl") -> str:
    """Upload an input file."""
    return client.files.create(file=(name, content), purpose="batch").id


def create(client: OpenAI, file_id: str, **more: Any) -> Batch:
    """Create a batch of an uploaded file."""
    return client.batches.create(
        input_file_id=file_id, endpoint=URL, completion_window="24h", **more
    )


def submit(client: OpenAI, count: int = 4, **more: Any) -> Batch:
    """Upload `count` good lines and create a batch of them."""
    return create(client, upload(client, jsonl(line_of(n) for n in range(count))), **more)


def run(server: LLMServer, client: OpenAI, content: bytes | None = None) -> Batch:
    """A batch of four good lines, or of a file, that has ended."""
    good = jsonl(line_of(n) for n in range(4))
    batch = create(client, upload(client, good if content is None else content))
    server.finish(batch.id)
    return client.batches.retrieve(batch.id)


def ask(client: OpenAI, text: str = "?") -> str | None:
    """The content that a live call is answered with."""
    body = body_of(text)
    made = client.chat.completions.create(model=body["model"], messages=body["messages"])
    return made.choices[0].message.content


def raw(client: OpenAI, file_id: str | None) -> bytes:
    """The bytes of a result file; nothing where there is none."""
    return client.files.content(file_id).content if file_id else b""


def parsed(content: bytes) -> list[Json]:
    """The lines of a result file."""
    return [json.loads(line) for line in content.split(b"\n") if line.strip()]


def contents(lines: Sequence[Json]) -> dict[str, str]:
    """The answers in an output file by custom_id."""
    return {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"]
        for line in lines
    }
