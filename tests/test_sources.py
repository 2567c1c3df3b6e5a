"""Reading datasets: every kind of file, chats, and files that are not what they say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import zstandard

from fastdatasets.sources import hub_table, open_source, read_error
from store import UserError

ROWS: list[dict[str, Any]] = [
    {"instruction": "Date it", "input": "", "output": "2024-01-01"},
    {"instruction": "Add", "input": "1 + 1", "output": "2"},
    {"instruction": "说明\u2028二", "input": "", "output": '{"a": 1}'},
]
EXPECTED = [(row["instruction"], row["input"], row["output"], "", None) for row in ROWS]


def read(path: Path, split: str = "train", **columns: str) -> list[tuple[Any, ...]]:
    """All rows of a source as the store would sample them."""
    connection = duckdb.connect()
    try:
        open_source(connection, str(path), config=None, split=split, columns=columns)
        return connection.execute("SELECT * FROM source_rows").fetchall()
    except duckdb.Error as error:
        raise read_error(str(path), error) from None


def lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines, without a final newline."""
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def write(path: Path) -> Path:
    """The rows in the format that the path's ending says."""
    table = pa.Table.from_pylist(ROWS)
    match path.name.removesuffix(".gz").removesuffix(".zst").split(".")[-1]:
        case "json":
            data = json.dumps(ROWS).encode()
        case "jsonl":
            data = lines(ROWS)
        case "csv":
            text = "instruction,input,output\nDate it,,2024-01-01\nAdd,1 + 1,2\n"
            data = (text + '说明\u2028二,"","{""a"": 1}"\n').encode("utf-8-sig")
        case "parquet":
            pyarrow.parquet.write_table(table, path)
            return path
        case _:
            pyarrow.feather.write_feather(table, str(path))
            return path
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "d.json",
        "d.jsonl",
        "d.csv",
        "d.parquet",
        "d.arrow",
        "d.json.gz",
        "d.jsonl.gz",
        "d.csv.gz",
        "d.json.zst",
        "d.jsonl.zst",
        "d.csv.zst",
    ],
)
def test_every_kind_of_file(tmp_path: Path, name: str) -> None:
    """Each kind of file gives the same rows, and no text becomes a date or a number."""
    assert read(write(tmp_path / name)) == EXPECTED


def test_json_with_an_object_a_line(tmp_path: Path) -> None:
    """A .json file may hold one object a line."""
    path = tmp_path / "d.json"
    path.write_bytes(lines(ROWS))
    assert read(path) == EXPECTED


def test_folder_of_a_split(tmp_path: Path) -> None:
    """In a folder with files of several splits, the split's own are read, in order."""
    for name, instruction in [("train-00001", "b"), ("train-00000", "a"), ("test-00000", "c")]:
        (tmp_path / f"{name}.jsonl").write_bytes(lines([{"instruction": instruction}]))
    assert [row[0] for row in read(tmp_path)] == ["a", "b"]
    assert [row[0] for row in read(tmp_path, split="test")] == ["c"]


def test_hub_folder() -> None:
    """What `datasets` loads comes as a table of its split."""
    Path("data").mkdir()
    Path("data/train.jsonl").write_bytes(lines(ROWS))
    assert hub_table("./data", config=None, split="train").to_pylist() == ROWS


def test_saved_by_datasets(tmp_path: Path) -> None:
    """A folder written by save_to_disk, which holds Arrow streams, is read."""
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == EXPECTED


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_chat_columns(tmp_path: Path, key: str) -> None:
    """A chat gives its system turn, its first user turn and the assistant turn after that."""
    openai = [
        {"role": "assistant", "content": "Hello!"},
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "?"}],
        },
        {"role": "assistant", "content": "Me."},
        {"role": "user", "content": "Really?"},
    ]
    sharegpt = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]
    path = tmp_path / "d.jsonl"
    path.write_bytes(lines([{key: openai}, {key: sharegpt}, {key: []}]))
    assert read(path) == [
        ("Who\n?", "", "Me.", "", "Be brief."),
        ("Who?", "", "Me.", "", None),
        ("", "", "", "", None),
    ]


def test_chat_in_parquet(tmp_path: Path) -> None:
    """A chat column with a type of its own is read like one of JSON."""
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    pyarrow.parquet.write_table(pa.Table.from_pylist([{"messages": chat}]), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == [("Who?", "", "Me.", "", None)]


def test_values_become_strings(tmp_path: Path) -> None:
    """Null is '', and a number or an object is its text."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"prompt": null, "output": 42}\n{"prompt": 1.50, "output": {"a":[1]}}\n')
    assert read(path) == [("", "", "42", "", None), ("1.5", "", '{"a":[1]}', "", None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", b'{"a": 1}\n{"a":}\n', "{path} is not valid JSON: line 2: Expecting value"),
        (
            "d.json",
            b'[{"a": 1},\n{"a":}]',
            "{path} is not valid JSON: line 2, column 6: Expecting value",
        ),
        (
            "d.jsonl",
            b'{"a": "x"}\n{"a": "\\ud800"}\n',
            "{path} is not valid JSON: line 2: 'utf-8' codec can't encode character '\\ud800' in "
            "position 7: surrogates not allowed",
        ),
        ("d.jsonl", b"1\n2\n", "{path}: no objects in it; one JSON object a row is expected"),
        ("d.csv", b"", "{path} is empty: a line of column names is expected"),
        ("d.csv", b"a,a\n1,2\n", "{path}: a column name stands twice in line 1: a, a"),
        (
            "d.csv",
            b"prompt,b\n1,2\n1,2,3\n",
            "cannot read {path}: Invalid Input Error: CSV Error on Line: 3 Original Line: 1,2,3 "
            "Expected Number of Columns: 2 Found: 3",
        ),
        (
            "d.parquet",
            b"prompt\nno parquet at all\n",
            "cannot read {path}: Invalid Input Error: No magic bytes found at end of file '{path}'",
        ),
        (
            "d.txt",
            b"",
            "{path}: unknown kind of file; known are .arrow, .csv, .json, .jsonl, .parquet, each "
            "plain or compressed as .gz or .zst",
        ),
    ],
)
def test_file_that_is_not_what_it_says(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """A broken file is said in a line that names the place."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read(path)
    assert str(raised.value) == message.format(path=path)


def test_no_such_dataset() -> None:
    """A Hub name that cannot be loaded is a user's error that names it."""
    with pytest.raises(UserError, match=r"^cannot load dataset 'no/such-dataset': "):
        hub_table("no/such-dataset", config=None, split="train")
