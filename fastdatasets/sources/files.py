"""Finding the data files of a local path: a file, a folder, a folder saved by `datasets`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from store import UserError

BINARY = {".parquet", ".arrow"}
KINDS = {".json", ".jsonl", ".csv", *BINARY}
SHEETS = {".xlsx", ".xls", ".ods"}
COMPRESSED = {".gz", ".zst"}  # of text
# What `datasets` writes beside the data.
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
DEFAULT_SPLIT = "train"
MAX_FILES = 5  # in a message

# train-00000-of-00002, also with a checksum after it, and train-0
_SHARD = re.compile(r"-\d+(-of-\d+(-[0-9a-f]+)?)?$")
_SPLIT_WORD = re.compile(
    r"(?<![a-z])(train(ing)?|test(ing)?|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE
)


def is_local(source: str) -> bool:
    """Whether a source names a local path, by being there or by looking like one."""
    path = Path(source)
    return (
        os.path.lexists(path)
        or source.startswith(("/", ".", "~"))
        or kind_of(path) in KINDS | SHEETS
    )


def expanded(path: str | Path) -> Path:
    """A path whose ~ or ~user is that user's home folder.

    As in a shell it stays a name where there is no such user; also where a file of that very name
    is here.
    """
    path = Path(path)
    if os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user
        return path


def local_path(source: str) -> Path:
    """The absolute path of a file or folder that is there; raises UserError.

    A ~ is read as in expanded.
    """
    try:
        return expanded(source).resolve(strict=True)
    except FileNotFoundError:
        raise UserError(f"no such file or folder: {source}") from None
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from None
    except RuntimeError:  # so says Python 3.11 where the system says ELOOP
        raise UserError(f"cannot read {source}: a symbolic link that leads to itself") from None


def kind_of(path: Path) -> str:
    """The ending that says what a file is: .jsonl for questions.JSONL.gz, .csv for .tsv; '' for
    none.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return ".csv" if kind == ".tsv" else kind


def _is_readable(path: Path) -> bool:
    is_compressed = path.suffix.lower() in COMPRESSED
    return kind_of(path) in (KINDS - BINARY if is_compressed else KINDS)


def find_files(path: Path, split: str, say: Callable[[str], None]) -> list[Path]:
    """The data files of a path, sorted by name, all of one kind.

    Raises UserError where there are none, none of that split, or several kinds.
    """
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        if kind_of(path) in SHEETS:
            raise UserError(
                f"{path} is a spreadsheet: save its sheet as CSV (in Excel: Save As, CSV UTF-8) "
                "and name that file"
            )
        if not _is_readable(path):
            raise UserError(
                f"{path}: unknown kind of file; known are {', '.join(sorted(KINDS))}, "
                "those of text also compressed as .gz or .zst"
            )
        if split != DEFAULT_SPLIT:
            raise UserError(f"--split {split} is for folders and the Hub: {path} is one file")
        return [path]
    if saved := _saved_to_disk(path, split):
        say(f"reading {_some_files(saved, path)}")
        return saved
    readable = sorted(
        file
        for file in path.rglob("*")
        if (file.is_file() or (file.is_symlink() and not file.exists()))
        and _is_readable(file)
        and not _is_beside_data(file.relative_to(path))
    )
    if not readable:
        raise UserError(f"{path}: no data files ({', '.join(sorted(KINDS))}) in this folder")
    files = _files_of_split(path, readable, split, say)
    for file in files:
        local_path(str(file))  # a link that leads nowhere is no file fewer
    if len(kinds := {kind_of(file) for file in files}) > 1:
        raise UserError(
            f"{path}: files of several kinds ({', '.join(sorted(kinds))}); name one file, "
            "or keep one kind in the folder"
        )
    return files


def _files_of_split(
    path: Path, readable: list[Path], split: str, say: Callable[[str], None]
) -> list[Path]:
    """The files of a folder that belong to the split, by the names of files or folders.

    All of them where none names any split and none was asked for: a plain folder of files.
    """
    if files := [file for file in readable if split in _split_names(file.relative_to(path))]:
        say(f"reading {_some_files(files, path)}")
        return files
    is_plain = not any(_SPLIT_WORD.search(str(file.relative_to(path))) for file in readable)
    if split == DEFAULT_SPLIT and is_plain:
        say(f"no file of {path} is named after a split: reading {_some_files(readable, path)}")
        return readable
    kind = kind_of(readable[0])
    raise UserError(
        f"{path} has no split {split!r} ({split}{kind}, {split}-00000-of-00001{kind} or a folder "
        f"{split}): it has {_some_files(readable, path)}. Set --split, or name a file"
    )


def _split_names(file: Path) -> set[str]:
    """The splits that a file in a folder may be of: its folders' names, and its own."""
    stem = file.name.removesuffix(file.suffix)
    if file.suffix.lower() in COMPRESSED:
        stem = Path(stem).stem
    return {*file.parts[:-1], _SHARD.sub("", stem)}


def _is_beside_data(file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return hidden or file.name in NOT_DATA


def _some_files(files: Sequence[Path], folder: Path) -> str:
    """Files for a message: the first ones, and how many there are."""
    names = [str(file.relative_to(folder)) for file in files]
    more = f", … ({len(names)} files)" if len(names) > MAX_FILES else ""
    return ", ".join(names[:MAX_FILES]) + more


def _saved_to_disk(path: Path, split: str) -> list[Path]:
    """The files of a folder that save_to_disk wrote, none where it is none.

    They are named in state.json: other files may be the cache of a later `map`.
    """
    if splits := _described(path / "dataset_dict.json", "splits"):
        if split not in splits:
            raise UserError(f"{path} has no split {split!r}: it has {', '.join(splits)}")
        path = path / split
    state = path / "state.json"
    files = [path / file["filename"] for file in _described(state, "_data_files") or ()]
    if files and not splits and split not in (DEFAULT_SPLIT, _described(state, "_split")):
        raise UserError(f"--split {split}: {path} is one dataset without splits")
    return files


def _described(file: Path, key: str) -> Any:
    """What a JSON file of `datasets` has under a key; None where it is no such file."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content.get(key) if isinstance(content, dict) else None
