"""The command line: reads options, makes one call, prints. Heavy imports are made when used."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import typer

from backends.stopping import SIGNALS, Interrupts
from fastdatasets import api
from fastdatasets.cli.commands import AsJson, command
from fastdatasets.terminal import open_standard_files, readable, readable_json
from store.errors import FastDatasetsError

if TYPE_CHECKING:
    from fastdatasets.comparison.report import Comparison
    from fastdatasets.estimation.estimate import Estimate
    from fastdatasets.estimation.preview import Preview
    from fastdatasets.runs.result import RunResult
    from fastdatasets.runs.status import StatusReport

STOPPED = 130

app = typer.Typer(
    name="fastdatasets",
    help="Turn a dataset and a strong model into training data for a small one.",
    epilog="Exit codes: 0 done; 1 something to change; 3 something left, see status; 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Both --dataset_name, as in the old guide, and --dataset-name are accepted.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


@app.callback()
def _root() -> None:
    """Turn a dataset and a strong model into training data for a small one."""


@command(app, api.distill)
def _show_distill(result: RunResult) -> None:
    _finish(result)


@command(app, api.augment)
def _show_augment(result: RunResult) -> None:
    _finish(result)


@command(app, api.resume)
def _show_resume(result: RunResult | None) -> None:
    if result is None:
        print("nothing to resume: no run is unfinished")
    else:
        _finish(result)


@command(app, api.status, has_json=True)
def _show_status(report: StatusReport, *, as_json: bool) -> None:
    from fastdatasets.runs.status import to_text
    from store.folder.run_folder import STATUS_JSON

    if as_json:
        print(readable_json(STATUS_JSON.encode(report.status).decode()))
    else:
        print(readable(to_text(report)))


@command(app, api.estimate, has_json=True)
def _show_estimate(estimate: Estimate, *, as_json: bool) -> None:
    from fastdatasets.estimation.text import to_json, to_text

    print(readable_json(to_json(estimate)) if as_json else readable(to_text(estimate)))


@command(app, api.preview, has_json=True)
def _show_preview(preview: Preview, *, as_json: bool) -> None:
    print(readable_json(preview.to_json()) if as_json else readable(preview.to_text()))


@app.command()
def config(as_json: AsJson = False) -> None:
    """Show the settings in force and where each comes from; keys are masked."""
    import msgspec

    from fastdatasets.config.in_force import settings_in_force

    settings = settings_in_force()
    if as_json:
        print(readable_json(msgspec.json.encode(settings).decode()))
    else:
        width = max(len(setting.name) for setting in settings)
        for setting in settings:
            print(readable(f"{setting.name:<{width}}  {setting.origin:<11}  {setting.value}"))


@command(app, api.cancel)
def _show_cancel(result: RunResult | None) -> None:
    if result is None:
        print("nothing to cancel: no run is unfinished")
    else:
        _finish(result)


@command(app, api.export)
def _show_export(result: RunResult) -> None:
    _finish(result)


@command(app, api.compare, has_json=True)
def _show_compare(comparison: Comparison, *, as_json: bool) -> None:
    from fastdatasets.comparison.text import to_json, to_text

    print(readable_json(to_json(comparison)) if as_json else readable(to_text(comparison)))
    comparison.raise_if_left()


@command(app, api.push)
def _show_push(address: str) -> None:
    print(readable(address))


def _finish(result: RunResult) -> None:
    """Print the files written; raises Unfinished, exit code 3, where something is left."""
    for file in result.exported:
        print(readable(file))
    result.raise_if_left()


def _print_error(message: object) -> None:
    print(readable(f"fastdatasets: {message}"), file=sys.stderr)


def _handle_signals() -> None:
    """Handle SIGTERM and SIGHUP like Ctrl-C, unless they are ignored, as under nohup."""
    interrupts = Interrupts(STOPPED)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupts)


def run(arguments: list[str]) -> int:
    """Run a command; the one place that turns errors into exit codes."""
    try:
        code: int = app(arguments, standalone_mode=False) or 0
        sys.stdout.flush()  # where a disk is full, an error like any other
    except FastDatasetsError as error:
        _print_error(error)
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except KeyboardInterrupt:
        return STOPPED
    except typer.TyperException as error:  # an option that does not exist, a value out of range
        if message := error.format_message():
            _print_error(f"{message} (see --help)")
        return 1
    except OSError as error:
        _print_error(error)
        return 1
    return code


def main() -> None:
    """Run the command line as a process of its own."""
    open_standard_files()
    # Hundreds of thousands of objects without cycles are created: the default frequency of garbage
    # collection takes an eighth of the time.
    gc.set_threshold(100_000, 20, 100)
    _handle_signals()
    code = run(sys.argv[1:])
    if code == STOPPED:
        _exit_stopped()
    sys.exit(code)


def _exit_stopped() -> NoReturn:
    """Exit without Python's shutdown, in which a further signal would change the exit code.

    It would also wait for threads that hang, such as in a DNS lookup.
    """
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.flush()
    os._exit(STOPPED)
