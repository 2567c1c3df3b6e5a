"""Answers of earlier runs taken over, and answers that were cut off left out or asked again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from backends import Backend, Outcomes, Progress
from backends.stopping import Stop
from backends.stream import stream
from fastdatasets.checks.retry import retry_truncated as ask_again
from fastdatasets.pipeline import advance_run
from fastdatasets.runs.folders import open_run
from fastdatasets.runs.reuse import find_earlier
from fastdatasets.stages.prompts import default_templates
from store import RunFolder, UserError, WorkStore
from store.requests import Request
from store.results import Failure, FailureKind, Result
from store.runs import Mode, Run
from store.status import Counts, Status
from tests.conftest import Command, write_jsonl
from tests.doubles import NullProgress, ScriptedBackend
from tests.fastdatasets.test_pipeline import ROWS, exported, run_for
from tests.llmserver import LLMServer, Reply
from tests.store.test_store import HOLD

FILES = ("distilled.json", "distilled-alpaca.json", "distilled-sharegpt.json")


@dataclass
class Limited(Backend):
    """Answers a prompt with as many tokens as it says, up to the limit; refuses higher limits."""

    highest: int = 10**9
    asked: list[tuple[str, int]] = field(default_factory=list)

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all that is pending."""
        stream("limited", self, store, progress, 1)

    def __call__(self, requests: Iterator[Request], _stop: Stop) -> Iterator[Outcomes]:
        """One outcome at a time."""
        for request in requests:
            prompt, limit = request.messages[-1]["content"], request.params["max_tokens"]
            self.asked.append((prompt, limit))
            if limit > self.highest:
                kind = FailureKind.REFUSED
                yield [Failure(request.request_id, kind, "limit too high", retryable=False)]
                continue
            tokens = min(int(prompt), limit)
            reason = "length" if int(prompt) > limit else "stop"
            yield [Result(request.request_id, "x" * tokens, None, reason, 1, tokens)]


def run(
    name: str,
    backend: Backend,
    new: Run | None = None,
    *,
    reuse: Sequence[str] = (),
    retry_truncated: bool = False,
) -> tuple[Status, list[str]]:
    """One command's worth of work on the run of that name."""
    folder = RunFolder(Path(name))
    folder.path.mkdir(exist_ok=True)
    progress = NullProgress()
    earlier = find_earlier(reuse, Path(), folder.path, wait_seconds=0)
    with open_run(folder, new) as store:
        if retry_truncated:
            ask_again(store)
        status, _ = advance_run(folder, store, lambda _: backend, progress, 3, None, earlier)
    return status, progress.lines


def outputs(name: str, file: str = "distilled.json") -> list[int]:
    """How long the answers in a file are."""
    return [len(row["output"]) for row in exported(Path(name), file)]


def lengths(*tokens: int) -> Path:
    """A dataset whose answers take that many tokens."""
    return write_jsonl(Path("d.jsonl"), [{"prompt": str(n)} for n in tokens])


def table(name: str, columns: str) -> list[tuple[Any, ...]]:
    """Columns of a run's results."""
    with duckdb.connect(f"{name}/work.duckdb", read_only=True) as db:
        return db.execute(f"SELECT {columns} FROM results ORDER BY text").fetchall()


def test_second_run_asks_nothing() -> None:
    """A second run over the same data takes all answers, as they are, and gives the same files."""
    new = run_for(write_jsonl(Path("d.jsonl"), ROWS))
    first, second = ScriptedBackend(), ScriptedBackend()
    run("a", first, new)
    status, lines = run("b", second, new, reuse=["a"])
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


@pytest.mark.slow
def test_larger_sample_asks_only_what_is_new() -> None:
    """A larger sample buys what two earlier runs, one of them named twice, do not have."""
    source = write_jsonl(Path("d.jsonl"), ROWS)
    for name, size in [("a", 5), ("b", 9)]:
        run(name, ScriptedBackend(), run_for(source, sample_size=size))
    backend = ScriptedBackend()
    status, lines = run("c", backend, run_for(source), reuse=["a", "b", "./a"])
    known = {row["instruction"] for row in exported(Path("b"))}
    assert backend.asked == [row["instruction"] for row in ROWS if row["instruction"] not in known]
    assert (status.state, lines[-2:]) == (
        "done", ["reused 5 answers of run a", "reused 4 answers of run b"],
    )  # fmt: skip


