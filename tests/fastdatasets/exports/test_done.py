"""A run is done when its files are those of the answers it has, and not before."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.commands import cancel, export_again, resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import OutputOptions, RunConfig
from fastdatasets.exports.formats import FORMATS, columns_of, parameters_of, select_json
from fastdatasets.exports.writers import Exported
from fastdatasets.runs.folders import open_run
from fastdatasets.runs.result import RunResult
from fastdatasets.runs.status import read_status, to_text
from fastdatasets.sources.sampling import sample_records
from fastdatasets.stages.answer import Answer
from store import DiskFull, RunFolder, Unfinished, UserError, WorkStore
from store.export_options import ExportOptions
from store.requests import RequestOrder
from store.results import Result
from tests.backends.test_full_disk import files_of_at_most
from tests.conftest import Command, write_jsonl
from tests.doubles import NullProgress
from tests.fastdatasets.test_pipeline import run_for
from tests.llmserver import LLMServer

RUN = Path("output/r")
NAMES = ["distilled.json", "distilled-alpaca.json", "distilled-sharegpt.json"]
QUESTIONS = [f"Question {number}" for number in range(7)]


def submit() -> RunResult:
    """A run whose questions are at the server."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    run_config = RunConfig(
        dataset_name=str(source), sample_size=0, backend="openai-batch", model="m"
    )
    return start(run_config, None, "r", ExecutionConfig(wait=False))


def copy(rows: int, size: int = 10) -> RunResult:
    """A finished run that asks nobody."""
    source = write_jsonl(
        Path("d.jsonl"), [{"prompt": f"{n}", "output": "x" * size} for n in range(rows)]
    )
    run_config = RunConfig(
        dataset_name=str(source), sample_size=0, backend="openai", model="m", skip_generation=True
    )
    return start(run_config, None, "r", ExecutionConfig())


def rows(name: str = NAMES[0]) -> int:
    """How many rows a file of the run has."""
    found: list[Any] = json.loads((RUN / name).read_text("utf-8"))
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [7, 3])
def test_cancel_exports_what_was_finished(server: LLMServer, finished: int) -> None:
    """What a cancelled batch had finished is in the files; they say what they lack."""
    server.looks = None
    submit()
    (batch,) = server.batches
    server.expire(batch, finished)
    server.looks = 0
    outcome = cancel("r", None, ExecutionConfig())
    assert outcome is not None
    assert outcome.exported == tuple(Exported(RUN / name, finished) for name in NAMES)
    assert ([rows(name) for name in NAMES], outcome.missing) == ([finished] * 3, 7 - finished)
    assert (read_status("r").status.state == "done") == (finished == 7)
    if finished == 7:
        outcome.raise_if_left()
    else:
        with pytest.raises(
            Unfinished, match=r"^4 rows are missing from the files\. 4 requests are"
        ):
            outcome.raise_if_left()
    advance_run = resume("r", None, ExecutionConfig())
    assert advance_run is not None
    assert (advance_run.status.state, rows(), server.bill.twice()) == ("done", 7, [])


@pytest.mark.slow
def test_export_of_an_unfinished_run(server: LLMServer, command: Command) -> None:
    """It writes what is answered, says how many rows are missing and exits with 3."""
    server.looks = None
    submit()
    done = command("export", "r")
    assert (done.returncode, done.stderr) == (
        3,
        "fastdatasets: 7 rows are missing from the files. 0 requests are pending, 7 in flight. "
        "To continue: fastdatasets resume output/r\n",
    )
    assert done.stdout.splitlines() == [f"output/r/{name}  (0 rows: not written)" for name in NAMES]
    server.looks = 0
    assert command("resume", "r").returncode == 0
    done = command("export", "r")
    assert (done.returncode, done.stderr) == (0, "")


def test_files_that_are_older_than_the_answers(server: LLMServer) -> None:
    """They are named, the run is not done, and the next export writes all of them."""
    server.looks = None
    submit()
    with WorkStore.open(RUN / "work.duckdb") as store:
        ids = store.connection.execute("SELECT request_id::VARCHAR FROM requests").fetchall()
        results = [Result(one, "Fine", None, "stop", 5, 7, 0) for (one,) in ids]
        store.results.add("openai-batch", results[:3], [])
    export_again("r", output=OutputOptions(formats="alpaca"))
    with WorkStore.open(RUN / "work.duckdb") as store:
        store.results.add("openai-batch", results[3:], [])
    assert read_status("r").stale == (
        *("README.md", "dataset_info.json", "distilled-alpaca.json", "distilled.json"),
    )
    export_again("r", output=OutputOptions(formats="sharegpt"))
    assert [rows(name) for name in NAMES] == [7, 7, 7]
    assert read_status("r").stale == ()


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", [*NAMES, "README.md", "dataset_info.json"])
def test_file_that_is_gone(command: Command, name: str) -> None:
    """A run without one of its files is not done; a resume writes it and exits with 0."""
    assert copy(2).status.state == "done"
    written = (RUN / name).read_bytes()
    (RUN / name).unlink()
    view = read_status("r")
    assert (view.status.state, view.stale) == ("incomplete", (name,))
    assert to_text(view).splitlines()[-2:] == [
        f"  gone, or older than the last answers: {name}",
        "  to continue: fastdatasets resume output/r",
    ]
    assert (command("resume", "r").returncode, (RUN / name).read_bytes()) == (0, written)
    assert read_status("r").status.state == "done"


