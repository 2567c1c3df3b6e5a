"""ExecutionConfig: the options of one command. None of them enters a request."""

from __future__ import annotations

from dataclasses import dataclass

from fastdatasets.config import options as opt


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Options of one command; None: the default of the settings or the provider."""

    engine_arg: opt.EngineArg = ()
    header: opt.Header = ()
    max_attempts: opt.MaxAttempts = 3
    reuse: opt.Reuse = ()
    accept_other_server: opt.AcceptOtherServer = False
    wait: opt.Wait = True
    keep_files: opt.KeepFiles = False
    max_enqueued_tokens: opt.MaxEnqueuedTokens = None
    completion_window: opt.CompletionWindow = None
    max_tokens_name: opt.MaxTokensName = None
    json_schema: opt.JsonSchema = None
    max_cost: opt.MaxCost = None  # USD, as the user wrote it
    price_in: opt.PriceIn = None  # USD per million tokens
    price_out: opt.PriceOut = None
    judge_price_in: opt.JudgePriceIn = None
    judge_price_out: opt.JudgePriceOut = None
    yes: opt.Yes = False
    resubmit_lost: bool = False  # an option of resume only
