"""FastDatasets: training data for a small model from a dataset and a strong one.

    from fastdatasets import Wishes, distill

    outcome = distill(Wishes(dataset_name="questions.jsonl", model="gpt-4.1-mini"), run="night")
    print(outcome.status.requests.done, *outcome.files)

The command line uses these functions too. They are imported on first use: importing the package
costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdatasets.day import Day
    from fastdatasets.estimate import Estimate, estimate
    from fastdatasets.looking import View
    from fastdatasets.looking import look as status
    from fastdatasets.session import (
        Outcome,
        augment,
        cancel,
        distill,
        resume,
    )
    from fastdatasets.session import export_again as export
    from fastdatasets.wishes import Wishes

__all__ = [
    "Day",
    "Estimate",
    "Outcome",
    "View",
    "Wishes",
    "augment",
    "cancel",
    "distill",
    "estimate",
    "export",
    "resume",
    "status",
]

_HOMES = {
    "Day": ("day", "Day"),
    "Estimate": ("estimate", "Estimate"),
    "View": ("looking", "View"),
    "Wishes": ("wishes", "Wishes"),
    "estimate": ("estimate", "estimate"),
    "export": ("session", "export_again"),
    "status": ("looking", "look"),
}


def __getattr__(name: str) -> object:
    """Import a name of the API when it is used."""
    if name not in __all__:
        raise AttributeError(f"module 'fastdatasets' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES.get(name, ("session", name))
    return getattr(import_module(f"fastdatasets.{module}"), attribute)
