"""The command line: reads options, makes one call, prints. Heavy imports are made when used."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from backends.stopping import SIGNALS, Interrupts
from fastdatasets.cli import options as opt
from fastdatasets.cli.stdio import open_standard_files
from store.errors import FastDatasetsError
from store.readable import readable, readable_json
from store.runs import Mode

if TYPE_CHECKING:
    from fastdatasets.commands import RunResult

STOPPED = 130

# What enters no request: the fields of fastdatasets.day.Day, which --help need not import.
DAY_OPTIONS = frozenset(
    {
        "engine_arg",
        "max_attempts",
        "reuse",
        "accept_other_server",
        "wait",
        "keep_files",
        "resubmit_lost",
        "max_enqueued_tokens",
        "completion_window",
        "max_tokens_name",
        "json_schema",
        "max_cost",
        "price_in",
        "price_out",
        "yes",
    }
)

# Of estimate, what is no field of fastdatasets.wishes.Wishes, or not as it stands.
ESTIMATE_OPTIONS = frozenset(
    {"num_aug", "price_in", "price_out", "gpu_price", "output_dir", "as_json"}
)

app = typer.Typer(
    name="fastdatasets",
    help="Turn a dataset and a strong model into training data for a small one.",
    epilog="Exit codes: 0 done; 1 something to mend; 3 something is left, see status; 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # The guide writes --dataset_name, we write --dataset-name: both are understood.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
)


@app.callback()
def _root() -> None:
    """Turn a dataset and a strong model into training data for a small one."""


@app.command()
def distill(
    dataset_name: opt.DatasetName = None,
    high_quality_file: opt.HighQualityFile = None,
    config_name: opt.ConfigName = None,
    split: opt.Split = "train",
    sample_size: opt.SampleSize = None,
    seed: opt.Seed = 42,
    instruction_col: opt.InstructionCol = None,
    input_col: opt.InputCol = None,
    output_col: opt.OutputCol = None,
    backend: opt.BackendName = None,
    model: opt.Model = None,
    lora: opt.Lora = None,
    max_output_tokens: opt.MaxOutputTokens = None,
    prompt_template: opt.PromptTemplate = None,
    language: opt.LanguageName = None,
    skip_generation: opt.SkipGeneration = False,
    include_reasoning: opt.IncludeReasoning = False,
    drop_truncated: opt.DropTruncated = False,
    formats: opt.Formats = None,
    output_file: opt.OutputFile = None,
    output_dir: opt.OutputDir = None,
    run: opt.NewRunName = None,
    engine_arg: opt.EngineArg = None,
    max_attempts: opt.MaxAttempts = 3,
    reuse: opt.Reuse = None,
    accept_other_server: opt.AcceptOtherServer = False,
    wait: opt.Wait = True,
    keep_files: opt.KeepFiles = False,
    max_enqueued_tokens: opt.MaxEnqueuedTokens = None,
    completion_window: opt.CompletionWindow = None,
    max_tokens_name: opt.MaxTokensName = None,
    max_cost: opt.MaxCost = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    yes: opt.Yes = False,
) -> None:
    """Sample a dataset and have the teacher answer it."""
    _start(Mode.DISTILL, locals())


@app.command()
def augment(
    dataset_name: opt.DatasetName = None,
    high_quality_file: opt.HighQualityFile = None,
    num_aug: opt.NumAug = 3,
    config_name: opt.ConfigName = None,
    split: opt.Split = "train",
    sample_size: opt.SampleSize = None,
    seed: opt.Seed = 42,
    instruction_col: opt.InstructionCol = None,
    input_col: opt.InputCol = None,
    output_col: opt.OutputCol = None,
    backend: opt.BackendName = None,
    model: opt.Model = None,
    lora: opt.Lora = None,
    max_output_tokens: opt.MaxOutputTokens = None,
    prompt_template: opt.PromptTemplate = None,
    language: opt.LanguageName = None,
    skip_generation: opt.SkipGeneration = False,
    include_reasoning: opt.IncludeReasoning = False,
    drop_truncated: opt.DropTruncated = False,
    formats: opt.Formats = None,
    output_file: opt.OutputFile = None,
    output_dir: opt.OutputDir = None,
    run: opt.NewRunName = None,
    engine_arg: opt.EngineArg = None,
    max_attempts: opt.MaxAttempts = 3,
    reuse: opt.Reuse = None,
    accept_other_server: opt.AcceptOtherServer = False,
    wait: opt.Wait = True,
    keep_files: opt.KeepFiles = False,
    max_enqueued_tokens: opt.MaxEnqueuedTokens = None,
    completion_window: opt.CompletionWindow = None,
    max_tokens_name: opt.MaxTokensName = None,
    json_schema: opt.JsonSchema = None,
    max_cost: opt.MaxCost = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    yes: opt.Yes = False,
) -> None:
    """Have the teacher write variants of high-quality samples, then answer all of them."""
    _start(Mode.AUGMENT, locals())


@app.command()
def resume(
    run: opt.RunName = None,
    retry_failed: opt.RetryFailed = False,
    retry_truncated: opt.RetryTruncated = False,
    max_output_tokens: opt.ChangedLimit = None,
    resubmit_lost: opt.ResubmitLost = False,
    output_file: opt.OutputFile = None,
    output_dir: opt.OutputDir = None,
    engine_arg: opt.EngineArg = None,
    max_attempts: opt.MaxAttempts = 3,
    reuse: opt.Reuse = None,
    accept_other_server: opt.AcceptOtherServer = False,
    wait: opt.Wait = True,
    keep_files: opt.KeepFiles = False,
    max_enqueued_tokens: opt.MaxEnqueuedTokens = None,
    completion_window: opt.CompletionWindow = None,
    max_tokens_name: opt.MaxTokensName = None,
    json_schema: opt.JsonSchema = None,
    max_cost: opt.MaxCost = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    yes: opt.Yes = False,
) -> None:
    """Go on with a run: the newest unfinished one, if none is named."""
    execution = _pick(locals(), DAY_OPTIONS)
    from fastdatasets.commands import resume as advance_run
    from fastdatasets.config.execution import ExecutionConfig

    outcome = advance_run(
        run,
        output_dir,
        ExecutionConfig(**execution),
        retry_failed=retry_failed,
        retry_truncated=retry_truncated,
        max_output_tokens=max_output_tokens,
        output_file=output_file,
    )
    if outcome is None:
        print("nothing to resume: no run is unfinished")
    else:
        _finish(outcome)


@app.command()
def status(
    run: opt.RunName = None,
    as_json: opt.AsJson = False,
    output_dir: opt.OutputDir = None,
    max_attempts: opt.MaxAttempts = 3,
) -> None:
    """Say what is done, pending and failed of a run: the newest, if none is named."""
    from fastdatasets.run_status import read_status, to_text
    from store.folder.run_folder import STATUS_JSON

    view = read_status(run, output_dir, max_attempts)
    if as_json:
        print(readable_json(STATUS_JSON.encode(view.status).decode()))
    else:
        print(readable(to_text(view)))


@app.command()
def estimate(
    dataset_name: opt.DatasetName = None,
    high_quality_file: opt.HighQualityFile = None,
    config_name: opt.ConfigName = None,
    split: opt.Split = "train",
    sample_size: opt.SampleSize = None,
    seed: opt.Seed = 42,
    instruction_col: opt.InstructionCol = None,
    input_col: opt.InputCol = None,
    output_col: opt.OutputCol = None,
    backend: opt.BackendName = None,
    model: opt.Model = None,
    lora: opt.Lora = None,
    max_output_tokens: opt.MaxOutputTokens = None,
    prompt_template: opt.PromptTemplate = None,
    language: opt.LanguageName = None,
    num_aug: opt.AugmentWith = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    gpu_price: opt.GpuPrice = None,
    output_dir: opt.OutputDir = None,
    as_json: opt.AsJson = False,
) -> None:
    """Count and price what a distill would ask, or an augment, before anything is sent."""
    options = {name: value for name, value in locals().items() if name not in ESTIMATE_OPTIONS}
    if num_aug is not None:
        options |= {"mode": Mode.AUGMENT, "num_aug": num_aug}
    from fastdatasets.config.run import RunConfig
    from fastdatasets.estimation import estimate as count
    from fastdatasets.estimation import to_json, to_text
    from fastdatasets.pricing.prices import parse_price, parse_usd

    found = count(
        RunConfig(**options),
        price=parse_price(price_in, price_out),
        gpu_price=None if gpu_price is None else parse_usd("--gpu-price", gpu_price),
        output_dir=output_dir,
    )
    print(readable_json(to_json(found)) if as_json else readable(to_text(found)))


@app.command()
def config(as_json: opt.AsJson = False) -> None:
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


@app.command()
def cancel(
    run: opt.RunName = None,
    forget: opt.Forget = False,
    keep_files: opt.KeepFiles = False,
    output_dir: opt.OutputDir = None,
) -> None:
    """Cancel what a run has at the server, keep what it finished, delete the files there."""
    from fastdatasets.commands import cancel as cancel_run
    from fastdatasets.config.execution import ExecutionConfig

    outcome = cancel_run(run, output_dir, ExecutionConfig(keep_files=keep_files), forget=forget)
    if outcome is None:
        print("nothing to cancel: no run is unfinished")
    else:
        _finish(outcome)


@app.command()
def export(
    run: opt.RunName = None,
    formats: opt.Formats = None,
    include_reasoning: opt.IncludeReasoning = False,
    output_file: opt.OutputFile = None,
    drop_truncated: opt.DropTruncated = False,
    output_dir: opt.OutputDir = None,
) -> None:
    """Write a run's files again, of what is answered so far: the newest run's, if none is named."""
    from fastdatasets.commands import export_again

    _finish(export_again(run, output_dir, formats, include_reasoning, output_file, drop_truncated))


def _start(mode: Mode, options: dict[str, Any]) -> None:
    """Make a run of the command's options, which bear the names of Wishes' and Day's fields."""
    from fastdatasets.commands import start
    from fastdatasets.config.execution import ExecutionConfig
    from fastdatasets.config.run import RunConfig

    output_dir, run = options.pop("output_dir"), options.pop("run")
    execution = _pick(options, DAY_OPTIONS)
    run_config = {name: value for name, value in options.items() if name not in DAY_OPTIONS}
    _finish(
        start(RunConfig(mode=mode, **run_config), output_dir, run, ExecutionConfig(**execution))
    )


