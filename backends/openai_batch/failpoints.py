"""Named points between the steps of the batch journal, at which tests kill the command.

FASTDATASETS_FAILPOINT=<point> ends the process there as kill -9 would. A crash can fall between any
two statements; these are the places where it would tell whether the journal keeps its promise.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class FailPoint(StrEnum):
    """Points at which a crash is tested."""

    PLANNED = "planned"  # the intent is committed, nothing was sent
    FILE_SENT = "file-sent"  # the file is at the server, its id not yet in the store
    UPLOADED = "uploaded"  # the file's id is committed
    CREATING = "creating"  # committed that the batch is about to be created
    BATCH_SENT = "batch-sent"  # the batch exists, its id not yet in the store
    CREATED = "created"  # the batch's id is committed
    ENDED = "ended"  # its end and files are committed
    AWAITED = "awaited"  # committed that it has ended and is not all there
    DOWNLOADED = "downloaded"  # the files are on this disk
    COLLECTING = "collecting"  # the answers are committed, failures and the event not yet
    COLLECTED = "collected"  # all is committed, files still at the server
    DELETED = "deleted"  # the files at the server are gone, the job not yet closed
    LOST = "lost"  # committed that answers cannot be had
    CLOSED = "closed"  # the job is closed


def failpoint(point: FailPoint) -> None:
    """Kill this process if FASTDATASETS_FAILPOINT names the point."""
    if os.environ.get("FASTDATASETS_FAILPOINT") == point:
        os.kill(os.getpid(), signal.SIGKILL)
