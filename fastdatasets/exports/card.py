"""README.md of a run's folder: a dataset card, with the lines that trainers need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set

from fastdatasets.exports.files import ExportFile
from fastdatasets.exports.formats import FORMATS
from store.runs import FileType, Run

AXOLOTL = {
    "alpaca": ["    type: alpaca"],
    "sharegpt": [
        *("    type: chat_template", "    field_messages: conversations"),
        *("    message_property_mappings:", "      role: from", "      content: value"),
    ],
    "messages": ["    type: chat_template", "    field_messages: messages"],
}
# What a trainer drops of a file without a word: it has no lines for a file that has any of it.
DROPPED_BY_AXOLOTL = {"alpaca": {"system", "history"}, "sharegpt": {"tool_calls"}}
DROPPED_BY_UNSLOTH = {"sharegpt": {"tool_calls"}}


def card(
    name: str,
    run: Run,
    records: int,
    rows: Mapping[ExportFile, int],
    file_type: FileType,
    contents: Set[str],
) -> str:
    """The card. name: of the folder; rows: of all files; file_type: of what load_dataset finds.

    contents: which of system, history, tools, tool_calls any row has.
    """
    loaded = [
        file
        for file in rows
        if file.file_type is file_type or (file_type is FileType.JSONL and file.format is None)
    ]
    return "\n".join(
        (
            *("---", *_configs(loaded), "---", "", f"# {name}", ""),
            *(*_origin(run, records), "", "## Files", ""),
            *("| file | rows |", "|---|---|"),
            *(f"| `{file.name}` | {count} |" for file, count in rows.items()),
            *("", "## Training", "", *_trainers(name, loaded, contents)),
        )
    )


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


def _origin(run: Run, records: int) -> list[str]:
    """How the rows were made."""
    sources = ", ".join(f"`{name}`" for name in run.source_names)
    sample = f"{records} records of {sources} (split {run.split}, seed {run.seed})"
    params = json.dumps(run.params, ensure_ascii=False, sort_keys=True)
    if run.skip_generation:
        made = [f"{sample} with the dataset's own outputs."]
    else:
        made = [f"{sample}, answered by the teacher `{run.model}` with the parameters `{params}`."]
        if run.num_aug:
            made.append(f"{run.num_aug} variants were generated of each instruction, and answered.")
    return [
        *made,
        "",
        "License: the terms of the source dataset and of the teacher apply. Several providers of",
        "models restrict training other models on answers; check them before you publish or train.",
    ]


def _trainers(folder: str, files: Sequence[ExportFile], contents: Set[str]) -> list[str]:
    """The lines of each trainer for the files that it reads; of the formats in order."""
    names = {file.format: file for file in files if not file.is_test and file.format}
    lines = [f"`{folder}` is this folder, as seen from where the trainer starts.", ""]
    training = [name for name in names if FORMATS[name].is_training]
    if training:
        first = names[training[0]].name.rpartition(".")[0]
        lines += [
            "LLaMA-Factory:",
            *("", "```yaml", f"dataset_dir: {folder}", f"dataset: {first}", "```", ""),
        ]
    for name in training:
        if name in AXOLOTL and not DROPPED_BY_AXOLOTL.get(name, set()) & contents:
            file = names[name]
            kind = "parquet" if file.file_type is FileType.PARQUET else "json"
            lines += [
                *(f"axolotl, {name}:", "", "```yaml", "datasets:"),
                *(f"  - path: {folder}/{file.name}", f"    ds_type: {kind}", *AXOLOTL[name]),
                *("```", ""),
            ]
    for name in ("messages", "prompt_completion"):
        if name in names:
            lines += [
                *(f"TRL, {name}:", "", "```python"),
                f'dataset = load_dataset("{folder}", "{name}", split="train")',
                *('trainer = SFTTrainer(model="…", train_dataset=dataset)', "```", ""),
            ]
    for name in ("sharegpt", "messages"):
        if name in names and not DROPPED_BY_UNSLOTH.get(name, set()) & contents:
            lines += [
                *(f"Unsloth, {name}:", "", "```python"),
                f'dataset = load_dataset("{folder}", "{name}", split="train")',
                *("dataset = standardize_sharegpt(dataset)", "```", ""),
            ]
    if not {"messages", "prompt_completion"} & set(names):
        lines += [
            "TRL reads messages or prompt_completion, which "
            f"`fastdatasets export {folder} --formats messages` writes.",
            "",
        ]
    if "messages" not in names and contents & {"system", "history", "tool_calls"}:
        lines += [
            "axolotl and Unsloth read conversations and tool calls whole only of messages.",
            "",
        ]
    return lines