def _pick(options: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The options of those names; one that was not given at all keeps its default."""
    return {name: options[name] for name in names & options.keys() if options[name] is not None}


def _finish(outcome: RunResult) -> None:
    """Print the files written, then exit with 3 where something is left."""
    for file in outcome.files:
        print(readable(file))
    outcome.raise_if_left()


def _complain(message: object) -> None:
    print(readable(f"fastdatasets: {message}"), file=sys.stderr)


def _handle_signals() -> None:
    """Let SIGTERM and SIGHUP do what a Ctrl-C does, unless they are ignored, as nohup has it."""
    interrupts = Interrupts(STOPPED)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupts)


def main() -> None:
    """Run the command line; the one place that turns errors into exit codes."""
    open_standard_files()
    # Rows are made by the hundred thousand and have no cycles: looking for some as often as Python
    # does takes an eighth of the time.
    gc.set_threshold(100_000, 20, 100)
    _handle_signals()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # where a disk is full, an error like any other
    except FastDatasetsError as error:
        _complain(error)
        code = error.exit_code
    except typer.Exit as error:
        code = error.exit_code
    except KeyboardInterrupt:
        code = STOPPED
    except typer.TyperException as error:  # an option that does not exist, a value out of range
        if message := error.format_message():
            _complain(f"{message} (see --help)")
        code = 1
    except OSError as error:
        _complain(error)
        code = 1
    except Exception as error:
        if not type(error).__module__.endswith("duckdb"):
            raise  # a defect of ours shows its traceback
        _complain(f"the store: {str(error).splitlines()[0]}")
        code = 1
    if code == STOPPED:
        _exit_stopped()
    sys.exit(code)


def _exit_stopped() -> NoReturn:
    """Exit without what Python does last: there a further signal ends it with another code.

    And it would wait for threads that hang, as one does that looks up a server's name.
    """
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.flush()
    os._exit(STOPPED)
