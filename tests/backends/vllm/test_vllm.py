"""The real engine with a real small model on the CPU: a run, its death, its resumption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
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


def answered(run: str) -> int:
    """How many answers are stored, by progress.json: a running command holds its store."""
    path = Path("output", run, "progress.json")
    return int(json.loads(path.read_bytes())["requests"]["done"]) if path.exists() else 0


def wait_for_answers(process: subprocess.Popen[str], run: str, more_than: int = 0) -> None:
    """Wait until more answers are stored than that."""
    wait_until(process, lambda: answered(run) > more_than)


def wait_until(process: subprocess.Popen[str], seen: Callable[[], object]) -> None:
    """Wait until something is seen, while the command runs."""
    while not seen():
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the command ended before it was to be stopped: {process.communicate()}")


# Its answers come one after the other: a quick machine does not end it between the first one, which
# is stored at once, and the next look of a test.
LONG_RUN = ("--sample-size", 80, "--max-output-tokens", 32, "--engine-arg", "max_num_seqs=4")
WORKER = ("--engine-arg", "distributed_executor_backend=mp")


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


def command_line(pid: int) -> str:
    """What a process is, by its arguments or the title it gave itself; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def engines(process: subprocess.Popen[str]) -> list[int]:
    """A command's engine processes."""
    return [pid for pid in children(process.pid) if "backends.vllm.server" in command_line(pid)]


def workers(engine: int) -> list[int]:
    """An engine's workers: multiprocessing has started a resource_tracker too."""
    return [pid for pid in children(engine) if "resource_tracker" not in command_line(pid)]


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


def test_killed_run_is_resumed(command_process: Command, tmp_path: Path) -> None:
    """Kill -9 loses no stored answer, and ends engine and worker; resume asks for the rest.

    There are more requests than the engine gets at once.
    """
    prompts = [f"Name the number {number}." for number in range(160)]
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": prompt} for prompt in prompts])
    options = ("--sample-size", 0, "--max-output-tokens", 24, "--engine-arg", "max_num_seqs=4")
    keep = "--keep-flagged"  # most of these answers are cut off
    process = start("distill", "--dataset-name", source, "--run", "killed", keep, *options, *WORKER)
    wait_for_answers(process, "killed")
    family = children(process.pid)
    (engine,) = engines(process)
    assert len(workers(engine)) == 1, list(map(command_line, family))
    process.kill()
    process.communicate()
    wait_until_gone(family)
    before = stored("killed")
    assert 0 < len(before) < 160
    looked = command_process("status", "killed", "--json")
    assert json.loads(looked.stdout)["requests"] == {
        "total": 160,
        "done": len(before),
        "pending": 160 - len(before),
        "failed": 0,
        "in_flight": 0,
    }

    resumed = command_process("resume", "--engine-arg", "max_num_seqs=32")
    assert (resumed.returncode, resumed.stdout) == (
        0,
        "output/killed/distilled.json  (160 rows)\n"
        "output/killed/distilled-alpaca.json  (160 rows)\n"
        "output/killed/distilled-sharegpt.json  (160 rows)\n",
    ), resumed.stderr
    assert f"the engine answered {160 - len(before)} requests in " in resumed.stderr
    after = stored("killed")
    assert after.items() >= before.items()
    assert [(row["instruction"], row["output"]) for row in distilled("killed")] == [
        (prompt, after[prompt]) for prompt in prompts
    ]
    with duckdb.connect("output/killed/work.duckdb", read_only=True) as connection:
        ids = connection.execute("SELECT request_id FROM results").fetchall()
    assert set(Counter(ids).values()) == {1}


def test_engine_and_worker_that_are_killed() -> None:
    """A killed engine, and a killed worker of it, are started again; nothing is asked twice."""
    process = start(
        *("distill", "--dataset-name", demo_dataset(), "--run", "hit"), *LONG_RUN, *WORKER
    )
    wait_for_answers(process, "hit")
    first = children(process.pid)
    (engine,) = engines(process)
    os.kill(engine, signal.SIGKILL)
    wait_until(process, lambda: set(engines(process)) - {engine})
    wait_for_answers(process, "hit", more_than=answered("hit"))
    second = children(process.pid)
    (engine,) = engines(process)
    (worker,) = workers(engine)
    os.kill(worker, signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out.splitlines()[0]) == (
        0,
        "output/hit/distilled.json  (80 rows)",
    ), err
    died = [line for line in err.splitlines() if "Starting it again" in line]
    assert len(died) == 2, err
    assert "killed by SIGKILL" in died[0], err
    wait_until_gone([*first, *second])
    assert [bool(row["output"]) for row in distilled("hit")] == [True] * 80, err


