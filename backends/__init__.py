"""Backends: what answers the requests of a work store. Each is imported only when it is used."""

from backends.base import Backend, Outcomes, Progress

__all__ = ["Backend", "Outcomes", "Progress"]
