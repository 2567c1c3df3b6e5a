"""Reading datasets: every kind of file, chats, and files that are not what they say."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import zstandard

from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.runs.folders import open_run
from fastdatasets.sources.sampling import sample_records
from store import RunFolder, UserError
from tests.conftest import Command

ROWS: list[dict[str, Any]] = [
    {"instruction": "Date it", "input": "", "output": "2024-01-01"},
    {"instruction": "Add", "input": "1 + 1", "output": "2"},
    {"instruction": "说明\u2028二", "input": "", "output": '{"a": 1}'},
]
EXPECTED = [(row["instruction"], row["input"], row["output"], "", None) for row in ROWS]


def read(path: Path, split: str = "train", **columns: str) -> list[tuple[Any, ...]]:
    """All records of a source, as a run samples them into a store of its own."""
    named = {f"{role}_col": name for role, name in columns.items()}
    return sampled(path, split=split, **named)[0]


def sampled(path: Path, **run_config: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    """All records of a source, out of the store of a run over it, and what was said meanwhile."""
    config = RunConfig(dataset_name=str(path), sample_size=0, skip_generation=True, model="m")
    new = new_run(replace(config, **run_config), load_settings())
    said: list[str] = []
    with tempfile.TemporaryDirectory() as folder, open_run(RunFolder(Path(folder)), new) as store:
        sample_records(store, store.run(), said.append)
        rows = store.connection.execute(
            "SELECT instruction, input, original_output, reasoning, system FROM records "
            "ORDER BY record"
        ).fetchall()
    return rows, said[1:]


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


def test_plain_folder_is_read_as_a_whole_and_said(tmp_path: Path) -> None:
    """Where no file names any split, all are read, and a line says which."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(lines([{"instruction": name}]))
    rows, said = sampled(tmp_path, config_name="main")
    assert [row[0] for row in rows] == ["a", "b"]
    assert said == [
        f"--config-name main is for datasets of the Hub: {tmp_path} is read as it is",
        f"no file of {tmp_path} is named after a split: reading a.jsonl, b.jsonl",
        "columns: instruction ← instruction",
        "sampled 2 of 2 rows",
    ]


def folder(path: Path, *names: str) -> Path:
    """A folder of files with one record each, whose instruction is the file's name."""
    for name in names:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = lines([{"instruction": name}])
        file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return path


OTHERS = (
    "test_socratic.jsonl",
    "train.tok.json",
    "test.tok.jsonl",
    "testing.jsonl",
    "tests/a.jsonl",
)


@pytest.mark.parametrize(
    "names",
    [
        ["test.jsonl"],
        ["test.JSONL.gz"],
        ["data/test.jsonl"],
        ["test/a.jsonl", "test/b.jsonl"],
        ["test-0.jsonl", "test-1.jsonl"],
        ["test-00000-of-00002.jsonl", "test-00001-of-00002.jsonl"],
        ["test-00000-of-00001-a09b74b3ef9c3b56.jsonl"],
    ],
)
def test_split_takes_exact_names(tmp_path: Path, names: list[str]) -> None:
    """A split is the files of exactly its name, its shards and a folder of that name."""
    path = folder(tmp_path / "d", *names, *OTHERS, ".cache/test.jsonl", ".test.jsonl")
    rows, said = sampled(path, split="test")
    assert [row[0] for row in rows] == names
    assert said[0] == f"reading {', '.join(names)}"


def test_split_that_no_file_names(tmp_path: Path) -> None:
    """Without a file of the split the error names those there are, for the default one too."""
    path = folder(tmp_path / "d", "test_socratic.jsonl", "a.jsonl")
    for split in ("test", "train"):
        with pytest.raises(UserError) as raised:
            read(path, split=split)
        assert str(raised.value) == (
            f"{path} has no split '{split}' ({split}.jsonl, {split}-00000-of-00001.jsonl or a "
            f"folder {split}): it has a.jsonl, test_socratic.jsonl. Set --split, or name a file"
        )


def test_split_of_a_plain_folder(tmp_path: Path) -> None:
    """A folder whose files name no split has no other than the default one."""
    path = folder(tmp_path / "d", *(f"{number}.jsonl" for number in range(7)))
    with pytest.raises(UserError, match=r": it has 0.jsonl, .*4.jsonl, … \(7 files\)\. Set"):
        read(path, split="test")


