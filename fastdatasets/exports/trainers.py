"""The lines that trainers need to read a run's files, for the dataset card."""

from __future__ import annotations

from collections.abc import Sequence, Set

from fastdatasets.exports.files import ExportFile
from fastdatasets.exports.formats import FORMATS
from store.export_options import FileType

AXOLOTL = {
    "alpaca": ["    type: alpaca"],
    "sharegpt": [
        *("    type: chat_template", "    field_messages: conversations"),
        *("    message_property_mappings:", "      role: from", "      content: value"),
    ],
    "messages": ["    type: chat_template", "    field_messages: messages"],
}
# What a trainer drops of a file without a word: it has no lines for a file that has any of it.
DROPPED_BY_AXOLOTL = {
    "alpaca": {"system", "history", "images"},
    "sharegpt": {"tool_calls", "images"},
    "messages": {"images"},
}
DROPPED_BY_UNSLOTH = {"sharegpt": {"tool_calls", "images"}, "messages": {"images"}}

CAST = (
    "# from datasets import Image, List; in the folder that the paths of images are from",
    'dataset = dataset.cast_column("images", List(Image()))',
)


def trainer_lines(folder: str, files: Sequence[ExportFile], contents: Set[str]) -> list[str]:
    """The lines of each trainer for the files that it reads; of the formats in order."""
    names = {file.format: file for file in files if not file.is_test and file.format}
    lines = [f"`{folder}` is this folder, as seen from where the trainer starts.", ""]
    training = [name for name in names if FORMATS[name].is_training]
    if training:
        first = names[training[0]].name.rpartition(".")[0]
        lines += [
            "LLaMA-Factory:",
            *("", "```yaml", f"dataset_dir: {folder}", f"dataset: {first}"),
            *(["media_dir: …  # the source dataset's folder"] if "image_files" in contents else []),
            *("```", ""),
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
                *(CAST if name == "messages" and "images" in contents else ()),
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