def test_disk_that_is_full_of_exports() -> None:
    """The file that found no room is named, the run is not done, and a resume writes it."""
    copy(20, size=1 << 18)
    for name in NAMES:
        (RUN / name).unlink()
    with (
        files_of_at_most(4 << 20),
        pytest.raises(
            DiskFull,
            match=r"^the disk is full \(output/r/distilled[a-z-]*.json: File too large\)",
        ),
    ):
        resume("r", None, ExecutionConfig())
    assert sorted(path.name for path in RUN.iterdir()) == [
        *("README.md", "dataset_info.json", "progress.json", "run.lock", "work.duckdb"),
    ]
    assert read_status("r").status.state == "incomplete"
    outcome = resume("r", None, ExecutionConfig())
    assert outcome is not None
    assert (outcome.status.state, rows()) == ("done", 20)


def test_answers_in_no_order(tmp_path: Path) -> None:
    """Put side by side first, they give what one page of all gives, and leave no file."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": f"{n:02}"} for n in range(20)])
    (tmp_path / "run").mkdir()
    with open_run(RunFolder(tmp_path / "run"), run_for(source)) as store:
        run = store.run()
        sample_records(store, run, print)
        Answer(run).plan(store, NullProgress())
        requests = list(store.requests.pending(3, RequestOrder.PREFIX))
        for first in range(4):
            results = [
                Result(one.request_id, f"A{one.messages[-1]['content']}", None, "stop", 5, 7, 0)
                for one in requests[first::4]
            ]
            store.results.add("b", results, [])
        exports = {}
        alpaca, options = FORMATS["alpaca"], ExportOptions()
        select = select_json(alpaca, columns_of(alpaca, set(), options), options.file_type)
        parameters = parameters_of(alpaca, set(), options, is_test=False)
        store.answers.select_test(0, 42)
        store.answers.select_training(ExportOptions())
        for page_bytes in (1 << 20, 20):
            lines, folders = b"", set()
            for _ in store.answers.pages(page_bytes=page_bytes):
                folders |= {path.name[:9] for path in (tmp_path / "run").glob(".answers-*")}
                for _, piece in store.answers.texts(select, parameters):
                    lines += piece
            exports[page_bytes] = (lines, folders)
    expected = "".join(
        f'{{"instruction":"{n:02}","input":"","output":"A{n:02}"}},\n' for n in range(20)
    ).encode()
    assert exports == {1 << 20: (expected, set()), 20: (expected, {".answers-"})}
    assert list((tmp_path / "run").glob(".answers-*")) == []


REFUSED = {
    "d.jsonl": "it is the source of the run",
    "output/s/work.duckdb": "it is a file of run s",
    "output/s/jobs/1.jsonl": "it is a file of run s",
    "output/r/distilled.json": "it is a file of run r",
    "folder": "it is a folder, a device or a pipe, not a file",
    "pipe": "it is a folder, a device or a pipe, not a file",
    "/dev/null": "it is a folder, a device or a pipe, not a file",
    "x" * 256: "File name too long",
    "circle": "Symlink loop",
    "d.jsonl/x": "File exists",
    "/proc/x": "No such file or directory",
}


@pytest.mark.parametrize("name", REFUSED)
def test_output_file_that_cannot_be_written(server: LLMServer, name: str) -> None:
    """It is refused before there is a folder of the run, and before anything is asked."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": "a"}])
    before = source.read_bytes()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("circle").symlink_to("circle")
    Path("output/s").mkdir(parents=True)
    Path("output/s/work.duckdb").touch()
    run_config = RunConfig(dataset_name="d.jsonl", model="m", output_file=Path(name))
    with pytest.raises(UserError, match=f"^cannot write .*: .*{REFUSED[name]}"):
        start(run_config, None, "r", ExecutionConfig())
    assert ((RUN / "work.duckdb").exists(), server.bill.total) == (False, 0)
    assert source.read_bytes() == before


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["d/x.json", "d/below/x.json", "link/x.json"])
def test_output_file_in_the_source_folder(server: LLMServer, name: str) -> None:
    """It may not lie in the folder that is the source: the next run would read it as data."""
    Path("d").mkdir()
    write_jsonl(Path("d/d.jsonl"), [{"prompt": "a"}])
    Path("link").symlink_to("d")
    run_config = RunConfig(dataset_name="d", model="m", output_file=Path(name))
    with pytest.raises(UserError, match=r"^cannot write .*: it is in the source folder .*/d, and"):
        start(run_config, None, "r", ExecutionConfig())
    assert ([path.name for path in Path("d").iterdir()], RUN.exists()) == (["d.jsonl"], False)
    start(replace(run_config, output_file=Path("dd/x.json")), None, "r", ExecutionConfig())
    with pytest.raises(UserError, match="it is in the source folder"):
        export_again("r", output=OutputOptions(output_file=Path(name)))
    assert (server.bill.total, Path("dd/x.json").exists()) == (1, True)
