"""Locating records of JSON and CSV files that cannot be read, and leaving them out."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from backends.openai_api.lenient_json import shallow
from fastdatasets.sources.files import kind_of
from fastdatasets.sources.text import (
    BOM,
    CHUNK,
    MAX_CSV_RECORD,
    MAX_OBJECT,
    TextFile,
    encoding_hint,
)
from store import UserError
from store.errors import SqlError
from store.records import BadRows

NOT_CLOSED = "a quote that is not closed"
NOT_UTF8 = "not UTF-8"
MAX_RECORDS = 20  # of those that cannot be read, in a message

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},"]', re.DOTALL)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read: its lines, counted from 1, and why."""

    first: int
    last: int
    why: str


def describe_broken(text: TextFile) -> str | None:
    """Where a JSON or CSV file cannot be read, and what to do; None: nowhere.

    DuckDB counts lines otherwise, names none of those that are too long, and stops at the first.
    Takes memory for one record of at most MAX_OBJECT.
    """
    try:
        if kind_of(text.path) == ".csv" or _is_a_line_each(text):
            return _describe(text, list(islice(broken_records(text), MAX_RECORDS + 1)))
        return _broken_document(text)
    except OSError:  # a compressed file that was cut off
        return None


def broken_records(text: TextFile) -> Iterator[Broken]:
    """The records that cannot be read, of CSV or of an object a line, in the file's order."""
    records = _broken_csv(text) if kind_of(text.path) == ".csv" else _broken_lines(text)
    for broken in records:
        why = broken.why.replace(NOT_UTF8, f"not {text.encoding.upper()}")
        yield replace(broken, why=why)


def read_error(source: str, error: SqlError | OSError, texts: Sequence[TextFile] = ()) -> UserError:
    """The UserError for an error while a source's rows were read; texts: its JSON or CSV files."""
    detail = error.detail if isinstance(error, SqlError) else str(error)
    named = re.search(r"^  file = (.+)$", detail, re.MULTILINE)  # of a folder's
    path = Path(named[1] if named else source)
    for text in texts:
        detail = detail.replace(str(text.content), str(text.path))
        if path in (text.path, text.content) and (place := describe_broken(text)):
            kind = "CSV" if kind_of(text.path) == ".csv" else "JSON"
            return UserError(f"{text.path} is not valid {kind}: {place}")
    lines = [line for line in detail.splitlines() if line.strip()]
    words = " ".join(lines[:3]) if "CSV Error" in lines[0] else lines[0]
    return UserError(f"cannot read {source}: {words}")


def _describe(text: TextFile, broken: list[Broken]) -> str | None:
    if not broken:
        return None
    if broken[-1].why.startswith(NOT_CLOSED):  # its record, to the end, is mostly good ones
        return f"line {broken[-1].first}: {broken[-1].why}"
    place = f"line {broken[0].first}: {broken[0].why}"
    if broken[0].why.startswith(NOT_UTF8) and (hint := encoding_hint(text)):
        return place + hint
    if len(broken) > MAX_RECORDS:
        place += f"; more than {MAX_RECORDS} records cannot be read"
    them = (
        "it"
        if len(broken) == 1
        else "all"
        if len(broken) > MAX_RECORDS
        else (f"all {len(broken)} that cannot be read")
    )
    return f"{place}; leave {them} out with --skip-bad-rows"


def without_broken(text: TextFile, copy: Path, empty: bytes, bad: BadRows) -> TextFile | None:
    """A file whose records that cannot be read are empty ones, written to `copy`; None where the
    file is not of a record a line, or has a quote that is not closed.

    empty: the line of an empty record, so that the others keep their places. bad: counts them.
    """
    if kind_of(text.path) != ".csv" and not _is_a_line_each(text):
        return None
    copy.parent.mkdir(exist_ok=True)
    line = 1
    with text.open() as stream, copy.open("wb") as out:
        for broken in broken_records(text):
            if broken.why.startswith(NOT_CLOSED):
                return None
            for _ in range(line, broken.first):
                out.write(stream.readline())
            for _ in range(broken.first, broken.last + 1):
                while (part := stream.readline(CHUNK)) and not part.endswith(b"\n"):
                    pass
            out.write(empty)
            line = broken.last + 1
            bad.add(f"{text.path}:{broken.first}", broken.why)
        shutil.copyfileobj(stream, out, CHUNK)
    return replace(text, content=copy, compression="none")


# -- JSON


def _is_a_line_each(text: TextFile) -> bool:
    """Whether a JSON file should have one object a line, not an array or one over many lines."""
    with text.open() as stream:
        first = next((line for line in _lines(stream, MAX_OBJECT) if line.strip()), b"")
    first = first.removeprefix(BOM).lstrip()
    if first.startswith(b"["):
        return False
    return kind_of(text.path) == ".jsonl" or _why_not(first) is None


def _lines(stream: io.BufferedIOBase, most: int) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than most bytes its first ones."""
    while line := stream.readline(most + 1):
        yield line
        while len(line) > most and not line.endswith(b"\n"):
            line = stream.readline(most + 1)


def _broken_lines(text: TextFile) -> Iterator[Broken]:
    with text.open() as stream:
        for number, line in enumerate(_lines(stream, MAX_OBJECT), start=1):
            record = line.removeprefix(BOM) if number == 1 else line
            if record.strip() and (broken := _why_not(record)):
                yield Broken(number, number, broken[0])


def _broken_document(text: TextFile) -> str | None:
    """Where an array of objects, or an object over many lines, breaks: line and column."""
    line, column = 1, 1
    with text.open() as stream:
        for element in _elements(stream):
            if broken := _why_not(element):
                before = element[: broken[1]].decode("utf-8", "replace")
                line, column = _moved(line, column, before)
                return f"line {line}, column {column}: {broken[0]}; correct or take out that object"
            line, column = _moved(line, column, element.decode() + ",")
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
        return f"{NOT_UTF8}: byte 0x{text[error.start]:02x}", error.start
    if not isinstance(value, dict | None):
        return "an object is expected", begin
    if half := _HALF_PAIR.search(json.dumps(value, ensure_ascii=False)):
        return f"half of a surrogate pair (\\u{ord(half[0]):04x}), which no text can hold", begin
    return None


# -- CSV


def _broken_csv(text: TextFile) -> Iterator[Broken]:
    """Records of another number of columns than the first has, too long, or not UTF-8."""
    too_long: set[int] = set()
    with text.open() as stream:
        lines = _csv_lines(stream, too_long)
        reader = csv.reader(lines, delimiter=text.delimiter, strict=True)
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
            elif any("\udc80" <= character <= "\udcff" for field in record for character in field):
                why = NOT_UTF8
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
