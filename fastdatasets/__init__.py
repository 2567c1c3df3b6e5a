"""FastDatasets: training data for a small model from a dataset and a strong one.

    from fastdatasets import Wishes, distill

    outcome = distill(Wishes(dataset_name="questions.jsonl", model="gpt-4.1-mini"), run="night")
    print(outcome.status.requests.done, *outcome.files)

The command line uses these functions too. They are imported on first use: importing the package
costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdatasets.commands import RunResult, augment, cancel, distill, resume
    from fastdatasets.commands import export_again as export
    from fastdatasets.config.execution import ExecutionConfig
    from fastdatasets.config.run import RunConfig
    from fastdatasets.estimation import Estimate, estimate
    from fastdatasets.run_status import StatusReport
    from fastdatasets.run_status import read_status as status

__all__ = [
    "Estimate",
    "ExecutionConfig",
    "RunConfig",
    "RunResult",
    "StatusReport",
    "augment",
    "cancel",
    "distill",
    "estimate",
    "export",
    "resume",
    "status",
]

_HOMES = {
    "ExecutionConfig": ("config.execution", "ExecutionConfig"),
    "Estimate": ("estimation", "Estimate"),
    "StatusReport": ("run_status", "StatusReport"),
    "RunConfig": ("config.run", "RunConfig"),
    "estimate": ("estimation", "estimate"),
    "export": ("commands", "export_again"),
    "status": ("run_status", "read_status"),
}


def __getattr__(name: str) -> object:
    """Import a name of the API when it is used."""
    if name not in __all__:
        raise AttributeError(f"module 'fastdatasets' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _HOMES.get(name, ("commands", name))
    return getattr(import_module(f"fastdatasets.{module}"), attribute)
