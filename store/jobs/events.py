"""Events of a job of a Batch API, as the journal stores them: one frozen struct an event.

The table job_events has the event's name, which is its tag here, and the struct as JSON.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, get_args

import msgspec

from store.money import Rates, Usage


class CloseReason(StrEnum):
    """Why a job is closed."""

    DONE = "done"  # its batches were collected
    CUT = "cut"  # larger than the server takes: its requests go into smaller jobs
    STALE = "stale"  # not sent: its requests are planned again
    CANCELLED = "cancelled"  # not sent: the user cancelled it
    FORGOTTEN = "forgotten"  # given up by the user: it did not end, or was lost
    GIVEN_UP = "given up"  # the server does not accept it: its requests have failed
    LOST = "lost"  # lost, and the user allows its requests to be sent again


class BatchCounts(msgspec.Struct):
    """Lines of a batch's files, by outcome."""

    results: int = 0  # answers stored
    failures: int = 0  # failed attempts
    unattempted: int = 0  # expired or cancelled: not an attempt
    duplicates: int = 0  # a second answer to a request, not stored
    foreign: int = 0  # ids that are not the job's
    broken: int = 0  # lines that are not complete JSON
    nameless: int = 0  # broken lines without an id
    missing: int = 0  # requests without any line
    unmetered: int = 0  # answers without usage, or with an implausible one
    undelivered: int | None = None  # completed by its counts, but not in its files; None: no counts
    usage: Usage = Usage()  # billed, by the lines that report it, stored or not
    uncertain: Usage = Usage()  # maximum billed for lines that do not report it

    @property
    def unaccounted(self) -> int:
        """Answers that may have been billed and cannot be assigned to a request."""
        if self.undelivered is None:
            return max(
                self.missing, self.nameless
            )  # a nameless line may belong to a missing request
        return self.undelivered + self.nameless


class _Event(msgspec.Struct, frozen=True, tag_field="event"):
    """An event of a job."""

    @property
    def name(self) -> str:
        """The event's name in the table."""
        return str(self.__struct_config__.tag)


class Planned(_Event, frozen=True, tag="planned"):
    """Its requests and its file's digest are committed; nothing was sent.

    tokens: estimated prompt tokens. prompt_bytes, max_tokens: limits of the usage of its requests.
    rates: None where no price is known. round: the current one.
    """

    base_url: str
    requests: int
    tokens: int
    sha256: str
    prompt_bytes: int
    max_tokens: int
    rates: Rates | None
    round: int


class Uploaded(_Event, frozen=True, tag="uploaded"):
    """The file is at the server."""

    file_id: str


class Creating(_Event, frozen=True, tag="creating"):
    """POST /batches is about to be sent."""

    attempt: int


class Refused(_Event, frozen=True, tag="refused"):
    """The server refused: no batch was created, the same file may be sent again.

    quota_refused: for the enqueued-token limit; enqueued_when_refused: other jobs of this run that
    were enqueued then.
    """

    message: str
    quota_refused: bool = False
    enqueued_when_refused: int = 0


class NotFound(_Event, frozen=True, tag="not_found"):
    """Not found within the grace time: the same file may be sent again."""

    attempt: int


class Closed(_Event, frozen=True, tag="closed"):
    """Nothing more is done with it; requests without a result are pending again."""

    reason: CloseReason


class Created(_Event, frozen=True, tag="created"):
    """A batch of it is known. adopted: found in the server's list."""

    batch_id: str
    attempt: int
    adopted: bool = False


class Duplicate(_Event, frozen=True, tag="duplicate"):
    """A second batch of the same file was found; cancelled: the id of the one to cancel."""

    batch_id: str
    cancelled: str


class Cancelling(_Event, frozen=True, tag="cancelling"):
    """The user cancels the batch; repeated until the server accepts it."""

    batch_id: str


class QuotaRefused(_Event, frozen=True, tag="quota_refused"):
    """The batch failed for the enqueued-token limit: no request was executed."""

    batch_id: str
    message: str
    enqueued_when_refused: int


class Ended(_Event, frozen=True, tag="ended"):
    """The batch has a terminal status: its files are known. Counts: None where not reported."""

    batch_id: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    completed: int | None
    failed: int | None
    errors: list[dict[str, Any]]


class Awaited(_Event, frozen=True, tag="awaited"):
    """It has ended, but its files lack answers that it counts as completed: it was polled again.

    at: Unix seconds. results: answers stored from its files. downloads: SHA-256 by file id of files
    whose size differs from the one that the server reports.
    """

    batch_id: str
    at: float
    results: int
    downloads: dict[str, str]


class Collected(_Event, frozen=True, tag="collected"):
    """The content of the batch's files is stored."""

    batch_id: str
    counts: BatchCounts


class Lost(_Event, frozen=True, tag="lost"):
    """The server does not know the batch any more, or does not deliver all of its answers.

    shown: the server's object of the batch at that time. absent: its files that did not exist.
    """

    batch_id: str
    counts: BatchCounts
    reason: str
    shown: Any
    absent: list[str]


BatchEvent = Created | Duplicate | Cancelling | QuotaRefused | Ended | Awaited | Collected | Lost
JobEvent = Planned | Uploaded | Creating | Refused | NotFound | Closed | BatchEvent

EVENT_NAMES = tuple(str(kind.__struct_config__.tag) for kind in get_args(JobEvent))
DECODER = msgspec.json.Decoder(JobEvent)
