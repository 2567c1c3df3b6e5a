"""JSON and CSV files as they are read: compression, encoding, delimiter."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import pyarrow as pa

from fastdatasets.sources.files import kind_of
from store import UserError
from store.runs import Reading

BOM = codecs.BOM_UTF8
CHUNK = 1 << 20
MAX_OBJECT = 16 << 20  # bytes; DuckDB reads some that are twice as long, but not all
MAX_CSV_RECORD = 2_000_000  # bytes, likewise
DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 5  # records, the column names included

Compression = Literal["gzip", "zstd", "none"]

_MAGIC: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_WORDS = re.compile(rb'[^\s,;|"]*[\x80-\xff][^\s,;|"]*')  # that are not ASCII
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF8 = ("utf-8", "utf-8-sig", "ascii")

csv.field_size_limit(MAX_CSV_RECORD)  # its own is 128 kB, which DuckDB reads


@dataclass(frozen=True, slots=True)
class TextFile:
    """A JSON or CSV file. path: as it is named; content: what is read, path or a UTF-8 copy.

    compression: of content, as DuckDB and Arrow call it, or none. encoding: of path. delimiter: of
    a CSV file's columns.
    """

    path: Path
    content: Path
    compression: Compression
    encoding: str
    delimiter: str

    def open(self) -> io.BufferedReader:
        """The bytes, decompressed; UTF-8 but for what is broken."""
        return _open(self.content, self.compression)


def text_file(path: Path, reading: Reading, copy: Path) -> TextFile:
    """How a file is read: what `reading` names, else by its first bytes and, where these say
    nothing, as UTF-8. copy: written in UTF-8 where the file is in another encoding.

    Raises UserError where it cannot be read, or is not in the encoding.
    """
    content = path
    try:
        compression = _compression(path)
        with _open(path, compression) as stream:
            begins = stream.peek(2)[:2]
        encoding = reading.encoding or ("utf-16" if begins in _UTF16 else "utf-8")
        if codecs.lookup(encoding).name not in _UTF8:
            _write_utf8(path, compression, encoding, copy)
            content, compression = copy, "none"
        delimiter = reading.delimiter or DELIMITERS[0]
        if reading.delimiter is None and kind_of(path) == ".csv":
            with _open(content, compression) as stream:
                delimiter = _sniffed(stream)
    except UnicodeError as error:
        raise UserError(f"{path} is not {encoding}: {error}; name its --encoding") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    return TextFile(path, content, compression, encoding, delimiter)


def encoding_hint(text: TextFile) -> str:
    """What to say of a file that is not UTF-8: the encoding it may be in; '' for a few bytes of a
    file that is.
    """
    if text.encoding not in _UTF8:
        return ""
    with text.open() as stream:
        begins = stream.read(CHUNK)
    decoded = begins.decode("utf-8", "ignore")
    good = len(decoded.encode())
    if len(begins) - good < good - sum(character < "\x80" for character in decoded):
        return ""
    from charset_normalizer import from_bytes
    from charset_normalizer.utils import is_multi_byte_encoding

    # Among much ASCII a few Chinese words are taken for accented letters: they are tried alone.
    best = from_bytes(b"\n".join(_WORDS.findall(begins))).best()
    if best is None or not is_multi_byte_encoding(best.encoding):
        best = from_bytes(begins).best()
    likely = best.encoding.replace("_", "-") if best else "cp1252"
    return f"; name its --encoding, such as {likely}"


def _open(path: Path, compression: Compression) -> io.BufferedReader:
    stream = pa.input_stream(str(path), None if compression == "none" else compression)
    return io.BufferedReader(stream)


def _compression(path: Path) -> Compression:
    with path.open("rb") as file:
        begins = file.read(4)
    return next((name for magic, name in _MAGIC.items() if begins.startswith(magic)), "none")


def _write_utf8(path: Path, compression: Compression, encoding: str, copy: Path) -> None:
    """Write a file in UTF-8; bytes that are not of its encoding stay, and are found as broken."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    copy.parent.mkdir(exist_ok=True)
    with _open(path, compression) as stream, copy.open("wb") as out:
        while chunk := stream.read(CHUNK):
            out.write(decoder.decode(chunk).encode("utf-8", "surrogateescape"))
        out.write(decoder.decode(b"", final=True).encode("utf-8", "surrogateescape"))


def _sniffed(stream: io.BufferedReader) -> str:
    """The delimiter by which the first records have the same number of columns, at least two; a
    comma where none is.
    """
    begins = stream.read(CHUNK).decode("utf-8", "replace").removeprefix("\ufeff")
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(begins, newline=""), delimiter=delimiter)
        try:
            records = list(islice(filter(None, reader), SNIFFED))
        except csv.Error:
            continue
        if len(records) < SNIFFED and stream.peek(1):
            records.pop()  # its end was not read
        widths = {len(record) for record in records}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return DELIMITERS[0]
