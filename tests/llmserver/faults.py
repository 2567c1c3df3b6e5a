"""Faults of single HTTP calls, as data: scripted, used up in order, logged when they fire."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from fnmatch import fnmatchcase
from time import time
from typing import Any, NamedTuple

from .batches import Status
from .errors import Json, error_body


class Kind(StrEnum):
    """What a fault does to a call."""

    # Before the call takes effect.
    REFUSE = "refuse"  # answered with `status`, `headers`, `body`
    DROP_BEFORE = "drop_before"  # connection closed without an answer
    HANG = "hang"  # no answer until the client gives up
    DELAY = "delay"  # takes effect, and is answered, `seconds` later
    # After it took effect.
    DROP_AFTER = "drop_after"  # connection closed without an answer
    ERROR_AFTER = "error_after"  # answered with `status`, `headers`, `body`
    GARBLED = "garbled"  # status 200, JSON cut in half (or `body`, if it is text)
    HANG_AFTER = "hang_after"  # no answer until the client gives up
    HIDE = "hide"  # answered well, but see `hide_lists` and `hide_retrieves`
    # Only `keep` bytes of a good answer come (None: half of them); meant for files' contents.
    CUT = "cut"  # Content-Length says more than comes
    CUT_CHUNKED = "cut_chunked"  # chunked, without the last chunk
    CUT_SILENT = "cut_silent"  # no length, Connection: close: looks complete
    # A good answer, or an error, in a form that costs the client much.
    FLOOD = "flood"  # `keep` newlines come before it (None: 3 GB)
    BOMB = "bomb"  # the same with Content-Encoding: gzip
    TRICKLE = "trickle"  # a byte comes every `seconds`
    # A file's content, otherwise.
    GZIP = "gzip"  # Content-Encoding: gzip
    FEW_LINES = "few_lines"  # whole lines of `keep` bytes at most, as if that were the file
    # The shape of a good answer; several of these may hit one call.
    SET = "set"  # `fields` put into each object; MISSING takes a field away
    NO_METADATA = "no_metadata"  # batches come back with metadata null
    NO_USAGE = "no_usage"  # batches and completions come without usage
    NULL_COUNTS = "null_counts"  # request_counts is null
    NO_OUTPUT_FILE = "no_output_file"  # batches name no output file, whatever they completed
    EMPTY_FILE_IDS = "empty_file_ids"  # "" where a batch has no output or error file
    OBJECT_FILE_IDS = "object_file_ids"  # {"id": …} for the id of a file in a batch
    SAME_FILE_IDS = "same_file_ids"  # the output file's id as the error file's, too
    STATUS_NAMES = "status_names"  # `fields` maps a status to another name
    ENDLESS = "endless"  # lists say has_more for ever
    IGNORE_AFTER = "ignore_after"  # lists begin anew whatever `after` says
    NEW_IDS = "new_ids"  # each page has ids that no other has


BEFORE = frozenset({Kind.REFUSE, Kind.DROP_BEFORE, Kind.HANG})
CUTS = frozenset({Kind.CUT, Kind.CUT_CHUNKED, Kind.CUT_SILENT})
FLOODS = frozenset({Kind.FLOOD, Kind.BOMB, Kind.TRICKLE})
CONTENTS = frozenset({Kind.GZIP, Kind.FEW_LINES})
SHAPES = frozenset(
    {
        Kind.SET,
        Kind.NO_METADATA,
        Kind.NO_USAGE,
        Kind.NULL_COUNTS,
        Kind.NO_OUTPUT_FILE,
        Kind.EMPTY_FILE_IDS,
        Kind.OBJECT_FILE_IDS,
        Kind.SAME_FILE_IDS,
        Kind.STATUS_NAMES,
        Kind.ENDLESS,
        Kind.IGNORE_AFTER,
        Kind.NEW_IDS,
    }
)

MISSING = object()
"""As a value in `Fault.fields`: the field is left out."""

UPPER_CASE = {status.value: status.upper() for status in Status}
"""For Kind.STATUS_NAMES: statuses in upper case, as Novita writes them."""

SCHEDULING = {"validating": "scheduling", "in_progress": "scheduling"}
"""For Kind.STATUS_NAMES: a status that OpenAI does not have."""

DEFAULT_STATUS = {Kind.REFUSE: 500, Kind.ERROR_AFTER: 500}


@dataclass(eq=False)
class Fault:
    """One fault: `where` it hits (a method and a path without /v1: "POST /batches",
    "GET /files/*/content", "* /batches*"), `after` how many calls let through, and how many
    `times` (None: for ever).

    A batch whose POST it hits stays out of the next `hide_lists` lists (one counts as a list
    when it has no `after`) and of the next `hide_retrieves` retrieves.
    """

    where: str
    kind: Kind
    times: int | None = 1
    after: int = 0
    status: int | None = None
    body: Json | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    keep: int | None = None
    hide_lists: int = 0
    hide_retrieves: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    passed: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def hits(self, method: str, path: str) -> bool:
        """Whether it is meant for this call and has some of its times left."""
        want_method, want_path = self.where.split(" ", 1)
        spent = self.times is not None and self.fired >= self.times
        return not spent and want_method in ("*", method) and fnmatchcase(path, want_path)

    def turn(self) -> bool:
        """Count a call that it is meant for; whether it fires now."""
        if self.passed < self.after:
            self.passed += 1
            return False
        self.fired += 1
        return True

    @property
    def answer_status(self) -> int:
        """The HTTP status of a refusal."""
        return self.status or DEFAULT_STATUS[self.kind]

    @property
    def answer_body(self) -> Json | str:
        """The body of a refusal."""
        if self.body is not None:
            return self.body
        return error_body("The server had an error processing your request.", type="server_error")


class Fired(NamedTuple):
    """One line of the log of faults."""

    kind: Kind
    method: str
    path: str


class Taken(NamedTuple):
    """The faults that hit one call."""

    effect: Fault | None
    shapes: list[Fault]


class FaultScript(list[Fault]):
    """The faults to come, in order, and a log of those that fired.

    Of the faults in the way of a call only the first one is asked, the others wait their turn;
    faults of an answer's shape all apply.
    """

    def __init__(self, *faults: Fault) -> None:
        super().__init__(faults)
        self.log: list[Fired] = []
        self._lock = threading.Lock()

    def take(self, method: str, path: str) -> Taken:
        """The faults for this call, which are used up by it."""
        with self._lock:
            hits = [fault for fault in list(self) if fault.hits(method, path)]
            shapes = [fault for fault in hits if fault.kind in SHAPES and fault.turn()]
            first = next((fault for fault in hits if fault.kind not in SHAPES), None)
            effect = first if first is not None and first.turn() else None
            fired = [effect, *shapes] if effect is not None else shapes
            self.log += [Fired(fault.kind, method, path) for fault in fired]
        return Taken(effect, shapes)

    def unspent(self) -> list[Fault]:
        """Faults with times left: a test that expects all of them compares with []."""
        return [f for f in self if f.times is not None and f.fired < f.times]


def reshape(payload: Json, faults: list[Fault]) -> Json:
    """The answer as the shape faults leave it."""
    objects = payload["data"] if payload.get("object") == "list" else [payload]
    for fault in faults:
        if fault.kind is Kind.ENDLESS:
            payload["has_more"] = True
        for item in objects:
            _reshape_object(item, fault)
    return payload


def _reshape_object(item: Json, fault: Fault) -> None:
    if fault.kind is Kind.SET:
        item.update(fault.fields)
        for name in [name for name, value in item.items() if value is MISSING]:
            del item[name]
    elif fault.kind is Kind.NEW_IDS:
        item["id"] = f"{item['id']}-{fault.fired}"
    elif fault.kind is Kind.NO_USAGE:
        item.pop("usage", None)
    elif item.get("object") == "batch":
        _reshape_batch(item, fault)


def _reshape_batch(item: Json, fault: Fault) -> None:
    match fault.kind:
        case Kind.NO_METADATA:
            item["metadata"] = None
        case Kind.NULL_COUNTS:
            item["request_counts"] = None
        case Kind.NO_OUTPUT_FILE:
            item["output_file_id"] = None
        case Kind.EMPTY_FILE_IDS:
            item["output_file_id"] = item["output_file_id"] or ""
            item["error_file_id"] = item["error_file_id"] or ""
        case Kind.OBJECT_FILE_IDS:
            for name in ("input_file_id", "output_file_id", "error_file_id"):
                item[name] = {"id": item[name]} if item[name] else None
        case Kind.SAME_FILE_IDS:
            item["error_file_id"] = item["output_file_id"]
        case Kind.STATUS_NAMES:
            item["status"] = fault.fields.get(item["status"], item["status"])


def http_date(seconds: float) -> str:
    """The time so many seconds from now, as a Retry-After header may give it."""
    return formatdate(time() + seconds, usegmt=True)


def rate_limited(
    where: str, *, headers: Mapping[str, str] | None = None, times: int | None = 1
) -> Fault:
    """429 with the headers given: Retry-After in seconds or as a date, or retry-after-ms."""
    body = error_body(
        "Rate limit reached for requests", type="requests", code="rate_limit_exceeded"
    )
    return Fault(
        where, Kind.REFUSE, times, status=429, body=body, headers=headers or {"Retry-After": "1"}
    )


def insufficient_quota(where: str = "POST *", times: int | None = None) -> Fault:
    """429 because the account's credit is used up: no waiting helps."""
    body = error_body(
        "You exceeded your current quota, please check your plan and billing details.",
        type="insufficient_quota",
        code="insufficient_quota",
    )
    return Fault(where, Kind.REFUSE, times, status=429, body=body)


def forbidden(where: str = "* *", times: int | None = None) -> Fault:
    """403: the key may not do this."""
    body = error_body("You have insufficient permissions for this operation.")
    return Fault(where, Kind.REFUSE, times, status=403, body=body)


def no_batch_api() -> list[Fault]:
    """404 on everything under /files and /batches: a server without them, for ever."""
    body: Json = {"detail": "Not Found"}
    return [
        Fault(where, Kind.REFUSE, None, status=404, body=body)
        for where in ("* /files*", "* /batches*")
    ]
