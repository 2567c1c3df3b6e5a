"""Answers of earlier runs taken over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from backends import Backend
from fastdatasets.pipeline import go_on
from fastdatasets.prompts import default_templates
from fastdatasets.reuse import find_earlier
from fastdatasets.runs import RunSpec, opened
from store import RunFolder, UserError
from store.models import Mode, Status
from tests.conftest import Command, write_jsonl
from tests.doubles import ScriptedBackend, SilentProgress
from tests.test_pipeline import ROWS, exported, spec_for
from tests.test_store import HOLD

FILES = ("distilled.json", "distilled-alpaca.json", "distilled-sharegpt.json")


def run(
    name: str,
    backend: Backend,
    spec: RunSpec | None = None,
    *,
    reuse: Sequence[str] = (),
) -> tuple[Status, list[str]]:
    """One command's worth of work on the run of that name."""
    folder = RunFolder(Path(name))
    folder.path.mkdir(exist_ok=True)
    progress = SilentProgress()
    earlier = find_earlier(reuse, Path(), wait_seconds=0)
    with opened(folder, spec) as store:
        status, _ = go_on(folder, store, lambda _: backend, progress, 3, None, earlier)
    return status, progress.lines


def table(name: str, columns: str) -> list[tuple[Any, ...]]:
    """Columns of a run's results."""
    with duckdb.connect(f"{name}/work.duckdb", read_only=True) as db:
        return db.execute(f"SELECT {columns} FROM results ORDER BY text").fetchall()


def test_second_run_asks_nothing() -> None:
    """A second run over the same data takes all answers, as they are, and gives the same files."""
    spec = spec_for(write_jsonl(Path("d.jsonl"), ROWS))
    first, second = ScriptedBackend(), ScriptedBackend()
    run("a", first, spec)
    status, lines = run("b", second, spec, reuse=["a"])
    assert (len(first.asked), second.asked) == (20, [])
    assert (status.state, status.requests.done, lines[-1]) == (
        "done", 20, "reused 20 answers of run a",
    )  # fmt: skip
    assert [Path("b", file).read_bytes() for file in FILES] == [
        Path("a", file).read_bytes() for file in FILES
    ]
    columns = "request_id, text, finish_reason, prompt_tokens, completion_tokens, cached_tokens"
    kept = f"{columns}, reasoning, backend, job_id, happened_at"
    assert table("b", kept) == table("a", kept)
    assert (table("a", "DISTINCT reused, text")[0][0], table("b", "reused")) == (
        False, [(True,)] * 20,
    )  # fmt: skip


def test_larger_sample_asks_only_what_is_new() -> None:
    """A larger sample buys what two earlier runs, one of them named twice, do not have."""
    source = write_jsonl(Path("d.jsonl"), ROWS)
    for name, size in [("a", 5), ("b", 9)]:
        run(name, ScriptedBackend(), spec_for(source, sample_size=size))
    backend = ScriptedBackend()
    status, lines = run("c", backend, spec_for(source), reuse=["a", "b", "./a"])
    known = {row["instruction"] for row in exported(Path("b"))}
    assert backend.asked == [row["instruction"] for row in ROWS if row["instruction"] not in known]
    assert (status.state, lines[-2:]) == (
        "done", ["reused 5 answers of run a", "reused 4 answers of run b"],
    )  # fmt: skip


def test_other_models_and_limits_are_not_taken() -> None:
    """Answers of another model, or with another limit, are answers to other requests."""
    source = write_jsonl(Path("d.jsonl"), ROWS)
    run("a", ScriptedBackend(), spec_for(source, model="m"))
    others: dict[str, dict[str, Any]] = {
        "b": {"model": "n"},
        "c": {"model": "m", "max_output_tokens": 9},
    }
    for name, wishes in others.items():
        backend = ScriptedBackend()
        _, lines = run(name, backend, spec_for(source, **wishes), reuse=["a"])
        assert (len(backend.asked), lines[-1]) == (20, "reused 0 answers of run a")


def test_interrupted_and_failed_requests_are_taken() -> None:
    """A resume takes what it has not, given up or not; the run itself is passed over."""
    spec = spec_for(write_jsonl(Path("d.jsonl"), ROWS))
    run("a", ScriptedBackend(), spec)
    refusing = ScriptedBackend(fails={"Question 3": -1})
    run("b", refusing, spec)
    with pytest.raises(KeyboardInterrupt):
        run("c", ScriptedBackend(dies_after=7), spec)
    for name, answers in [("b", 1), ("c", 13)]:
        backend = ScriptedBackend()
        status, lines = run(name, backend, reuse=[name, "a"])
        assert (backend.asked, status.state) == ([], "done")
        assert lines == [f"reused {answers} answers of run a"]


def test_augment_takes_both_stages() -> None:
    """An augment takes the variants' answers too, and then the answers to the variants."""
    path = write_jsonl(Path("d.jsonl"), ROWS[:3])

    def answer(prompt: str) -> str:
        return '["one of another kind", "2 + 2?"]' if "JSON" in prompt else f"A {prompt}"

    distill = spec_for(path)
    templates = distill.templates | default_templates("vary")
    spec = replace(distill, mode=Mode.AUGMENT, num_aug=2, templates=templates)
    run("a", ScriptedBackend(answer=answer), spec)
    backend = ScriptedBackend()
    status, lines = run("b", backend, spec, reuse=["a"])
    assert (backend.asked, status.state) == ([], "done")
    assert lines[-2:] == ["reused 3 answers of run a", "reused 5 answers of run a"]
    assert Path("a/distilled.json").read_bytes() == Path("b/distilled.json").read_bytes()


def test_earlier_run_that_is_held() -> None:
    """A run whose store another process has open is busy, and said to be."""
    run("a", ScriptedBackend(), spec_for(write_jsonl(Path("d.jsonl"), ROWS)))
    command = [sys.executable, "-c", HOLD, "a"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"run a, .* is busy: .*PID {holder.pid}"):
            find_earlier(["a"], Path(), wait_seconds=0)
        holder.kill()
    assert [folder.name for folder in find_earlier(["a"], Path())] == ["a"]


def test_not_a_run(command: Command) -> None:
    """--reuse of what is no run is exit 1, before anything is made."""
    write_jsonl(Path("d.jsonl"), [{"prompt": "a", "answer": "b"}])
    Path("folder").mkdir()
    Path("other").mkdir()
    Path("other/work.duckdb").write_text("x" * 5000)
    for name, message in [
        ("folder", "no run 'folder', nor output/folder; runs in output/: none"),
        ("nope", "no run 'nope', nor output/nope; runs in output/: none"),
        ("other", "other/work.duckdb is not a work store: "),
    ]:
        done = command("distill", "--dataset-name", "d.jsonl", "--skip-generation", "--reuse", name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"fastdatasets: {message}")
    assert not Path("output").exists()
