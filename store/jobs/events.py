"""What happens to a job of a Batch API, as the journal keeps it: one frozen value an event.

The table job_events has an event's name, which is its tag here, and the whole as JSON.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, get_args

import msgspec

from store.costs.money import Rates, Usage


class CloseReason(StrEnum):
    """Why a job is closed."""

    DONE = "done"  # its batches were collected
    CUT = "cut"  # larger than the server takes: its requests go into smaller jobs
    STALE = "stale"  # not sent: its requests are planned anew
    CANCELLED = "cancelled"  # not sent: the user cancelled it
    FORGOTTEN = "forgotten"  # the user gave up what does not end, or was lost
    GIVEN_UP = "given up"  # the server will never take it: its requests have failed
    LOST = "lost"  # the user lets its requests be asked again


class BatchCounts(msgspec.Struct):
    """What a batch's files held: lines by what became of them."""

    results: int = 0  # answers stored
    failures: int = 0  # failed attempts
    unattempted: int = 0  # expired, cancelled: no attempt
    duplicates: int = 0  # a second answer to a request, not stored
    foreign: int = 0  # ids that are not the job's
    broken: int = 0  # lines that are not whole JSON
    nameless: int = 0  # of these those without an id
    missing: int = 0  # requests without any line
    unmetered: int = 0  # answers without their usage, or with one that cannot be
    undelivered: int | None = None  # that it says it completed and has not; None: it does not say
    usage: Usage = Usage()  # billed for all lines that tell, kept or not
    unsure: Usage = Usage()  # billed at most for lines that do not tell

    @property
    def unaccounted(self) -> int:
        """Answers that may have been billed, of which nobody knows to which request they are."""
        if self.undelivered is None:
            return max(self.missing, self.nameless)  # the one may be what became of the other
        return self.undelivered + self.nameless


class _Event(msgspec.Struct, frozen=True, tag_field="event"):
    """An event of a job."""

    @property
    def name(self) -> str:
        """As the table has it."""
        return str(self.__struct_config__.tag)


class Planned(_Event, frozen=True, tag="planned"):
    """Its requests and its file's digest are decided; nothing was sent.

    tokens: prompt tokens, estimated. prompt_bytes, max_tokens: what its requests cost at most.
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
    """The server said no: nothing was created, the same file may go again.

    quota_refused: for the enqueued-token limit, with so many other jobs of ours enqueued.
    """

    message: str
    quota_refused: bool = False
    enqueued_when_refused: int = 0


class NotFound(_Event, frozen=True, tag="not_found"):
    """Looked for through the grace time and not found: the same file may go again."""

    attempt: int


class Closed(_Event, frozen=True, tag="closed"):
    """Nothing more is done with it; what has no result is pending again."""

    reason: CloseReason


class Created(_Event, frozen=True, tag="created"):
    """A batch of it is known; adopted: it was found, its POST had no answer."""

    batch_id: str
    attempt: int
    adopted: bool = False


class Duplicate(_Event, frozen=True, tag="duplicate"):
    """A second batch of the same file turned up; cancelled: which of the two is to be."""

    batch_id: str
    cancelled: str


class Cancelling(_Event, frozen=True, tag="cancelling"):
    """The user wants the batch cancelled, which is asked until it takes."""

    batch_id: str


class QuotaRefused(_Event, frozen=True, tag="quota_refused"):
    """The batch failed for the enqueued-token limit: nothing ran."""

    batch_id: str
    message: str
    enqueued_when_refused: int


class Ended(_Event, frozen=True, tag="ended"):
    """The batch came to a terminal status: its files are known. Counts are None: not reported."""

    batch_id: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    completed: int | None
    failed: int | None
    errors: list[dict[str, Any]]


class Awaited(_Event, frozen=True, tag="awaited"):
    """It has ended, and what it says it completed is not all there: it was looked at again.

    at: unix seconds. results: answers stored of its files. downloads: SHA-256 by file id of those
    whose size is not what the server says.
    """

    batch_id: str
    at: float
    results: int
    downloads: dict[str, str]


class Collected(_Event, frozen=True, tag="collected"):
    """What the batch's files held is in the store."""

    batch_id: str
    counts: BatchCounts


class Lost(_Event, frozen=True, tag="lost"):
    """The server no longer knows the batch, or does not deliver all of it.

    shown: what the server showed of it then. absent: files that it named and did not have.
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
