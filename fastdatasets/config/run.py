"""RunConfig: the options of a new run."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastdatasets.config import options as opt
from store.runs import Mode, Turns


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The dataset, its sample and its columns."""

    dataset_name: opt.DatasetName = field(default=None, kw_only=False)
    high_quality_file: opt.HighQualityFile = None
    config_name: opt.ConfigName = None
    split: opt.Split = "train"
    encoding: opt.Encoding = None
    delimiter: opt.Delimiter = None
    skip_bad_rows: opt.SkipBadRows = False
    sample_size: opt.SampleSize = None
    seed: opt.Seed = 42
    where: opt.Where = None
    min_chars: opt.MinChars = None
    max_chars: opt.MaxChars = None
    question_language: opt.QuestionLanguage = None
    dedup: opt.DedupBy = None
    stratify: opt.Stratify = None
    instruction_col: opt.InstructionCol = None
    input_col: opt.InputCol = None
    output_col: opt.OutputCol = None
    options_col: opt.OptionsCol = None
    turns: opt.WhichTurns = Turns.LAST
    images: opt.SendImages = False


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """The backend, the model, its parameters and the prompt."""

    backend: opt.BackendName = None
    model: opt.Model = None
    lora: opt.Lora = None
    max_output_tokens: opt.MaxOutputTokens = None
    temperature: opt.Temperature = None
    top_p: opt.TopP = None
    think: opt.Think = None
    param: opt.Param = ()
    system_prompt: opt.SystemPrompt = None
    prompt_template: opt.PromptTemplate = None
    language: opt.LanguageName = None
    samples: opt.Samples = 1
    judge: opt.JudgeAnswers = False
    judge_model: opt.JudgeModel = None
    judge_backend: opt.JudgeBackend = None
    judge_template: opt.JudgeTemplate = None


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Checks of answers, beside those of every run."""

    check: opt.OwnChecks = ()
    expect: opt.ExpectedSchema = None
    answer_chars: opt.AnswerChars = None
    answer_pattern: opt.AnswerPattern = None
    verify: opt.VerifyColumn = None


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The files that are written, and their content; None: the run's own, or the default."""

    include_reasoning: opt.IncludeReasoning = False
    drop_truncated: opt.DropTruncated = False
    keep_flagged: opt.KeepFlagged = False
    exclude_flagged: opt.ExcludeFlagged = None
    keep: opt.KeepName = None
    min_score: opt.MinScore = None
    formats: opt.Formats = None
    file_type: opt.FileTypeName = None
    labels: opt.LabelsName = None
    reasoning: opt.ReasoningPlace = None
    test_share: opt.TestShare = None
    output_file: opt.OutputFile = None


@dataclass(frozen=True, kw_only=True)
class RunConfig(OutputOptions, AnswerOptions, ModelOptions, DataOptions):
    """Options of a new run; None: the default of the settings or of config/new_run.py.

    num_aug: variants of each record, where the mode is augment.
    """

    skip_generation: opt.SkipGeneration = False
    mode: Mode = Mode.DISTILL
    num_aug: int = 3
