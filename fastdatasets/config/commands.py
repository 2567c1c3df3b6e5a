"""The options of each command, as the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastdatasets.config import options as opt
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import DataOptions, ModelOptions, OutputOptions, RunConfig
from store.runs import Mode

if TYPE_CHECKING:
    from fastdatasets.progress import Display


@dataclass(frozen=True, kw_only=True)
class LocationOptions:
    """The folder of runs, and the display of progress; None: the console."""

    output_dir: opt.OutputDir = None
    display: Display | None = None


@dataclass(frozen=True, kw_only=True)
class DistillOptions(LocationOptions, ExecutionConfig, RunConfig):
    """Options of distill."""

    run: opt.NewRunName = None
    mode: Mode = field(default=Mode.DISTILL, init=False)
    num_aug: int = field(default=0, init=False)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(LocationOptions, ExecutionConfig, RunConfig):
    """Options of augment."""

    run: opt.NewRunName = None
    mode: Mode = field(default=Mode.AUGMENT, init=False)
    images: bool = field(default=False, init=False)
    num_aug: opt.NumAug = 3


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(LocationOptions, ExecutionConfig):
    """Options of resume."""

    run: opt.RunName = field(default=None, kw_only=False)
    retry_failed: opt.RetryFailed = False
    retry_truncated: opt.RetryTruncated = False
    retry_flagged: opt.RetryFlagged = None
    max_output_tokens: opt.ChangedLimit = None
    resubmit_lost: opt.ResubmitLost = False
    output_file: opt.OutputFile = None


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """Options of status."""

    run: opt.RunName = field(default=None, kw_only=False)
    output_dir: opt.OutputDir = None
    max_attempts: opt.MaxAttempts = 3


@dataclass(frozen=True, kw_only=True)
class PreviewOptions(ModelOptions, DataOptions):
    """Options of preview."""

    num_aug: opt.AugmentWith = None
    json_schema: opt.JsonSchema = None
    max_tokens_name: opt.MaxTokensName = None


@dataclass(frozen=True, kw_only=True)
class EstimateOptions(ModelOptions, DataOptions):
    """Options of estimate."""

    num_aug: opt.AugmentWith = None
    price_in: opt.PriceIn = None
    price_out: opt.PriceOut = None
    judge_price_in: opt.JudgePriceIn = None
    judge_price_out: opt.JudgePriceOut = None
    gpu_price: opt.GpuPrice = None
    output_dir: opt.OutputDir = None


@dataclass(frozen=True, kw_only=True)
class CancelOptions(LocationOptions):
    """Options of cancel."""

    run: opt.RunName = field(default=None, kw_only=False)
    forget: opt.Forget = False
    keep_files: opt.KeepFiles = False
    header: opt.Header = ()


@dataclass(frozen=True, kw_only=True)
class ExportCommandOptions(LocationOptions, OutputOptions):
    """Options of export."""

    run: opt.RunName = field(default=None, kw_only=False)


@dataclass(frozen=True, kw_only=True)
class CompareOptions(LocationOptions, ExecutionConfig):
    """Options of compare; those of execution are of the judge's run."""

    first: opt.ComparedRun = field(kw_only=False)
    second: opt.ComparedRun = field(kw_only=False)
    judge_model: opt.PreferenceModel = None
    judge_backend: opt.PreferenceBackend = None
    run: opt.PreferenceRun = None
    sample_size: opt.PairsToJudge = 0
    judge_price_in: str | None = field(default=None, init=False)  # --price-in is the judge's
    judge_price_out: str | None = field(default=None, init=False)


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Options of push."""

    run: opt.PushedRun = field(kw_only=False)
    repository: opt.RepositoryName = field(kw_only=False)
    private: opt.Private = False
    output_dir: opt.OutputDir = None