def an_adapter(folder: Path) -> Path:
    """A LoRA adapter of the demo's model, with random weights."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 64,
        "target_modules": ["q_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    weights = {}
    for layer in range(30):  # SmolLM2-135M: 30 layers of 576
        weights[name.format(layer, "A")] = torch.randn(8, 576)
        weights[name.format(layer, "B")] = torch.randn(576, 8)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_long_prompt_and_lora(command_process: Command, tmp_path: Path) -> None:
    """A prompt longer than the context fails alone; an adapter is part of what the run is.

    It changes the answers.
    """
    source = write_jsonl(
        tmp_path / "d.jsonl",
        [{"prompt": "Name a colour."}, {"prompt": "long " * 200}, {"prompt": "Name a fruit."}],
    )
    length = ("--max-output-tokens", 500, "--engine-arg", "max_model_len=160")
    options = ("--dataset-name", source, "--sample-size", 0, *length)
    done = command_process("distill", *options, "--run", "fit")
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "fastdatasets: 1 of 3 requests failed for good and are in no export (1 × the prompt has "
    )
    plain = distilled("fit")
    assert [row["instruction"] for row in plain] == ["Name a colour.", "Name a fruit."]
    assert all(row["output"] for row in plain)
    assert Path("output/fit/engine.log").stat().st_size > 0

    one = write_jsonl(tmp_path / "one.jsonl", [{"prompt": "Name a colour."}])
    words = ("distill", "--dataset-name", one, "--max-output-tokens", 12, "--run", "adapted")
    done = command_process(*words, "--keep-flagged", "--lora", an_adapter(tmp_path / "adapter"))
    assert done.returncode == 0, done.stderr
    assert not plain[0]["output"].startswith(distilled("adapted")[0]["output"])
    refused = command_process(*words)
    assert refused.returncode == 1
    assert "already exists with another params" in refused.stderr


def test_ctrl_c_flushes(command_process: Command) -> None:
    """Ctrl-C, or TERM, ends with 130 within 5 s, says how to go on and keeps what was answered."""
    options = ("distill", "--dataset-name", demo_dataset(), "--run", "stopped", *LONG_RUN)
    resume = ("resume", "stopped", "--engine-arg", "max_num_seqs=4")
    done = 0
    for words, stop in ((options, signal.SIGINT), (resume, signal.SIGTERM)):
        process = start(*words)
        wait_for_answers(process, "stopped", more_than=done)
        process.send_signal(stop)
        _, err = process.communicate(timeout=5)
        assert process.returncode == 130, err
        assert err.splitlines()[-1] == "stopped; to continue: fastdatasets resume output/stopped"
        done = len(stored("stopped"))
        looked = command_process("status", "--json")
        assert json.loads(looked.stdout)["requests"]["done"] == done


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
    """The real engine writes variants under a forced schema, answers them twice, and judges."""
    samples = [
        {"instruction": "Name three colours of the rainbow."},
        {"instruction": "Write a sentence about the sea."},
    ]
    source = write_jsonl(tmp_path / "d.jsonl", samples)  # type: ignore[arg-type]
    options = ("--num-aug", 2, "--max-output-tokens", 120, "--run", "more", "--keep-flagged")
    done = command_process(
        "augment", "--high-quality-file", source, *options, "--samples", 2, "--judge"
    )
    assert done.returncode == 0, done.stderr
    rows = distilled("more")
    assert [(row["instruction"], row["generation"]) for row in rows if row["variant"] == 0] == [
        (sample["instruction"], generation) for sample in samples for generation in range(2)
    ]
    assert len(rows) > 4
    assert all(row["output"] for row in rows)
    # A small model does not always come to the score before the limit.
    assert {row["score"] for row in rows} & set(range(1, 11))
