"""Where records come from: local files through DuckDB's readers, the Hub through `datasets`."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet
from duckdb import CoalesceOperator, ColumnExpression, ConstantExpression, FunctionExpression

from fastdatasets.arrow import ArrowRows, class_labels, rows_of_files
from fastdatasets.columns import ColumnMapping, map_columns
from fastdatasets.files import find_files, is_local, kind_of, local_path
from store import UserError
from store.queries import load_file

CHAT_MACROS = load_file("fastdatasets", "chat.sql")


def check_source(source: str) -> str:
    """The source as a run keeps it: a local path made absolute, or a name of the Hub.

    Raises UserError where it is neither; whether the Hub has it is not asked here.
    """
    if is_local(source):
        return str(local_path(source))
    from fastdatasets.hub import is_hub_name

    if not is_hub_name(source):
        raise UserError(
            f"no such file or folder: {source}; nor can it be a dataset of the Hub, which is "
            "called 'name' or 'owner/name'"
        )
    return source


def open_source(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    *,
    config: str | None,
    split: str,
    columns: Mapping[str, str | None],
    say: Callable[[str], None],
) -> tuple[ColumnMapping, list[str]]:
    """Make the dataset the relation source_rows of the connection: instruction, input, output,
    reasoning (strings, '' for null) and system (may be null), in the source's order. Gives which
    column plays which role, and the names of all there are.

    Raises UserError where there is no such dataset or file, where it cannot be read, or where no
    column can be the instruction.
    """
    rows, labels = _open_rows(connection, source, config=config, split=split, say=say)
    names = list(rows.schema.names if isinstance(rows, ArrowRows) else rows.columns)
    mapping = map_columns(names, columns, source)
    if isinstance(rows, ArrowRows):
        rows = connection.from_arrow(rows.select(mapping.columns()))
    # Registered, not created: a database file refuses a view on what lives in this process only.
    connection.register("source_rows", _project(connection, rows, mapping, labels))
    return mapping, names


def close_source(connection: duckdb.DuckDBPyConnection) -> None:
    """Forget what open_source made, once the rows are sampled."""
    connection.unregister("source_rows")
    connection.execute("DROP TABLE IF EXISTS temp.gathered")


def _open_rows(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    *,
    config: str | None,
    split: str,
    say: Callable[[str], None],
) -> tuple[ArrowRows | duckdb.DuckDBPyRelation, dict[str, list[str]]]:
    """A source's rows, and what the numbers of its class labels stand for."""
    if not is_local(source):
        from fastdatasets.hub import hub_rows

        rows = hub_rows(source, config=config, split=split, say=say)
        return rows, class_labels(rows.schema)
    if config is not None:
        say(f"--config-name {config} is for datasets of the Hub: {source} is read as it stands")
    files = find_files(Path(source), split, say)
    if kind_of(files[0]) == ".arrow":
        rows = rows_of_files(files)
        return rows, class_labels(rows.schema)
    relation = _read_files(connection, files)
    if kind_of(files[0]) == ".parquet":
        return relation, class_labels(pyarrow.parquet.read_schema(files[0]))
    return relation, {}


def read_error(source: str, error: duckdb.Error) -> UserError:
    """What to tell the user of an error that came up while a source's rows were read.

    Raises KeyboardInterrupt where that was none of the source's.
    """
    # What reads Arrow's batches is Python, where a Ctrl-C may fall as well.
    if isinstance(error, duckdb.InterruptException) or "KeyboardInterrupt" in str(error):
        raise KeyboardInterrupt from None
    path = Path(source)
    is_json = path.is_file() and kind_of(path) in (".json", ".jsonl")
    if is_json and (place := _bad_json(path)):
        return UserError(f"{source} is not valid JSON: {place}")
    lines = [line for line in str(error).splitlines() if line.strip()]
    detail = " ".join(lines[:3]) if "CSV Error" in lines[0] else lines[0]
    return UserError(f"cannot read {source}: {detail}")


def _read_files(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Path]
) -> duckdb.DuckDBPyRelation:
    kind = kind_of(files[0])
    # DuckDB takes * ? [ in a path for a pattern, and folders like a=b for columns.
    paths = [re.sub(r"([*?\[])", r"[\1]", str(file)) for file in files]
    try:
        if kind == ".parquet":
            return connection.read_parquet(paths, union_by_name=True, hive_partitioning=False)
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
    except duckdb.Error as error:
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
        connection.register("one_file", relation)
        into = "INSERT INTO gathered" if place else "CREATE OR REPLACE TEMP TABLE gathered AS"
        connection.execute(f"{into} FROM one_file")
    connection.unregister("one_file")
    return connection.table("gathered")


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
    connection: duckdb.DuckDBPyConnection,
    relation: duckdb.DuckDBPyRelation,
    mapping: ColumnMapping,
    labels: Mapping[str, list[str]],
) -> duckdb.DuckDBPyRelation:
    """The relation with the roles' names; DuckDB quotes the columns' own.

    labels: of columns whose numbers stand for names, these.
    """
    types = dict(zip(relation.columns, relation.types, strict=True))

    def text(name: str) -> duckdb.Expression:
        column: duckdb.Expression = ColumnExpression(name)
        if name in labels:
            names = ConstantExpression(labels[name])
            column = FunctionExpression("list_extract", names, column + ConstantExpression(1))
        elif types[name].id in ("list", "struct", "map", "array"):
            column = FunctionExpression("to_json", column)
        elif types[name].id == "blob":
            column = FunctionExpression("decode", column)  # UTF-8, or an error: no \xE4\xBD
        return CoalesceOperator(column.cast("VARCHAR"), ConstantExpression(""))

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
