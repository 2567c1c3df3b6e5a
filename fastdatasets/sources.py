"""Where records come from: local files through DuckDB's readers, the Hub through `datasets`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from duckdb import CoalesceOperator, ColumnExpression, ConstantExpression, FunctionExpression

from fastdatasets.columns import ColumnMapping, map_columns
from store import UserError
from store.queries import load_file

KINDS = {".json", ".jsonl", ".csv", ".parquet", ".arrow"}
COMPRESSED = {".gz", ".zst"}
# What `datasets` writes beside the data.
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}

CHAT_MACROS = load_file("fastdatasets", "chat.sql")


def is_local(source: str) -> bool:
    """Whether a source names a local path, by being there or by looking like one."""
    path = Path(source).expanduser()
    return path.exists() or source.startswith(("/", ".", "~")) or _kind(path) in KINDS


def open_source(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    *,
    config: str | None,
    split: str,
    columns: Mapping[str, str | None],
) -> ColumnMapping:
    """Make the dataset the view source_rows of the connection: instruction, input, output,
    reasoning (strings, '' for null) and system (may be null), in the source's order.

    Raises UserError where there is no such dataset or file, where it cannot be read, or where no
    column can be the instruction.
    """
    if is_local(source):
        relation = _read_files(connection, _files(Path(source).expanduser(), split))
    else:
        relation = connection.from_arrow(hub_table(source, config=config, split=split))
    mapping = map_columns(relation.columns, columns, source)
    _project(connection, relation, mapping).create_view("source_rows", replace=True)
    return mapping


def close_source(connection: duckdb.DuckDBPyConnection) -> None:
    """Forget what open_source made, once the rows are sampled."""
    connection.execute("DROP VIEW IF EXISTS source_rows")
    connection.execute("DROP TABLE IF EXISTS temp.gathered")


def read_error(source: str, error: duckdb.Error) -> UserError:
    """What to tell the user of an error that came up while a source's rows were read.

    Raises KeyboardInterrupt where that was none of the source's.
    """
    if isinstance(error, duckdb.InterruptException):
        raise KeyboardInterrupt from None
    path = Path(source)
    is_json = path.is_file() and _kind(path) in (".json", ".jsonl")
    if is_json and (place := _bad_json(path)):
        return UserError(f"{source} is not valid JSON: {place}")
    lines = [line for line in str(error).splitlines() if line.strip()]
    detail = " ".join(lines[:3]) if "CSV Error" in lines[0] else lines[0]
    return UserError(f"cannot read {source}: {detail}")


def hub_table(name: str, *, config: str | None, split: str) -> pa.Table:
    """A dataset of the Hub (or a folder `datasets` can load) as an Arrow table, memory-mapped."""
    import datasets  # half a second: only where it is used
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    datasets.disable_progress_bars()
    try:
        dataset = datasets.load_dataset(name, config, split=split)
    except (ValueError, OSError, RuntimeError, HfHubHTTPError, DatasetsError) as error:
        # Not found, an unknown split or config, a script, no connection: all say what is wrong.
        reason = str(error.__cause__ or error).strip() or type(error).__name__
        raise UserError(f"cannot load dataset {name!r}: {reason.splitlines()[0]}") from None
    return dataset.data.table


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _files(path: Path, split: str) -> list[Path]:
    """The data files a path stands for, in the order of their names, all of one kind."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        if _kind(path) not in KINDS:
            raise UserError(
                f"{path}: unknown kind of file; known are {', '.join(sorted(KINDS))}, "
                "each plain or compressed as .gz or .zst"
            )
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and _kind(file) in KINDS and file.name not in NOT_DATA
    )
    # A folder with train and test files or folders: the split's own, where any names it.
    named = [file for file in found if _names_split(file.relative_to(path), split)]
    files = named or found
    if not files:
        raise UserError(f"{path}: no data files ({', '.join(sorted(KINDS))}) in this folder")
    if len(kinds := {_kind(file) for file in files}) > 1:
        raise UserError(
            f"{path}: files of several kinds ({', '.join(sorted(kinds))}); name one file, "
            "or keep one kind in the folder"
        )
    return files


def _names_split(file: Path, split: str) -> bool:
    stem = file.name.split(".")[0]
    return split in file.parts[:-1] or stem == split or stem.startswith((f"{split}-", f"{split}_"))


