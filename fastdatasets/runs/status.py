"""The report of `status`, also while another process has the store open."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from fastdatasets.config.settings import load_settings
from fastdatasets.runs.folders import find_or_newest
from store import RunFolder, Unfinished, WorkStore
from store.errors import StoreHeld
from store.money import Cost, CostItem
from store.results import FailureKind
from store.status import State, Status

JOBS_SHOWN = 10  # of a run, the last ones; --json has all
WAIT_SECONDS = 0.5  # for a store that another process has open only for a moment


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A run's status; held_by: the process that has the store open, where it cannot be read.

    stale: the names of exported files that are gone, or older than its last answers.
    """

    folder: RunFolder
    status: Status
    reasons: tuple[tuple[FailureKind, str, int], ...]
    refused_retries: tuple[tuple[FailureKind, str, int], ...]
    held_by: str | None
    stale: tuple[str, ...] = ()


def read_status(
    name: str | None = None, output_dir: Path | None = None, max_attempts: int = 3
) -> StatusReport:
    """Read the store where that is possible, progress.json where it is not."""
    folder = find_or_newest(name, output_dir or load_settings().fastdatasets_output_dir)
    try:
        with WorkStore.open(folder.store_path, read_only=True, wait_seconds=WAIT_SECONDS) as store:
            status = store.status(folder.name, max_attempts)
            refused = tuple(store.results.refused_retries(max_attempts))
            reasons, stale = (
                tuple(store.results.failure_reasons()),
                tuple(sorted(store.exports.stale_files())),
            )
            return StatusReport(folder, status, reasons, refused, None, stale)
    except StoreHeld as held:
        written = folder.read_progress()
        if written is None:
            raise Unfinished(
                f"run {folder.name} is held by {held.holder} and has written no progress yet: "
                "try again in a moment"
            ) from None
        return StatusReport(folder, written, (), (), held.holder)


def _bill(cost: Cost) -> list[str]:
    if cost.spent is None:
        return []
    line = f"  {cost.spent:.4f} USD spent ({cost.price})"
    if cost.estimate is not None and cost.estimate != cost.spent:
        line += f", about {cost.estimate:.4f} USD in all"
    saved = [
        f"{amount:.4f} USD by {how}"
        for how in ("batch", "dedup", "reuse")
        if cost.saved is not None and (amount := getattr(cost.saved, how))
    ]
    lines = [line, *_uncertain(cost), *([f"  saved: {', '.join(saved)}"] if saved else [])]
    if len(cost.stages) > 1:
        lines += [f"  stage {one.name}: {_bought(one)}" for one in cost.stages]
    if len(cost.jobs) > 1:
        lines += [f"  job {one.name}: {_bought(one)}" for one in cost.jobs[-JOBS_SHOWN:]]
    return lines


def _uncertain(cost: Cost) -> list[str]:
    """What may have been billed besides; it counts under --max-cost."""
    in_flight = cost.in_flight or Decimal(0)
    never_came = (cost.uncertain or Decimal(0)) - in_flight
    amounts = (
        (never_came, "answers that never came, or without a usable token count"),
        (in_flight, "requests that were in flight when a command was killed, or are now"),
    )
    return [
        f"  at most {amount:.4f} USD more may have been billed for {what}"
        for amount, what in amounts
        if amount
    ]


def _bought(one: CostItem) -> str:
    money = "no price known" if one.cost is None else f"{one.cost:.4f} USD"
    return (
        f"{one.answers} requests, {one.prompt} prompt tokens ({one.cached} cached), "
        f"{one.completion} completion tokens, {money}"
    )


def describe_refused(_: FailureKind, message: str, retries: int) -> str:
    """A line about retries of truncated answers that failed for good."""
    return (
        f"{retries} answers that were cut off stay: asking again with a higher limit failed for "
        f"good ({message}); --retry-failed tries it once more"
    )


def to_text(report: StatusReport) -> str:
    """A status as lines for a person."""
    status = report.status
    counts = status.requests
    lines = [
        f"run {report.folder.path}: {status.mode} with {status.backend}, {status.model}",
        f"  {status.state} as of {status.as_of}"
        + (f" (working: {report.held_by})" if report.held_by else ""),
        f"  {status.records} records, {counts.total} requests: {counts.done} done, "
        f"{counts.pending} pending, {counts.failed} failed, {counts.in_flight} in flight",
        f"  {status.tokens.prompt} prompt tokens, {status.tokens.completion} completion tokens"
        + (f"; {status.truncated} answers cut off" if status.truncated else ""),
    ]
    lines += _bill(status.cost)
    lines += [f"  {count} × {kind}: {message}" for kind, message, count in report.reasons]
    lines += [f"  {describe_refused(*refused)}" for refused in report.refused_retries]
    lines += [
        f"  {job.requests} requests of job {job.job} are lost: {job.reason}" for job in status.lost
    ]
    if report.stale:
        lines.append(f"  gone, or older than the last answers: {', '.join(report.stale)}")
    return "\n".join([*lines, *(f"  {line}" for line in _next_step(report))])


def _next_step(report: StatusReport) -> list[str]:
    """The next command for a run that no other command works on."""
    status, resume = report.status, f"fastdatasets resume {report.folder.path}"
    counts = status.requests
    if report.held_by:
        return []
    if status.lost:
        return [f"send, and pay for, lost requests again with: {resume} --resubmit-lost"]
    is_left = counts.pending or counts.in_flight
    if is_left or (status.state is State.INCOMPLETE and not counts.failed):
        return [f"to continue: {resume}"]
    if counts.failed:
        return [f"send failed requests again with: {resume} --retry-failed"]
    if status.truncated > sum(count for _, _, count in report.refused_retries):
        return [f"send requests with truncated answers again with: {resume} --retry-truncated"]
    return []
