"""What the user adds to requests: `--param`, `--system-prompt` and `--header`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from backends.openai_api.keys import hide_key
from fastdatasets.sources.files import expanded
from store import UserError

_LIMIT = "the limit of an answer is --max-output-tokens"

# Keys of a body that have an option of their own, or that the answers depend on.
OURS = {
    "model": "the teacher is --model",
    "messages": "the messages are made from records: see --prompt-template and --system-prompt",
    "tools": "tools are those of the record's conversation",
    "stream": "answers are not streamed",
    "stream_options": "answers are not streamed",
    "n": "one answer is stored for each request",
    "max_tokens": _LIMIT,
    "max_completion_tokens": _LIMIT,
    "temperature": "it is --temperature",
    "top_p": "it is --top-p",
    "lora": "an adapter is --lora",
    "think": "it is --think or --no-think",
    "json_schema": "a schema goes into response_format",
}
_OBJECTS = ("chat_template_kwargs", "response_format")  # what else would fail with each request
_HTTP = ("connection", "content-length", "content-type", "host", "transfer-encoding")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def parse_params(pairs: Sequence[str]) -> dict[str, Any]:
    """`--param` pairs as keys of a request's body; raises UserError for those that are ours."""
    params: dict[str, Any] = {}
    for pair in pairs:
        key, value = parse_pair("--param", pair)
        if key in OURS:
            raise UserError(f"--param {key}: {OURS[key]}")
        if key in params:
            raise UserError(f"--param {key} is given twice")
        if key in _OBJECTS and not isinstance(value, dict):
            raise UserError(f"--param {key}: a JSON object is expected, such as {key}='{{…}}'")
        params[key] = value
    return params


def parse_pair(option: str, pair: str) -> tuple[str, Any]:
    """KEY=VALUE; a value is JSON where it is valid JSON, else text. Raises UserError."""
    key, equals, value = pair.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"{option} {pair}: KEY=VALUE is expected")
    if value in ("True", "False"):
        value = value.lower()
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        if value.startswith(("{", "[", '"')):
            raise UserError(f"{option} {key}: its value is no valid JSON: {error}") from None
        return key, value


def parse_headers(pairs: Sequence[str]) -> dict[str, str]:
    """`--header` pairs of NAME=VALUE or NAME=@FILE; raises UserError.

    The values are masked in messages from now on.
    """
    headers: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name, value = name.strip(), value.strip()
        value = _text_or_file(f"the value of --header {name}", value).strip()
        hide_key(value)
        if not equals or not _HEADER_NAME.fullmatch(name):
            raise UserError(f"--header {name}: NAME=VALUE is expected")
        if not value or not value.isascii() or not value.isprintable():
            raise UserError(f"--header {name}: its value is empty or not printable ASCII")
        if name.lower() == "authorization":
            raise UserError("--header Authorization: the key is LLM_API_KEY")
        if name.lower() in _HTTP:
            raise UserError(f"--header {name} is set by the HTTP client")
        headers[name] = value
    return headers


def read_system_prompt(text: str | None) -> str | None:
    """`--system-prompt`: a text, or @FILE for the content of a file; raises UserError."""
    return None if text is None else _text_or_file("the system prompt", text)


def _text_or_file(what: str, text: str) -> str:
    """A text, or the content of a file where it is @FILE; raises UserError."""
    if not text.startswith("@"):
        return text
    path = expanded(text[1:])
    try:
        return path.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {what} {path}: {error}") from None
