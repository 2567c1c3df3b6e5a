"""Reading datasets: local files with DuckDB's readers, the Hub with `datasets`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import pyarrow.parquet

from fastdatasets.sources.arrow import ArrowRows, class_labels, rows_of_files
from fastdatasets.sources.broken import read_error
from fastdatasets.sources.columns import (
    ColumnMapping,
    common_columns,
    map_columns,
    split_columns,
)
from fastdatasets.sources.conversation import NO_QUESTION
from fastdatasets.sources.convert import FUNCTION, JSONS, RECORD, reading_function
from fastdatasets.sources.files import find_files, is_local, kind_of, local_path
from fastdatasets.sources.text_files import FileRows, csv_rows, json_rows
from store import UserError
from store.database.errors import sql_errors
from store.database.relations import (
    CaseExpression,
    CoalesceOperator,
    ColumnExpression,
    Connection,
    ConstantExpression,
    Expression,
    FunctionExpression,
    Relation,
    pattern_of,
)
from store.errors import SqlError
from store.runs import Turns


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


@contextmanager
def open_source(
    connection: Connection,
    source: str,
    *,
    config: str | None,
    split: str,
    columns: Mapping[str, str | None],
    turns: Turns,
    with_fields: bool,
    say: Callable[[str], None],
) -> Iterator[tuple[ColumnMapping, list[str]]]:
    """Make the dataset the relation source_rows of the connection for the block, in the source's
    order; its columns are those that Records.sample takes. with_fields: whether `fields` is a JSON
    object of all columns, which templates use as `row`, or null. Gives which column plays which
    role, and the names of all there are.

    Raises UserError where there is no such dataset or file, where it cannot be read, or where no
    column can be the instruction.
    """
    rows, labels = _open_rows(connection, source, config=config, split=split, say=say)
    names = rows.columns if isinstance(rows, Relation) else rows.names
    mapping = map_columns(names, columns, source)
    used = names if with_fields else mapping.columns(names)
    if isinstance(rows, ArrowRows):
        rows = connection.from_arrow(rows.select(used))
    elif isinstance(rows, FileRows):
        rows = rows.select(used)
    roles = {role: split_columns(name, names) for role, name in mapping.roles().items()}
    fields = _fields(rows, names, labels) if with_fields else NULL
    with ExitStack() as stack:
        if _is_plain(rows, roles):
            records = _plain_records(rows, roles, labels, fields)
        else:
            stack.enter_context(reading_function(connection, turns))
            records = _read_records(rows, roles, labels, fields)
        # Registered, not created: a database file refuses a view on what lives in this process.
        connection.register("source_rows", records)
        try:
            yield mapping, names
        finally:
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


# -- Records of rows

NESTED = ("list", "struct", "map", "array")
PLAIN = ("instruction", "input", "output", "reasoning")
NULL = ConstantExpression(None).cast("VARCHAR")
BLANK = r"^[\s\p{Z}]*$"


def _is_plain(relation: Relation, roles: Mapping[str, Sequence[str]]) -> bool:
    """Whether all roles are texts, a column each, which needs no function of Python's."""
    if not set(roles) <= set(PLAIN):
        return False
    types = dict(zip(relation.columns, relation.types, strict=True))
    used = [name for names in roles.values() for name in names]
    if any(types[name].id in NESTED for name in used):
        return False
    json = [ColumnExpression(name) for name in used if str(types[name]) == "JSON"]
    if not json:
        return True
    kinds = relation.project(*(FunctionExpression("json_type", column) for column in json))
    return not any(
        kind in ("ARRAY", "OBJECT") for row in kinds.distinct().fetchall() for kind in row
    )


