"""The shapes in which datasets have images, and what a request has of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Command, write_jsonl
from tests.fastdatasets.images import data_url, image, png, text, user, written

URL = "https://127.0.0.1/a.png"
ONE, TWO = image(data_url(png(1))), image(data_url(png(2)))
BASE64 = data_url(png(1)).partition(",")[2]
NOT_AN_IMAGE = "with an image that is no JPEG, PNG, WebP or GIF"
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def _images() -> None:
    for shade in (1, 2):
        written(Path(f"data/pics/{shade}.png"), png(shade))
    written(Path("data/text.png"), b"no image")


def preview(command: Command, source: Path, *more: object) -> tuple[list[Any], list[str]]:
    """The messages of the first requests, and what is said after the columns."""
    done = command(
        *("preview", "--dataset-name", source, "--sample-size", 0, "--model", "gpt-4.1"),
        *("--backend", "openai", "--json", *(more or ("--images",))),
        env={"LLM_API_BASE": "http://127.0.0.1:9/v1"},
    )
    if done.returncode:
        return [], done.stderr.splitlines()[-1:]
    shown = json.loads(done.stdout)
    lines = [line for line in shown["lines"] if line.startswith(("left out", "not used"))]
    return [one["body"]["messages"] for one in shown["requests"]], lines


def asked(*parts: object) -> dict[str, object]:
    """A row of one turn."""
    return {"messages": [user(*parts)]}


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (asked({"type": "image_url", "image_url": URL}, text("A")), [image(URL), text("A")]),
        (asked({"type": "input_image", "image_url": URL}), [image(URL)]),
        (asked({"type": "image", "image": "pics/1.png"}, text("A")), [ONE, text("A")]),
        (asked({"type": "image", "url": URL, "text": None}, text("A")), [image(URL), text("A")]),
        (
            asked({"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                               "data": BASE64}}),
            [ONE],
        ),
        (
            {**asked({"type": "image"}, text("A"), {"type": "image"}),
             "images": ["pics/1.png", "pics/2.png"]},
            [ONE, text("A"), TWO],
        ),
        (
            {"conversations": [{"from": "human", "value": "<image>\nA"}], "image": "pics/1.png"},
            [ONE, text("A")],
        ),
        (
            {"messages": json.dumps([user(image(URL), text("A"))]), "images": None},
            [image(URL), text("A")],
        ),
        ({"question": "A", "images": ["pics/1.png", "pics/2.png"]}, [ONE, TWO, text("A")]),
        ({"question": "A", "image": {"path": "pics/1.png"}}, [ONE, text("A")]),
        ({"instruction": "A <image>", "image_url": URL}, [text("A "), image(URL)]),
        ({"prompt": [user(image(URL), text("A"))]}, [image(URL), text("A")]),
    ],
)  # fmt: skip
@pytest.mark.quick(4)
def test_shapes(command: Command, row: dict[str, object], parts: list[object]) -> None:
    """Parts of turns, placeholders and columns; paths are those beside the file."""
    source = write_jsonl(Path("data/d.jsonl"), [row])
    assert preview(command, source) == ([[user(*parts)]], [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (asked(image("pics/3.png")), "with an image file that cannot be read (row 2)"),
        (asked(image("text.png")), NOT_AN_IMAGE),
        (asked(image("data:image/png;base64,###")), NOT_AN_IMAGE),
        (asked(image("data:text/plain;base64,aGk=")), NOT_AN_IMAGE),
        (
            {**asked(text("<image> <image>")), "images": ["pics/1.png"]},
            "with another number of images than of <image> in the texts",
        ),
        (
            {"messages": [{"role": "system", "content": [image(URL)]}, user(text("A"))]},
            "with images outside of the user's turns",
        ),
        (asked({"type": "input_audio", "input_audio": {}}), "with images, audio or video"),
    ],
)  # fmt: skip
@pytest.mark.quick(2)
def test_rows_left_out(command: Command, row: dict[str, object], reason: str) -> None:
    """Rows whose images cannot be sent are left out, counted and said."""
    source = write_jsonl(Path("data/d.jsonl"), [{"messages": [user(text("B"))]}, row])
    sent = [[{"role": "user", "content": "B"}]]
    assert preview(command, source) == (sent, [f"left out: 1 rows {reason}"])


def test_without_the_option(command: Command) -> None:
    """Turns with images are left out."""
    rows = [asked(text("B")), asked(image(URL), text("A"))]
    source = write_jsonl(Path("data/d.jsonl"), rows)
    left = ["left out: 1 rows with images, audio or video"]
    sent = [[{"role": "user", "content": "B"}]]
    assert preview(command, source, "--seed", 1) == (sent, left)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([{"bytes": png(1), "path": "a.png"}, None], STRUCT, [ONE]),
        ([{"bytes": None, "path": "pics/1.png"}, None], STRUCT, [ONE]),
        ([[{"bytes": png(1), "path": None}, {"bytes": png(2), "path": None}], []],
         pa.list_(STRUCT), [ONE, TWO]),
        ([png(1), None], pa.binary(), [ONE]),
        ([["pics/1.png", URL], None], pa.list_(pa.string()), [ONE, image(URL)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind_of_file", ["parquet", "arrow"])
@pytest.mark.quick(3)
def test_columns_of_datasets(
    command: Command, kind_of_file: str, values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    """The Image feature of `datasets`, lists of it, bytes alone, and lists of names."""
    table = pa.table({"question": ["A", "B"], "image": pa.array(values, kind)})
    source = Path(f"data/d.{kind_of_file}")
    if kind_of_file == "parquet":
        pq.write_table(table, source)
    else:
        with pa.ipc.new_stream(source, table.schema) as stream:
            stream.write_table(table)
    sent = [[user(*expected, text("A"))], [{"role": "user", "content": "B"}]]
    assert preview(command, source) == (sent, [])


def test_only_sampled_images_are_kept(command: Command) -> None:
    """Bytes without a file are written for the rows of the sample alone."""
    table = pa.table(
        {"question": ["A"] * 50, "image": pa.array([png(shade) for shade in range(50)])}
    )
    pq.write_table(table, "data/d.parquet", row_group_size=10)
    done = command(
        *("distill", "--dataset-name", "data/d.parquet", "--sample-size", 3, "--images"),
        *("--backend", "openai", "--model", "m", "--skip-generation", "--run", "r"),
        env={"LLM_API_BASE": "http://127.0.0.1:9/v1"},
    )
    assert done.returncode == 3  # there are no outputs
    rows = json.loads(Path("output/r/distilled.json").read_text("utf-8"))
    kept = {path.name: path.read_bytes() for path in Path("output/r/images").iterdir()}
    assert [kept[Path(row["images"][0]).name] for row in rows] == [
        png(row["source_row"]) for row in rows
    ]
    assert len(kept) == 3


def test_files_of_a_folder(command: Command) -> None:
    """A path is looked for in the folder that is the source, and beside its files."""
    written(Path("data/train/near.png"), png(2))
    row: dict[str, object] = {"question": "A", "images": ["pics/1.png", "near.png"]}
    write_jsonl(Path("data/train/d.jsonl"), [row])
    assert preview(command, Path("data")) == ([[user(ONE, TWO, text("A"))]], [])
