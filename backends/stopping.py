"""Stopping a backend early: by signals, which are recorded and not raised, or for another reason.

Python raises a KeyboardInterrupt between any two instructions: an answer that was billed could be
lost between two lists.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A closing terminal sends SIGHUP twice, systemd SIGTERM and SIGHUP: within this time they are one.
SAME_SECONDS = 1.0
EXIT_SECONDS = 3.0  # from a second signal to the end of the command, even where something hangs


class Stop:
    """Whether requests are still sent, and whether those in flight are waited for."""

    def __init__(self) -> None:
        self.no_new_requests = False  # no further requests are sent
        self.soon = False  # and those in flight are waited for only briefly
        self.now = False  # and not even briefly
        self.interrupted = False  # because of a signal
        self._at_once = False

    def end(self, *, soon: bool) -> None:
        """Send no further requests; soon: wait only briefly for those in flight."""
        self.no_new_requests = True
        self.soon = self.soon or soon

    def reset(self) -> None:
        """Allow requests again, unless there was a signal."""
        self.no_new_requests = self.soon = self.interrupted

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt in the block, which holds no answers."""
        self._at_once = True
        try:
            if self.interrupted:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def signalled(self, *, again: bool) -> None:
        """Record a signal; again: the second one."""
        self.interrupted, self.now = True, self.now or again
        self.end(soon=True)
        if self._at_once:
            self._at_once = False  # once: not while the block is being left
            raise KeyboardInterrupt


class Interrupts:
    """The signal handler: the first signal raises KeyboardInterrupt, or is recorded by `stop`.

    Later ones never raise, since that would interrupt storing and closing. One that comes more than
    SAME_SECONDS later ends the wait for answers in flight. With an exit_code the process then exits
    after EXIT_SECONDS, even where something hangs, such as a DNS lookup.
    """

    def __init__(self, exit_code: int | None = None) -> None:
        self.stop: Stop | None = None
        self._exit_code = exit_code
        self._first_at: float | None = None
        self._limited = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        is_first = self._first_at is None
        self._first_at = self._first_at or now
        again = now - self._first_at > SAME_SECONDS
        if again:
            self._limit_time()
        if self.stop is not None:
            self.stop.signalled(again=again)
        elif is_first:
            raise KeyboardInterrupt

    def _limit_time(self) -> None:
        code = self._exit_code
        if code is not None and not self._limited:
            self._limited = True
            signal.signal(signal.SIGALRM, lambda *_: os._exit(code))
            signal.setitimer(signal.ITIMER_REAL, EXIT_SECONDS)


@contextmanager
def deferred_signals() -> Iterator[Stop]:
    """Record signals in the block; KeyboardInterrupt is raised at its end.

    Other handlers, and ignored signals (SIGHUP under nohup), are not changed.
    """
    stop = Stop()
    before = {}
    if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
        before = {one: signal.getsignal(one) for one in SIGNALS}
    commands = (handler for handler in before.values() if isinstance(handler, Interrupts))
    interrupts = next(commands, None) or Interrupts()
    handled = [one for one, handler in before.items() if handler is signal.default_int_handler]
    interrupts.stop = stop
    for one in handled:
        signal.signal(one, interrupts)
    try:
        yield stop
    finally:
        interrupts.stop = None
        for one in handled:
            signal.signal(one, signal.default_int_handler)
    if stop.interrupted:
        raise KeyboardInterrupt