@pytest.mark.slow
def test_other_models_and_limits_are_not_taken() -> None:
    """Answers of another model, or with another limit, are answers to other requests."""
    source = write_jsonl(Path("d.jsonl"), ROWS)
    run("a", ScriptedBackend(), run_for(source, model="m"))
    others: dict[str, dict[str, Any]] = {
        "b": {"model": "n"},
        "c": {"model": "m", "max_output_tokens": 9},
    }
    for name, run_config in others.items():
        backend = ScriptedBackend()
        _, lines = run(name, backend, run_for(source, **run_config), reuse=["a"])
        assert (len(backend.asked), lines[-1]) == (20, "reused 0 answers of run a")


@pytest.mark.slow
def test_interrupted_and_failed_requests_are_taken() -> None:
    """A resume takes what it has not, given up or not; the run itself is passed over."""
    new = run_for(write_jsonl(Path("d.jsonl"), ROWS))
    run("a", ScriptedBackend(), new)
    refusing = ScriptedBackend(fails={"Question 3": -1})
    run("b", refusing, new)
    with pytest.raises(KeyboardInterrupt):
        run("c", ScriptedBackend(dies_after=7), new)
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

    distill = run_for(path)
    templates = distill.templates | default_templates("vary")
    new = replace(distill, mode=Mode.AUGMENT, num_aug=2, templates=templates)
    run("a", ScriptedBackend(answer=answer), new)
    backend = ScriptedBackend()
    status, lines = run("b", backend, new, reuse=["a"])
    assert (backend.asked, status.state) == ([], "done")
    assert lines[-2:] == ["reused 3 answers of run a", "reused 5 answers of run a"]
    assert Path("a/distilled.json").read_bytes() == Path("b/distilled.json").read_bytes()


def test_earlier_run_that_is_held() -> None:
    """A run whose store another process has open is busy, and said to be."""
    run("a", ScriptedBackend(), run_for(write_jsonl(Path("d.jsonl"), ROWS)))
    command = [sys.executable, "-c", HOLD, "a"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"run a, .* is busy: .*PID {holder.pid}"):
            find_earlier(["a"], Path(), wait_seconds=0)
        holder.kill()
    assert [run.folder.name for run in find_earlier(["a"], Path())] == ["a"]


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


def test_drop_truncated() -> None:
    """Answers that were cut off stand in distilled.json and in no training file."""
    new = run_for(lengths(5, 50, 10), max_output_tokens=10, drop_truncated=True)
    status, lines = run("a", Limited(), new)
    assert [outputs("a", file) for file in FILES[:2]] == [[5, 10, 10], [5, 10]]
    assert len(exported(Path("a"), FILES[2])) == 2
    assert [row["finish_reason"] for row in exported(Path("a"))] == ["stop", "length", "stop"]
    assert (status.truncated, lines[-1]) == (
        1, "in distilled.json, but left out of the training files: 1 truncated",
    )  # fmt: skip


@pytest.mark.slow
def test_retry_truncated_doubles_the_limit_each_time() -> None:
    """Only what was cut off is asked again, with twice the limit, until it is whole."""
    run("a", Limited(), run_for(lengths(5, 15, 35, 35), max_output_tokens=10))
    asked, found = [], []
    for _ in range(3):
        backend = Limited()
        status, _ = run("a", backend, retry_truncated=True)
        asked.append(backend.asked)
        found.append((outputs("a"), status.truncated, status.state))
    assert asked == [[("15", 20), ("35", 20)], [("35", 40)], []]
    assert found == [
        ([5, 15, 20, 20], 1, "done"),
        ([5, 15, 35, 35], 0, "done"),
        ([5, 15, 35, 35], 0, "done"),
    ]


@pytest.mark.slow
def test_answer_stays_until_its_retry_is_there() -> None:
    """A row whose retry is refused keeps its answer and is done; its limit is not asked again."""
    run("a", Limited(), run_for(lengths(5, 15), max_output_tokens=10))
    for asked in ([("15", 20)], []):
        backend = Limited(highest=10)
        status, _ = run("a", backend, retry_truncated=True)
        assert (outputs("a"), status.truncated, backend.asked) == ([5, 10], 1, asked)
        assert (status.state, status.requests) == ("done", Counts(2, 2, 0, 0, 0))
    with open_run(RunFolder(Path("a"))) as store:
        store.results.retry_failed()
    status, _ = run("a", Limited())
    assert (outputs("a"), status.truncated, status.state) == ([5, 15], 0, "done")