def test_split_of_a_single_file(tmp_path: Path) -> None:
    """One file has no splits."""
    path = write(tmp_path / "d.jsonl")
    with pytest.raises(UserError) as raised:
        read(path, split="test")
    assert str(raised.value) == f"--split test is for folders and the Hub: {path} is one file"


def test_links_that_lead_nowhere(tmp_path: Path, command: Command) -> None:
    """A link to itself, as the source or in its folder, is an error and not a file fewer."""
    path = folder(tmp_path / "d", "train-0.jsonl")
    (path / "train-1.jsonl").symlink_to("train-1.jsonl")
    for source in (path, path / "train-1.jsonl"):
        found = command("distill", "--dataset-name", source, "--skip-generation", "--run", "r")
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.splitlines()[-1].endswith(
            f"cannot read {path / 'train-1.jsonl'}: a symbolic link that leads to itself"
        )
        assert not (tmp_path / "output" / "r").exists()


@pytest.mark.parametrize("option", ["--dataset-name", "--high-quality-file"])
def test_file_whose_name_begins_with_a_tilde(tmp_path: Path, command: Command, option: str) -> None:
    """./~x.jsonl is that file, not somebody's home folder."""
    write(tmp_path / "~x.jsonl")
    found = command("distill", option, "./~x.jsonl", "--skip-generation", "--sample-size", "0")
    assert (found.returncode, found.stderr.splitlines()[-1]) == (0, "sampled 3 of 3 rows")


def saved(rows: list[dict[str, Any]]) -> Any:
    """Rows as a Dataset of `datasets`, which takes a second to import."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_list(rows)


def test_saved_by_datasets(tmp_path: Path) -> None:
    """A folder that save_to_disk wrote is read, its shards in order, and nothing that a later
    map left beside them.
    """
    import datasets

    saved(ROWS).save_to_disk(tmp_path / "d", num_shards=3)
    datasets.load_from_disk(tmp_path / "d").map(lambda row: {"output": row["output"] + "!"})
    assert len(list((tmp_path / "d").glob("*.arrow"))) > 3
    assert read(tmp_path / "d") == EXPECTED


def test_saved_splits(tmp_path: Path) -> None:
    """Of a saved DatasetDict the split is read; without it, the error names those there are."""
    import datasets

    splits = {"train": saved(ROWS), "test": saved(ROWS[:1])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    assert read(tmp_path / "d") == EXPECTED
    assert read(tmp_path / "d", split="test") == EXPECTED[:1]
    with pytest.raises(UserError) as raised:
        read(tmp_path / "d", split="validation")
    assert str(raised.value) == f"{tmp_path}/d has no split 'validation': it has train, test"


def test_saved_dataset_without_splits(tmp_path: Path) -> None:
    """A saved dataset has no splits to choose from, but the one it was."""
    saved(ROWS).save_to_disk(tmp_path / "d")
    with pytest.raises(UserError) as raised:
        read(tmp_path / "d", split="test")
    assert str(raised.value) == f"--split test: {tmp_path}/d is one dataset without splits"
    state = tmp_path / "d" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"_split": "test"}))
    assert read(tmp_path / "d", split="test") == EXPECTED


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_class_labels_are_read_by_name(tmp_path: Path, kind: str) -> None:
    """A column that `datasets` keeps as numbers with names gives the names, '' for none."""
    import datasets

    label = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.ClassLabel(names=["no", "yes"])}
    )
    columns = {"question": ["a", "b", "c"], "answer": [1, 0, None]}
    dataset = datasets.Dataset.from_dict(columns, features=label)
    if kind == "saved":
        dataset.save_to_disk(tmp_path / "d")
    else:
        dataset.to_parquet(tmp_path / "d.parquet")
    path = tmp_path / ("d" if kind == "saved" else "d.parquet")
    assert [row[:3] for row in read(path)] == [("a", "", "yes"), ("b", "", "no"), ("c", "", "")]


def write_arrow(path: Path, table: pa.Table, *, stream: bool) -> Path:
    """A table as an Arrow file: Feather's format, or a stream as `datasets` writes it."""
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.quick(8)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["a", None]).dictionary_encode(), ["a", ""]),
        (pa.array(["ä", None], pa.large_string()), ["ä", ""]),
        (pa.array(["an extraordinarily long text", "b"], pa.string_view()),
         ["an extraordinarily long text", "b"]),
        (pa.array(["说明".encode(), None]), ["说明", ""]),
        (pa.array([[1, 2], None]), ["[1,2]", ""]),
        (pa.array([{"a": [1]}, None]), ['{"a":[1]}', ""]),
        (pa.array([Decimal("1.50"), None]), ["1.50", ""]),
        (pa.array([0, None], pa.timestamp("s")), ["1970-01-01 00:00:00", ""]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.nulls(2), ["", ""]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True], ids=["file", "stream"])
