"""The parameters of calls, checked as strictly as OpenAI does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Protocol, TypeVar

from .bill import digest
from .errors import ApiError, Json, invalid, missing, unknown
from .settings import Settings

BATCH_PARAMETERS = (
    "input_file_id",
    "endpoint",
    "completion_window",
    "metadata",
    "output_expires_after",
)
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MONTH = 30 * 24 * 3600


class Listed(Protocol):
    """What stands in a list."""

    @property
    def id(self) -> str:
        """Its identity, which `after` names."""

    def as_json(self) -> Json:
        """The object as the API shows it."""


L = TypeVar("L", bound=Listed)

_servers = count()


class Ids:
    """Identities that repeat from test to test but never from server to server in a process."""

    def __init__(self, seed: int) -> None:
        self._salt = [seed, next(_servers)]
        self._numbers = count()

    def new(self, prefix: str) -> str:
        """The next identity."""
        return prefix + digest({"of": [*self._salt, next(self._numbers)]})


def check_batch(params: Json, settings: Settings) -> None:
    """Refuse the parameters of POST /batches that are not as they should be."""
    for name in params.keys() - set(BATCH_PARAMETERS):
        raise unknown(name)
    for name in BATCH_PARAMETERS[:3]:
        if name not in params:
            raise missing(name)
        _check_string(params[name], name)
    _check_choice(params["endpoint"], "endpoint", settings.endpoints)
    _check_choice(params["completion_window"], "completion_window", settings.completion_windows)
    check_metadata(params.get("metadata"))
    if params.get("output_expires_after") is not None:
        check_expiry(params["output_expires_after"], "output_expires_after")


def check_metadata(metadata: object) -> None:
    """At most 16 pairs of strings, keys of 64 and values of 512 characters."""
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise _wrong_type("metadata", "an object", metadata)
    if len(metadata) > 16:
        reason = f"too many properties. Expected at most 16, but got {len(metadata)} instead."
        raise invalid("metadata", reason, "object_above_max_properties")
    for key, value in metadata.items():
        _check_length(key, "metadata", 64)
        _check_string(value, f"metadata.{key}")
        _check_length(value, f"metadata.{key}", 512)


def check_expiry(policy: object, param: str) -> int:
    """The seconds of an expiry policy `{anchor: created_at, seconds: 3600..2592000}`."""
    if not isinstance(policy, dict):
        raise _wrong_type(param, "an object", policy)
    for name in policy.keys() - {"anchor", "seconds"}:
        raise unknown(f"{param}.{name}")
    _check_choice(policy.get("anchor"), f"{param}.anchor", ("created_at",))
    seconds = policy.get("seconds")
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise _wrong_type(f"{param}.seconds", "an integer", seconds)
    if not 3600 <= seconds <= MONTH:
        raise invalid(f"{param}.seconds", f"expected 3600 to {MONTH}, but got {seconds}.")
    return seconds


def check_upload(fields: Mapping[str, str], filename: str | None) -> int | None:
    """The form of POST /files; gives the seconds after which the file expires, if any."""
    known = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}
    for name in fields.keys() - known:
        raise unknown(name)
    if filename is None:
        raise missing("file")
    if "purpose" not in fields:
        raise missing("purpose")
    _check_choice(fields["purpose"], "purpose", PURPOSES)
    if fields["purpose"] == "batch" and not filename.endswith(".jsonl"):
        message = "Invalid file format for Batch API. Must be .jsonl"
        raise ApiError(400, message, param="file", code="invalid_file_format")
    if len(fields) > 1:
        seconds = fields.get("expires_after[seconds]", "")
        policy = {
            "anchor": fields.get("expires_after[anchor]"),
            "seconds": int(seconds) if seconds.isdecimal() else seconds,
        }
        return check_expiry(policy, "expires_after")
    return MONTH if fields["purpose"] == "batch" else None


def page(
    items: Sequence[L], query: Mapping[str, str], *, default: int, most: int, cap: int | None
) -> tuple[list[L], bool]:
    """The page of a list that `after` and `limit` ask for, and whether more follow."""
    start = 0
    if "after" in query:
        places = [place for place, item in enumerate(items) if item.id == query["after"]]
        if not places:
            raise ApiError(404, f"No such object: {query['after']}", param="after")
        start = places[0] + 1
    end = start + min(_limit(query, default, most), cap or most)
    return list(items[start:end]), end < len(items)


def listing(items: Sequence[Listed], more: bool) -> Json:
    """The list object with these items."""
    return {
        "object": "list",
        "data": [item.as_json() for item in items],
        "first_id": items[0].id if items else None,
        "last_id": items[-1].id if items else None,
        "has_more": more,
    }


def check_query(query: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse query parameters that the endpoint does not have."""
    for name in query.keys() - set(known):
        raise unknown(name)


def _limit(query: Mapping[str, str], default: int, most: int) -> int:
    text = query.get("limit", str(default))
    if not text.isdecimal():
        raise _wrong_type("limit", "an integer", text)
    if not 1 <= int(text) <= most:
        code = "integer_above_max_value" if int(text) else "integer_below_min_value"
        raise invalid("limit", f"expected a value from 1 to {most}, but got {text}.", code)
    return int(text)


def _check_string(value: object, param: str) -> None:
    if not isinstance(value, str):
        raise _wrong_type(param, "a string", value)


def _check_length(text: str, param: str, most: int) -> None:
    if len(text) > most:
        reason = f"string too long. Expected at most {most} characters, but got {len(text)}."
        raise invalid(param, reason, "string_above_max_length")


def _check_choice(value: object, param: str, choices: Collection[str]) -> None:
    if value not in choices:
        known = ", ".join(f"'{choice}'" for choice in choices)
        raise invalid(param, f"'{value}' is not supported. Supported values are: {known}.")


def _wrong_type(param: str, wanted: str, value: object) -> ApiError:
    message = f"Invalid type for '{param}': expected {wanted}, but got {type(value).__name__}."
    return ApiError(400, message, param=param, code="invalid_type")
