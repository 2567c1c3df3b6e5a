"""Arrow data for DuckDB: record batches that are read again for each scan."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from fastdatasets.sources.columns import common_columns
from store import UserError

SLICE_ROWS = 2048  # handed to DuckDB at a time, however many rows a batch of a file has

ReadBatches = Callable[[list[str]], Iterator[pa.RecordBatch]]


class ArrowRows:
    """Rows that DuckDB's from_arrow takes and can scan any number of times."""

    def __init__(self, schema: pa.Schema, read: ReadBatches) -> None:
        """read: returns all batches, with the columns of these names only."""
        self.schema = schema
        self._read = read

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.schema.names)

    def select(self, names: Sequence[str]) -> ArrowRows:
        """The rows with these columns; the others are not read and may be of any type."""
        return ArrowRows(pa.schema([self.schema.field(name) for name in names]), self._read)

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batches = (
            batch if batch.schema.equals(self.schema) else self._conform(batch)
            for batch in self._read(self.schema.names)
        )
        reader = pa.RecordBatchReader.from_batches(self.schema, batches)
        return reader.__arrow_c_stream__(requested_schema)

    def _conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of a file that has an int32 where another has an int64, or lacks a column."""
        columns = [
            batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in self.schema
        ]
        return pa.record_batch(columns, schema=self.schema)


def rows_of_files(files: Sequence[Path]) -> ArrowRows:
    """The rows of Arrow files, one file after the other: Feather's format, or the stream that
    `datasets` writes.

    Raises UserError where one is neither, or where they have other columns, see common_columns.
    """
    schemas: dict[Path, pa.Schema] = {}
    for file in files:
        try:
            schemas[file] = _open(file)[1].schema
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: it is empty
            raise UserError(f"{file} is not an Arrow file: {str(error).splitlines()[0]}") from None
    common_columns({file: schema.names for file, schema in schemas.items()})
    try:
        schema = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(f"the files beside {files[0]} have other types: {error}") from None

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from _read_file(file, names)

    return ArrowRows(schema, read)


def class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of each column that `datasets` keeps as a ClassLabel."""
    try:
        described = msgspec.json.decode((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described["info"]["features"]
        return {
            name: feature["names"]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return {}  # none that `datasets` wrote


def _open(
    file: Path,
) -> tuple[mmap.mmap, pa.ipc.RecordBatchStreamReader | pa.ipc.RecordBatchFileReader]:
    """A file as pages of memory, and the reader whose batches point into them."""
    with file.open("rb") as data:
        pages = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
    kind = pa.ipc.open_file if pages[:6] == b"ARROW1" else pa.ipc.open_stream
    # The system pool returns freed memory at once; other pools keep it.
    return pages, kind(pa.py_buffer(pages), memory_pool=pa.system_memory_pool())


def _read_file(file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    pages, reader = _open(file)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        batches = map(reader.get_batch, range(reader.num_record_batches))
    else:
        batches = iter(reader)
    held = [name for name in names if name in reader.schema.names]
    for batch in batches:
        for row in range(0, batch.num_rows, SLICE_ROWS):
            yield batch.slice(row, SLICE_ROWS).select(held)
            # Otherwise the pages stay in memory until the end of the file.
            pages.madvise(mmap.MADV_DONTNEED)
        del batch  # a compressed one takes memory: not two at once
