"""The room that a run needs on the disk is compared with what is free before anything is asked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from store import UserError
from store.runs import Mode
from tests.conftest import write_jsonl
from tests.llmserver import LLMServer, Reply, Usage

OLD = "x" * 4_000_000
VARIANTS = 2_000_000_000  # with their answers they are more than any disk has
LIMIT = 10**12


def begin(row: dict[str, Any], run: str = "r", **run_config: Any) -> RunResult:
    """Start a run over one record, with a limit that no disk has room for."""
    source = write_jsonl(Path("d.jsonl"), [row])
    options: dict[str, Any] = {"max_output_tokens": LIMIT} | run_config
    asked = RunConfig(dataset_name=str(source), backend="openai", model="m", **options)
    return start(asked, None, run, ExecutionConfig())


def warnings(capfd: pytest.CaptureFixture[str]) -> list[tuple[str, int]]:
    """The folders of the warnings, and the MB that are needed in each."""
    line = r"^warning: (?:up to|about) ([0-9]+) MB are needed in (.*), and [0-9]+ MB are free$"
    found = re.findall(line, capfd.readouterr().err, re.MULTILINE)
    return [(place, round(int(needed), -3)) for needed, place in found]


def test_too_little_room(server: LLMServer) -> None:
    """Where old outputs tell that it cannot fit, nothing is asked and no run is left."""
    row = {"instruction": "a", "output": OLD}
    with pytest.raises(UserError, match="free disk space there") as refused:
        begin(row, mode=Mode.AUGMENT, num_aug=VARIANTS)
    reported = r"about ([0-9]+) MB are needed in output/r, and ([0-9]+) MB are free: "
    found = re.match(reported, str(refused.value))
    assert found is not None
    needed, free = map(int, found.groups())
    # In the store and three files; a token has three bytes of the old output and four here.
    assert needed == pytest.approx(4 * (VARIANTS + 1) * len(OLD) * 4 / 3 / 1e6, rel=0.01)
    assert free == pytest.approx(shutil.disk_usage(".").free / 1e6, rel=0.1)
    assert (Path("output/r").exists(), server.bill.total) == (False, 0)


def test_room_that_may_be_too_little(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Where nothing tells an answer's length, what the limit allows is warned about."""
    assert begin({"instruction": "a"}).status.state == "done"
    assert warnings(capfd) == [("output/r", 16_000_000)]
    assert begin({"instruction": "b"}, "s", max_output_tokens=100).status.state == "done"
    assert (warnings(capfd), server.bill.total) == ([], 2)


def test_output_file_needs_room_too(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """On the disk of the run it is one more file, on another one it is told apart."""
    begin({"instruction": "a"}, formats="alpaca", output_file=Path("x.json"))
    assert warnings(capfd) == [("output/r", 16_000_000)]
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == Path().stat().st_dev:
        pytest.skip("no other file system here")
    with TemporaryDirectory(dir=shared) as folder:
        begin({"instruction": "b"}, "s", output_file=Path(folder) / "x.json")
    assert warnings(capfd) == [(folder, 4_000_000), ("output/s", 16_000_000)]
    assert server.bill.total == 2


def test_run_that_was_begun(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """A run that has sent something goes on all the same: what was paid for is to be collected."""
    refused = Reply(status_code=400, error={"message": "Bad.", "code": "bad"})
    long = Reply("An answer", usage=Usage(22, LIMIT))
    server.answer = lambda body: refused if "Refuse" in str(body) else long
    source = write_jsonl(Path("d.jsonl"), [{"prompt": "Refuse"}, {"prompt": "b"}])
    run_config = RunConfig(
        dataset_name=str(source), backend="openai", model="m", max_output_tokens=LIMIT
    )  # fmt: skip
    assert start(run_config, None, "r", ExecutionConfig()).status.requests.failed == 1
    server.answer = lambda _: "yes"
    outcome = resume("r", None, ExecutionConfig(), retry_failed=True)
    assert outcome is not None
    assert outcome.status.state == "done"
    assert warnings(capfd) == [("output/r", 32_000_000)] * 2
