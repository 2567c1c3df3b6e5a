"""A batch: its statuses, its fate and the object the API shows of it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from time import time
from typing import Any

from .bill import Usage
from .errors import Json, batch_error

DAY = 24 * 3600


class Status(StrEnum):
    """Where a batch stands in its life."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED})


@dataclass(frozen=True)
class Fate:
    """How a batch is to end, and after how many finished lines.

    `done` lines are finished while it is in progress (None: half of them), which is what an
    expired or a cancelled batch keeps. A completed batch finishes all.
    """

    end: Status = Status.COMPLETED
    done: int | None = None
    errors: tuple[Json, ...] = ()

    @property
    def fails_unrun(self) -> bool:
        """Whether the batch fails before any line of it has run."""
        return self.end is Status.FAILED and self.done is None


def expired(done: int = 0) -> Fate:
    """The window closes after so many finished lines."""
    return Fate(Status.EXPIRED, done)


def failed(
    code: str,
    message: str = "",
    *,
    line: int | None = None,
    param: str | None = None,
    done: int | None = None,
) -> Fate:
    """Validation fails and nothing runs; with `done`, so many lines run before it fails."""
    error = batch_error(code, message or code, line=line, param=param)
    return Fate(Status.FAILED, done, (error,))


def token_limit(model: str, limit: int) -> Fate:
    """Validation fails because too much is enqueued."""
    return failed("token_limit_exceeded", token_limit_message(model, limit))


def token_limit_message(model: str, limit: int) -> str:
    """OpenAI's own words, from which a client may learn the limit."""
    return (
        f"Enqueued token limit reached for {model} in organization org-llmserver. "
        f"Limit: {limit:,} enqueued tokens. Please try again once some in_progress batches "
        "have been completed."
    )


@dataclass(eq=False)
class Batch:
    """One batch and what is known of it so far."""

    id: str
    number: int
    input_file_id: str
    input: Path
    """The input file under a name of the batch's own, which no DELETE takes away."""
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    output_expires_in: int
    fate: Fate
    hidden_lists: int = 0
    hidden_retrieves: int = 0
    status: Status = Status.VALIDATING
    entered: dict[Status, int] = field(default_factory=dict)
    looks: int = 0
    work: Future[Any] | None = None
    """What runs in the background and must be done before the next status."""
    model: str | None = None
    total: int = 0
    done: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)
    enqueued: int = 0
    """Tokens it holds of its model's limit while it is unfinished."""
    errors: list[Json] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int = field(default_factory=lambda: int(time()))

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in TERMINAL

    def enter(self, status: Status) -> None:
        """Move to a status and note when."""
        self.status = status
        self.entered[status] = int(time())
        self.looks = 0

    def as_json(self) -> Json:
        """The batch object, which names its results only once it has ended."""
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": list(self.errors)} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status.value,
            "output_file_id": self.output_file_id if self.ended else None,
            "error_file_id": self.error_file_id if self.ended else None,
            "created_at": self.created_at,
            "in_progress_at": self.entered.get(Status.IN_PROGRESS),
            "expires_at": self.created_at + DAY,
            "finalizing_at": self.entered.get(Status.FINALIZING),
            "completed_at": self.entered.get(Status.COMPLETED),
            "failed_at": self.entered.get(Status.FAILED),
            "expired_at": self.entered.get(Status.EXPIRED),
            "cancelling_at": self.entered.get(Status.CANCELLING),
            "cancelled_at": self.entered.get(Status.CANCELLED),
            "request_counts": self._counts(),
            "usage": (self.usage if self.ended else Usage()).of_batch(),
            "metadata": dict(self.metadata) if self.metadata is not None else None,
        }

    def _counts(self) -> Json:
        if Status.IN_PROGRESS not in self.entered:
            return {"total": 0, "completed": 0, "failed": 0}
        return {"total": self.total, "completed": self.done, "failed": self.failed}
