"""Showing the progress of a run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BufferedWriter, TextIOWrapper
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from backends.base import Progress
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.terminal import Lenient, readable
from store import DiskFull, RunFolder, WorkStore
from store.status import State, Status

UPDATE_SECONDS = 1.0
LINE_SECONDS = 10.0  # between two plain lines
SHARE = 100  # counting takes at most 1/SHARE of the time, however large the store,
MAX_PAUSE_SECONDS = 10.0  # but a single slow count, on a busy machine, causes no long silence


class Display(Protocol):
    """Where a command shows its progress; a context manager."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *exc: object) -> None:
        """End."""

    def say(self, line: str) -> None:
        """Show one line."""

    def show(self, status: Status) -> None:
        """Show the status of the run; called about once a second."""

    def confirm(self, question: str) -> bool:
        """Ask the user whether to go on; yes without a terminal."""


class PipelineProgress(Progress, Protocol):
    """A backend's progress that can also be updated at once."""

    def update_now(self, store: WorkStore) -> Status:
        """Count what is done, and show it."""

    def finish(self, store: WorkStore) -> Status:
        """Update for the last time, when the run's files are written."""


# A line to show after an update, or None.
Remark = Callable[[WorkStore, Status], str | None]


class RunProgress:
    """Counts what is done of a run, writes progress.json, and updates the display."""

    def __init__(
        self, folder: RunFolder, execution: ExecutionConfig, display: Display | None = None
    ) -> None:
        """display: on the console where none is given."""
        self.remark: Remark | None = None
        self._folder = folder
        self._max_attempts = execution.max_attempts
        self._display = display or ConsoleDisplay()
        self._next_update = 0.0

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._display.__exit__(*exc)

    def say(self, line: str) -> None:
        """Show one line."""
        self._display.say(line)

    def confirm(self, question: str) -> bool:
        """Ask the user whether to go on."""
        return self._display.confirm(question)

    def update(self, store: WorkStore) -> None:
        """Count what is done, where enough time has passed since the last count."""
        if time.monotonic() >= self._next_update:
            self.update_now(store)

    def update_now(self, store: WorkStore) -> Status:
        """Count what is done, write progress.json and show it."""
        began = time.monotonic()
        status = store.status(self._folder.name, self._max_attempts)
        # Only finish writes 'done': an unnamed resume reads this file.
        with suppress(OSError, DiskFull):  # a full disk, which the next flush reports
            self._folder.write_progress(replace(status, state=State.INCOMPLETE))
        self._display.show(status)
        if self.remark is not None and (line := self.remark(store, status)):
            self.say(line)
        took = time.monotonic() - began
        pause = min(max(UPDATE_SECONDS, SHARE * took), MAX_PAUSE_SECONDS)
        self._next_update = time.monotonic() + pause
        return status

    def finish(self, store: WorkStore) -> Status:
        """Write progress.json for the last time, when the run's files are written.

        Raises DiskFull. Other errors, such as a folder of that name, are shown: the run is done.
        """
        status = store.status(self._folder.name, self._max_attempts)
        try:
            self._folder.write_progress(status)
        except OSError as error:
            self.say(f"{self._folder.path}/progress.json cannot be written: {error.strerror}")
        return status


class ConsoleDisplay:
    """Prints to stderr: a bar where that is a terminal, plain lines where it is none.

    It prints to a copy of the descriptor: that stays the terminal's while an engine's output goes
    to a log.
    """

    def __init__(self) -> None:
        self._file = TextIOWrapper(
            BufferedWriter(Lenient(os.dup(2), "w")), encoding="utf-8", errors="replace"
        )
        self._console = Console(file=self._file, highlight=False, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=2,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._started_at = time.monotonic()
        self._started_done = 0
        self._next_line = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()
        self._file.close()

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(readable(line), markup=False)

    def confirm(self, question: str) -> bool:
        """Ask on the terminal whether to go on; yes without a terminal."""
        if sys.stdin is None or not (sys.stdin.isatty() and self._file.isatty()):
            return True
        if _is_in_background(sys.stdin.fileno()):
            return True  # reading the terminal would stop it
        self._bar.stop()
        self._file.write(readable(question))
        self._file.flush()
        answer = sys.stdin.readline()
        self._bar.start()
        return answer.strip().lower() in ("y", "yes")

    def show(self, status: Status) -> None:
        """Update the bar, or print a line every LINE_SECONDS."""
        counts = status.requests
        if self._task is None:
            if not (counts.pending or counts.in_flight):
                return
            self._started_at, self._started_done = time.monotonic(), counts.done
            self._task = self._bar.add_task("answers", total=counts.total, rate="")
        if counts.done == self._started_done:
            self._started_at = time.monotonic()  # the rate is measured from the first answer on
        elapsed = time.monotonic() - self._started_at
        rate = (counts.done - self._started_done) / elapsed if elapsed > 0 else 0.0
        text = f"{rate:.2f}/s" + (f", {counts.failed} failed" if counts.failed else "")
        self._bar.update(
            self._task, total=counts.total, completed=counts.done + counts.failed, rate=text
        )
        if not self._console.is_terminal and time.monotonic() >= self._next_line:
            left = f", {counts.pending / rate:.0f} s left" if rate else ""
            self.say(f"{counts.done} of {counts.total} answered, {text}{left}")
            self._next_line = time.monotonic() + LINE_SECONDS


def _is_in_background(terminal: int) -> bool:
    """Whether this process is in the background of its terminal."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:  # not the terminal that controls us
        return False
