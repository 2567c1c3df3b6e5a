"""All backends by name: what the rest of the program has to know of each, and where its room is.

A new backend is a room with a module backend.py that has `make` (and `check`), and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from store import UserError

if TYPE_CHECKING:
    from backends.base import Backend, BackendOptions
    from store.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """A backend's traits.

    asks_server: its requests go to an address and are paid for; else it works on this machine.
    in_batches: it has jobs at the server: prices are those of batches, and jobs can be cancelled.
    """

    name: str
    room: str  # under backends/
    asks_server: bool = True
    needs_key: bool = False
    in_batches: bool = False

    def make(self, run: Run, options: BackendOptions) -> Backend:
        """The backend of a run; imports what it needs. Raises UserError."""
        backend: Backend = self._module().make(run, options)
        return backend

    def check(self, model: str) -> None:
        """Raise UserError for what would fail later: what is not installed, or no model."""
        if (check := getattr(self._module(), "check", None)) is not None:
            check(model)

    def _module(self) -> Any:
        return import_module(f"backends.{self.room}.backend")


BATCH = BackendInfo(name="openai-batch", room="openai_batch", needs_key=True, in_batches=True)
LIVE = BackendInfo(name="openai", room="openai_live")
LOCAL = BackendInfo(name="vllm", room="vllm", asks_server=False)

BACKENDS = {info.name: info for info in (BATCH, LIVE, LOCAL)}


def find_backend(name: str) -> BackendInfo:
    """The backend of that name; raises UserError."""
    if name not in BACKENDS:
        raise UserError(f"unknown backend {name!r}; known are {', '.join(BACKENDS)}")
    return BACKENDS[name]


def default_backend(*, has_server: bool) -> str:
    """What answers where nobody named a backend."""
    return (LIVE if has_server else LOCAL).name
