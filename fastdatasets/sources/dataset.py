"""Reading datasets: local files with DuckDB's readers, the Hub with `datasets`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path

import pyarrow.parquet

from fastdatasets.sources.arrow import ArrowRows, class_labels, rows_of_files
from fastdatasets.sources.broken_records import read_error
from fastdatasets.sources.columns import (
    ColumnMapping,
    check_exists,
    common_columns,
    map_columns,
    split_columns,
)
from fastdatasets.sources.convert import records_of
from fastdatasets.sources.files import expanded, find_files, is_local, kind_of, local_path
from fastdatasets.sources.selection import columns_of, eligible
from fastdatasets.sources.text_files import COPIES, FileRows, TextFiles, csv_rows, json_rows
from fastdatasets.sources.where import VALUE_ERRORS, where_error
from store import UserError
from store.database.connection import Database
from store.database.errors import sql_errors
from store.database.relations import Connection, Relation, pattern_of
from store.errors import SqlError
from store.records import BadRows
from store.runs import Reading, Selection, Turns, WeightedSource


def parse_source(text: str) -> WeightedSource:
    """NAME or NAME:WEIGHT as a run keeps it; a local path of the whole text is taken first.

    Raises UserError where the name is none or the weight is not above 0.
    """
    name, colon, number = text.rpartition(":")
    if colon and not os.path.lexists(expanded(text)):
        try:
            weight = float(number)
        except ValueError:
            pass
        else:
            if not 0 < weight < inf:
                raise UserError(
                    f"--dataset-name {text}: a weight above 0 is expected after the ':'"
                )
            return WeightedSource(_check_name(name), weight)
    return WeightedSource(_check_name(text))


def _check_name(source: str) -> str:
    """A local path made absolute, or a name of the Hub; raises UserError where it is neither.

    The Hub is not contacted here.
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


@dataclass(frozen=True, slots=True)
class Source:
    """An open source: which column plays which role, the names of all columns, and the rows of its
    files that are empty since they cannot be read; None where these are an error.
    """

    mapping: ColumnMapping
    names: list[str]
    bad_rows: BadRows | None


@contextmanager
def open_source(
    database: Database,
    source: str,
    *,
    config: str | None,
    split: str,
    reading: Reading,
    selection: Selection,
    columns: Mapping[str, str | None],
    turns: Turns,
    with_fields: bool,
    images: bool,
    verify: str | None = None,
    say: Callable[[str], None],
) -> Iterator[Source]:
    """Make the dataset the relation source_rows of the connection for the block, in the source's
    order; its columns are those that Records.sample takes. with_fields: whether `fields` is a JSON
    object of all columns, which templates use as `row`; else of the column verify, or null. images:
    whether images are sent.

    Raises UserError where there is no such dataset or file, where it cannot be read, in the block
    too, or where no column can be the instruction.
    """
    connection = database.connection
    texts = TextFiles(reading, database.path.parent / COPIES)
    try:
        with database.errors(), ExitStack() as stack:
            stack.callback(texts.remove_copies)
            rows, labels = _open_rows(connection, source, config, split, texts, say)
            if not texts.files and (reading.encoding or reading.delimiter):
                say(f"--encoding and --delimiter are for JSON and CSV files: not used for {source}")
            names = rows.columns if isinstance(rows, Relation) else rows.names
            mapping = map_columns(names, columns, source, images=images)
            by = columns_of(selection, names)
            kept = names if with_fields else []
            if verify is not None:
                check_exists(f"--verify {verify}", verify, names)
                kept = kept or [verify]
            used = list(dict.fromkeys((*mapping.columns(names), *kept, *by.columns)))
            are_texts = isinstance(rows, FileRows)
            if isinstance(rows, ArrowRows):
                rows = connection.from_arrow(rows.select(used))
            elif isinstance(rows, FileRows):
                stack.callback(connection.execute, "DROP TABLE IF EXISTS temp.gathered")
                rows = rows.select(used)
            roles = {role: split_columns(name, names) for role, name in mapping.roles().items()}
            marks = by.marks(rows, labels, are_texts=are_texts)
            folders = _folders(source, split) if images else None
            records = stack.enter_context(
                records_of(
                    connection,
                    rows,
                    roles,
                    labels,
                    fields=kept,
                    marks=marks,
                    turns=turns,
                    folders=folders,
                )
            )
            records = stack.enter_context(eligible(connection, records, selection))
            # Registered, not created: a database file refuses a view on what lives in this process.
            connection.register("source_rows", records)
            stack.callback(connection.unregister, "source_rows")
            yield Source(mapping, names, texts.bad_rows)
    except SqlError as error:
        if selection.where is not None and error.detail.startswith(VALUE_ERRORS):
            raise where_error(error) from None
        raise read_error(source, error, texts.files) from None


def _folders(source: str, split: str) -> list[Path]:
    """Where a source's paths of images are looked for: its folder, and those of its files."""
    if not is_local(source):
        return []
    files = find_files(Path(source), split, lambda _: None)
    own = [Path(source)] if Path(source).is_dir() else []
    return list(dict.fromkeys((*own, *(file.parent for file in files))))


def _open_rows(
    connection: Connection,
    source: str,
    config: str | None,
    split: str,
    texts: TextFiles,
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
    kind = kind_of(files[0])
    if kind == ".arrow":
        arrow = rows_of_files(files)
        return arrow, class_labels(arrow.schema)
    if kind == ".parquet":
        rows = _read_parquet(connection, files)
        return rows, class_labels(pyarrow.parquet.read_schema(files[0]))
    return (csv_rows if kind == ".csv" else json_rows)(connection, files, texts), {}


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
