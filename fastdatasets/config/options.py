"""Every option of every command: its type, its help, its limits, in one place.

An option is a field of a dataclass (config/run.py, execution.py, commands.py), annotated with one
of these; the command line, the Python API and the tests of the docs are made from the fields.
Imports nothing heavy: --help reads this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from store.export_options import FileType, Keep, Labels, Reasoning
from store.runs import Dedup, Language, Turns

DATA, MODEL, BATCH, OUTPUT, COST = "Data", "Model and engine", "Batch API", "Output", "Cost"
CHECKS = "Checks of answers"


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is written on the command line; where no flag is given, by the field's name.

    A bool has two flags ('--wait/--no-wait') or one, which makes it true.
    """

    help: str
    panel: str | None = None
    flag: str | None = None
    metavar: str | None = None
    min: float | None = None
    max: float | None = None
    is_argument: bool = False


RunName = Annotated[
    str | None,
    Option("The run: its name, or the path of its folder.", metavar="[RUN]", is_argument=True),
]
PushedRun = Annotated[
    str,
    Option("The run: its name, or the path of its folder.", metavar="RUN", is_argument=True),
]
RepositoryName = Annotated[
    str,
    Option("The dataset on the Hub.", metavar="OWNER/NAME", is_argument=True),
]
Private = Annotated[
    bool,
    Option("Create the dataset as a private one.", flag="--private"),
]
DatasetName = Annotated[
    str | Sequence[str] | None,
    Option(
        "Hub name, or a local file or folder (.json .jsonl .csv .tsv .parquet .arrow, .gz/.zst). "
        "Repeatable, with weights.",
        panel=DATA,
        metavar="NAME[:WEIGHT]",
    ),
]
HighQualityFile = Annotated[
    Path | None, Option("A local file of samples, instead of a dataset.", panel=DATA)
]
ConfigName = Annotated[str | None, Option("Configuration of a Hub dataset.", panel=DATA)]
Split = Annotated[str, Option("Split of the dataset.", panel=DATA)]
Encoding = Annotated[
    str | None,
    Option(
        "Encoding of JSON and CSV files, such as gb18030 or cp1252. Default: UTF-8, or UTF-16 with "
        "a byte order mark.",
        panel=DATA,
    ),
]
Delimiter = Annotated[
    str | None,
    Option(
        "Delimiter of CSV files, one character or 'tab'. Default: by their first records.",
        panel=DATA,
    ),
]
SkipBadRows = Annotated[
    bool,
    Option("Leave out and count rows that cannot be read.", panel=DATA, flag="--skip-bad-rows"),
]
SampleSize = Annotated[
    int | None,
    Option(
        "Records to take; 0: all. Default: DEFAULT_SAMPLE_SIZE, else 3; augment: all.",
        panel=DATA,
        max=2**62,
    ),
]
Seed = Annotated[int, Option("Seed of the sampling.", panel=DATA, min=0, max=2**62)]
Where = Annotated[
    str | None,
    Option(
        "Sample only rows for which this SQL condition over the dataset's columns is true, such as "
        "\"score > 3 AND lang = 'zh'\".",
        panel=DATA,
        metavar="CONDITION",
    ),
]
MinChars = Annotated[
    int | None,
    Option("Minimum characters of a question: its instruction and input.", panel=DATA, min=1),
]
MaxChars = Annotated[
    int | None,
    Option("Maximum characters of a question: its instruction and input.", panel=DATA, min=1),
]
QuestionLanguage = Annotated[
    str | None,
    Option(
        "Sample only questions in these languages, by their ISO 639 codes, such as zh,en.",
        panel=DATA,
        metavar="CODES",
    ),
]
DedupBy = Annotated[
    Dedup | None,
    Option(
        "Leave out repeated questions: exact (equal but for case and white space) or near (also "
        "those of nearly the same text).",
        panel=DATA,
        flag="--dedup",
    ),
]
Stratify = Annotated[
    str | None,
    Option(
        "Sample each value of this column in proportion to its rows, or as often as the others: "
        "subject, subject:equal.",
        panel=DATA,
        metavar="COLUMN[:equal]",
    ),
]
InstructionCol = Annotated[
    str | None, Option("Column of the instruction, or several: title,body.", panel=DATA)
]
InputCol = Annotated[str | None, Option("Column of the input.", panel=DATA)]
OutputCol = Annotated[str | None, Option("Column of the original output.", panel=DATA)]
OptionsCol = Annotated[
    str | None, Option("Column of the options of multiple-choice questions.", panel=DATA)
]
SendImages = Annotated[
    bool,
    Option(
        "Send the images of records, of their turns or of a column: addresses and files, which a "
        "server with a model that sees them takes. Without it such turns are left out.",
        panel=DATA,
        flag="--images",
    ),
]
WhichTurns = Annotated[
    Turns,
    Option(
        "Of a conversation, answer the last question (after all earlier turns), the first one "
        "alone, or all, each after the new answers to the earlier ones.",
        panel=DATA,
        flag="--turns",
    ),
]
BackendName = Annotated[
    str | None,
    Option(
        "The backend: openai-batch, openai (live) or vllm. Default: openai where "
        "LLM_API_KEY or LLM_API_BASE is set, else vllm.",
        panel=MODEL,
        flag="--backend",
    ),
]
Model = Annotated[
    str | None,
    Option(
        "The teacher: a Hub name or a local folder. Default: LLM_MODEL, else a small "
        "model that needs no key and no GPU.",
        panel=MODEL,
    ),
]
Lora = Annotated[Path | None, Option("Folder of a LoRA adapter for the local engine.", panel=MODEL)]
MaxOutputTokens = Annotated[
    int | None,
    Option("Maximum tokens of an answer. Default: LLM_MAX_TOKENS, else 4096.", panel=MODEL, min=1),
]
PromptTemplate = Annotated[
    str | None,
    Option(
        "plain (the question), guide (the guide's), or a Jinja2 file; variables: instruction, "
        "input, output, reasoning. Default: guide for records with an input, else plain.",
        panel=MODEL,
        metavar="plain|guide|FILE",
    ),
]
Samples = Annotated[
    int,
    Option(
        "Answers to each question, each a request of its own; they need a temperature above 0.",
        panel=MODEL,
        flag="--samples",
        min=1,
        max=1000,
    ),
]
JudgeAnswers = Annotated[
    bool,
    Option(
        "Have a judge score each answer from 1 to 10: the teacher's model, unless --judge-model "
        "names another.",
        panel=MODEL,
        flag="--judge",
    ),
]
JudgeModel = Annotated[str | None, Option("The judge's model; turns --judge on.", panel=MODEL)]
JudgeBackend = Annotated[
    str | None,
    Option("The judge's backend; turns --judge on. Default: the teacher's.", panel=MODEL),
]
JudgeTemplate = Annotated[
    Path | None,
    Option("The judge's prompt, a Jinja2 file; turns --judge on.", panel=MODEL),
]
ComparedRun = Annotated[
    str,
    Option("A run: its name, or the path of its folder.", metavar="RUN", is_argument=True),
]
PreferenceModel = Annotated[
    str | None,
    Option(
        "Have this model say which of both answers to a question is better, asked both ways round.",
        panel=MODEL,
        flag="--judge-model",
    ),
]
PreferenceBackend = Annotated[
    str | None,
    Option(
        "The judge's backend. Default: openai where LLM_API_KEY or LLM_API_BASE is set, else vllm.",
        panel=MODEL,
        flag="--judge-backend",
    ),
]
PreferenceRun = Annotated[
    str | None,
    Option(
        "Name of the judge's run; an existing one is continued. Default: compare-RUN-RUN.",
        panel=OUTPUT,
        flag="--run",
    ),
]
PairsToJudge = Annotated[
    int,
    Option(
        "With --judge-model: pairs of a new run of the judge, chosen by a hash. Default: all.",
        panel=DATA,
        flag="--sample-size",
        min=0,
        max=2**62,
    ),
]
SystemPrompt = Annotated[
    str | None,
    Option(
        "System message of every request, or @FILE. Default: SYSTEM_PROMPT.",
        panel=MODEL,
        metavar="TEXT|@FILE",
    ),
]
Temperature = Annotated[
    float | None,
    Option(
        "Sampling temperature. Default: LLM_TEMPERATURE, else the model's.",
        panel=MODEL,
    ),
]
TopP = Annotated[
    float | None,
    Option(
        "Nucleus sampling. Default: LLM_TOP_P, else the model's.",
        panel=MODEL,
        flag="--top-p",
    ),
]
Think = Annotated[
    bool | None,
    Option(
        "Turn the model's thinking on or off, in the way of its server. Default: the model's.",
        panel=MODEL,
        flag="--think/--no-think",
    ),
]
Param = Annotated[
    Sequence[str],
    Option(
        "Any key of a request's body, or of vLLM's SamplingParams, with a JSON value, such as "
        "seed=7. Repeatable.",
        panel=MODEL,
        metavar="KEY=VALUE",
    ),
]
Header = Annotated[
    Sequence[str],
    Option(
        "HTTP header of this command's calls to the server; @FILE has its value, which ps does "
        "not show then. Never stored. Repeatable.",
        panel=MODEL,
        metavar="NAME=VALUE|@FILE",
    ),
]
LanguageName = Annotated[
    Language | None,
    Option(
        "Language of the guide's prompt: zh, en, or auto by each record's script. Default: "
        "LANGUAGE, else auto.",
        panel=MODEL,
        flag="--language",
    ),
]
NumAug = Annotated[int, Option("Variants to generate of each sample.", panel=DATA)]
AugmentWith = Annotated[
    int | None,
    Option(
        "Estimate an augment with so many variants of each sample.", panel=DATA, flag="--num-aug"
    ),
]
EngineArg = Annotated[
    Sequence[str],
    Option(
        "Any vLLM engine argument, such as tensor_parallel_size=2. Repeatable.",
        panel=MODEL,
        metavar="KEY=VALUE",
    ),
]
MaxAttempts = Annotated[int, Option("Attempts per request.", panel=MODEL, min=1)]
Reuse = Annotated[
    Sequence[str],
    Option(
        "Reuse answers to equal requests from this earlier run: its name or folder. Repeatable.",
        panel=DATA,
        metavar="RUN",
    ),
]
AcceptOtherServer = Annotated[
    bool,
    Option(
        "Continue at LLM_API_BASE, or accept --reuse answers, of another server than the run's.",
        panel=MODEL,
        flag="--accept-other-server",
    ),
]
OwnChecks = Annotated[
    Sequence[str],
    Option(
        "A check of your own: a function from an answer (a dict) to None or a reason, in a module "
        "of the current folder or an installed one. Repeatable.",
        panel=CHECKS,
        flag="--check",
        metavar="MODULE:FUNCTION",
    ),
]
ExpectedSchema = Annotated[
    Path | None,
    Option(
        "A JSON schema: answers that are no JSON, or not valid by it, stay out of the training "
        "files.",
        panel=CHECKS,
        flag="--expect",
        metavar="FILE",
    ),
]
AnswerChars = Annotated[
    str | None,
    Option(
        "Characters of an answer, at least and at most, such as 20:4000, 20: or :4000; others stay "
        "out of the training files.",
        panel=CHECKS,
        metavar="MIN:MAX",
    ),
]
AnswerPattern = Annotated[
    str | None,
    Option(
        r"Regular expression of an answer's final answer: its last match, group 1. Default: "
        r"\boxed{…}, else after '####', else after 'answer:', else a short last line.",
        panel=CHECKS,
        metavar="REGEX",
    ),
]
VerifyColumn = Annotated[
    str | None,
    Option(
        "Column of the dataset's own answer: answers with another final answer stay out of the "
        "training files. Numbers are compared as numbers.",
        panel=CHECKS,
        flag="--verify",
        metavar="COLUMN",
    ),
]
SkipGeneration = Annotated[
    bool, Option("Export the dataset's own outputs without sending requests.", panel=OUTPUT)
]
IncludeReasoning = Annotated[
    bool,
    Option(
        "Put the reasoning and a blank line before the output in the training files.", panel=OUTPUT
    ),
]
DropTruncated = Annotated[
    bool,
    Option(
        "Exclude answers that were cut off at the token limit from the training files (default).",
        panel=OUTPUT,
        flag="--drop-truncated",
    ),
]
KeepFlagged = Annotated[
    bool,
    Option(
        "Keep all answers in the training files, whatever the checks found.",
        panel=OUTPUT,
        flag="--keep-flagged",
    ),
]
ExcludeFlagged = Annotated[
    str | None,
    Option(
        "Exclude answers that these checks rejected from the training files too: refusal,echo.",
        panel=OUTPUT,
        metavar="KIND,KIND",
    ),
]
KeepName = Annotated[
    Keep | None,
    Option(
        "With --samples, the answers to a question that the training files have: all, first, best "
        "(by the judge) or majority (those that agree). Default: all.",
        panel=OUTPUT,
        flag="--keep",
    ),
]
MinScore = Annotated[
    int | None,
    Option(
        "Exclude answers with a lower score of the judge from the training files.",
        panel=OUTPUT,
        min=1,
        max=10,
    ),
]
Formats = Annotated[
    str | None,
    Option(
        "Files beside distilled.json: alpaca, sharegpt, messages, prompt_completion, raw. "
        "Default: OUTPUT_FORMATS, else alpaca,sharegpt.",
        panel=OUTPUT,
    ),
]
FileTypeName = Annotated[
    FileType | None,
    Option(
        "Type of these files: json, jsonl or parquet. Default: json.",
        panel=OUTPUT,
        flag="--file-type",
    ),
]
LabelsName = Annotated[
    Labels | None,
    Option(
        "Labels of the human turn in sharegpt: guide (指令/输入) or none. Default: guide.",
        panel=OUTPUT,
        flag="--labels",
    ),
]
ReasoningPlace = Annotated[
    Reasoning | None,
    Option(
        "Reasoning in the training files: none, think (in <think> tags before the output) or "
        "field (a column, or reasoning_content in messages). Default: none.",
        panel=OUTPUT,
        flag="--reasoning",
    ),
]
TestShare = Annotated[
    float | None,
    Option(
        "Share of the questions for test files, such as 0.05, chosen by the seed. Default: 0.",
        panel=OUTPUT,
        min=0,
        max=0.99,
    ),
]
OutputDir = Annotated[
    Path | None,
    Option("Folder of all runs. Default: FASTDATASETS_OUTPUT_DIR, else output.", panel=OUTPUT),
]
NewRunName = Annotated[
    str | None,
    Option(
        "Name of the run; an existing run is continued. Default: the time.",
        panel=OUTPUT,
        flag="--run",
    ),
]
OutputFile = Annotated[
    Path | None, Option("Also write the content of distilled.json to this file.", panel=OUTPUT)
]
Wait = Annotated[
    bool,
    Option(
        "Wait for the server's batches, or submit, collect what is ready and exit.",
        panel=BATCH,
        flag="--wait/--no-wait",
    ),
]
KeepFiles = Annotated[
    bool, Option("Do not delete collected files at the server.", panel=BATCH, flag="--keep-files")
]
MaxEnqueuedTokens = Annotated[
    int | None,
    Option(
        "Maximum prompt tokens enqueued at the server. Default: learnt from its errors.",
        panel=BATCH,
        min=1,
    ),
]
CompletionWindow = Annotated[
    str | None, Option("Completion window of a batch. Default: 24h.", panel=BATCH)
]
MaxTokensName = Annotated[
    str | None,
    Option(
        "The server's parameter for the token limit: max_tokens or "
        "max_completion_tokens. Default: by the provider, else max_tokens.",
        panel=BATCH,
    ),
]
JsonSchema = Annotated[
    bool | None,
    Option(
        "Whether requests for variants have a JSON schema as response_format. "
        "Default: by the provider, and yes where its list of models says vllm.",
        panel=MODEL,
        flag="--json-schema/--no-json-schema",
    ),
]
ResubmitLost = Annotated[
    bool,
    Option(
        "Send again, and pay again for, requests of lost batches.",
        panel=BATCH,
        flag="--resubmit-lost",
    ),
]
Forget = Annotated[
    bool,
    Option(
        "Give up batches that do not end, or are lost: their requests become pending.",
        flag="--forget",
    ),
]
PriceIn = Annotated[
    str | None,
    Option(
        "USD per million prompt tokens, replaces the known price; with --price-out.", panel=COST
    ),
]
PriceOut = Annotated[
    str | None,
    Option(
        "USD per million completion tokens, replaces the known price; with --price-in.", panel=COST
    ),
]
JudgePriceIn = Annotated[
    str | None,
    Option(
        "The same as --price-in, of the judge's model where that is another; with "
        "--judge-price-out.",
        panel=COST,
    ),
]
JudgePriceOut = Annotated[
    str | None,
    Option(
        "The same as --price-out, of the judge's model where that is another; with "
        "--judge-price-in.",
        panel=COST,
    ),
]
MaxCost = Annotated[
    str | None,
    Option(
        "Maximum cost of the whole run; it stops there with exit code 3.", panel=COST, metavar="USD"
    ),
]
Yes = Annotated[
    bool,
    Option(
        "Do not ask for confirmation above FASTDATASETS_CONFIRM_ABOVE.", panel=COST, flag="--yes"
    ),
]
GpuPrice = Annotated[str | None, Option("USD per hour of this machine's GPU.", panel=COST)]
RetryFailed = Annotated[
    bool, Option("Send requests that failed for good again.", flag="--retry-failed")
]
RetryTruncated = Annotated[
    bool,
    Option(
        "Send requests with truncated answers again, with twice the token limit.",
        flag="--retry-truncated",
    ),
]
RetryFlagged = Annotated[
    str | None,
    Option(
        "Send requests again whose answers these checks rejected: repetition,refusal.",
        metavar="KIND,KIND",
    ),
]
ChangedLimit = Annotated[
    int | None,
    Option(
        "Maximum tokens of an answer from now on, also for requests without an answer.",
        flag="--max-output-tokens",
        min=1,
    ),
]
AsJson = Annotated[bool, Option("One JSON object, for machines.", flag="--json")]
