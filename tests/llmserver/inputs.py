"""A batch's input file: read line by line, and validated before anything of it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from .bill import Body
from .errors import Json, batch_error
from .replies import prompt_tokens
from .settings import Settings

MAX_ERRORS = 100
LINE_KEYS = frozenset({"custom_id", "method", "url", "body"})
_CUSTOM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


class LineError(Exception):
    """A line that fails the whole batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


@dataclass
class Scan:
    """What validation learnt about an input file."""

    total: int = 0
    model: str | None = None
    tokens: int = 0
    errors: list[Json] = field(default_factory=list)


def read_requests(path: Path, settings: Settings) -> Iterator[tuple[str, Body]]:
    """The custom_id and body of each line of a valid input file."""
    for raw in _lines(path, settings):
        line = _decode(raw.decode())
        yield line["custom_id"], line["body"]


def _lines(path: Path, settings: Settings) -> Iterator[bytes]:
    if settings.splitlines:
        yield from map(str.encode, path.read_text("utf-8").splitlines())
        return
    with path.open("rb") as lines:
        yield from lines


def scan(path: Path, endpoint: str, settings: Settings) -> Scan:
    """Validate an input file; its errors name their lines, counted from 1."""
    found = Scan()
    if path.stat().st_size > settings.max_bytes:
        message = f"The input file is larger than {settings.max_bytes} bytes."
        found.errors.append(batch_error("file_too_large", message))
        return found
    seen: set[str] = set()
    for number, raw in enumerate(_lines(path, settings), 1):
        found.total = number
        try:
            _check_line(raw, endpoint, settings, seen, found)
        except LineError as bad:
            error = batch_error(bad.code, bad.message, line=number, param=bad.param)
            found.errors.append(error)
        if len(found.errors) >= MAX_ERRORS or number > settings.max_requests:
            break
    found.errors += _count_errors(found, settings)
    return found


def _count_errors(found: Scan, settings: Settings) -> list[Json]:
    if found.total > settings.max_requests:
        message = f"The batch input file contains more than {settings.max_requests:,} requests."
        return [batch_error("too_many_tasks", message)]
    if not found.total:
        return [batch_error("empty_file", "The batch input file is empty.")]
    return []


def _check_line(raw: bytes, endpoint: str, settings: Settings, seen: set[str], found: Scan) -> None:
    line = _parse(raw)
    for name in sorted(line.keys() - LINE_KEYS):
        raise LineError("unknown_parameter", f"Unknown parameter: '{name}'.", name)
    for name in ("custom_id", "method", "url", "body"):
        if name not in line:
            message = f"Missing required parameter: '{name}'."
            raise LineError("missing_required_parameter", message, name)
    _check_custom_id(line["custom_id"], seen)
    if line["method"] != "POST":
        raise LineError("invalid_method", "Only method 'POST' is supported.", "method")
    if line["url"] != endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        raise LineError("url_mismatch", message, "url")
    _check_body(line["body"], settings, found)
    found.tokens += prompt_tokens(line["body"])


def _parse(raw: bytes) -> Json:
    try:
        line = _decode(raw.decode())
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        message = "This line is not parseable as valid JSON."
        raise LineError("invalid_json_line", message) from error
    if not isinstance(line, dict):
        raise LineError("invalid_json_line", "This line is not a JSON object.")
    return line


def _check_custom_id(custom_id: object, seen: set[str]) -> None:
    if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
        message = "The custom_id must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -."
        raise LineError("invalid_custom_id", message, "custom_id")
    if custom_id in seen:
        message = (
            f"The custom_id '{custom_id}' for this request is a duplicate of another request. "
            "The custom_id parameter must be unique for each request in a batch."
        )
        raise LineError("duplicate_custom_id", message, "custom_id")
    seen.add(custom_id)


def _check_body(body: object, settings: Settings, found: Scan) -> None:
    if not isinstance(body, dict):
        raise LineError("invalid_request", "The body must be a JSON object.", "body")
    model = body.get("model")
    if not isinstance(model, str):
        message = "Missing required parameter: 'model'."
        raise LineError("missing_required_parameter", message, "body.model")
    if settings.models is not None and model not in settings.models:
        message = f"The provided model '{model}' is not supported by the Batch API."
        raise LineError("model_not_found", message, "body.model")
    found.model = found.model or model
    if model != found.model:
        message = "All requests of a batch must be to the same model."
        raise LineError("model_mismatch", message, "body.model")
    if body.get("stream"):
        raise LineError("invalid_request", "Streaming is not supported in a batch.", "body.stream")
