"""How the answering ends early: by signals, which are noted and not raised, or by a reason of ours.

Python raises a KeyboardInterrupt between any two instructions: an answer that was paid for could be
taken from one list and not be on the next yet.
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
# A terminal that closes sends SIGHUP twice, systemd SIGTERM and SIGHUP: within so long it is one.
SAME_SECONDS = 1.0
EXIT_SECONDS = 3.0  # from a second signal to the end of the command, even where something hangs


class Stop:
    """Whether anything more is to be asked, and whether what is in flight is waited for."""

    def __init__(self) -> None:
        self.no_more = False  # nothing more is to be asked
        self.soon = False  # nor is what is in flight waited for, but for a moment
        self.now = False  # nor for that moment
        self.interrupted = False  # a signal asked for it
        self._at_once = False

    def end(self, *, soon: bool) -> None:
        """Let nothing more be asked; soon: nor wait for what is in flight."""
        self.no_more = True
        self.soon = self.soon or soon

    def reset(self) -> None:
        """Forget what was said, but for a signal."""
        self.no_more = self.soon = self.interrupted

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal raise KeyboardInterrupt in the block, where there is nothing to lose."""
        self._at_once = True
        try:
            if self.interrupted:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def signalled(self, *, again: bool) -> None:
        """Note a signal; again: the second."""
        self.interrupted, self.now = True, self.now or again
        self.end(soon=True)
        if self._at_once:
            self._at_once = False  # once: a block that is being left is left in peace
            raise KeyboardInterrupt


class Interrupts:
    """The handler of the signals: the first raises KeyboardInterrupt, or is noted by `stop`.

    No later one raises, since that would break off what is stored and closed at the end. One that
    comes more than a second later ends the wait for answers in flight. With an exit_code it also
    limits the time: what still hangs after EXIT_SECONDS, a lookup of a name say, is left by force.
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
def noting_signals() -> Iterator[Stop]:
    """Note, in the block, signals that else raise KeyboardInterrupt; it is raised at the end.

    A handler that somebody else set, or a signal that is ignored, as nohup has SIGHUP, is left.
    """
    stop = Stop()
    before = {}
    if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
        before = {one: signal.getsignal(one) for one in SIGNALS}
    commands = (handler for handler in before.values() if isinstance(handler, Interrupts))
    interrupts = next(commands, None) or Interrupts()
    noted = [one for one, handler in before.items() if handler is signal.default_int_handler]
    interrupts.stop = stop
    for one in noted:
        signal.signal(one, interrupts)
    try:
        yield stop
    finally:
        interrupts.stop = None
        for one in noted:
            signal.signal(one, signal.default_int_handler)
    if stop.interrupted:
        raise KeyboardInterrupt
