"""How the answering ends early: by signals, which are noted and not raised, or by a reason of ours.

Python raises a KeyboardInterrupt between any two instructions: an answer that was paid for could be
taken from one list and not be on the next yet.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A terminal that closes sends SIGHUP twice, systemd SIGTERM and SIGHUP: within so long it is one.
SAME_SECONDS = 1.0


class Stop:
    """Whether anything more is to be asked, and whether what is in flight is waited for."""

    def __init__(self) -> None:
        self.no_more = False  # nothing more is to be asked
        self.soon = False  # nor is what is in flight waited for, but for a moment
        self._signalled_at: float | None = None
        self._at_once = False

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked for it."""
        return self._signalled_at is not None

    def end(self, *, soon: bool) -> None:
        """Let nothing more be asked; soon: nor wait for what is in flight."""
        self.no_more = True
        self.soon = self.soon or soon

    def go_on(self) -> None:
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

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Note the first signal; raise KeyboardInterrupt at a second."""
        now = time.monotonic()
        again = self._signalled_at is not None and now - self._signalled_at > SAME_SECONDS
        if self._signalled_at is None:
            self._signalled_at = now
        self.end(soon=True)
        if again or self._at_once:
            raise KeyboardInterrupt


@contextmanager
def noting_signals() -> Iterator[Stop]:
    """Note, in the block, signals that else raise KeyboardInterrupt; it is raised at the end.

    A handler that somebody else set, or a signal that is ignored, as nohup has SIGHUP, is left.
    """
    stop = Stop()
    noted = []
    if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
        noted = [one for one in SIGNALS if signal.getsignal(one) is signal.default_int_handler]
    for one in noted:
        signal.signal(one, stop.on_signal)
    try:
        yield stop
    finally:
        for one in noted:
            signal.signal(one, signal.default_int_handler)
    if stop.interrupted:
        raise KeyboardInterrupt
