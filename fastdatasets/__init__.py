"""FastDatasets: training data for a small model from a dataset and a strong one.

    from fastdatasets import distill

    result = distill("questions.jsonl", model="gpt-4.1-mini", run="night", sample_size=0)
    print(result.status.requests.done, *result.files)

The command line makes the same calls. They are imported on first use: importing the package costs
nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdatasets.api import (
        augment,
        cancel,
        compare,
        distill,
        estimate,
        export,
        preview,
        push,
        resume,
        status,
    )

__all__ = [
    "augment",
    "cancel",
    "compare",
    "distill",
    "estimate",
    "export",
    "preview",
    "push",
    "resume",
    "status",
]


def __getattr__(name: str) -> object:
    """Import a name of the API when it is used."""
    if name not in __all__:
        raise AttributeError(f"module 'fastdatasets' has no attribute {name!r}")
    from fastdatasets import api

    return getattr(api, name)
