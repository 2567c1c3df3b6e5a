"""JSON and CSV as people have them: encodings, delimiters, compression, rows that are broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.runs.folders import open_run
from fastdatasets.sources.sampling import sample_records
from store import RunFolder, UserError
from store.records import BadRows, Sampling

Record = tuple[int, str, str]


def sampled(path: Path, **options: Any) -> tuple[list[Record], Sampling, list[str]]:
    """The records of a source (source_row, instruction, output), how they were sampled, and the
    files that are left in the run's folder.
    """
    config: dict[str, Any] = {"sample_size": 0, "skip_generation": True, "model": "m"} | options
    run = new_run(RunConfig(str(path), **config), load_settings())
    with tempfile.TemporaryDirectory() as folder, open_run(RunFolder(Path(folder)), run) as store:
        sample_records(store, store.run(), lambda _: None)
        rows = store.connection.execute(
            "SELECT source_row, instruction, original_output FROM records ORDER BY record"
        ).fetchall()
        (sampling,) = store.records.samplings()
        left = sorted(file.name for file in Path(folder).iterdir() if "spill" in file.name)
    return rows, sampling, left


def read(path: Path, **options: Any) -> list[tuple[str, str]]:
    """The instructions and outputs of a source."""
    return [(instruction, output) for _, instruction, output in sampled(path, **options)[0]]


def refusal(path: Path, **options: Any) -> str:
    """The message of the error that reading a source is."""
    with pytest.raises(UserError) as raised:
        read(path, **options)
    return str(raised.value)


def table(delimiter: str, *rows: tuple[str, ...]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


# -- Shapes whose types DuckDB would infer wrongly


def test_json_of_wide_rows(tmp_path: Path) -> None:
    """Objects each with keys of their own, of which DuckDB would make a map, keep their columns."""
    rows = [{"question": f"q{row}", "answer": row, f"meta_{row}": {"v": row}} for row in range(500)]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read(path) == [(f"q{row}", str(row)) for row in range(500)]


@pytest.mark.slow
def test_json_of_merged_sources(tmp_path: Path) -> None:
    """One column with texts, numbers, lists and objects, and times late in the file, is read by
    the row.
    """
    answers: list[Any] = ["2024-01-01"] * 30_000 + [None, True, 1.5, [1, "a"], {"x": {"y": 1}}, ""]
    path = tmp_path / "d.jsonl"
    lines = [json.dumps({"question": "q", "answer": answer}) for answer in answers]
    path.write_text("\n".join([*lines, '{"question": "q", "late": 1}']))
    texts = ["", "true", "1.5", '[1,"a"]', '{"x":{"y":1}}', "", ""]
    rows = read(path)
    assert rows[:30_000] == [("q", "2024-01-01")] * 30_000
    assert [output.replace(", ", ",").replace(": ", ":") for _, output in rows[30_000:]] == texts


def test_json_files_of_merged_sources(tmp_path: Path) -> None:
    """Files of one folder whose column has other types each are one dataset."""
    for name, answer in (("a", "text"), ("b", 7), ("c", None)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": name, "answer": answer}))
    assert read(tmp_path) == [("a", "text"), ("b", "7"), ("c", "")]


# -- Compression, spreadsheets


@pytest.mark.quick(5)
@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.csv", "d.jsonl.gz", "d.csv.zst"])
@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_compression_is_found_by_the_content(tmp_path: Path, name: str, form: str) -> None:
    """A file is decompressed where its first bytes say so, whatever its name says."""
    text = "question,answer\nq,a\n" if ".csv" in name else '{"question":"q","answer":"a"}\n'
    data = text.encode()
    if form != "plain":
        data = gzip.compress(data) if form == "gzip" else zstandard.compress(data)
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == [("q", "a")]


@pytest.mark.parametrize("there", [True, False])
def test_spreadsheet(tmp_path: Path, there: bool) -> None:
    """A spreadsheet is refused with how to save it; one that is not there is no Hub name."""
    path = tmp_path / "d.xlsx"
    if there:
        path.write_bytes(b"PK\x03\x04")
    assert refusal(path) == (
        f"{path} is a spreadsheet: save its sheet as CSV (in Excel: Save As, CSV UTF-8) and name "
        "that file"
        if there
        else f"no such file or folder: {path}"
    )


# -- Delimiters


@pytest.mark.quick(3)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["d.csv", "d.tsv"])
def test_delimiter_is_recognized(tmp_path: Path, name: str, delimiter: str) -> None:
    """The delimiter is the one by which the first records are of one width, long texts included."""
    path = tmp_path / name
    long = ("a, b; c | d\te\n" * 400).strip()
    path.write_text(table(delimiter, ("question", "answer"), ("x, y", long), ("p;q|r", "s\tt")))
    assert read(path) == [("x, y", long), ("p;q|r", "s\tt")]


def test_delimiter_that_is_named(tmp_path: Path) -> None:
    """--delimiter takes any character; what is no delimiter is refused before a run is made."""
    path = tmp_path / "d.csv"
    path.write_text(table("^", ("question", "answer"), ("a,b", "c")))
    assert read(path, delimiter="^") == [("a,b", "c")]
    path.write_text(table("\t", ("question, short", "answer"), ("a, b", "c")))
    assert read(path, delimiter="tab", instruction_col="answer") == [("c", "")]
    for wrong in ("", "ab", '"', "\n", "、"):
        assert refusal(path, delimiter=wrong) == (
            f"--delimiter {wrong}: one ASCII character, or tab, is expected"
        )


def test_one_column_with_other_delimiters_in_its_texts(tmp_path: Path) -> None:
    """A file of one column stays one."""
    path = tmp_path / "d.csv"
    path.write_text("question\na;b\nc|d|e\n")
    assert read(path) == [("a;b", ""), ("c|d|e", "")]


def test_files_of_several_delimiters(tmp_path: Path) -> None:
    """Files of one folder may have other delimiters and compressions each."""
    (tmp_path / "a.csv").write_text("question,answer\na,1\n")
    (tmp_path / "b.csv").write_text("question;answer\nb;2\n")
    (tmp_path / "c.tsv").write_bytes(gzip.compress(b"question\tanswer\nc\t3\n"))
    assert read(tmp_path) == [("a", "1"), ("b", "2"), ("c", "3")]


# -- Encodings

TEXTS = [
    ("什么是机器学习？请用简单的话说明。", "机器学习是人工智能的一个分支。"),
    ("第二个问题", "好"),
]


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", ["d.csv", "d.jsonl", "d.json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030", "big5"])
def test_encodings(tmp_path: Path, name: str, encoding: str) -> None:
    """A byte order mark is enough; another encoding is named. No copy is left behind."""
    texts = TEXTS if encoding != "big5" else [("問題", "答案")]
    objects = [{"question": question, "answer": answer} for question, answer in texts]
    text = {
        ".csv": table(";", ("question", "answer"), *texts),
        ".jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in objects),
        ".json": json.dumps(objects, ensure_ascii=False),
    }[Path(name).suffix]
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode(encoding)))
    named = {} if encoding.startswith("utf") else {"encoding": encoding}
    rows, _, left = sampled(path, **named)
    assert ([row[1:] for row in rows], left) == (texts, [])


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
def test_encoding_that_is_not_named(tmp_path: Path, name: str) -> None:
    """The error names the place, the option and an encoding that is likely, with which it reads."""
    path = tmp_path / name
    texts = TEXTS * 20
    if name == "d.csv":
        text = table(",", ("question", "answer"), *texts)
    else:
        text = "\n".join(
            json.dumps({"question": question, "answer": answer}, ensure_ascii=False)
            for question, answer in texts
        )
    path.write_bytes(text.encode("gb18030"))
    message, _, likely = refusal(path).rpartition(" ")
    line, kind, byte = (2, "CSV", "") if name == "d.csv" else (1, "JSON", ": byte 0xca")
    assert (message, likely) == (
        f"{path} is not valid {kind}: line {line}: not UTF-8{byte}; name its --encoding, such as",
        "gb18030",
    )
    assert read(path, encoding=likely) == texts


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "问题" + "x" * 200 + ",y"),
        ("big5", "請說明機器學習是什麼,機器學習是人工智慧的一個分支"),
        ("cp932", "機械学習とは何ですか,それは人工知能の一分野です"),
        ("cp1252", "Où est le café ?,Près de l'hôtel, à côté de la gare"),
    ],
)
def test_encoding_that_is_likely(tmp_path: Path, encoding: str, text: str) -> None:
    """The encoding that an error suggests is the file's, also where it is mostly ASCII."""
    path = tmp_path / "d.csv"
    path.write_bytes(("question,answer\n" + f"{text}\n" * 100).encode(encoding))
    assert refusal(path).endswith(f"; name its --encoding, such as {encoding}")


