"""Datasets of the Hub, as whole commands read them through `datasets` from a double of the Hub."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.conftest import Command
from tests.hub import README, Hub, Repository
from tests.llmserver import LLMServer

ROOT = Path(__file__).parents[3]
ROWS: list[dict[str, Any]] = [{"question": f"Question {n}", "answer": f"{n}"} for n in range(5)]
CONFIGURATIONS = b"""---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*.parquet
  - split: test
    path: main/test.parquet
- config_name: hard
  data_files: hard.parquet
---
# A dataset card
"""
S1K = "open-r1/s1K-1.1"
SPECIAL = "Congliu/Chinese-DeepSeek-R1-Distill-data-110k"
SKIP = ("distill", "--skip-generation", "--sample-size", 0, "--model", "m", "--run", "r")


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a parquet file, with bytes of an image that nobody reads."""
    table = pa.Table.from_pylist(rows).append_column("image", pa.array([b"\xff"] * len(rows)))
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """The Hub with a few datasets."""
    special = [
        {"input": text, "reasoning_content": "想", "content": "二", "repo_name": "a", "score": 9}
        for text in ("一加一等于几", "二加二等于几")
    ]
    s1k = [{"solution": row["answer"], "question": row["question"]} for row in ROWS]
    repositories = {
        "owner/plain": Repository({"train.jsonl": jsonl(ROWS), "test.jsonl": jsonl(ROWS[:1])}),
        "owner/configured": Repository(
            {
                README: CONFIGURATIONS,
                "main/train-00000-of-00002.parquet": parquet(ROWS[:3]),
                "main/train-00001-of-00002.parquet": parquet(ROWS[3:]),
                "main/test.parquet": parquet(ROWS[:1]),
                "hard.parquet": parquet(ROWS[1:2]),
            }
        ),
        "owner/gated": Repository(
            {README: b"# Gated\n", "train.jsonl": jsonl(ROWS)}, token="hf_right"
        ),
        "owner/broken": Repository({"train.jsonl": jsonl(ROWS) + b'{"question": \n'}),
        "owner/script": Repository({"script.py": b"print()\n"}),
        S1K: Repository(
            {
                "data/train-00000-of-00001.parquet": parquet(
                    [row | {"cot_type": "math"} for row in s1k]
                )
            }
        ),
        SPECIAL: Repository({"distill_r1_110k.jsonl": jsonl(special)}),
    }
    with Hub(repositories) as hub:
        yield hub


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    """A server that answers, and writes variants where they are asked for."""

    def answer(body: dict[str, Any]) -> str:
        prompt: str = body["messages"][-1]["content"]
        if "Output only a JSON array" in prompt:
            return json.dumps(["Paint it blue", "Why is it heavy?"])
        return "An answer"

    with LLMServer(answer=answer) as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("LLM_MODEL", "m")
        yield server


def distilled(*names: str) -> list[tuple[str, ...]]:
    """These values of each row of the one run's distilled.json."""
    (file,) = Path("output").glob("*/distilled.json")
    return [tuple(row[name] for name in names) for row in json.loads(file.read_text("utf-8"))]


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Questions and answers."""
    return [(row["question"], row["answer"]) for row in rows]


@pytest.mark.slow
def test_cache_is_shared(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """What is downloaded has the modes that the user wants, and the run's files are private."""
    home = tmp_path / "home"
    before = os.umask(0o022)
    try:
        done = command_process(*SKIP, "--dataset-name", "owner/configured", "--config-name", "main",
                       env=hub.env(home))  # fmt: skip
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    cached = [path.stat().st_mode & 0o055 for path in home.rglob("*.parquet")]
    assert cached
    assert set(cached) == {0o044}
    folders = {path.parent.stat().st_mode & 0o777 for path in home.rglob("*.parquet")}
    assert folders == {0o755}
    assert {path.stat().st_mode & 0o777 for path in Path("output/r").iterdir()} == {0o600}


