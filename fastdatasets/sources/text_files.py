"""Reading JSON and CSV files with DuckDB: all columns, then a relation of the used ones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastdatasets.sources.broken import BOM, MAX_OBJECT, open_text, read_error
from fastdatasets.sources.columns import common_columns, some
from store import UserError
from store.database.errors import sql_errors
from store.database.relations import (
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

STATEMENTS = load_file("fastdatasets.sources", "records.sql")
MAX_COLUMNS = 10_000  # of a CSV file: DuckDB takes 200 MB for so many


@dataclass(frozen=True, slots=True)
class FileRows:
    """Rows of text files: the names of their columns, and the relation of those that are used."""

    names: list[str]
    select: Callable[[Sequence[str]], Relation]


# -- JSON


def json_rows(connection: Connection, files: Sequence[Path]) -> FileRows:
    """The objects of JSON files, as texts whose keys are looked up: an object may be of any depth
    and have any keys, which DuckDB's own columns may not.
    """
    objects: list[Relation] = []
    columns: dict[Path, list[str]] = {}
    for file in files:
        try:
            with sql_errors():
                objects.append(_objects(connection, file))
                connection.register("json_objects", objects[-1])
                # All rows are read: a column may first appear in the last one.
                keys = connection.execute(STATEMENTS["json_columns"]).fetchall()
                connection.unregister("json_objects")
        except (SqlError, OSError) as error:
            raise read_error(str(file), error) from None
        columns[file] = [key for kind, key in keys if kind == "OBJECT"]
        if not columns[file]:
            raise UserError(f"{file}: no objects in it; one JSON object a row is expected")
        if others := {kind for kind, _ in keys} - {"OBJECT"}:
            raise read_error(str(file), SqlError(f"not only objects, but {' '.join(others)}"))

    def select(names: Sequence[str]) -> Relation:
        return _gathered(connection, [_members(relation, names) for relation in objects])

    return FileRows(common_columns(columns), select)


def _objects(connection: Connection, file: Path) -> Relation:
    with open_text(file) as stream:
        begins = stream.read(4096)
    # With a byte order mark DuckDB reads an array as one value, unless format is given.
    is_array = begins.startswith(BOM) and begins.removeprefix(BOM).lstrip().startswith(b"[")
    return connection.read_json(
        pattern_of(file),
        records="false",
        columns={"json": "JSON"},
        format="array" if is_array else "auto",
        maximum_object_size=MAX_OBJECT,
        hive_partitioning=False,
    )


def _members(objects: Relation, names: Sequence[str]) -> Relation:
    """What objects have under each of the names; all are looked up at once."""
    pointers = ["/" + name.replace("~", "~0").replace("/", "~1") for name in names]
    members = objects.project(
        FunctionExpression(
            "json_extract", ColumnExpression("json"), ConstantExpression(pointers)
        ).alias("members")
    )
    return members.project(
        *(
            FunctionExpression(
                "list_extract", ColumnExpression("members"), ConstantExpression(place)
            ).alias(name)
            for place, name in enumerate(names, start=1)
        )
    )


# -- CSV


def csv_rows(connection: Connection, files: Sequence[Path]) -> FileRows:
    """The rows of CSV files, each with a line of column names."""
    headers = {file: _csv_header(file) for file in files}
    names = common_columns(headers)

    def read(some_files: Sequence[Path], header: list[str]) -> Relation:
        # Nothing is sniffed: sniffing skips broken lines and makes dates of texts.
        return connection.read_csv(
            [pattern_of(file) for file in some_files],  # type: ignore[arg-type]  # knows one only
            header=True,
            delimiter=",",
            quotechar='"',
            escapechar='"',
            auto_detect=False,
            columns=dict.fromkeys(header, "VARCHAR"),
            hive_partitioning=False,
        )

    def select(wanted: Sequence[str]) -> Relation:
        if all(header == names for header in headers.values()):
            return read(files, names)
        return _gathered(
            connection,
            [
                read([file], header).project(*(_column(name, header) for name in wanted))
                for file, header in headers.items()
            ],
        )

    return FileRows(names, select)


def _column(name: str, names: Sequence[str]) -> Expression:
    column = ColumnExpression(name) if name in names else ConstantExpression(None)
    return column.cast("VARCHAR").alias(name)


def _csv_header(file: Path) -> list[str]:
    try:
        with open_text(file) as stream:
            lines = iter(lambda: stream.readline(MAX_OBJECT + 1), b"")
            header = next(csv.reader(map(_header_text, lines)), [])
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a UTF-8 CSV file: line 1: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error}") from None
    if not header:
        raise UserError(f"{file} is empty: a line of column names is expected")
    if len(header) > MAX_COLUMNS:
        raise UserError(
            f"{file}: line 1 names {len(header)} columns, and at most {MAX_COLUMNS} can be read; "
            f"make a file of those that are needed, such as the first: cut -d, -f1-{MAX_COLUMNS}"
        )
    # pandas writes its index under an empty name
    names = [name or f"column{number}" for number, name in enumerate(header)]
    if len({name.lower() for name in names}) < len(names):
        raise UserError(f"{file}: a column name occurs twice in line 1: {some(names)}")
    return names


def _header_text(line: bytes) -> str:
    if len(line) > MAX_OBJECT:
        raise UserError(f"line 1 is longer than {MAX_OBJECT >> 20} MB")
    return line.removeprefix(BOM).decode()


def _gathered(connection: Connection, relations: Sequence[Relation]) -> Relation:
    """The rows of one relation after the other.

    Of many they are copied: one scan of many files would hold 32 MB for each until its end.
    """
    if len(relations) == 1:
        return relations[0]
    for place, relation in enumerate(relations):
        connection.register("one_file", relation)
        into = "INSERT INTO gathered" if place else "CREATE OR REPLACE TEMP TABLE gathered AS"
        connection.execute(f"{into} FROM one_file")
    connection.unregister("one_file")
    return connection.table("gathered")
