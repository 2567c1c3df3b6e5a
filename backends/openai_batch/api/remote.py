"""A server's batches as they are shown, read leniently: servers leave out and rename a lot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openai.types import Batch as SdkBatch

from backends.openai_api.errors import ApiError, ErrorKind, one_line
from backends.openai_api.lenient_json import whole_number

LAST_SECOND = 253_402_300_800  # unix seconds of the year 10000: no date goes so far
TERMINAL = {"completed", "failed", "expired", "cancelled"}


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as a server shows it; what servers leave out or write differently is normalized.

    status is in lower case, 'cancelled' with two l. completed: requests that succeeded so far, None
    where it is not reported; failed likewise. created_at, expires_at: unix seconds.
    """

    batch_id: str
    status: str
    input_file_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    expires_at: float | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[dict[str, Any], ...] = ()
    completed: int | None = None
    failed: int | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it will change no more; a status nobody documented means 'still running'."""
        return self.status in TERMINAL


def id_of(answer: object) -> str:
    """The id of an object the server made; without one nobody knows whether it did."""
    object_id = _file_id(getattr(answer, "id", None), "id")
    if object_id is None:
        raise ApiError(ErrorKind.UNKNOWN, "the server's answer has no id", 200)
    return object_id


def _file_id(value: object, name: str) -> str | None:
    """An id as servers write it: a text, a number, or an object that has it; None for none.

    Anything else is no 'none': what it names may be answers that were paid for.
    """
    if isinstance(value, dict):
        value = value.get("id", value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        return value or None
    raise ApiError(ErrorKind.UNKNOWN, one_line(f"the server's {name} is no id: {value!r}"), 200)


def page_data(page: object) -> list[object]:
    """The objects on a page of a list; raises ApiError."""
    data = getattr(page, "data", None)
    if not isinstance(data, list):
        raise ApiError(ErrorKind.UNKNOWN, "the server's list of batches cannot be read")
    return data


def remote_batch(answer: SdkBatch | object) -> RemoteBatch:
    """A batch as a server shows it; raises ApiError where it has no id."""
    status = str(getattr(answer, "status", "") or "").lower()
    metadata = getattr(answer, "metadata", None)
    counts = getattr(answer, "request_counts", None)
    output = _file_id(getattr(answer, "output_file_id", None), "output_file_id")
    errors = _file_id(getattr(answer, "error_file_id", None), "error_file_id")
    return RemoteBatch(
        batch_id=id_of(answer),
        status="cancelled" if status == "canceled" else status,
        input_file_id=_file_id(getattr(answer, "input_file_id", None), "input_file_id"),
        metadata=dict(metadata) if isinstance(metadata, dict) else {},
        created_at=_seconds(getattr(answer, "created_at", None)) or 0.0,
        expires_at=_seconds(getattr(answer, "expires_at", None)),
        output_file_id=output,
        error_file_id=None if errors == output else errors,  # one file with all lines, read once
        errors=_errors(getattr(answer, "errors", None)),
        completed=_count(getattr(counts, "completed", None)),
        failed=_count(getattr(counts, "failed", None)),
    )


def _seconds(value: object) -> float | None:
    known = isinstance(value, int | float) and 0 <= value < LAST_SECOND
    return float(value) if known else None  # type: ignore[arg-type]  # known: it is a number


def _errors(errors: object) -> tuple[dict[str, Any], ...]:
    names = ("code", "line", "message", "param")
    data = getattr(errors, "data", None)
    data = data if isinstance(data, list) else []
    reported = [{name: getattr(item, name, None) for name in names} for item in data]
    for error in reported:
        if isinstance(error["message"], str):
            error["message"] = one_line(error["message"])
    return tuple(reported)


def _count(value: object) -> int | None:
    number = whole_number(value)
    return number if number is not None and number >= 0 else None
