"""All backends by name: their traits, and the package of each.

A new backend is a package with a module backend.py that has `make` (and `check`), and a line here.
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

    uses_server: requests are sent to an address and billed; else the backend runs on this machine.
    uses_batches: it has jobs at the server, at batch prices, which can be cancelled.
    """

    name: str
    package: str  # in backends/
    uses_server: bool = True
    needs_key: bool = False
    uses_batches: bool = False

    def make(self, run: Run, options: BackendOptions) -> Backend:
        """Create the backend of a run; imports its package. Raises UserError."""
        backend: Backend = self._module().make(run, options)
        return backend

    def check(self, model: str) -> None:
        """Raise UserError for what would fail later: a missing package or model."""
        if (check := getattr(self._module(), "check", None)) is not None:
            check(model)

    def _module(self) -> Any:
        return import_module(f"backends.{self.package}.backend")


BATCH = BackendInfo(name="openai-batch", package="openai_batch", needs_key=True, uses_batches=True)
LIVE = BackendInfo(name="openai", package="openai_live")
LOCAL = BackendInfo(name="vllm", package="vllm", uses_server=False)

BACKENDS = {info.name: info for info in (BATCH, LIVE, LOCAL)}


def find_backend(name: str) -> BackendInfo:
    """The backend of that name; raises UserError."""
    if name not in BACKENDS:
        raise UserError(f"unknown backend {name!r}; known are {', '.join(BACKENDS)}")
    return BACKENDS[name]


def default_backend(*, has_server: bool) -> str:
    """The name of the backend where the user names none."""
    return (LIVE if has_server else LOCAL).name