def test_arrow_types_become_strings(
    tmp_path: Path, stream: bool, values: pa.Array, expected: list[str]
) -> None:
    """Each of Arrow's types gives its text, and a column that has no role may be of any type."""
    unreadable = pa.array([Decimal(1), Decimal(2)], pa.decimal256(60, 3))
    table = pa.table({"prompt": ["a", "b"], "other": unreadable, "output": values})
    rows = read(write_arrow(tmp_path / "d.arrow", table, stream=stream))
    assert rows == [("a", "", expected[0], "", None), ("b", "", expected[1], "", None)]


def test_arrow_files_of_a_folder(tmp_path: Path) -> None:
    """Several Arrow files are one dataset, also where one has no value of a column at all."""
    first = pa.table({"prompt": ["a", "b"], "output": pa.nulls(2)})
    second = pa.table({"prompt": ["c"], "output": ["x"]})
    write_arrow(tmp_path / "train-0.arrow", first, stream=True)
    write_arrow(tmp_path / "train-1.arrow", second, stream=False)
    assert [row[:3] for row in read(tmp_path)] == [("a", "", ""), ("b", "", ""), ("c", "", "x")]


def test_arrow_files_of_other_columns(tmp_path: Path) -> None:
    """Arrow files that are not of one dataset are an error that names one of them."""
    first = write_arrow(tmp_path / "0.arrow", pa.table({"prompt": ["a"]}), stream=True)
    other = write_arrow(tmp_path / "1.arrow", pa.table({"query": ["a"]}), stream=True)
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    assert str(raised.value) == (
        f"{other} has other columns than {first}: query; files of one dataset have the same, of "
        "which some may be missing"
    )


