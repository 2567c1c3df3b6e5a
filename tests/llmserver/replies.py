"""What the model answers: a pure function of the request body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .bill import Body, Usage, canonical, digest
from .errors import Json, error_body

# Stands in a content for bytes that are no UTF-8; a private character survives json.dumps.
INVALID_BYTES_MARK = "\ue0ff"
# Begins a string whose rest stands in the answer as JSON, as it is.
_VERBATIM_MARK = "\ue0fe"
_VERBATIM = re.compile(r'"(?:\ue0fe|\\ue0fe)((?:[^"\\]++|\\.)*+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the model, or its refusal when `status_code` is not 2xx.

    `message` adds fields to the assistant's message (`{"reasoning": …}`), `body` replaces the
    whole response body, `reported` the usage in it, not what is billed, `headers` go with a refused
    live call (`{"Retry-After": "1"}`). With `drop` a live call is executed and billed, and its
    connection closed without an answer.
    """

    content: str | None = None
    reasoning_content: str | None = None
    finish_reason: str = "stop"
    status_code: int = 200
    error: Json | None = None
    usage: Usage | None = None
    message: Mapping[str, object] = field(default_factory=dict)
    body: Json | None = None
    reported: Json | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False

    @property
    def billable(self) -> bool:
        """Whether the request was executed with a result that is paid for."""
        return 200 <= self.status_code < 300


Answer = Callable[[Body], "str | Json | Reply"]


def message_text(message: Json) -> str:
    """The text of one message, whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def text_tokens(text: str) -> int:
    """The server's count: one token for every four characters begun."""
    return (len(text) + 3) // 4


def prompt_tokens(body: Body) -> int:
    """Tokens of a prompt: those of each message's text and 3 a message."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return 0
    return sum([3 + text_tokens(message_text(m)) for m in messages if isinstance(m, dict)])


def default_answer(body: Body) -> str:
    """`Answer to: <last user message> [<digest of the body>]`."""
    asked: Json = next((m for m in reversed(body["messages"]) if m.get("role") == "user"), {})
    return f"Answer to: {message_text(asked)} [{digest(body)}]"


def ask(answer: Answer, body: Body) -> Reply:
    """Call the answer function; a dict it returns is the content as JSON text."""
    try:
        answered = answer(body)
    except Exception as error:
        message = f"the answer function raised {error!r}"
        return Reply(status_code=500, error={"message": message, "type": "server_error"})
    if isinstance(answered, Reply):
        return answered
    return Reply(answered if isinstance(answered, str) else canonical(answered))


def usage_of(body: Body, reply: Reply) -> Usage:
    """The reply's own usage, or one counted from the texts."""
    if reply.usage is not None:
        return reply.usage
    reasoning = text_tokens(reply.reasoning_content or "")
    written = text_tokens(reply.content or "") + reasoning
    return Usage(prompt_tokens(body), written, reasoning_tokens=reasoning)


def response_body(body: Body, reply: Reply, usage: Usage, name: str, created: int) -> Json:
    """The body of the HTTP response: a chat completion, or an error object."""
    if reply.body is not None:
        return reply.body
    if not reply.billable:
        return _refusal(reply)
    message: Json = {"role": "assistant", "content": reply.content, "refusal": None}
    if reply.reasoning_content is not None:
        message["reasoning_content"] = reply.reasoning_content
    message.update(reply.message)
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": created,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": reply.finish_reason,
            }
        ],
        "usage": usage.of_completion() if reply.reported is None else reply.reported,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _refusal(reply: Reply) -> Json:
    if reply.error is not None:
        return {
            "error": {"type": "invalid_request_error", "param": None, "code": None} | reply.error
        }
    return error_body(f"The model refused with status {reply.status_code}.", type="server_error")


def verbatim(text: str) -> str:
    """A value that the server writes as this JSON: what json.dumps would not, or not so."""
    return _VERBATIM_MARK + text


def to_json(value: Json, *, ensure_ascii: bool = False) -> str:
    """JSON with its verbatim parts as they are."""
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    if _VERBATIM_MARK not in text and "\\ue0fe" not in text:
        return text
    return _VERBATIM.sub(lambda found: str(json.loads(f'"{found[1]}"')), text)


def to_json_bytes(value: Json) -> bytes:
    """JSON in raw UTF-8, as OpenAI writes it; escaped where a lone surrogate forbids that."""
    try:
        line = to_json(value).encode()
    except UnicodeEncodeError:
        line = to_json(value, ensure_ascii=True).encode()
        return line.replace(json.dumps(INVALID_BYTES_MARK)[1:-1].encode(), b"\xff\xfe")
    return line.replace(INVALID_BYTES_MARK.encode(), b"\xff\xfe")
