"""The work store: one append-only DuckDB file per run, from which all state is derived."""

from typing import TYPE_CHECKING

from store.errors import Busy, DiskFull, FastDatasetsError, RequestRefused, Unfinished, UserError
from store.folder.run_folder import RunFolder

if TYPE_CHECKING:
    from store.work_store import WorkStore

__all__ = [
    "Busy",
    "DiskFull",
    "FastDatasetsError",
    "RequestRefused",
    "RunFolder",
    "Unfinished",
    "UserError",
    "WorkStore",
]


def __getattr__(name: str) -> object:
    """Import WorkStore on first use: DuckDB and Arrow take a third of a second."""
    if name == "WorkStore":
        from store.work_store import WorkStore

        return WorkStore
    raise AttributeError(f"module 'store' has no attribute {name!r}")
