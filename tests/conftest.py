"""What all tests share: a clean environment, and the command as its users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

if TYPE_CHECKING:
    from tests.batch_runs import Runs
    from tests.llmserver import LLMServer

OURS = ("LLM_", "FASTDATASETS_", "OPENAI_", "VLLM_")
NAMES = (
    "OUTPUT_FORMATS",
    "DEFAULT_SAMPLE_SIZE",
    "SYSTEM_PROMPT",
    "LANGUAGE",
    "MAX_LLM_CONCURRENCY",
    "HF_ENDPOINT",
    "HF_TOKEN",
)

Command = Callable[..., "subprocess.CompletedProcess[str]"]


# The tests of each of these modules follow each other: two engines at once are slower than one.
ONE_AFTER_THE_OTHER = ("tests/backends/vllm/test_vllm.py", "tests/fastdatasets/test_size.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Hand out test by test, but those modules as a whole, and first.

    pytest-xdist 3.8's own groups are lost with pytest 9.2, which has made a node's id read-only.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByTestOrModule(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if module in ONE_AFTER_THE_OTHER else nodeid

    return ByTestOrModule(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow the cases that the mark `quick` leaves out: it takes so many, evenly spread."""
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("quick"):
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tables.values():
        quick = cases[0].get_closest_marker("quick")
        assert quick is not None
        (most,) = quick.args
        for number, item in enumerate(cases):
            if number * most // len(cases) == (number - 1) * most // len(cases):
                item.add_marker("slow")


@pytest.fixture(autouse=True, scope="session")
def _signals_are_heard() -> None:
    """Under nohup, or in a shell's background, the tests and their commands would ignore some."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(OURS) or name in NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FASTDATASETS_CONFIRM_ABOVE", "0")  # else it would ask under pytest -s
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_process_is_left(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Kill what a failed test leaves: a command, or an engine whose command is gone.

    All that the test starts inherits a variable of its own. Only slow tests start an engine.
    """
    if request.node.get_closest_marker("slow") is None:
        yield
        return
    mark = f"STARTED_BY_TEST={uuid.uuid4()}"
    monkeypatch.setenv(*mark.split("="))
    yield
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone, or another user's
            environment = (process / "environ").read_bytes().split(b"\0")
            is_ours = b"resource_tracker" not in (process / "cmdline").read_bytes()
            if mark.encode() in environment and is_ours:
                os.kill(int(process.name), signal.SIGKILL)


def start(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The command as a process of its own, in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastdatasets", *map(str, arguments)],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a command, when it has ended."""
    process.communicate(timeout=500)
    return process.returncode


PEAK = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def measured(
    *arguments: object, env: Mapping[str, str] | None = None
) -> tuple[int, float, list[str]]:
    """Run a command to its end: its exit code, its peak RSS in MB, and the lines of its stderr.

    A process inherits the peak of the one that starts it, so a small one does that.
    """
    words = [sys.executable, "-c", PEAK, sys.executable, "-m", "fastdatasets"]
    done = subprocess.run(
        [*words, *map(str, arguments)],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    code, kilobytes = done.stdout.split()[-2:]
    return int(code), int(kilobytes) / 1024, done.stderr.splitlines()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    """A server of an unknown provider, and settings under which nothing waits."""
    from tests.llmserver import LLMServer

    with LLMServer() as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0")
        yield server


@pytest.fixture(params=["openai", "openai-batch"])
def backend(request: pytest.FixtureRequest) -> str:
    """Either backend of a server."""
    name: str = request.param
    return name


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process, which is all that most of its tests need."""

    def run(
        *arguments: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        from fastdatasets.cli import app

        words = [str(argument) for argument in arguments]
        capfd.readouterr()
        with mock.patch.dict(os.environ, env or {}):
            code = app.run(words)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run


@pytest.fixture
def command_process() -> Command:
    """Run the command as a process: for what happens once, as one starts or ends."""

    def run(
        *arguments: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, env=env)
        out, err = process.communicate(timeout=500)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Runs of the openai-batch backend at a server whose model is known."""
    from tests.batch_runs import served

    with served(monkeypatch) as runs:
        yield runs


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows as one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path
