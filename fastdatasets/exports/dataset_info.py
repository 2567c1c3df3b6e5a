"""dataset_info.json: the files of a run as LLaMA-Factory reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import Any

from fastdatasets.exports.files import ExportFile
from fastdatasets.exports.formats import FORMATS

SHAREGPT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "assistant",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
MESSAGES_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}


def dataset_info(rows: Mapping[ExportFile, int], contents: Set[str]) -> dict[str, Any]:
    """An entry for each file, by its name without the suffix; a second one of that has the suffix.

    rows: of each file. distilled and raw are left out where they have rows that are not one
    question and one answer: LLaMA-Factory would take empty answers, or drop earlier turns.
    contents: as Answers.contents returns them. All columns are listed, as
    LLaMA-Factory ignores those that are not, and only those of the file, as it raises KeyError.
    """
    entries: dict[str, Any] = {}
    trained: Counter[tuple[str | None, str]] = Counter()
    for file, count in rows.items():
        if _is_training(file):
            trained[file.format, file.file_type] += count
    is_plain = not contents & {"history", "tool_calls"}
    complete = max(trained.values(), default=0) if is_plain else 0
    for file, count in rows.items():
        if not _is_training(file) and count > complete:
            continue
        if file.format == "messages" and "images" in contents:
            continue  # its contents are parts, which LLaMA-Factory does not read
        stem = file.name.removesuffix(f".{file.file_type}")
        entries[file.name if stem in entries else stem] = {
            "file_name": file.name,
            **_entry(file.format, contents),
        }
    return entries


def _is_training(file: ExportFile) -> bool:
    return file.format is not None and FORMATS[file.format].is_training


def _entry(name: str | None, contents: Set[str]) -> dict[str, Any]:
    def where(*columns: str) -> dict[str, str]:
        return {column: column for column in columns if column in contents}

    match name:
        case "sharegpt":
            columns = {"messages": "conversations", **where("tools", "images")}
            return {"formatting": "sharegpt", "columns": columns, "tags": SHAREGPT_TAGS}
        case "messages":
            # 'openai' alone reads tool_calls; but it adds words to system prompts.
            formatting = "openai" if "tool_calls" in contents else "sharegpt"
            columns = {"messages": "messages", **where("tools")}
            return {"formatting": formatting, "columns": columns, "tags": MESSAGES_TAGS}
        case "prompt_completion":
            columns = {"prompt": "prompt", "response": "completion"}
            return {"formatting": "alpaca", "columns": columns}
        case _:
            columns = {"prompt": "instruction", "query": "input", "response": "output"}
            columns |= where("images")
            if name == "alpaca":
                columns |= where("system", "history")
            elif name == "raw" or "system" in contents:
                columns["system"] = "system"
            return {"formatting": "alpaca", "columns": columns}
