"""The real engine with a real small model on the CPU: a run, its death, its resumption."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fastdatasets.demo import demo_dataset
from tests.conftest import Command, start, write_jsonl

pytestmark = pytest.mark.slow


def distilled(run: str) -> list[dict[str, Any]]:
    """The rows of a run's distilled.json."""
    rows: list[dict[str, Any]] = json.loads(Path("output", run, "distilled.json").read_text())
    return rows


def stored(run: str) -> dict[str, str]:
    """What a run's store holds: instruction -> answer."""
    with duckdb.connect(f"output/{run}/work.duckdb", read_only=True) as connection:
        rows = connection.execute(
            "SELECT instruction, text FROM records JOIN asks USING (record) "
            "JOIN results USING (request_id)"
        ).fetchall()
    return dict(rows)


def wait_for_answers(process: subprocess.Popen[str], run: str) -> None:
    """Wait until progress.json tells of stored answers."""
    path = Path("output", run, "progress.json")
    while True:
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if path.exists() and json.loads(path.read_bytes())["requests"]["done"]:
                return
        else:
            pytest.fail(f"the command ended before it was to be stopped: {process.communicate()}")


LONG_RUN = ("--sample-size", 80, "--max-output-tokens", 40, "--engine-arg", "max_num_seqs=8")


def test_killed_run_is_resumed(command: Command) -> None:
    """Kill -9 loses no stored answer; resume asks only for the rest and gives the full export."""
    process = start("distill", "--dataset-name", demo_dataset(), "--run", "killed", *LONG_RUN)
    wait_for_answers(process, "killed")
    process.kill()
    process.communicate()
    before = stored("killed")
    assert 0 < len(before) < 80
    looked = command("status", "killed", "--json")
    counts = json.loads(looked.stdout)["requests"]
    assert counts == {
        "total": counts["total"],
        "done": len(before),
        "pending": counts["total"] - len(before),
        "failed": 0,
        "in_flight": 0,
    }

    resumed = command("resume", "--engine-arg", "max_num_seqs=16")
    assert (resumed.returncode, resumed.stdout) == (
        0,
        "output/killed/distilled.json  (80 rows)\n"
        "output/killed/distilled-alpaca.json  (80 rows)\n"
        "output/killed/distilled-sharegpt.json  (80 rows)\n",
    )
    rows = distilled("killed")
    assert len(rows) == 80
    assert {row["instruction"]: row["output"] for row in rows} == before | stored("killed")
    with duckdb.connect("output/killed/work.duckdb", read_only=True) as connection:
        ids = connection.execute("SELECT request_id FROM results").fetchall()
    assert set(Counter(ids).values()) == {1}


def test_ctrl_c_flushes(command: Command) -> None:
    """Ctrl-C ends with 130, says how to go on and keeps what was answered."""
    process = start("distill", "--dataset-name", demo_dataset(), "--run", "stopped", *LONG_RUN)
    wait_for_answers(process, "stopped")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped; go on with: fastdatasets resume output/stopped"
    assert json.loads(command("status", "--json").stdout)["requests"]["done"] == len(
        stored("stopped")
    )


def test_request_that_does_not_fit(command: Command, tmp_path: Path) -> None:
    """A prompt longer than the context fails alone, with the reason; the others are answered."""
    source = write_jsonl(
        tmp_path / "d.jsonl",
        [{"prompt": "Name a colour."}, {"prompt": "long " * 200}, {"prompt": "Name a fruit."}],
    )
    options = ("--max-output-tokens", 500, "--engine-arg", "max_model_len=160", "--run", "fit")
    done = command("distill", "--dataset-name", source, "--sample-size", 0, *options)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(
        "fastdatasets: 1 of 3 requests failed for good and are in no export (1 × the prompt has "
    )
    assert [row["instruction"] for row in distilled("fit")] == ["Name a colour.", "Name a fruit."]
    assert all(row["output"] for row in distilled("fit"))
    assert Path("output/fit/engine.log").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--model", "/no/such/model"),
            "no model at /no/such/model: a folder with a config.json is expected",
        ),
        (("--engine-arg", "nonsense=1"), "vLLM has no engine argument 'nonsense'"),
        (("--engine-arg", "kv_cache_memory_bytes=1000"), "No available memory for the cache"),
        (("--engine-arg", "max_model_len=99999999"), "User-specified max_model_len (99999999)"),
    ],
)
def test_engine_that_does_not_start(
    command: Command, options: tuple[str, ...], message: str
) -> None:
    """An engine that fails to start is one line with its own reason, and exit 1."""
    done = command("distill", "--dataset-name", demo_dataset(), *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_augment(command: Command, tmp_path: Path) -> None:
    """The real engine writes variants under a forced schema and answers them."""
    samples = [
        {"instruction": "Name three colours of the rainbow."},
        {"instruction": "Write a sentence about the sea."},
    ]
    source = write_jsonl(tmp_path / "d.jsonl", samples)  # type: ignore[arg-type]
    options = ("--num-aug", 2, "--max-output-tokens", 120, "--run", "more")
    done = command("augment", "--high-quality-file", source, *options)
    assert done.returncode == 0, done.stderr
    rows = distilled("more")
    assert [row["instruction"] for row in rows if row["variant"] == 0] == [
        sample["instruction"] for sample in samples
    ]
    assert len(rows) > 2
    assert all(row["output"] for row in rows)