def test_arrow_file_that_was_cut_off(tmp_path: Path) -> None:
    """An Arrow stream that ends in the middle of a batch is an error, not fewer rows."""
    table = pa.table({"prompt": ["x" * 5000] * 10})
    path = write_arrow(tmp_path / "d.arrow", table, stream=True)
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(UserError, match=rf"^cannot read {path}: .*Expected to be able to read "):
        read(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A column of bytes that is not UTF-8 is an error where it plays a role."""
    pyarrow.parquet.write_table(pa.table({"prompt": [b"\xff"]}), tmp_path / "d.parquet")
    with pytest.raises(UserError, match=rf"^cannot read {tmp_path}/d.parquet: .*UTF8"):
        read(tmp_path / "d.parquet")


def test_values_become_strings(tmp_path: Path) -> None:
    """Null is '', and a number or an object is its text."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"prompt": "a", "output": 42}\n{"prompt": 1.50, "output": {"a":[1]}}\n')
    assert read(path) == [("a", "", "42", "", None), ("1.5", "", '{"a":[1]}', "", None)]


@pytest.mark.quick(8)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.jsonl",
            b'{"a": 1}\n{"a":}\n',
            "{path} is not valid JSON: line 2: Expecting value; leave it out with --skip-bad-rows",
        ),
        (
            "d.jsonl",
            b'{"a":1}\r\n{"a":\r\n\r\n[1]\n{"a":2}\nnull\n{"a":"\xff"}\n',
            "{path} is not valid JSON: line 2: Expecting value; leave all 3 that cannot be read "
            "out with --skip-bad-rows",
        ),
        (
            "d.jsonl",
            b"{\n" * 21,
            "{path} is not valid JSON: line 1: Expecting property name enclosed in double quotes; "
            "more than 20 records cannot be read; leave all out with --skip-bad-rows",
        ),
        (
            "d.json",
            b'[{"a": 1},\n{"a":}]',
            "{path} is not valid JSON: line 2, column 6: Expecting value; correct or take out that "
            "object",
        ),
        (
            "d.json",
            b'\xef\xbb\xbf [\n{"a": "],\\""},\n\n  {"a": "\xc3\xa4",\n "b": "\\ud800"}]',
            "{path} is not valid JSON: line 4, column 3: half of a surrogate pair (\\ud800), which "
            "no text can hold; correct or take out that object",
        ),
        (
            "d.json",
            b'{\n "a": 1,\n "b": \n}\n',
            "{path} is not valid JSON: line 4, column 1: Expecting value; correct or take out that "
            "object",
        ),
        (
            "d.jsonl",
            b'{"a": "x"}\n{"a": "\\ud800"}\n',
            "{path} is not valid JSON: line 2: half of a surrogate pair (\\ud800), which no text "
            "can hold; leave it out with --skip-bad-rows",
        ),
        ("d.jsonl", b"1\n2\n", "{path}: no objects in it; one JSON object a row is expected"),
        (
            "d.jsonl",
            b'{"prompt": "a"}\n\n2\n',
            "{path} is not valid JSON: line 3: an object is expected; leave it out with "
            "--skip-bad-rows",
        ),
        (
            "d.jsonl.gz",
            b"no gzip",
            "{path} is not valid JSON: line 1: Expecting value; leave it out with --skip-bad-rows",
        ),
        (
            "d.jsonl.gz",
            gzip.compress(random.Random(0).randbytes(10_000).hex().encode())[:9_000],
            "cannot read {path}: IO Error: Unexpected end of GZIP stream: {path}",
        ),
        (
            "d.csv.gz",
            gzip.compress(random.Random(0).randbytes(10_000).hex().encode())[:5_000],
            "cannot read {path}: Truncated compressed stream",
        ),
        ("d.csv", b"", "{path} is empty: a line of column names is expected"),
        ("d.csv", b"a,a\n1,2\n", "{path}: a column name occurs twice in line 1: a, a"),
        (
            "d.csv",
            b'prompt,b\n"1\n1",2\n1,2,3\n1,"\xff\n"\n1,2\n',
            "{path} is not valid CSV: line 4: 3 columns, 2 are expected; leave all 2 that cannot "
            "be read out with --skip-bad-rows",
        ),
        (
            "d.csv",
            b'prompt,b\n1,"2\n1,2\n',
            "{path} is not valid CSV: line 2: a quote that is not closed",
        ),
        (
            "d.csv",
            b'prompt,b\n1,2,3\n1,"2\n' + b"1,2\n" * 600_000 + b'3,"4"\n',
            "{path} is not valid CSV: line 3: a quote that is not closed within 2 MB",
        ),
        (
            "d.csv",
            b"prompt" + b",b" * 100_000 + b"\n",
            "{path}: line 1 names 100001 columns, and at most 10000 can be read; make a file of "
            "those that are needed, such as the first: cut -d, -f1-10000",
        ),
        (  # its words are no Ctrl-C
            "d.csv",
            b"prompt\nfirst\nKeyboardInterrupt,then interrupted\n",
            "{path} is not valid CSV: line 3: 2 columns, 1 are expected; leave it out with "
            "--skip-bad-rows",
        ),
        (
            "d.parquet",
            b"prompt\nno parquet at all\n",
            "cannot read {path}: Invalid Input Error: No magic bytes found at end of file '{path}'",
        ),
        (
            "d.txt",
            b"",
            "{path}: unknown kind of file; known are .arrow, .csv, .json, .jsonl, .parquet, those "
            "of text also compressed as .gz or .zst",
        ),
        (
            "d.parquet.gz",
            b"",
            "{path}: unknown kind of file; known are .arrow, .csv, .json, .jsonl, .parquet, those "
            "of text also compressed as .gz or .zst",
        ),
        ("d.arrow", b"", "{path} is not an Arrow file: cannot mmap an empty file"),
        (
            "d.arrow",
            b"no Arrow at all",
            "{path} is not an Arrow file: Expected to read 1092644718 metadata bytes, but only "
            "read 11",
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


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "head", "tail"),
    [("d.jsonl", b'{"prompt":"', b'"}'), ("d.csv", b'1,"', b'"')],
)
def test_record_that_is_too_large(
    tmp_path: Path, command: Command, name: str, head: bytes, tail: bytes
) -> None:
    """One record of 50 MB is named, and skipped where that is asked for."""
    path = tmp_path / name
    rows = [head + b"a" + tail, head + b"x" * 50_000_000 + tail, head + b"b" + tail]
    header = [b"id,prompt"] if name == "d.csv" else []
    path.write_bytes(b"\n".join(header + rows) + b"\n")
    distill = ("distill", "--skip-generation", "--sample-size", "0", "--dataset-name", path)
    refused = command(*distill)
    line = len(header) + 2
    kind, limit = ("CSV", 2) if header else ("JSON", 16)
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        1,
        f"fastdatasets: {path} is not valid {kind}: line {line}: longer than {limit} MB; leave "
        "it out with --skip-bad-rows",
    )
    read = command(*distill, "--skip-bad-rows")
    said = [text for text in read.stderr.splitlines() if text.startswith("s")][1:]
    assert said == [
        "sampled 2 of 3 rows",
        f"skipped, cannot be read: 1 rows: longer than {limit} MB",
        f"skipped rows: {path}:{line}",
    ]


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("d.json", b'\xef\xbb\xbf\r\n[{"prompt":"a"},{"prompt":"b"}]', ["a", "b"]),
        ("d.jsonl", b'\xef\xbb\xbf{"prompt":"a"}\n{"prompt":"b"}', ["a", "b"]),
        ("d.jsonl", b'{"":1,"prompt":"a"}\n{"prompt":"b"}', ["a", "b"]),
        ("d.jsonl", b'{"prompt":"a","Output":1,"output":2}\n{"prompt":"b"}', ["a", "b"]),
        ("d.jsonl", b'{"prompt":"a","prompt":"z"}\n{"prompt":"b"}', ["a", "b"]),
        ("d.jsonl", b'{"prompt":"a"}\n{"prompt":"b","x":' + DEEP + b"}", ["a", "b"]),
        (
            "d.jsonl",
            json.dumps({f"c{n}": n for n in range(300)} | {"prompt": "a"}).encode(),
            ["a"],
        ),
    ],
    ids=["bom-array", "bom", "empty-key", "case", "twice", "deep-beside", "columns"],
)
def test_json_that_is_unusual(
    tmp_path: Path, name: str, content: bytes, expected: list[str]
) -> None:
    """JSON is read whatever its objects' keys are, and the depth of those that are not used."""
    path = tmp_path / name
    path.write_bytes(content)
    assert [row[0] for row in read(path)] == expected


