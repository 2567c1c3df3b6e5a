"""--where: conditions over the columns of every kind of file, and what is none."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from tests.conftest import Command, write_jsonl
from tests.rows import (
    ALL,
    KINDS,
    ROWS,
    SKIP,
    left_out,
    source_rows,
    write,
)

ONE = ": one condition is expected, such as \"score > 3 AND lang = 'zh'\""


@pytest.mark.quick(12)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("score > 3", [1, 2]),
        ("score + 1 BETWEEN 2 AND 10", [0, 1]),
        ("分数 >= 1.5 AND score < 10", [1]),
        ("\"my col\" = 'it''s' OR score IS NULL", [1, 3]),
        ("\"my col\" = '007'", [2]),
        ("ok", [0, 2]),
        ("NOT ok", [1]),
        ("lower(question) IN ('a', 'D') -- or others", [0]),
        ("QUESTION LIKE 'D%'", [3]),
        ("list_contains(list_transform([1, 9], lambda x: x + 0), score)", [0, 1]),
        ("CASE WHEN score > 9 THEN true ELSE false END", [2]),
    ],
)
def test_where(
    command: Command, tmp_path: Path, kind: str, condition: str, expected: list[int]
) -> None:
    """A condition compares numbers as numbers and texts as texts, in files of every kind."""
    path = write(tmp_path / f"d.{kind}", ROWS)
    done = command(*SKIP, *ALL, "--dataset-name", path, "--where", condition)
    assert (done.returncode, source_rows(), left_out(done.stderr)) == (
        0,
        expected,
        [f"left out: {4 - len(expected)} rows for which --where is not true"],
    )


@pytest.mark.quick(12)
@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("score >", "at character 7 ('>'): syntax error at or near \">\""),
        ("分数 > > 3", "at character 6 ('> 3'): syntax error at or near \">\""),
        ("score = 'a", "at character 9 (\"'a\"): unterminated string literal"),
        ("scor > 3",
         "at character 1 ('scor > 3'): there is no column 'scor'; did you mean 'score'?"),
        ('ok AND "my cool" = 3',
         "at character 8 ('\"my cool\" = 3'): there is no column 'my cool'; "
         "did you mean 'my col'?"),
        ("current_date > score", "at character 1 ('current_date > score'): there is no column "
                                 "'current_date'. The dataset has question, answer"),
        ("getenv('HOME') = 'x'",
         "at character 1 (\"getenv('HOME') = 'x'\"): there is no function getenv"),
        ("lowr(question) = 'x'",
         "at character 1 (\"lowr(question) = 'x'\"): there is no function lowr; "
         "did you mean lower?"),
        ("ok OR read_text('x') = 'y'", "at character 7 (\"read_text('x') = 'y'\"): the function "
                                       "read_text is not possible"),
        ("glob('*') = 'y'",
         "at character 1 (\"glob('*') = 'y'\"): the function glob is not possible"),
        ("random() > 0.5",
         "at character 1 ('random() > 0.5'): the function random is not possible"),
        ("json_serialize_plan('SELECT 1') = ''", "at character 1 ('json_serialize_plan('): the "
                                                 "function json_serialize_plan is not possible"),
        ("current_setting('x') = 'y'", "at character 1 (\"current_setting('x')\"): the function "
                                       "current_setting is not possible"),
        ("sum(score) > 3", "at character 1 ('sum(score) > 3'): the function sum is not possible"),
        ("row_number() OVER () < 3", "at character 1 ('row_number() OVER ()'): a window function"),
        ("score IN (SELECT 1)", "at character 10 ('(SELECT 1)'): a subquery is not possible"),
        ("EXISTS (FROM 'a.csv')", "at character 1 (\"EXISTS (FROM 'a.csv'\"): a subquery is not"),
        ("score > $1", "at character 9 ('$1'): there are no parameters"),
        ("ok; DROP TABLE records", f"{ONE}, not: ok; DROP TABLE records"),
        ("ok) OR (true", "at character 3 (') OR (true'): syntax error at or near \")\""),
        ("ok ORDER BY score", f"{ONE}, not: ok ORDER BY score"),
        ("ok UNION SELECT 1", f"{ONE}, not: ok UNION SELECT 1"),
        ("", f"{ONE}, not: "),
        ("score", "score: true or false is expected, and this is BIGINT"),
        ("question > 3", ": Cannot compare values of type VARCHAR and type INTEGER_LITERAL"),
        ("question::INTEGER > 3", ": Could not convert string 'A' to INT32"),
    ],
)  # fmt: skip
def test_where_is_wrong(command: Command, tmp_path: Path, condition: str, message: str) -> None:
    """What is not one condition over the columns is an error that says where, and leaves no run."""
    path = write(tmp_path / "d.jsonl", ROWS)
    done = command(*SKIP, *ALL, "--dataset-name", path, "--where", condition)
    (line,) = [line for line in done.stderr.splitlines() if "--where" in line]
    start = f"fastdatasets: --where{'' if message[0] == ':' else ' '}{message}"
    assert (done.returncode, line[: len(start)]) == (1, start)
    assert list(Path("output").glob("r/*")) == []


def test_where_on_lists_and_labels(command: Command, tmp_path: Path) -> None:
    """Lists and structs of typed files are compared as they are, a ClassLabel by its name."""
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "answer": datasets.Value("string"),
            "tags": datasets.List(datasets.Value("string")),
            "meta": {"from": datasets.Value("string")},
            "topic": datasets.ClassLabel(names=["art", "it's maths"]),
        }
    )
    rows = [
        {
            "question": f"Q{n}",
            "answer": "a",
            "tags": ["x"] * n,
            "meta": {"from": "ab"[n % 2]},
            "topic": n % 2,
        }
        for n in range(4)
    ]
    datasets.Dataset.from_list(rows, features).save_to_disk(tmp_path / "saved")
    condition = "len(tags) > 0 AND meta.from = 'b' AND tags[1] = 'x' AND topic = 'it''s maths'"
    options = ("--dataset-name", tmp_path / "saved", "--where", condition)
    assert command(*SKIP, *ALL, *options).returncode == 0
    assert source_rows() == [1, 3]


def test_where_on_json_in_json_files(command: Command, tmp_path: Path) -> None:
    """Lists and objects of JSON files are JSON: ->> and json_array_length read them."""
    rows: list[dict[str, object]] = [
        {
            "question": f"Q{n}",
            "answer": "a",
            "n": n,
            "meta": {"from": "ab"[n % 2]},
            "tags": ["x"] * n,
        }
        for n in range(4)
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    condition = "meta->>'from' = 'b' AND json_array_length(tags) >= 3 AND n < 10"
    assert command(*SKIP, *ALL, "--dataset-name", path, "--where", condition).returncode == 0
    assert source_rows() == [3]


def test_where_comes_before_reading(command: Command, tmp_path: Path) -> None:
    """A conversation that cannot be read is no error where the condition excludes it; rows without
    a question and skipped ones are counted as such.
    """
    rows: list[dict[str, object]] = [
        {"kind": "chat", "messages": ["A", {"role": "assistant", "content": "a"}]},
        {"kind": "other", "messages": [{"role": "nobody", "content": "B"}]},
        {"kind": "chat", "messages": []},
        {"kind": "other", "messages": []},
    ]
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    path.write_text(path.read_text("utf-8") + "{broken\n", "utf-8")
    done = command(*SKIP, *ALL, "--dataset-name", path, "--where", "kind = 'chat'",
                   "--skip-bad-rows")  # fmt: skip
    assert (done.returncode, source_rows(), done.stderr.splitlines()[3:7]) == (
        0,
        [0],
        [
            "sampled 1 of 5 rows",
            "left out: 2 rows for which --where is not true",
            "left out: 1 rows without a question of the user",
            "skipped, cannot be read: 1 rows: Expecting property name enclosed in double quotes",
        ],
    )
