"""The options that commands share, each declared once with its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.runs import Language

DATA, MODEL, BATCH, OUTPUT, COST = "Data", "Model and engine", "Batch API", "Output", "Cost"

RunName = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's folder, or its name in it.")
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        help="Hub name, or a local file or folder (.json .jsonl .csv .parquet .arrow, .gz/.zst).",
        rich_help_panel=DATA,
    ),
]
HighQualityFile = Annotated[
    Path | None,
    typer.Option(help="A local file of samples, instead of a dataset.", rich_help_panel=DATA),
]
ConfigName = Annotated[
    str | None, typer.Option(help="Configuration of a Hub dataset.", rich_help_panel=DATA)
]
Split = Annotated[str, typer.Option(help="Split of the dataset.", rich_help_panel=DATA)]
SampleSize = Annotated[
    int | None,
    typer.Option(
        help="Records to take; 0: all. Default: DEFAULT_SAMPLE_SIZE, else 3; augment: all.",
        max=2**62,
        rich_help_panel=DATA,
    ),
]
Seed = Annotated[
    int, typer.Option(help="Seed of the sampling.", min=0, max=2**62, rich_help_panel=DATA)
]
InstructionCol = Annotated[
    str | None, typer.Option(help="Column of the instruction.", rich_help_panel=DATA)
]
InputCol = Annotated[str | None, typer.Option(help="Column of the input.", rich_help_panel=DATA)]
OutputCol = Annotated[
    str | None, typer.Option(help="Column of the original output.", rich_help_panel=DATA)
]
BackendName = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="What answers: openai-batch, openai (live) or vllm. Default: openai where "
        "LLM_API_KEY or LLM_API_BASE is set, else vllm.",
        rich_help_panel=MODEL,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The teacher: a Hub name or a local folder. Default: LLM_MODEL, else a small model "
        "that needs no key and no GPU.",
        rich_help_panel=MODEL,
    ),
]
Lora = Annotated[
    Path | None,
    typer.Option(help="Folder of a LoRA adapter for the local engine.", rich_help_panel=MODEL),
]
MaxOutputTokens = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of an answer. Default: LLM_MAX_TOKENS, else 4096.",
        min=1,
        rich_help_panel=MODEL,
    ),
]
PromptTemplate = Annotated[
    Path | None,
    typer.Option(
        help="Jinja2 file instead of the default prompt; variables: instruction, input, output, "
        "reasoning.",
        rich_help_panel=MODEL,
    ),
]
LanguageName = Annotated[
    Language | None,
    typer.Option(
        "--language",
        help="Default prompt: Chinese, English, or by each record's script. Default: LANGUAGE, "
        "else auto.",
        rich_help_panel=MODEL,
    ),
]
NumAug = Annotated[
    int, typer.Option(help="Variants to write of each sample.", rich_help_panel=DATA)
]
AugmentWith = Annotated[
    int | None,
    typer.Option(
        "--num-aug",
        help="Count what an augment with so many variants of each sample would ask.",
        rich_help_panel=DATA,
    ),
]
EngineArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Any argument of vLLM's engine, such as tensor_parallel_size=2. Repeatable.",
        rich_help_panel=MODEL,
    ),
]
MaxAttempts = Annotated[
    int, typer.Option(help="Attempts per request.", min=1, rich_help_panel=MODEL)
]
Reuse = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUN",
        help="Take answers to the same requests from this earlier run: its folder, or its name. "
        "Repeatable.",
        rich_help_panel=DATA,
    ),
]
AcceptOtherServer = Annotated[
    bool,
    typer.Option(
        "--accept-other-server",
        help="Go on at LLM_API_BASE, or take --reuse answers, though that is another server than "
        "the run's.",
        rich_help_panel=MODEL,
    ),
]
SkipGeneration = Annotated[
    bool,
    typer.Option(help="Export the dataset's own outputs; ask nothing.", rich_help_panel=OUTPUT),
]
IncludeReasoning = Annotated[
    bool,
    typer.Option(
        help="Put the reasoning before the output in the training files.", rich_help_panel=OUTPUT
    ),
]
DropTruncated = Annotated[
    bool,
    typer.Option(
        "--drop-truncated",
        help="Leave answers that were cut off at the token limit out of the training files.",
        rich_help_panel=OUTPUT,
    ),
]
Formats = Annotated[
    str | None,
    typer.Option(
        help="Training files: alpaca, sharegpt. Default: OUTPUT_FORMATS, else both.",
        rich_help_panel=OUTPUT,
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of all runs. Default: FASTDATASETS_OUTPUT_DIR, else output.",
        rich_help_panel=OUTPUT,
    ),
]
NewRunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Name of the run; one that stands is gone on with. Default: the time.",
        rich_help_panel=OUTPUT,
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(help="Write distilled.json's content here as well.", rich_help_panel=OUTPUT),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait",
        help="Wait for the server's batches, or submit, collect what is ready and leave.",
        rich_help_panel=BATCH,
    ),
]
KeepFiles = Annotated[
    bool,
    typer.Option(
        "--keep-files", help="Leave collected files at the server.", rich_help_panel=BATCH
    ),
]
MaxEnqueuedTokens = Annotated[
    int | None,
    typer.Option(
        help="Most prompt tokens to have enqueued at the server. Default: learnt from it.",
        min=1,
        rich_help_panel=BATCH,
    ),
]
CompletionWindow = Annotated[
    str | None,
    typer.Option(help="A batch's completion window. Default: 24h.", rich_help_panel=BATCH),
]
MaxTokensName = Annotated[
    str | None,
    typer.Option(
        help="What the server calls the limit of an answer: max_tokens or max_completion_tokens. "
        "Default: by the provider, else max_tokens.",
        rich_help_panel=BATCH,
    ),
]
JsonSchema = Annotated[
    bool | None,
    typer.Option(
        "--json-schema/--no-json-schema",
        help="Whether the server is told to answer by a JSON schema, where variants are asked for. "
        "Default: by the provider, and yes where its list of models says vllm.",
        rich_help_panel=MODEL,
    ),
]
ResubmitLost = Annotated[
    bool,
    typer.Option(
        "--resubmit-lost",
        help="Ask, and pay, again for batches that the server does not deliver.",
        rich_help_panel=BATCH,
    ),
]
Forget = Annotated[
    bool,
    typer.Option(
        "--forget",
        help="Give up batches that do not end, or are lost: their requests become pending.",
    ),
]
PriceIn = Annotated[
    str | None,
    typer.Option(
        help="USD per million prompt tokens, instead of the known price; with --price-out.",
        rich_help_panel=COST,
    ),
]
PriceOut = Annotated[
    str | None,
    typer.Option(
        help="USD per million completion tokens, instead of the known price; with --price-in.",
        rich_help_panel=COST,
    ),
]
MaxCost = Annotated[
    str | None,
    typer.Option(
        metavar="USD",
        help="The most that the whole run may cost; then it stops with exit 3.",
        rich_help_panel=COST,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Send a run that is dearer than FASTDATASETS_CONFIRM_ABOVE without asking.",
        rich_help_panel=COST,
    ),
]
GpuPrice = Annotated[
    str | None,
    typer.Option(help="USD per hour of this machine's GPU.", rich_help_panel=COST),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Ask again for what failed for good.")
]
RetryTruncated = Annotated[
    bool,
    typer.Option(
        "--retry-truncated", help="Ask again, with twice the limit, for what was cut off at it."
    ),
]
ChangedLimit = Annotated[
    int | None,
    typer.Option(
        "--max-output-tokens",
        help="Most tokens of an answer from now on; what has no answer is asked again with it.",
        min=1,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]
