"""Locating unreadable records in JSON and CSV files, and how to leave them out."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from backends.openai_api.lenient_json import shallow
from fastdatasets.sources.files import kind_of
from store import UserError
from store.errors import SqlError

MAX_OBJECT = 16 << 20  # bytes; DuckDB reads some that are twice as long, but not all
MAX_CSV_RECORD = 2_000_000  # bytes, likewise
NOT_CLOSED = "a quote that is not closed"
MAX_RECORDS = 20  # of those that cannot be read, in a message
CHUNK = 1 << 20
BOM = b"\xef\xbb\xbf"

csv.field_size_limit(MAX_CSV_RECORD)  # its own is 128 kB, which DuckDB reads

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},"]', re.DOTALL)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read: its lines, counted from 1, and why."""

    first: int
    last: int
    why: str


def open_text(file: Path) -> io.BufferedReader:
    """The bytes of a file, decompressed where its ending says so."""
    return io.BufferedReader(pa.input_stream(str(file), compression="detect"))


def describe_broken(file: Path) -> str | None:
    """Where a .json, .jsonl or .csv file cannot be read, and how to fix it; None: nowhere.

    DuckDB counts lines otherwise, names none of those that are too long, and stops at the first.
    Takes memory for one record of at most MAX_OBJECT.
    """
    kind = kind_of(file)
    try:
        if kind == ".csv":
            return _describe(file, list(islice(_broken_csv(file), MAX_RECORDS + 1)))
        if kind not in (".json", ".jsonl"):
            return None
        if _is_a_line_each(file):
            return _describe(file, list(islice(_broken_lines(file), MAX_RECORDS + 1)))
        return _broken_document(file)
    except OSError:  # a compressed file that is none, or was cut off
        return None


def read_error(source: str, error: SqlError | OSError) -> UserError:
    """The UserError for an error while a source's rows were read."""
    detail = error.detail if isinstance(error, SqlError) else str(error)
    named = re.search(r"^  file = (.+)$", detail, re.MULTILINE)  # of a folder's
    path = Path(named[1] if named else source)
    if path.is_file() and (place := describe_broken(path)):
        kind = "CSV" if kind_of(path) == ".csv" else "JSON"
        return UserError(f"{path} is not valid {kind}: {place}")
    lines = [line for line in detail.splitlines() if line.strip()]
    words = " ".join(lines[:3]) if "CSV Error" in lines[0] else lines[0]
    return UserError(f"cannot read {source}: {words}")


def _describe(file: Path, broken: list[Broken]) -> str | None:
    if not broken:
        return None
    if broken[-1].why.startswith(NOT_CLOSED):  # its record, to the end, is mostly good ones
        return f"line {broken[-1].first}: {broken[-1].why}"
    place = f"line {broken[0].first}: {broken[0].why}"
    if len(broken) > MAX_RECORDS:
        return f"{place}; more than {MAX_RECORDS} records cannot be read"
    lines = [f"{one.first}" + f",{one.last}" * (one.last > one.first) for one in broken]
    script = shlex.quote(";".join(f"{line}d" for line in lines))
    name = shlex.quote(str(file))
    unpack = {".gz": "zcat", ".zst": "zstdcat"}.get(file.suffix.lower())
    edit = f"{unpack} {name} | sed {script}" if unpack else f"sed {script} {name}"
    them = "it" if len(broken) == 1 else f"all {len(broken)} that cannot be read"
    return f"{place}; leave {them} out with: {edit} > good{kind_of(file)}"


# -- JSON


def _is_a_line_each(file: Path) -> bool:
    """Whether a JSON file should have one object a line, not an array or one over many lines."""
    with open_text(file) as stream:
        first = next((line for line in _lines(stream, MAX_OBJECT) if line.strip()), b"")
    text = first.removeprefix(BOM).lstrip()
    if text.startswith(b"["):
        return False
    return kind_of(file) == ".jsonl" or _why_not(text) is None


