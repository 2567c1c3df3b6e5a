"""README.md of a run's folder: a dataset card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence, Set

from fastdatasets.exports.files import ExportFile
from fastdatasets.exports.formats import FORMATS, columns_of
from fastdatasets.exports.trainers import trainer_lines
from store import WorkStore
from store.export_options import ExportOptions, FileType
from store.results import FailureKind
from store.runs import Run
from store.status import Status

COLUMNS = {
    "instruction": "the question, or what is to be done with the input",
    "input": "what the instruction is about; may be empty",
    "output": "the answer",
    "reasoning": "the reasoning before the answer, where the model returned any",
    "finish_reason": "why the answer ended; `length`: it was cut off at the token limit",
    "model": "the teacher",
    "source_row": "the row of the source dataset, from 0",
    "original_instruction": "the source dataset's instruction",
    "variant": "0: the source dataset's instruction; 1, 2, …: variants of it",
    "generation": "which of the answers to the question, from 0",
    "verdicts": "the checks that rejected the answer, and why",
    "score": "the judge's score, 1 to 10",
    "score_reason": "the judge's reason",
    "final_answer": "the short answer at the end of the output",
    "agreement": "the share of the answers to the question with this final answer",
    "system": "the system prompt",
    "history": "the turns before the question; in alpaca pairs of question and answer",
    "tools": "the tools of the conversation: JSON text of a list, in OpenAI's form",
    "tool_calls": "the tool calls of the answer, in OpenAI's form",
    "original_outputs": "all outputs of the source dataset, where a row has several",
    "images": "the images, in the order of `<image>` in the texts: addresses, paths from the "
    "source dataset's folder, and images/…, which are in this folder",
    "source": "the source dataset",
    "split": "its split",
    "run_id": "the run",
    "backend": "what sent the request",
    "request_id": "a hash of the request; empty where no request was sent",
    "params": "the parameters of the request: JSON text",
    "prompt_tokens": "tokens of the prompt",
    "cached_tokens": "tokens of the prompt that the server read from its cache",
    "completion_tokens": "tokens of the answer, with its reasoning",
    "cost": "USD",
    "conversations": "turns of `from` and `value`",
    "messages": "turns of `role` and `content`; `tool_calls` and `reasoning_content` where any",
    "prompt": "system prompt, instruction and input, with blank lines between",
    "completion": "the answer",
}
FAILED = {
    FailureKind.REFUSED: "the request was refused",
    FailureKind.SERVER: "the server failed",
    FailureKind.FILTERED: "a content filter",
    FailureKind.UNUSABLE: "the answer could not be used",
}

Table = Sequence[tuple[str, object]]


def card(
    name: str,
    run: Run,
    figures: Table,
    rows: Mapping[ExportFile, int],
    options: ExportOptions,
    contents: Set[str],
) -> str:
    """The card. name: of the folder; figures: see figures_of; rows: of all files.

    options: their file type is what load_dataset finds. contents: as Answers.contents returns them.
    The YAML has no features: load_dataset would cast to them what it reads right without, such as a
    struct that only some rows have.
    """
    file_type = options.file_type
    loaded = [
        file
        for file in rows
        if file.file_type is file_type or (file_type is FileType.JSONL and file.format is None)
    ]
    return "\n".join(
        (
            *("---", *_configs(loaded), "---", "", f"# {name}", ""),
            *(*_origin(run), ""),
            *("## Files", "", *_table("file", "rows", _file_rows(rows)), ""),
            *("## Columns", "", *_columns(run, loaded, options, contents), ""),
            *("## Figures", "", *_table("of the run", "", figures), ""),
            *("## Training", "", *trainer_lines(name, loaded, contents)),
        )
    )


def figures_of(store: WorkStore, run: Run, status: Status, excluded: Mapping[str, int]) -> Table:
    """What the run used and left out, and what its answers cost; names and values.

    excluded: answers that are not for training, by the reason.
    """
    left_out: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    for sampling in store.records.samplings():
        left_out.update(sampling.left_out)
        left_out.update(sampling.bad_rows.counts)
        unused[sampling.unused] += sampling.unused_turns
    figures: list[tuple[str, object]] = [("records", status.records)]
    figures += [(f"rows left out: {reason}", count) for reason, count in left_out.items()]
    figures += [(f"not used: {what}", count) for what, count in unused.items()]
    if not run.skip_generation:
        figures += [
            ("requests", status.requests.total),
            ("requests without an answer", status.requests.total - status.requests.done),
            *(
                (f"the last attempt failed: {FAILED[kind]}", count)
                for kind, count in store.results.failure_kinds().items()
            ),
            *(
                (f"answers that the check {name} rejected", count)
                for name, count in store.answers.flagged().items()
            ),
            *(
                (f"answers left out of the training files: {reason}", count)
                for reason, count in excluded.items()
            ),
            ("prompt tokens", status.tokens.prompt),
            ("completion tokens", status.tokens.completion),
        ]
    if status.cost.spent is not None:
        figures += [("cost in USD", f"{status.cost.spent:.4f}")]
    if status.cost.uncertain:
        figures += [
            ("cost in USD that may have been billed besides", f"{status.cost.uncertain:.4f}")
        ]
    return [(name, value) for name, value in figures if value]


def _configs(files: Sequence[ExportFile]) -> list[str]:
    """YAML for load_dataset: a configuration a format, by default the first training one."""
    trains = sorted(
        (file for file in files if not file.is_test),
        key=lambda file: file.format is None or not FORMATS[file.format].is_training,
    )
    lines = ["pretty_name: distilled answers", "configs:"]
    for place, file in enumerate(trains):
        lines += [f"- config_name: {file.format or 'distilled'}"]
        lines += ["  default: true"] if place == 0 else []
        lines += ["  data_files:", "  - split: train", f"    path: {file.name}"]
        test = ExportFile(file.format, file.file_type, is_test=True)
        lines += ["  - split: test", f"    path: {test.name}"] if test in files else []
    return lines


def _origin(run: Run) -> list[str]:
    """How the rows were made."""
    sources = ", ".join(f"`{name}`" for name in run.source_names)
    sample = f"Records of {sources} (split {run.split}, seed {run.seed})"
    params = json.dumps(run.params, ensure_ascii=False, sort_keys=True)
    if run.skip_generation:
        made = [f"{sample} with the dataset's own outputs."]
    else:
        made = [f"{sample}, answered by the teacher `{run.model}` with the parameters `{params}`."]
        if run.judge is not None:
            made.append(f"Each answer was scored from 1 to 10 by the judge `{run.judge.model}`.")
        if run.num_aug:
            made.append(f"{run.num_aug} variants were generated of each instruction, and answered.")
    return [
        *made,
        "",
        "License: the terms of the source dataset and of the teacher apply. Several providers of",
        "models restrict training other models on answers; check them before you publish or train.",
    ]


def _file_rows(rows: Mapping[ExportFile, int]) -> Table:
    return [(f"`{file.name}`", count) for file, count in rows.items()]


def _columns(
    run: Run, files: Sequence[ExportFile], options: ExportOptions, contents: Set[str]
) -> list[str]:
    """Each column, the configurations that have it, and what it holds."""
    having: dict[str, list[str]] = {}
    for file in files:
        if not file.is_test:
            for column in columns_of(file.definition(run.mode), contents, options):
                having.setdefault(column, []).append(file.format or "distilled")
    return [
        *("| column | in | holds |", "|---|---|---|"),
        *(
            f"| `{name}` | {', '.join(formats)} | {COLUMNS[name]} |"
            for name, formats in having.items()
        ),
    ]


def _table(name: str, value: str, cells: Table) -> list[str]:
    escaped = ((cell.replace("|", "\\|"), content) for cell, content in cells)
    return [
        *(f"| {name} | {value} |", "|---|---|"),
        *(f"| {cell} | {content} |" for cell, content in escaped),
    ]