@pytest.mark.slow
def test_rows_are_chosen(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """Rows of a dataset of the Hub are chosen by its columns, those that are not used too."""
    done = command_process(
        *("distill", "--skip-generation", "--model", "m", "--run", "r", "--sample-size", 2),
        *("--dataset-name", "owner/configured", "--config-name", "main"),
        *("--where", "octet_length(image) = 1 AND answer::INTEGER > 2", "--stratify", "answer"),
        env=hub.env(tmp_path),
    )
    assert (done.returncode, sorted(distilled("output"))) == (0, [("3",), ("4",)])
    assert "left out: 3 rows for which --where is not true" in done.stderr.splitlines()


@pytest.mark.slow
def test_configuration_and_split(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """A configuration's split is read, all its parquet files in order, and nothing is said beside
    what the command says.
    """
    done = command_process(
        *SKIP, "--dataset-name", "owner/configured", "--config-name", "main", env=hub.env(tmp_path)
    )
    assert (done.returncode, distilled("instruction", "output")) == (0, pairs(ROWS))
    assert done.stderr.splitlines()[1:] == [
        "sampling owner/configured",
        "columns: instruction ← question, output ← answer; not used: image",
        "sampled 5 of 5 rows",
    ]


@pytest.mark.slow
def test_beside_a_local_file(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """A dataset of the Hub and a local file are sampled into one run, each by its own columns; a
    second one that the Hub does not have leaves no folder.
    """
    local = tmp_path / "local.jsonl"
    local.write_bytes(jsonl([{"instruction": "Add", "output": "2"}]))
    two = (*SKIP, "--dataset-name", local, "--dataset-name")
    missing = command_process(*two, "owner/missing", env=hub.env(tmp_path))
    assert (missing.returncode, Path("output/r").exists()) == (1, False)
    assert "owner/missing" in missing.stderr.splitlines()[-1]
    done = command_process(*two, "owner/plain:0.4", env=hub.env(tmp_path))
    assert (done.returncode, distilled("instruction", "output", "source")) == (
        0,
        [
            ("Add", "2", "local.jsonl"),
            ("Question 4", "4", "owner/plain"),
            ("Question 0", "0", "owner/plain"),
        ],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "expected"),
    [("test", ROWS[:1]), ("train[1:3]", ROWS[1:3]), ("test+train[-1:]", [ROWS[0], ROWS[4]])],
)
def test_splits(
    command_process: Command, hub: Hub, tmp_path: Path, split: str, expected: list[dict[str, Any]]
) -> None:
    """A split may be any that `datasets` knows, a part of one included."""
    done = command_process(
        *SKIP, "--dataset-name", "owner/plain", "--split", split, env=hub.env(tmp_path)
    )
    assert (done.returncode, distilled("instruction", "output")) == (0, pairs(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "mapping", "expected"),
    [
        (
            [S1K, "--sample_size", "100", "--formats", "alpaca,sharegpt"],
            "instruction ← question; not used: solution, cot_type, image",
            [(f"Question {n}", "", "An answer") for n in range(5)],
        ),
        (
            [SPECIAL],
            "instruction ← input, output ← content, reasoning ← reasoning_content; not used: "
            "repo_name, score",
            [("一加一等于几", "", "An answer"), ("二加二等于几", "", "An answer")],
        ),
    ],
)
@pytest.mark.usefixtures("teacher")
def test_the_guides_command_lines(
    hub: Hub, tmp_path: Path, options: list[str], mapping: str, expected: list[tuple[str, ...]]
) -> None:
    """The old guide's first example, and its special dataset, run as they stand there."""
    script = [sys.executable, str(ROOT / "scripts/distill_dataset.py")]
    done = subprocess.run(
        [*script, "--mode", "distill", "--dataset_name", *options],
        env={**os.environ, **hub.env(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[2]) == (0, f"columns: {mapping}")
    assert sorted(distilled("instruction", "input", "output")) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("teacher")
def test_batch(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """A dataset of the Hub is answered in a batch."""
    done = command_process(
        *("distill", "--dataset-name", "owner/plain", "--sample-size", 0),
        *("--backend", "openai-batch"),
        env=hub.env(tmp_path, FASTDATASETS_POLL_SECONDS="0.1"),
    )
    expected = [(question, "An answer") for question, _ in pairs(ROWS)]
    assert (done.returncode, distilled("instruction", "output")) == (0, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("teacher")
def test_augment(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """The rows of a dataset of the Hub are samples to augment."""
    done = command_process(
        *("augment", "--dataset-name", "owner/plain", "--split", "test", "--num-aug", 2),
        env=hub.env(tmp_path),
    )
    assert (done.returncode, distilled("instruction", "output")) == (
        0,
        [(text, "An answer") for text in ("Question 0", "Paint it blue", "Why is it heavy?")],
    )


@pytest.mark.slow
def test_estimate(command_process: Command, hub: Hub, tmp_path: Path) -> None:
    """A dataset of the Hub can be estimated, and that leaves nothing behind."""
    done = command_process(
        *("estimate", "--dataset-name", "owner/plain", "--sample-size", 0, "--json"),
        *("--model", "gpt-4o-mini", "--backend", "openai"),
        env=hub.env(tmp_path / "home"),
    )
    found = json.loads(done.stdout)
    assert (done.returncode, found["records"], found["unique_requests"]) == (0, 5, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


GATED = (
    "dataset 'owner/gated' is gated: request access at {hub}/datasets/owner/gated and set HF_TOKEN "
    "to a token of that account"
)
NOWHERE = (
    "there is no file or folder {name!r} here, and no dataset of that name on the Hub at {{hub}}, "
    "or it is private: set HF_TOKEN to a token that may read it"
)
slow = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        (["owner/missing"], {}, NOWHERE.format(name="owner/missing")),
        (["owner/gated"], {}, GATED),
        (
            ["owner/configured"],
            {},
            "dataset 'owner/configured' has several configurations: main, hard. Name one with "
            "--config-name",
        ),
        (
            ["owner/plain", "--split", "train+validation"],
            {},
            "dataset 'owner/plain' has no split 'validation': it has train, test",
        ),
        pytest.param(["questions.txt"], {}, NOWHERE.format(name="questions.txt"), marks=slow),
        pytest.param(["owner/gated"], {"HF_TOKEN": "hf_wrong"}, GATED, marks=slow),
        pytest.param(
            ["owner/configured", "--config-name", "easy"],
            {},
            "dataset 'owner/configured' has no configuration 'easy': it has main, hard",
            marks=slow,
        ),
        pytest.param(
            ["owner/broken"],
            {},
            "cannot load dataset 'owner/broken': JSON parse error: Invalid value. in row 5",
            marks=slow,
        ),
        pytest.param(
            ["owner/script"],
            {},
            "cannot load dataset 'owner/script': Dataset scripts are no longer supported, but "
            "found script.py",
            marks=slow,
        ),
        pytest.param(
            ["owner/plain"],
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "there is no file or folder 'owner/plain' here, and the Hub at http://127.0.0.1:9 "
            "cannot be reached: [Errno 111] Connection refused (HF_ENDPOINT sets another address, "
            "such as a mirror's)",
            marks=slow,
        ),
        pytest.param(
            ["owner/plain"],
            {"HF_HUB_OFFLINE": "1"},
            "there is no file or folder 'owner/plain' here, and the Hub at {hub} cannot be "
            "reached: HF_HUB_OFFLINE is set",
            marks=slow,
        ),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(
    command_process: Command,
    hub: Hub,
    tmp_path: Path,
    options: list[str],
    env: dict[str, str],
    message: str,
) -> None:
    """No dataset, split, configuration, access or network: one line, exit 1, and no run is left."""
    home = hub.env(tmp_path / "home") | env
    done = command_process(*SKIP, "--dataset-name", *options, env=home)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[2:]) == (
        1,
        "",
        [f"fastdatasets: {message.format(hub=hub.address)}"],
    )
    assert list(Path("output").iterdir()) == []


@pytest.mark.slow
def test_a_gated_dataset_opens_with_a_token(
    command_process: Command, hub: Hub, tmp_path: Path
) -> None:
    """HF_TOKEN, here in .env, opens a gated dataset."""
    Path(".env").write_text("HF_TOKEN=hf_right\n")
    done = command_process(*SKIP, "--dataset-name", "owner/gated", env=hub.env(tmp_path))
    assert (done.returncode, distilled("instruction", "output")) == (0, pairs(ROWS))


@pytest.mark.slow
def test_the_cache_is_read_where_the_hub_is_away(command_process: Command, tmp_path: Path) -> None:
    """What was downloaded before is used where the Hub does not answer, and that is said."""
    with Hub({"owner/plain": Repository({"train.jsonl": jsonl(ROWS)})}) as hub:
        first = command_process(*SKIP, "--dataset-name", "owner/plain", env=hub.env(tmp_path))
        loaded = distilled("instruction", "output")
        shutil.rmtree("output")
        hub.fails = 503
        second = command_process(*SKIP, "--dataset-name", "owner/plain", env=hub.env(tmp_path))
    assert (first.returncode, second.returncode, loaded) == (0, 0, pairs(ROWS))
    assert distilled("instruction", "output") == loaded
    assert second.stderr.splitlines()[2] == (
        f"owner/plain is taken from the cache: the Hub at {hub.address} cannot be reached: it "
        "answers 503 Service Unavailable"
    )
