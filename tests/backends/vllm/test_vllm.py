"""The real engine with a real small model on the CPU: a run, its death, its resumption."""

from __future__ import annotations

import json
import os
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
            "SELECT instruction, text FROM records JOIN row_requests USING (record) "
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


# Its answers come one after the other: a quick machine does not end it between the first one, which
# is stored at once, and the next look of a test.
LONG_RUN = ("--sample-size", 80, "--max-output-tokens", 40, "--engine-arg", "max_num_seqs=4")


def children(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += [int(entry.name), *children(int(entry.name))]
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of the processes is left; the test's time-out bounds it."""
    while any(map(is_alive, pids)):
        os.sched_yield()


WORKER = ("--engine-arg", "distributed_executor_backend=mp")


def test_killed_run_is_resumed(command_process: Command) -> None:
    """Kill -9 loses no stored answer, and ends engine and worker; resume asks for the rest."""
    options = (*LONG_RUN, *WORKER)
    process = start("distill", "--dataset-name", demo_dataset(), "--run", "killed", *options)
    wait_for_answers(process, "killed")
    family = children(process.pid)
    assert len(family) >= 2
    process.kill()
    process.communicate()
    wait_until_gone(family)
    before = stored("killed")
    assert 0 < len(before) < 80
    looked = command_process("status", "killed", "--json")
    counts = json.loads(looked.stdout)["requests"]
    assert counts == {
        "total": counts["total"],
        "done": len(before),
        "pending": counts["total"] - len(before),
        "failed": 0,
        "in_flight": 0,
    }

    resumed = command_process("resume", "--engine-arg", "max_num_seqs=16")
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


@pytest.mark.parametrize(
    ("victim", "signal_number", "options"),
    [
        (0, signal.SIGKILL, ()),
        (0, signal.SIGTERM, WORKER),
        (-1, signal.SIGKILL, WORKER),
        (-1, signal.SIGTERM, WORKER),
    ],
)
def test_engine_that_is_killed(
    victim: int, signal_number: signal.Signals, options: tuple[str, ...]
) -> None:
    """A killed engine, or worker of it, is noticed and started again; nothing is asked twice."""
    process = start(
        "distill", "--dataset-name", demo_dataset(), "--run", "hit", *LONG_RUN, *options
    )
    wait_for_answers(process, "hit")
    family = children(process.pid)
    os.kill(family[victim], signal_number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.splitlines()[0]) == (0, "output/hit/distilled.json  (80 rows)")
    assert len([line for line in err.splitlines() if "Starting it again" in line]) == 1
    assert not any(map(is_alive, family))
    assert all(row["output"] for row in distilled("hit"))


def test_many_requests(command_process: Command, tmp_path: Path) -> None:
    """A run of more requests than the engine gets at once asks for the rest after a kill -9."""
    source = write_jsonl(
        tmp_path / "d.jsonl", [{"prompt": f"Name the number {n}."} for n in range(600)]
    )
    options = ("--sample-size", 0, "--max-output-tokens", 4, "--engine-arg", "max_num_seqs=64")
    process = start("distill", "--dataset-name", source, "--run", "many", *options)
    wait_for_answers(process, "many")
    process.kill()
    process.communicate()
    before = stored("many")
    assert 0 < len(before) < 600
    resumed = command_process("resume", "--engine-arg", "max_num_seqs=64")
    assert resumed.returncode == 0
    assert f"the engine answered {600 - len(before)} requests in " in resumed.stderr
    assert stored("many").items() >= before.items()
    assert len(distilled("many")) == 600


def test_lora(command_process: Command, tmp_path: Path) -> None:
    """An adapter changes the answers, and is part of what the run is."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 64,
        "target_modules": ["q_proj"],
        "bias": "none",
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    weights = {}
    for layer in range(30):  # SmolLM2-135M: 30 layers of 576
        weights[name.format(layer, "A")] = torch.randn(8, 576)
        weights[name.format(layer, "B")] = torch.randn(576, 8)
    save_file(weights, adapter / "adapter_model.safetensors")
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "Name three colours."}])
    options = ("--dataset-name", source, "--max-output-tokens", 12)
    assert command_process("distill", *options, "--run", "plain").returncode == 0
    done = command_process("distill", *options, "--run", "adapted", "--lora", adapter)
    assert done.returncode == 0, done.stderr
    assert distilled("plain")[0]["output"] != distilled("adapted")[0]["output"]
    refused = command_process("distill", *options, "--run", "adapted")
    assert refused.returncode == 1
    assert "already exists with another params" in refused.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_flushes(command_process: Command, stop: signal.Signals) -> None:
    """Ctrl-C, or TERM, ends with 130 within 5 s, says how to go on and keeps what was answered."""
    process = start("distill", "--dataset-name", demo_dataset(), "--run", "stopped", *LONG_RUN)
    wait_for_answers(process, "stopped")
    process.send_signal(stop)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped; to continue: fastdatasets resume output/stopped"
    assert json.loads(command_process("status", "--json").stdout)["requests"]["done"] == len(
        stored("stopped")
    )


def test_request_that_does_not_fit(command_process: Command, tmp_path: Path) -> None:
    """A prompt longer than the context fails alone, with the reason; the others are answered."""
    source = write_jsonl(
        tmp_path / "d.jsonl",
        [{"prompt": "Name a colour."}, {"prompt": "long " * 200}, {"prompt": "Name a fruit."}],
    )
    options = ("--max-output-tokens", 500, "--engine-arg", "max_model_len=160", "--run", "fit")
    done = command_process("distill", "--dataset-name", source, "--sample-size", 0, *options)
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
    command_process: Command, options: tuple[str, ...], message: str
) -> None:
    """An engine that fails to start is one line with its own reason, and exit 1."""
    done = command_process("distill", "--dataset-name", demo_dataset(), *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_augment(command_process: Command, tmp_path: Path) -> None:
    """The real engine writes variants under a forced schema and answers them."""
    samples = [
        {"instruction": "Name three colours of the rainbow."},
        {"instruction": "Write a sentence about the sea."},
    ]
    source = write_jsonl(tmp_path / "d.jsonl", samples)  # type: ignore[arg-type]
    options = ("--num-aug", 2, "--max-output-tokens", 120, "--run", "more")
    done = command_process("augment", "--high-quality-file", source, *options)
    assert done.returncode == 0, done.stderr
    rows = distilled("more")
    assert [row["instruction"] for row in rows if row["variant"] == 0] == [
        sample["instruction"] for sample in samples
    ]
    assert len(rows) > 2
    assert all(row["output"] for row in rows)
