"""The Python API, which the command line calls too: options are keyword arguments.

    from fastdatasets import distill

    result = distill("questions.jsonl", model="gpt-4.1-mini", run="night", sample_size=0)
    print(result.status.requests.done, *result.files)
    dataset = result.to_dataset()

All raise UserError for what the user has to change, Unfinished where the run stopped in order with
something left, and Busy (an Unfinished) where another command works on the run.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fastdatasets.config.commands import (
    AugmentOptions,
    CancelOptions,
    CompareOptions,
    DistillOptions,
    EstimateOptions,
    ExportCommandOptions,
    PreviewOptions,
    PushOptions,
    ResumeOptions,
    StatusOptions,
)
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import DataOptions, ModelOptions, RunConfig
from store.errors import UserError
from store.runs import Mode

if TYPE_CHECKING:
    from fastdatasets.comparison.report import Comparison
    from fastdatasets.estimation.estimate import Estimate
    from fastdatasets.estimation.preview import Preview
    from fastdatasets.runs.result import RunResult
    from fastdatasets.runs.status import StatusReport

P = ParamSpec("P")
O = TypeVar("O")  # noqa: E741 - options
R = TypeVar("R")


def takes(options: Callable[P, O]) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Let a function of one dataclass be called with its fields as keyword arguments."""

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(options(*args, **kwargs))

        call.__dict__["options"] = options
        call.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]
        return call

    return decorate


@takes(DistillOptions)
def distill(options: DistillOptions) -> RunResult:
    """Sample a dataset and have the teacher answer it."""
    from fastdatasets.commands import start

    return start(options, options.output_dir, options.run, options, options.display)


@takes(AugmentOptions)
def augment(options: AugmentOptions) -> RunResult:
    """Have the teacher generate variants of high-quality samples, then answer all of them."""
    from fastdatasets.commands import start

    return start(options, options.output_dir, options.run, options, options.display)


@takes(ResumeOptions)
def resume(options: ResumeOptions) -> RunResult | None:
    """Continue a run: the newest unfinished one, if none is named."""
    from fastdatasets.commands import resume as resume_run

    return resume_run(
        options.run,
        options.output_dir,
        options,
        retry_failed=options.retry_failed,
        retry_truncated=options.retry_truncated,
        retry_flagged=options.retry_flagged,
        max_output_tokens=options.max_output_tokens,
        output_file=options.output_file,
        display=options.display,
    )


@takes(StatusOptions)
def status(options: StatusOptions) -> StatusReport:
    """Report what is done, pending and failed of a run: the newest, if none is named."""
    from fastdatasets.runs.status import read_status

    return read_status(options.run, options.output_dir, options.max_attempts)


@takes(EstimateOptions)
def estimate(options: EstimateOptions) -> Estimate:
    """Estimate requests, tokens and cost of a distill or augment, before anything is sent."""
    from fastdatasets.estimation.estimate import estimate as count
    from fastdatasets.pricing.prices import JUDGE_PRICE, parse_price, parse_usd

    gpu_price: Decimal | None = None
    if options.gpu_price is not None:
        gpu_price = parse_usd("--gpu-price", options.gpu_price)
    return count(
        _run_config(options, options.num_aug),
        price=parse_price(options.price_in, options.price_out),
        judge_price=parse_price(options.judge_price_in, options.judge_price_out, JUDGE_PRICE),
        gpu_price=gpu_price,
        output_dir=options.output_dir,
    )


@takes(PreviewOptions)
def preview(options: PreviewOptions) -> Preview:
    """Show which columns and turns are used, and the first requests; sends none."""
    from fastdatasets.estimation.preview import preview as show

    return show(
        _run_config(options, options.num_aug),
        json_schema=options.json_schema,
        max_tokens_name=options.max_tokens_name,
    )


@takes(CancelOptions)
def cancel(options: CancelOptions) -> RunResult | None:
    """Cancel a run's batches at the server, keep finished answers, delete the files there."""
    from fastdatasets.commands import cancel as cancel_run

    return cancel_run(
        options.run,
        options.output_dir,
        ExecutionConfig(keep_files=options.keep_files, header=options.header),
        forget=options.forget,
        display=options.display,
    )


@takes(ExportCommandOptions)
def export(options: ExportCommandOptions) -> RunResult:
    """Write the files of a run's answers so far: the newest run's, if none is named."""
    from fastdatasets.commands import export_again

    return export_again(options.run, options.output_dir, options, options.display)


@takes(CompareOptions)
def compare(options: CompareOptions) -> Comparison:
    """Compare the answers of two runs to the same questions, and have a judge compare them."""
    from fastdatasets.comparison.compare import Judging
    from fastdatasets.comparison.compare import compare as compare_runs

    judging: Judging | None = None
    if options.judge_model is not None:
        judging = Judging(
            options.judge_model, options.judge_backend, options.run, options.sample_size
        )
    elif options.judge_backend or options.run or options.sample_size:
        raise UserError("name the judge: --judge-model")
    execution = ExecutionConfig(
        **{name: getattr(options, name) for name in ExecutionConfig.__dataclass_fields__}
    )
    return compare_runs(
        (options.first, options.second), options.output_dir, judging, execution, options.display
    )


@takes(PushOptions)
def push(options: PushOptions) -> str:
    """Upload a run's files to the Hub as a dataset; returns its address."""
    from fastdatasets.commands import push as push_run

    return push_run(options.run, options.repository, options.output_dir, private=options.private)


def _run_config(options: DataOptions, num_aug: int | None) -> RunConfig:
    """The run that options would make: an augment where they have a number of variants."""
    shared = {
        name: getattr(options, name)
        for parent in (DataOptions, ModelOptions)
        for name in parent.__dataclass_fields__
    }
    if num_aug is not None:
        shared |= {"mode": Mode.AUGMENT, "num_aug": num_aug}
    return RunConfig(**shared)
