"""Reading JSON and CSV files with DuckDB: all columns, then a relation of the used ones."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastdatasets.sources.broken_records import read_error, without_broken
from fastdatasets.sources.columns import common_columns, some
from fastdatasets.sources.text import BOM, MAX_OBJECT, TextFile, encoding_hint, text_file
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
from store.records import BadRows
from store.runs import Reading

STATEMENTS = load_file("fastdatasets.sources", "records.sql")
MAX_COLUMNS = 10_000  # of a CSV file: DuckDB takes 200 MB for so many


@dataclass(frozen=True, slots=True)
class FileRows:
    """Rows of text files: the names of their columns, and the relation of those that are used."""

    names: list[str]
    select: Callable[[Sequence[str]], Relation]


COPIES = "spill.text"  # in a run's folder: files in UTF-8, or without what cannot be read


class TextFiles:
    """The text files of a source, as they are read; None for bad_rows: these are an error."""

    def __init__(self, reading: Reading, copies: Path) -> None:
        """copies: the folder of copies, which is made where one is needed."""
        self.files: list[TextFile] = []
        self.bad_rows = BadRows() if reading.skip_bad_rows else None
        self._reading = reading
        self._copies = copies
        self.remove_copies()  # of a command that was killed

    def open(self, path: Path) -> TextFile:
        """How a file is read, see text_file."""
        self.files.append(text_file(path, self._reading, self._copies / f"{len(self.files)}.utf8"))
        return self.files[-1]

    def without_broken(self, file: TextFile, empty: str) -> TextFile | None:
        """A file without its broken records where these are skipped and it can be made."""
        if self.bad_rows is None:
            return None
        copy = self._copies / f"{self.files.index(file)}.good"
        try:
            return without_broken(file, copy, empty.encode(), self.bad_rows)
        except OSError as error:
            if error.errno is not None:  # the copy cannot be written
                raise
            return None  # a compressed file that was cut off

    def remove_copies(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self._copies, ignore_errors=True)


# -- JSON


def json_rows(connection: Connection, files: Sequence[Path], texts: TextFiles) -> FileRows:
    """The objects of JSON files, as texts whose keys are looked up: an object may be of any depth
    and have any keys, which DuckDB's own columns may not.
    """
    objects: list[Relation] = []
    columns: dict[Path, list[str]] = {}
    for file in map(texts.open, files):
        try:
            relation, keys = _objects_and_keys(connection, file)
        except (SqlError, OSError) as error:
            good = texts.without_broken(file, "null\n")
            if good is None:
                raise read_error(str(file.path), error, [file]) from None
            relation, keys = _objects_and_keys(connection, good)
        objects.append(relation)
        columns[file.path] = keys

    def select(names: Sequence[str]) -> Relation:
        with sql_errors():
            are_texts = not any(_has_nested(relation, names) for relation in objects)
        members = [_members(relation, names, are_texts=are_texts) for relation in objects]
        return _gathered(connection, members)

    return FileRows(common_columns(columns), select)


def _objects_and_keys(connection: Connection, file: TextFile) -> tuple[Relation, list[str]]:
    """A file's objects, and their keys: all are read, since one may first appear in the last."""
    with sql_errors():
        objects = _objects(connection, file)
        connection.register("json_objects", objects)
        keys = connection.execute(STATEMENTS["json_columns"]).fetchall()
        connection.unregister("json_objects")
    names = [key for kind, key in keys if kind == "OBJECT"]
    if not names:
        raise UserError(f"{file.path}: no objects in it; one JSON object a row is expected")
    if others := {kind for kind, _ in keys} - {"OBJECT"}:
        raise SqlError(f"not only objects, but {' '.join(others)}")
    return objects, names


def _objects(connection: Connection, file: TextFile) -> Relation:
    with file.open() as stream:
        begins = stream.read(4096)
    # With a byte order mark DuckDB reads an array as one value, unless format is given.
    is_array = begins.startswith(BOM) and begins.removeprefix(BOM).lstrip().startswith(b"[")
    return connection.read_json(
        pattern_of(file.content),
        records="false",
        columns={"json": "JSON"},
        format="array" if is_array else "auto",
        maximum_object_size=MAX_OBJECT,
        hive_partitioning=False,
        compression=file.compression,
    )