@pytest.mark.slow
def test_retry_is_the_request_of_a_higher_limit() -> None:
    """A run with twice the limit from the start takes the answers that retries brought."""
    source = lengths(5, 15)
    run("a", Limited(), run_for(source, max_output_tokens=10))
    run("a", Limited(), retry_truncated=True)
    backend = Limited()
    run("b", backend, run_for(source, max_output_tokens=20), reuse=["a"])
    assert (backend.asked, outputs("b")) == ([("5", 20)], [5, 15])


@pytest.mark.slow
def test_through_the_command_line(command: Command) -> None:
    """A run that takes all of another's answers, a retry of one that was cut off, an export."""

    def teacher(body: dict[str, Any]) -> Reply:
        cut_off = "long" in body["messages"][-1]["content"] and body["max_tokens"] < 20
        return Reply("An answer", finish_reason="length" if cut_off else "stop")

    write_jsonl(Path("d.jsonl"), [{"prompt": "short"}, {"prompt": "long"}])
    with LLMServer(answer=teacher) as server:
        env = {"LLM_API_KEY": "sk-test", "LLM_API_BASE": server.base_url, "LLM_MODEL": "m"}
        base = ("distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--drop-truncated")
        limit = ("--max-output-tokens", 10, "--formats", "alpaca", "--run")
        assert command(*base, *limit, "a", env=env).returncode == 0
        done = command(*base, *limit, "b", "--reuse", "a", env=env)
        assert "reused 2 answers of run output/a\n" in done.stderr
        files = ["output/b/distilled.json  (2 rows)", "output/b/distilled-alpaca.json  (1 rows)"]
        assert (done.returncode, done.stdout.splitlines()) == (0, files)
        status = command("status", "b").stdout
        assert "fastdatasets resume output/b --retry-truncated" in status
        done = command("resume", "b", "--retry-truncated", "--reuse", "a", env=env)
        assert (
            "1 requests with truncated answers are sent again, with twice the limit\n"
            in done.stderr
        )
        files = ["output/b/distilled.json  (2 rows)", "output/b/distilled-alpaca.json  (2 rows)"]
        assert (done.returncode, done.stdout.splitlines()) == (0, files)
        limits = sorted(
            json.loads(text)["max_tokens"] for text in server.bill.executions.elements()
        )
        assert limits == [10, 10, 20]
    files = ["output/a/distilled.json  (2 rows)", "output/a/distilled-sharegpt.json  (1 rows)"]
    done = command("export", "a", "--drop-truncated", "--formats", "sharegpt")
    assert (done.returncode, done.stdout.splitlines()) == (0, files)


@pytest.mark.slow
def test_refused_retry_by_the_command(command: Command) -> None:
    """A retry that the server refuses is told with its reason; the run is done, and stays so."""

    def teacher(body: dict[str, Any]) -> Reply:
        if body["max_tokens"] > 10:
            return Reply(status_code=400, error={"message": "10 at most", "code": "invalid"})
        cut_off = "long" in body["messages"][-1]["content"]
        return Reply("An answer", finish_reason="length" if cut_off else "stop")

    reported = (
        "1 answers that were cut off stay: asking again with a higher limit failed for good (400: "
        "10 at most); --retry-failed tries it once more"
    )
    write_jsonl(Path("d.jsonl"), [{"prompt": "short"}, {"prompt": "long"}])
    with LLMServer(answer=teacher) as server:
        env = {"LLM_API_KEY": "sk-test", "LLM_API_BASE": server.base_url, "LLM_MODEL": "m"}
        base = ("distill", "--dataset-name", "d.jsonl", "--sample-size", 0)
        assert command(*base, "--max-output-tokens", 10, "--run", "r", env=env).returncode == 0
        refused = []
        for flag in ("--retry-truncated", "--retry-truncated", "--retry-failed"):
            done = command("resume", "r", flag, env=env)
            assert (done.returncode, reported in done.stderr.splitlines()) == (0, True)
            refused.append(sum(call.status == 400 for call in server.requests_log))
        assert (refused, server.bill.total) == ([1, 1, 2], 2)
    lines = command("status", "r").stdout.splitlines()
    assert lines[1].startswith("  done as of ")
    assert lines[2:] == [
        "  2 records, 2 requests: 2 done, 0 pending, 0 failed, 0 in flight",
        lines[3],
        f"  {reported}",
    ]