def _read_files(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path]
) -> duckdb.DuckDBPyRelation:
    kind = _kind(files[0])
    # DuckDB takes * ? [ in a path for a pattern, and folders like a=b for columns.
    paths = [re.sub(r"([*?\[])", r"[\1]", str(file)) for file in files]
    try:
        if kind == ".parquet":
            return connection.read_parquet(paths, union_by_name=True, hive_partitioning=False)
        if kind == ".arrow":
            return connection.from_arrow(pa.concat_tables([_arrow(file) for file in files]))
        if kind == ".csv":
            # Nothing is sniffed: sniffing skips broken lines and makes dates of texts.
            names = _csv_header(files[0])
            for file in files[1:]:
                if _csv_header(file) != names:
                    raise UserError(f"{file} has other columns, or another order, than {files[0]}")
            return connection.read_csv(
                paths,  # type: ignore[arg-type]  # the stub knows one file only
                header=True,
                delimiter=",",
                quotechar='"',
                escapechar='"',
                auto_detect=False,
                columns=dict.fromkeys(names, "VARCHAR"),
                hive_partitioning=False,
            )
        return _read_json(connection, files, paths)
    except (duckdb.Error, pa.ArrowException) as error:
        raise read_error(str(files[0]), error) from None


def _read_json(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path], paths: list[str]
) -> duckdb.DuckDBPyRelation:
    # All rows are looked at: a column may first appear in the last one.
    columns: dict[str, str] = {}
    for file, path in zip(files, paths, strict=True):
        try:
            found = connection.read_json(
                path, maximum_depth=1, sample_size=-1, hive_partitioning=False
            ).columns
        except duckdb.Error as error:
            raise read_error(str(file), error) from None
        if found == ["json"]:
            raise UserError(f"{file}: no objects in it; one JSON object a row is expected")
        # As VARCHAR a string stays what it is, also one that looks like a date or a number.
        columns |= dict.fromkeys(found, "VARCHAR")
    if len(paths) == 1:
        return connection.read_json(paths[0], columns=columns, hive_partitioning=False)
    # One scan of many files would hold 32 MB for each until its end, so they are gathered.
    for place, path in enumerate(paths):
        relation = connection.read_json(path, columns=columns, hive_partitioning=False)
        relation.create_view("one_file", replace=True)
        into = "INSERT INTO gathered" if place else "CREATE OR REPLACE TEMP TABLE gathered AS"
        connection.execute(f"{into} FROM one_file")
    return connection.table("gathered")


def _arrow(file: Path) -> pa.Table:
    """An Arrow file, memory-mapped: Feather's file format, or the stream that `datasets` writes."""
    mapped = pa.memory_map(str(file))
    if mapped.read(6) == b"ARROW1":
        mapped.seek(0)
        return pa.ipc.open_file(mapped).read_all()
    mapped.seek(0)
    return pa.ipc.open_stream(mapped).read_all()


def _open(file: Path) -> io.BufferedReader:
    return io.BufferedReader(pa.input_stream(str(file), compression="detect"))


def _csv_header(file: Path) -> list[str]:
    with _open(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        try:
            header = next(csv.reader(text), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{file} is not a UTF-8 CSV file: line 1: {error}") from None
    if not header:
        raise UserError(f"{file} is empty: a line of column names is expected")
    # pandas writes its index under an empty name
    names = [name or f"column{number}" for number, name in enumerate(header)]
    if len({name.lower() for name in names}) < len(names):
        raise UserError(f"{file}: a column name stands twice in line 1: {', '.join(names)}")
    return names


def _bad_json(file: Path) -> str | None:
    """Where a JSON file breaks. DuckDB counts lines differently, so it is looked up again."""
    try:
        with _open(file) as stream:
            first = stream.read(1)
            if first == b"[":
                json.loads(first + stream.read())
                return None
        with _open(file) as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    if line.strip():
                        json.dumps(json.loads(line), ensure_ascii=False).encode()
                except ValueError as error:  # lone surrogates included: no text can hold them
                    return f"line {number}: {getattr(error, 'msg', error)}"
    except json.JSONDecodeError as error:
        return f"line {error.lineno}, column {error.colno}: {error.msg}"
    except ValueError as error:  # invalid UTF-8
        return str(error)
    return None


def _project(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, mapping: ColumnMapping
) -> duckdb.DuckDBPyRelation:
    """The relation with the roles' names; DuckDB quotes the columns' own."""
    types = dict(zip(relation.columns, relation.types, strict=True))

    def text(name: str) -> duckdb.Expression:
        column = ColumnExpression(name)
        nested = types[name].id in ("list", "struct", "map", "array")
        value = FunctionExpression("to_json", column) if nested else column
        return CoalesceOperator(value.cast("VARCHAR"), ConstantExpression(""))

    def role(name: str | None, macro: str) -> duckdb.Expression:
        if name is not None:
            return text(name)
        if mapping.chat is not None and macro:
            return FunctionExpression(macro, text(mapping.chat))
        return ConstantExpression("")

    system = ConstantExpression(None).cast("VARCHAR")
    if mapping.chat is not None:
        connection.execute(CHAT_MACROS["chat"])
        system = FunctionExpression("chat_system", text(mapping.chat))
    return relation.project(
        role(mapping.instruction, "chat_instruction").alias("instruction"),
        role(mapping.input, "").alias("input"),
        role(mapping.output, "chat_output").alias("output"),
        role(mapping.reasoning, "").alias("reasoning"),
        system.alias("system"),
    )