def test_header_in_another_encoding(tmp_path: Path) -> None:
    """A line of column names that is not UTF-8 is the same error."""
    path = tmp_path / "d.csv"
    path.write_bytes(table(",", ("问题", "答案"), *(TEXTS * 20)).encode("gb18030"))
    assert refusal(path) == (
        f"{path} is not a UTF-8 CSV file: line 1: 'utf-8' codec can't decode byte 0xce in position "
        "0: invalid continuation byte; name its --encoding, such as gb18030"
    )


def test_bad_bytes_in_a_file_that_is_utf_8(tmp_path: Path) -> None:
    """A few bytes that are not UTF-8 suggest no other encoding."""
    path = tmp_path / "d.jsonl"
    path.write_bytes('{"question": "问题一"}\n{"question": "?"}\n'.encode().replace(b"?", b"\xff"))
    assert refusal(path) == (
        f"{path} is not valid JSON: line 2: not UTF-8: byte 0xff; leave it out with --skip-bad-rows"
    )


def test_bytes_that_are_not_of_the_encoding(tmp_path: Path) -> None:
    """A byte that the named encoding does not have is found by its line, and can be skipped."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"question": "caf\xe9"}\n{"question": "\x81"}\n')
    options = {"encoding": "cp1252"}
    assert refusal(path, **options) == (
        f"{path} is not valid JSON: line 2: not CP1252: byte 0x81; leave it out with "
        "--skip-bad-rows"
    )
    assert read(path, **options, skip_bad_rows=True) == [("café", "")]
    assert refusal(path, encoding="klingon").startswith("--encoding klingon: unknown; utf-8, ")


# -- Rows that cannot be read


def test_bad_lines_of_json(tmp_path: Path) -> None:
    """Broken lines are counted by reason and named; the others keep their places."""
    path = tmp_path / "d.jsonl"
    good = b'{"question":"q","answer":"a"}\n'
    path.write_bytes(good + b'{"question":\n' + good + b'[1]\n{"question":"\xff"}\n{}\n{\n' + good)
    rows, sampling, left = sampled(path, skip_bad_rows=True)
    assert (rows, left) == ([(0, "q", "a"), (2, "q", "a"), (7, "q", "a")], [])
    assert (sampling.rows, sampling.left_out, sampling.bad_rows) == (
        8,
        {"without a question of the user": 1},
        BadRows(
            {
                "Expecting value": 1,
                "an object is expected": 1,
                "not UTF-8: byte 0xff": 1,
                "Expecting property name enclosed in double quotes": 1,
            },
            [f"{path}:{line}" for line in (2, 4, 5, 7)],
        ),
    )


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_bad_lines_of_csv(tmp_path: Path, delimiter: str) -> None:
    """Records of another width and such that are not UTF-8 are skipped, in one of two files."""
    good = f"q{delimiter}a\n".encode()
    header = f"question{delimiter}answer\n".encode()
    broken = b"1" + delimiter.encode() * 2 + b'\n"\xff\n"' + delimiter.encode() + b"x\n"
    (tmp_path / "0.csv").write_bytes(header + good * 5 + broken + good)
    (tmp_path / "1.csv").write_bytes(header + good)
    rows, sampling, left = sampled(tmp_path, skip_bad_rows=True)
    assert ([row for row, _, _ in rows], left) == ([0, 1, 2, 3, 4, 7, 8], [])
    assert (sampling.rows, sampling.left_out, sampling.bad_rows) == (
        9,
        {},
        BadRows(
            {"3 columns, 2 are expected": 1, "not UTF-8": 1},
            [f"{tmp_path}/0.csv:7", f"{tmp_path}/0.csv:8"],
        ),
    )


def test_bad_lines_of_a_csv_file_of_one_column(tmp_path: Path) -> None:
    """Where there is one column, too, the others keep their places."""
    path = tmp_path / "d.csv"
    path.write_bytes(b"question\na\nb,c\nd\n")
    rows, sampling, _ = sampled(path, skip_bad_rows=True)
    assert (rows, sampling.bad_rows.named) == ([(0, "a", ""), (2, "d", "")], [f"{path}:3"])


def test_rows_with_a_problem(tmp_path: Path) -> None:
    """Rows whose conversation cannot be read are counted by the kind of problem, with the lines."""
    path = tmp_path / "d.jsonl"
    good = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    rows: list[Any] = [good, *({"messages": [{"role": f"r{n}", "content": ""}]} for n in range(30))]
    path.write_text("\n".join([*map(json.dumps, rows), "{", json.dumps(good)]))
    records, sampling, _ = sampled(path, skip_bad_rows=True)
    assert records == [(0, "q", "a"), (32, "q", "a")]
    assert sampling.bad_rows == BadRows(
        {
            "Expecting property name enclosed in double quotes": 1,
            "chat: turn … is of the role …, which is not known": 30,
        },
        [f"{path}:32", *(f"row {row}" for row in range(2, 21))],
    )
    assert (sampling.rows, sampling.left_out) == (33, {})


def test_nothing_but_bad_rows(tmp_path: Path) -> None:
    """Where no good row is left, the error counts the reasons."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"messages": 1}\n{"messages": 2}\n')
    assert refusal(path, skip_bad_rows=True) == (
        "it has no row with a question to ask: 2 chat: a list of turns is expected, not a text"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.json",
            b'[{"question": "a"},\n{"question":}]',
            "JSON: line 2, column 13: Expecting value; correct or take out that object",
        ),
        (
            "d.csv",
            b'question,b\n1,2\n1,"2\n' + b"1,2\n" * 9,
            "CSV: line 3: a quote that is not closed",
        ),
    ],
)
def test_what_cannot_be_skipped(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """An array, and a quote that is open to the end of the file, are errors as ever."""
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path, skip_bad_rows=True) == f"{path} is not valid {message}"


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv"])
def test_compressed_file_that_was_cut_off(tmp_path: Path, name: str) -> None:
    """It is the same error with --skip-bad-rows: nobody knows what is missing."""
    path = tmp_path / name
    line = '{"question": "%s"}\n' if name == "d.jsonl" else "%s\n"
    digits = [random.Random(row).randbytes(200).hex() for row in range(5_000)]
    text = "question\n" * (name == "d.csv") + "".join(line % one for one in digits)
    path.write_bytes(gzip.compress(text.encode())[:-50_000])
    message = f"cannot read {path}: IO Error: Unexpected end of GZIP stream: {path}"
    assert (refusal(path), refusal(path, skip_bad_rows=True)) == (message, message)


def test_nothing_to_skip(tmp_path: Path) -> None:
    """Of a good file the option changes nothing."""
    path = tmp_path / "d.csv"
    path.write_text("question,answer\nq,a\n\np,b\n")
    assert sampled(path, skip_bad_rows=True) == sampled(path)
