"""What a backend is: something that answers what is pending in a work store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from store.results import Failure, Result

if TYPE_CHECKING:
    from store import WorkStore  # DuckDB, which the command line imports when it needs it

# What one look at an engine or server brought: answers and failed attempts, perhaps neither.
Outcomes = Sequence[Result | Failure]


class Progress(Protocol):
    """Where a backend tells how it goes."""

    def say(self, line: str) -> None:
        """Tell the user one line."""

    def update(self, store: WorkStore) -> None:
        """Take note of where the store stands; cheap enough to be called after every flush."""


class Backend(Protocol):
    """Answers requests. Everything it buys is in the store before it is reported as done."""

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer what is pending, until nothing more can be done now.

        Raises UserError for what concerns every request and only the user can mend, Unfinished
        where something is left for a later resume.
        """

    def close(self) -> None:
        """Let go of what is held between two calls of work: nothing, unless a backend says so."""
        return
