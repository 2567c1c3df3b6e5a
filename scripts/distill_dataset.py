"""The old guide's command lines, unchanged: --mode names the command, the rest are its options."""

from __future__ import annotations

import sys


def translate(arguments: list[str]) -> list[str]:
    """['--mode', 'distill', …] as ['distill', …], wherever --mode stands."""
    rest: list[str] = []
    mode: str | None = None
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--mode":
            mode = next(remaining, None)
        elif argument.startswith("--mode="):
            mode = argument.removeprefix("--mode=")
        else:
            rest.append(argument)
    if mode is None:
        return rest  # --help and mistakes: the command itself says what is wrong
    return [mode, *rest]


if __name__ == "__main__":
    try:
        from fastdatasets.cli.app import main
    except ImportError as error:
        sys.exit(f"{error}: run 'make install', then .venv/bin/python scripts/distill_dataset.py …")
    sys.argv = ["fastdatasets", *translate(sys.argv[1:])]
    main()
