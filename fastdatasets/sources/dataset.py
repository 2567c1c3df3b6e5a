"""Reading datasets: local files with DuckDB's readers, the Hub with `datasets`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet

from fastdatasets.sources.arrow import ArrowRows, class_labels, rows_of_files
from fastdatasets.sources.broken import read_error
from fastdatasets.sources.columns import ColumnMapping, common_columns, map_columns
from fastdatasets.sources.files import find_files, is_local, kind_of, local_path
from fastdatasets.sources.text_files import FileRows, csv_rows, json_rows
from store import UserError
from store.database.errors import sql_errors
from store.database.relations import (
    CoalesceOperator,
    ColumnExpression,
    Connection,
    ConstantExpression,
    Expression,
    FunctionExpression,
    Relation,
    pattern_of,
)
from store.database.statements import load_file
from store.errors import SqlError

CHAT_MACROS = load_file("fastdatasets.sources", "chat.sql")


def check_source(source: str) -> str:
    """The source as a run keeps it: a local path made absolute, or a name of the Hub.

    Raises UserError where it is neither; the Hub is not contacted here.
    """
    if is_local(source):
        return str(local_path(source))
    from fastdatasets.sources.hub import is_hub_name

    if not is_hub_name(source):
        raise UserError(
            f"no such file or folder: {source}; nor can it be a dataset of the Hub, which is "
            "called 'name' or 'owner/name'"
        )
    return source


def check_files(source: str, split: str) -> None:
    """Raise UserError where a local source has no data files of the split.

    What the Hub has, and what is in the files, is only seen by open_source.
    """
    if is_local(source):
        find_files(Path(source), split, lambda _: None)


def open_source(
    connection: Connection,
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
    names = rows.columns if isinstance(rows, Relation) else rows.names
    mapping = map_columns(names, columns, source)
    if isinstance(rows, ArrowRows):
        rows = connection.from_arrow(rows.select(mapping.columns()))
    elif isinstance(rows, FileRows):
        rows = rows.select(mapping.columns())
    # Registered, not created: a database file refuses a view on what lives in this process only.
    connection.register("source_rows", _project(connection, rows, mapping, labels))
    return mapping, names


def close_source(connection: Connection) -> None:
    """Remove the relation of open_source, after sampling."""
    connection.unregister("source_rows")
    connection.execute("DROP TABLE IF EXISTS temp.gathered")


def _open_rows(
    connection: Connection,
    source: str,
    *,
    config: str | None,
    split: str,
    say: Callable[[str], None],
) -> tuple[ArrowRows | FileRows | Relation, dict[str, list[str]]]:
    """A source's rows, and the names of its class labels by column."""
    if not is_local(source):
        from fastdatasets.sources.hub import hub_rows

        arrow = hub_rows(source, config=config, split=split, say=say)
        return arrow, class_labels(arrow.schema)
    if config is not None:
        say(f"--config-name {config} is for datasets of the Hub: {source} is read as it is")
    files = find_files(Path(source), split, say)
    if kind_of(files[0]) == ".arrow":
        arrow = rows_of_files(files)
        return arrow, class_labels(arrow.schema)
    rows = _read_files(connection, files)
    if kind_of(files[0]) == ".parquet":
        return rows, class_labels(pyarrow.parquet.read_schema(files[0]))
    return rows, {}


def _read_files(connection: Connection, files: Sequence[Path]) -> FileRows | Relation:
    kind = kind_of(files[0])
    if kind == ".parquet":
        return _read_parquet(connection, files)
    if kind == ".csv":
        return csv_rows(connection, files)
    return json_rows(connection, files)


def _read_parquet(connection: Connection, files: Sequence[Path]) -> Relation:
    columns: dict[Path, list[str]] = {}
    for file in files:
        try:
            # Folders like a=b would be columns.
            with sql_errors():
                rows = connection.read_parquet(pattern_of(file), hive_partitioning=False)
        except SqlError as error:
            raise read_error(str(file), error) from None
        columns[file] = rows.columns
    common_columns(columns)
    paths = [pattern_of(file) for file in files]
    try:
        with sql_errors():
            return connection.read_parquet(paths, union_by_name=True, hive_partitioning=False)
    except SqlError as error:
        raise read_error(str(files[0]), error) from None


def _project(
    connection: Connection,
    relation: Relation,
    mapping: ColumnMapping,
    labels: Mapping[str, list[str]],
) -> Relation:
    """The relation with the roles' names; DuckDB quotes the columns' own.

    labels: the names of class labels, by column.
    """
    types = dict(zip(relation.columns, relation.types, strict=True))

    def text(name: str) -> Expression:
        column: Expression = ColumnExpression(name)
        if name in labels:
            names = ConstantExpression(labels[name])
            column = FunctionExpression("list_extract", names, column + ConstantExpression(1))
        elif types[name].id in ("list", "struct", "map", "array"):
            column = FunctionExpression("to_json", column)
        elif types[name].id == "blob":
            column = FunctionExpression("decode", column)  # UTF-8, or an error: no \xE4\xBD
        return CoalesceOperator(column.cast("VARCHAR"), ConstantExpression(""))

    def role(name: str | None, macro: str) -> Expression:
        if name is not None:
            return text(name)
        if mapping.chat is not None and macro:
            return FunctionExpression(macro, text(mapping.chat))
        return ConstantExpression("")

    none = ConstantExpression(None).cast("VARCHAR")
    system: Expression = none
    if mapping.chat is not None:
        connection.execute(CHAT_MACROS["chat"])
        system = FunctionExpression("chat_system", text(mapping.chat))
    return relation.project(
        role(mapping.instruction, "chat_instruction").alias("instruction"),
        role(mapping.input, "").alias("input"),
        role(mapping.output, "chat_output").alias("output"),
        role(mapping.reasoning, "").alias("reasoning"),
        system.alias("system"),
        *(none.alias(name) for name in ("history", "tools", "tool_calls", "followups", "fields")),
    )
