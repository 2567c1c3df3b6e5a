"""The command line with the double for an engine: python -m tests.engine_command JOURNAL WORD…."""

from __future__ import annotations

import sys

from backends.vllm import process as engine_process


def main() -> None:
    """Run the command line."""
    double = ("tests.engine_double", sys.argv.pop(1))
    engine_process.COMMAND = (*engine_process.COMMAND[:-1], *double)
    from fastdatasets.cli.app import main as run_command

    run_command()


if __name__ == "__main__":
    main()
