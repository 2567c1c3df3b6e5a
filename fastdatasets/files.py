"""Which files a local path stands for: one file, a folder, a folder that `datasets` saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store import UserError

BINARY = {".parquet", ".arrow"}
KINDS = {".json", ".jsonl", ".csv", *BINARY}
COMPRESSED = {".gz", ".zst"}  # of text
# What `datasets` writes beside the data.
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def is_local(source: str) -> bool:
    """Whether a source names a local path, by being there or by looking like one."""
    path = Path(source).expanduser()
    return path.exists() or source.startswith(("/", ".", "~")) or kind_of(path) in KINDS


def kind_of(path: Path) -> str:
    """The ending that says what a file is: .jsonl for questions.JSONL.gz; '' for none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _is_readable(path: Path) -> bool:
    is_compressed = path.suffix.lower() in COMPRESSED
    return kind_of(path) in (KINDS - BINARY if is_compressed else KINDS)


def find_files(path: Path, split: str, say: Callable[[str], None]) -> list[Path]:
    """The data files a path stands for, in the order of their names, all of one kind.

    Raises UserError where there are none, none of that split, or several kinds.
    """
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        if not _is_readable(path):
            raise UserError(
                f"{path}: unknown kind of file; known are {', '.join(sorted(KINDS))}, "
                "those of text also compressed as .gz or .zst"
            )
        return [path]
    if saved := _saved_to_disk(path, split):
        return saved
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and _is_readable(file) and file.name not in NOT_DATA
    )
    # A folder with train and test files or folders: the split's own, where any names it.
    named = [file for file in found if _names_split(file.relative_to(path), split)]
    files = named or found
    if not files:
        raise UserError(f"{path}: no data files ({', '.join(sorted(KINDS))}) in this folder")
    if len(kinds := {kind_of(file) for file in files}) > 1:
        raise UserError(
            f"{path}: files of several kinds ({', '.join(sorted(kinds))}); name one file, "
            "or keep one kind in the folder"
        )
    if not named and len(files) > 1:
        say(f"no file of {path} is named after the split {split}: all {len(files)} are read")
    return files


def _saved_to_disk(path: Path, split: str) -> list[Path]:
    """The files of a folder that save_to_disk wrote, none where it is none.

    They are named in it: what stands beside them may be the cache of a later `map`.
    """
    if splits := _described(path / "dataset_dict.json", "splits"):
        if split not in splits:
            raise UserError(f"{path} has no split {split!r}: it has {', '.join(splits)}")
        path = path / split
    return [path / file["filename"] for file in _described(path / "state.json", "_data_files")]


def _described(file: Path, key: str) -> list[Any]:
    """What a JSON file of `datasets` lists under a key; nothing where it is no such file."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return []
    return found.get(key, []) if isinstance(found, dict) else []


def _names_split(file: Path, split: str) -> bool:
    stem = file.name.split(".")[0]
    return split in file.parts[:-1] or stem == split or stem.startswith((f"{split}-", f"{split}_"))
