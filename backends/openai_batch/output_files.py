"""What a batch's files deliver: fetched each on its own, stored, and compared with its counts.

The count `completed` of a batch is the server's promise, and its bill: answers that it does not
deliver may have been paid for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from backends.openai_api.bounded import answer_bytes
from backends.openai_api.errors import ApiError, ErrorKind
from backends.openai_batch.api.output_lines import LineReader
from backends.openai_batch.failpoints import FailPoint, failpoint
from backends.openai_batch.session import MIN_POLLS, BatchSession
from backends.registry import BATCH
from store.jobs.answers import LineCounts
from store.jobs.batch import VANISHED, Batch
from store.jobs.events import BatchCounts
from store.jobs.job import Job
from store.results import Failure, FailureKind, Result


@dataclass(slots=True)
class Delivery:
    """What the files of a batch hold, as far as they are there.

    files: copies on this disk. absent: ids of files that the server names and does not have.
    unequal: SHA-256 of downloads, by file id, that have not the size which the server says, or ''
    where none came to its end: overlong is the last reason.
    undelivered: answers that it says it completed and that its files do not have; None: it says
    nothing. maybe_answered: requests without a result that may have been answered all the same.
    """

    counts: BatchCounts = field(default_factory=BatchCounts)
    files: list[Path] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unequal: dict[str, str] = field(default_factory=dict)
    overlong: str = ""
    failures: list[Failure] = field(default_factory=list)
    unattempted: list[str] = field(default_factory=list)
    stop: str | None = None  # an error of a line that concerns every request
    broken_without_id: int = 0
    foreign_id: str | None = None  # an id that is not the job's, where none of its ids is there
    answers: int = 0
    open: int = 0  # requests without a result and without a line
    undelivered: int | None = None
    maybe_answered: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing more is to be expected, or nothing more is wanted."""
        return not (self.open and (self.absent or self.unequal or self.maybe_answered))

    def forget_files(self) -> None:
        """Remove the copies: their content is stored, or is to be fetched again."""
        for path in self.files:
            path.unlink(missing_ok=True)


def deliver(session: BatchSession, job: Job, batch: Batch) -> Delivery:
    """Fetch what there is of a batch's files, store its answers, and count. Raises ApiError."""
    delivery = Delivery()
    reader = LineReader(delivery.counts, partial(session.journal.answers.bounds, job))
    lines: dict[str, str] = {}
    plain = 0
    for file_id, is_output in ((batch.output_file_id, True), (batch.error_file_id, False)):
        path = _fetch(session, job, batch, file_id, delivery) if file_id else None
        if path is None:
            continue
        delivery.files.append(path)
        failpoint(FailPoint.DOWNLOADED)
        if is_output and session.journal.answers.collect_plain(
            job, BATCH.name, path, delivery.counts
        ):
            plain = delivery.counts.results
            continue
        for results, failures in reader.read(path, is_output=is_output):
            session.journal.add_answers(job, BATCH.name, results, delivery.counts)
            delivery.failures += failures
            _note(lines, results, failures, is_output=is_output)
    for request_id in reader.unattempted:
        lines.setdefault(request_id, "unattempted")
    delivery.unattempted, delivery.stop = reader.unattempted, reader.stop
    delivery.broken_without_id = reader.broken_without_id
    line_counts = session.journal.answers.line_counts(job, lines)
    line_counts = line_counts._replace(
        answers=line_counts.answers + plain, missing=line_counts.missing - plain
    )
    if line_counts.missing == job.requests:
        delivery.foreign_id = reader.foreign_id
    stored_before = min(batch.answers, delivery.counts.duplicates)  # at an earlier poll
    delivery.counts.results += stored_before
    delivery.counts.duplicates -= stored_before
    _hold_against_counts(batch, line_counts, delivery)
    others = [other for other in job.batches.values() if other is not batch]
    if batch.status == VANISHED and not any(other.was_collected for other in others):
        delivery.maybe_answered = line_counts.open  # a duplicate that is gone takes nothing with it
    if delivery.foreign_id:
        delivery.maybe_answered = line_counts.open
    return delivery


def _note(
    lines: dict[str, str], results: list[Result], failures: list[Failure], *, is_output: bool
) -> None:
    lines.update((result.request_id, "answer") for result in results)
    for failure in failures:
        unreadable = is_output and failure.kind is FailureKind.UNUSABLE
        kind = "answer" if failure.answered or unreadable else "error"
        lines.setdefault(failure.request_id, kind)


def _hold_against_counts(batch: Batch, line_counts: LineCounts, delivery: Delivery) -> None:
    """Set what is undelivered, and what may have been answered.

    Errors beyond the count `failed` are taken for completed ones: some servers count them so. And
    no more can be undelivered than there are requests without a line.
    """
    delivery.answers, delivery.open = line_counts.answers, line_counts.open
    if batch.completed is None:
        delivery.maybe_answered = line_counts.open if delivery.absent else 0
        return
    counted = max(0, line_counts.errors - batch.failed) if batch.failed is not None else 0
    delivered = line_counts.answers + delivery.broken_without_id + counted
    delivery.undelivered = max(0, min(batch.completed - delivered, line_counts.missing))
    delivery.maybe_answered = min(delivery.undelivered, line_counts.open)


def copy_of(folder: Path, file_id: str) -> Path:
    """Where the copy of a server's file is in the run's folder, once it is whole."""
    return folder / "jobs" / f"{re.sub(r'[^A-Za-z0-9_-]', '_', file_id)}.result"


def _fetch(
    session: BatchSession, job: Job, batch: Batch, file_id: str, delivery: Delivery
) -> Path | None:
    """A file of the server on this disk; one that a crash left behind was checked.

    None where it is not there, or came with another size than the server says: after a few
    downloads that are equal it is taken as it is.
    """
    path = copy_of(session.options.folder, file_id)
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    try:
        got = session.api.download(file_id, part, answer_bytes(job.bounds))
    except ApiError as api_error:
        part.unlink(missing_ok=True)
        if api_error.kind is ErrorKind.NOT_FOUND:
            delivery.absent.append(file_id)
        elif api_error.kind is ErrorKind.OVERLONG:
            delivery.unequal[file_id] = ""
            delivery.overlong = f"file {file_id}: {api_error}"
        else:
            raise
        return None
    if not got.is_whole:
        if batch.times_downloaded(file_id, got.sha256) + 1 < MIN_POLLS:
            delivery.unequal[file_id] = got.sha256
            return None
        wrong = f"the server says {got.reported}" if got.reported else "its last line is cut"
        session.say(f"file {file_id} has {got.size} bytes where {wrong}: taken as it is")
    part.replace(path)
    return path