def _looked_up(function: str, names: Sequence[str]) -> Expression:
    """A function of what an object has under each of the names; all are looked up at once."""
    pointers = ["/" + name.replace("~", "~0").replace("/", "~1") for name in names]
    return FunctionExpression(function, ColumnExpression("json"), ConstantExpression(pointers))


def _has_nested(objects: Relation, names: Sequence[str]) -> bool:
    """Whether objects have a list or an object under one of the names."""
    kinds = objects.project(_looked_up("json_type", names).alias("kinds")).distinct().fetchall()
    return any(kind in ("ARRAY", "OBJECT") for (row,) in kinds for kind in row or ())


def _members(objects: Relation, names: Sequence[str], *, are_texts: bool) -> Relation:
    """What objects have under each of the names: texts, which takes half the time, or JSON."""
    function = "json_extract_string" if are_texts else "json_extract"
    members = objects.project(_looked_up(function, names).alias("members"))
    return members.project(
        *(
            FunctionExpression(
                "list_extract", ColumnExpression("members"), ConstantExpression(place)
            ).alias(name)
            for place, name in enumerate(names, start=1)
        )
    )


# -- CSV


def csv_rows(connection: Connection, files: Sequence[Path], texts: TextFiles) -> FileRows:
    """The rows of CSV files, each with a line of column names."""
    headers = {file: _csv_header(file) for file in map(texts.open, files)}
    names = common_columns({file.path: header for file, header in headers.items()})

    def read(some_files: Sequence[TextFile], header: list[str]) -> Relation:
        # Nothing is sniffed: sniffing skips broken lines and makes dates of texts.
        return connection.read_csv(
            [pattern_of(file.content) for file in some_files],  # type: ignore[arg-type]  # knows one only
            header=True,
            delimiter=some_files[0].delimiter,
            quotechar='"',
            escapechar='"',
            auto_detect=False,
            columns=dict.fromkeys(header, "VARCHAR"),
            hive_partitioning=False,
            compression=some_files[0].compression,
        )

    def checked(file: TextFile, header: list[str]) -> TextFile:
        """The file, without its broken records where they are to be left out."""
        if texts.bad_rows is None:
            return file
        try:
            with sql_errors():
                read([file], header).aggregate("count(COLUMNS(*))").fetchall()
        except SqlError:
            empty = file.delimiter * (len(header) - 1) or '""'
            return texts.without_broken(file, f"{empty}\n") or file
        return file

    def select(wanted: Sequence[str]) -> Relation:
        good = {checked(file, header): header for file, header in headers.items()}
        forms = {(file.delimiter, file.compression) for file in good}
        if len(forms) == 1 and all(header == names for header in good.values()):
            return read(list(good), names)
        return _gathered(
            connection,
            [
                read([file], header).project(*(_column(name, header) for name in wanted))
                for file, header in good.items()
            ],
        )

    return FileRows(names, select)


def _column(name: str, names: Sequence[str]) -> Expression:
    column = ColumnExpression(name) if name in names else ConstantExpression(None)
    return column.cast("VARCHAR").alias(name)


def _csv_header(file: TextFile) -> list[str]:
    try:
        with file.open() as stream:
            lines = iter(lambda: stream.readline(MAX_OBJECT + 1), b"")
            header = next(csv.reader(map(_header_text, lines), delimiter=file.delimiter), [])
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file.path} is not a {file.encoding.upper()} CSV file: line 1: {error}"
            f"{encoding_hint(file)}"
        ) from None
    except csv.Error as error:
        raise UserError(f"{file.path} is not a CSV file: line 1: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {file.path}: {error}") from None
    if not header:
        raise UserError(f"{file.path} is empty: a line of column names is expected")
    if len(header) > MAX_COLUMNS:
        raise UserError(
            f"{file.path}: line 1 names {len(header)} columns, and at most {MAX_COLUMNS} can be "
            "read; make a file of those that are needed, such as the first: cut -d, "
            f"-f1-{MAX_COLUMNS}"
        )
    # pandas writes its index under an empty name
    names = [name or f"column{number}" for number, name in enumerate(header)]
    if len({name.lower() for name in names}) < len(names):
        raise UserError(f"{file.path}: a column name occurs twice in line 1: {some(names)}")
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