def _lines(stream: io.BufferedIOBase, most: int) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than most bytes its first ones."""
    while line := stream.readline(most + 1):
        yield line
        while len(line) > most and not line.endswith(b"\n"):
            line = stream.readline(most + 1)


def _broken_lines(file: Path) -> Iterator[Broken]:
    with open_text(file) as stream:
        for number, line in enumerate(_lines(stream, MAX_OBJECT), start=1):
            text = line.removeprefix(BOM) if number == 1 else line
            if text.strip() and (broken := _why_not(text)):
                yield Broken(number, number, broken[0])


def _broken_document(file: Path) -> str | None:
    """Where an array of objects, or an object over many lines, breaks: line and column."""
    line, column = 1, 1
    with open_text(file) as stream:
        for text in _elements(stream):
            if broken := _why_not(text):
                before = text[: broken[1]].decode("utf-8", "replace")
                line, column = _moved(line, column, before)
                return f"line {line}, column {column}: {broken[0]}; correct or take out that object"
            line, column = _moved(line, column, text.decode() + ",")
    return None


def _moved(line: int, column: int, text: str) -> tuple[int, int]:
    lines = text.count("\n")
    return line + lines, (len(text) - text.rfind("\n") if lines else column + len(text))


def _elements(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """The elements of an array with the space around them, else all as one; cut at MAX_OBJECT."""
    text = stream.read(CHUNK).removeprefix(BOM)
    is_array = text.lstrip().startswith(b"[")
    if is_array:
        text = text.replace(b"[", b" ", 1)
    start = at = depth = 0
    while True:
        token = _TOKEN.search(text, at)
        if token is None or token[0] == b'"':  # a string that goes on after what was read
            at = len(text) if token is None else token.start()
            more = stream.read(CHUNK) if len(text) - start <= MAX_OBJECT else b""
            if not more:
                yield text[start:]
                return
            text, at, start = text[start:] + more, at - start, 0
            continue
        at = token.end()
        depth += token[0] in (b"[", b"{")
        depth -= token[0] in (b"]", b"}")
        if is_array and (depth < 0 or (token[0] == b"," and depth == 0)):
            if depth == 0 or text[start : token.start()].strip():  # [] has no element
                yield text[start : token.start()]
            if depth < 0:
                return
            start = at


def _why_not(text: bytes) -> tuple[str, int] | None:
    """Why a record of JSON cannot be read, and at which of its bytes; None where it can."""
    begin = len(text) - len(text.lstrip())
    if len(text) > MAX_OBJECT:
        return f"longer than {MAX_OBJECT >> 20} MB", begin
    try:
        decoded = text.decode()
        # Nesting deeper than Python's decoder supports is not a reason.
        value = json.loads(shallow(decoded), parse_int=float)
    except json.JSONDecodeError as error:
        return error.msg, len(decoded[: error.pos].encode())
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{text[error.start]:02x}", error.start
    if not isinstance(value, dict | None):
        return "an object is expected", begin
    if half := _HALF_PAIR.search(json.dumps(value, ensure_ascii=False)):
        return f"half of a surrogate pair (\\u{ord(half[0]):04x}), which no text can hold", begin
    return None


# -- CSV


def _broken_csv(file: Path) -> Iterator[Broken]:
    """Records of another number of columns than the first has, too long, or not UTF-8."""
    too_long: set[int] = set()
    with open_text(file) as stream:
        reader = csv.reader(_csv_lines(stream, too_long), strict=True)
        columns = last = 0
        while True:
            first = last + 1
            try:
                record, why = next(reader), ""
            except StopIteration:
                return
            except csv.Error as error:
                record, why = [], str(error)
            last = reader.line_num
            if why == "unexpected end of data":
                yield Broken(first, last, NOT_CLOSED)
                return
            if why.startswith("field larger") and last > first:
                most = MAX_CSV_RECORD // 1_000_000
                yield Broken(first, last, f"{NOT_CLOSED} within {most} MB")
                return
            columns = columns or len(record)
            if any(first <= line <= last for line in too_long):
                why = f"longer than {MAX_CSV_RECORD // 1_000_000} MB"
            elif any("\udc80" <= character <= "\udcff" for text in record for character in text):
                why = "not UTF-8"
            elif record and len(record) != columns:
                why = f"{len(record)} columns, {columns} are expected"
            if why:
                yield Broken(first, last, why)


def _csv_lines(stream: io.BufferedIOBase, too_long: set[int]) -> Iterator[str]:
    """The lines of a file; of one that is too long its quotes, which delimit fields."""
    number = 0
    while line := stream.readline(MAX_CSV_RECORD + 1):
        number += 1
        text = line.removeprefix(BOM) if number == 1 else line
        quotes = line.count(b'"')
        while len(line) > MAX_CSV_RECORD and not line.endswith(b"\n"):
            too_long.add(number)
            line = stream.readline(MAX_CSV_RECORD + 1)
            quotes += line.count(b'"')
        if number in too_long:
            text = b'"' * (quotes % 2) + b"\n"
        yield text.decode("utf-8", "surrogateescape")
