"""Backends, which answer the requests of a work store. Each is imported when it is used."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.base import Backend, Outcomes, Progress

__all__ = ["Backend", "Outcomes", "Progress"]


def __getattr__(name: str) -> object:
    """Import a name of backends.base on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'backends' has no attribute {name!r}")
    import backends.base

    return getattr(backends.base, name)