def test_json_with_a_sole_column_called_json(tmp_path: Path) -> None:
    """A column may be called json."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"json":"a"}\n{"json":"b"}\n')
    assert [row[0] for row in read(path, instruction="json")] == ["a", "b"]


def test_deep_json_that_is_broken(tmp_path: Path, command: Command) -> None:
    """A broken line is found beside one that is nested too deep for a decoder of Python's."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"prompt":' + DEEP + b'}\n{"prompt":\n')
    done = command("distill", "--dataset-name", path, "--skip-generation", "--run", "r")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        f"fastdatasets: {path} is not valid JSON: line 2: Expecting value; leave it out with "
        "--skip-bad-rows",
    )
    assert not (tmp_path / "output" / "r").exists()


def write_columns(path: Path, columns: list[str]) -> Path:
    """A file of one record whose values are its columns' names."""
    table = pa.table({name: [name] for name in columns})
    match path.suffix:
        case ".jsonl":
            path.write_bytes(lines(table.to_pylist()))
        case ".csv":
            path.write_text(f"{','.join(columns)}\n{','.join(columns)}\n")
        case ".parquet":
            pyarrow.parquet.write_table(table, path)
        case _:
            pyarrow.feather.write_feather(table, str(path))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "arrow"])
def test_columns_of_several_files(tmp_path: Path, kind: str) -> None:
    """A file may lack columns, or have them in another order; one with others is an error."""
    first = write_columns(tmp_path / f"0.{kind}", ["output", "prompt"])
    write_columns(tmp_path / f"1.{kind}", ["prompt"])
    full = write_columns(tmp_path / f"2.{kind}", ["prompt", "thinking", "output"])
    assert read(tmp_path) == [
        ("prompt", "", "output", "", None),
        ("prompt", "", "", "", None),
        ("prompt", "", "output", "thinking", None),
    ]
    write_columns(first, ["query", "prompt"])
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    assert str(raised.value) == (
        f"{first} has other columns than {full}: query; files of one dataset have the same, of "
        "which some may be missing"
    )


@pytest.mark.parametrize("source", ["a/b/c", "folder/", "two words", "what?", "a--b"])
def test_neither_a_path_nor_a_name_of_the_hub(source: str) -> None:
    """What is no local path and cannot be a name of the Hub is said at once."""
    with pytest.raises(UserError) as raised:
        new_run(RunConfig(dataset_name=source, model="m"), load_settings())
    assert str(raised.value) == (
        f"no such file or folder: {source}; nor can it be a dataset of the Hub, which is called "
        "'name' or 'owner/name'"
    )