def _text(relation: Relation, name: str, labels: Mapping[str, list[str]]) -> Expression:
    """A column as a text; null where it is null."""
    types = dict(zip(relation.columns, relation.types, strict=True))
    column: Expression = ColumnExpression(name)
    if name in labels:
        numbers = ConstantExpression(labels[name])
        return FunctionExpression("list_extract", numbers, column + ConstantExpression(1))
    if str(types[name]) == "JSON":
        return FunctionExpression("json_extract_string", column, ConstantExpression("$"))
    if types[name].id == "blob":
        return FunctionExpression("decode", column)  # UTF-8, or an error: no \xE4\xBD
    return column.cast("VARCHAR")


def _json(relation: Relation, name: str, labels: Mapping[str, list[str]]) -> Expression:
    """A column as JSON: lists and objects as they are, other values as texts."""
    types = dict(zip(relation.columns, relation.types, strict=True))
    column = ColumnExpression(name)
    if types[name].id in NESTED:
        return FunctionExpression("to_json", column)
    text = FunctionExpression("to_json", _text(relation, name, labels))
    if str(types[name]) != "JSON":
        return text
    is_nested = FunctionExpression("json_type", column).isin(
        ConstantExpression("ARRAY"), ConstantExpression("OBJECT")
    )
    return CaseExpression(is_nested, column).otherwise(text)


def _fields(
    relation: Relation, names: Sequence[str], labels: Mapping[str, list[str]]
) -> Expression:
    """All columns as the text of a JSON object."""
    pairs = ((ConstantExpression(name), _json(relation, name, labels)) for name in names)
    return FunctionExpression("json_object", *chain.from_iterable(pairs)).cast("VARCHAR")


def _plain_records(
    relation: Relation,
    roles: Mapping[str, Sequence[str]],
    labels: Mapping[str, list[str]],
    fields: Expression,
) -> Relation:
    """Records of texts; several columns of a role have a blank line between them."""
    empty = ConstantExpression("")

    def text(role: str) -> Expression:
        texts = [_text(relation, name, labels) for name in roles.get(role, ())]
        if not texts:
            return empty
        if len(texts) == 1:
            return CoalesceOperator(texts[0], empty)
        return FunctionExpression("concat_ws", ConstantExpression("\n\n"), *texts)

    texts = relation.project(*(text(role).alias(role) for role in PLAIN), fields.alias("fields"))
    question = FunctionExpression("concat", *map(ColumnExpression, ("instruction", "input")))
    blank = FunctionExpression("regexp_matches", question, ConstantExpression(BLANK))
    return texts.project(
        *map(ColumnExpression, (*PLAIN, "fields")),
        *(NULL.alias(name) for name in ("system", *JSONS, "problem")),
        CaseExpression(blank, ConstantExpression(NO_QUESTION)).alias("left_out"),
        ConstantExpression(0).cast("BIGINT").alias("unused_turns"),
    )


def _read_records(
    relation: Relation,
    roles: Mapping[str, Sequence[str]],
    labels: Mapping[str, list[str]],
    fields: Expression,
) -> Relation:
    """Records of rows of any shape, see conversation.py."""

    def cell(role: str, names: Sequence[str]) -> Expression:
        if len(names) == 1:
            return _json(relation, names[0], labels)
        if role == "options":
            pairs = ((ConstantExpression(name), ColumnExpression(name)) for name in names)
            return FunctionExpression("json_object", *chain.from_iterable(pairs))
        texts = (_text(relation, name, labels) for name in names)
        joined = FunctionExpression("concat_ws", ConstantExpression("\n\n"), *texts)
        return FunctionExpression("to_json", joined)

    cells = ((ConstantExpression(role), cell(role, names)) for role, names in roles.items())
    row = FunctionExpression("json_object", *chain.from_iterable(cells)).cast("VARCHAR")
    read = relation.project(FunctionExpression(FUNCTION, row).alias("read"), fields.alias("fields"))
    return read.project(
        *(
            FunctionExpression(
                "struct_extract", ColumnExpression("read"), ConstantExpression(name)
            ).alias(name)
            for name in RECORD.names
        ),
        ColumnExpression("fields"),
    )
