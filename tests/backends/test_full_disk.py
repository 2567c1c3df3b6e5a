"""A disk that is full while answers come in: they are kept in memory until they are stored.

The kernel's limit on the size of a file (RLIMIT_FSIZE) is a full disk for one process.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastdatasets.commands import resume
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.runs.status import read_status
from store import DiskFull, Unfinished, WorkStore
from store.results import Failure, FailureKind
from tests.backends.openai_live.test_live import server as server  # noqa: PLC0414 - a fixture
from tests.backends.test_money import CAP, PRICE, billed
from tests.backends.test_signals import LIMITS, at_call, start_distill
from tests.llmserver import LLMServer
from tests.store.test_store import store as store  # noqa: PLC0414 - a fixture

WAL = Path("output/r/work.duckdb.wal")


def limit_files(process: subprocess.Popen[str], size: int) -> None:
    """Let no file of a process grow beyond a size."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill(process: subprocess.Popen[str]) -> None:
    """Leave the store's log no room."""
    limit_files(process, WAL.stat().st_size)


@pytest.mark.slow
def test_room_is_made(server: LLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept and nothing more is sent; once the disk has space the run goes on."""
    monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0.1")
    process = start_distill()
    server.answer = at_call(5, lambda: fill(process))
    assert process.stderr is not None
    while "the disk is full" not in (line := process.stderr.readline()):
        assert process.poll() is None
    assert line.startswith("the disk is full (output/r/work.duckdb: File too large): ")
    assert line.endswith("answers are kept in memory and nothing more is sent. Free disk space\n")
    limit_files(process, resource.RLIM_INFINITY)
    _, err = process.communicate(timeout=60)
    assert "the disk has space again" in err
    assert process.returncode == 0
    assert read_status("r").status.requests.done == server.bill.total == 20
    assert server.bill.twice() == []


@pytest.mark.slow
def test_room_is_not_made(server: LLMServer) -> None:
    """A disk that stays full ends the run, which says what is lost; its cost still counts."""
    process = start_distill(*LIMITS, "--max-cost", CAP)
    server.answer = at_call(5, lambda: fill(process))
    _, err = process.communicate(timeout=60)
    done = read_status("r").status.requests.done
    assert process.returncode == 3
    lost = f"{server.bill.total - done} answers could not be stored and are lost, though they were"
    assert lost in err
    with pytest.raises(Unfinished, match="--max-cost 200 is reached"):
        resume("r", None, ExecutionConfig(max_cost=str(CAP), **PRICE))
    assert billed(server) <= CAP


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The same limit for this process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def attempts(store: WorkStore) -> int:
    """How many attempts are stored."""
    ((rows,),) = store.connection.execute("SELECT count(*) FROM failures").fetchall()
    return int(rows)


FAILURE = Failure("00000000-0000-0000-0000-000000000000", FailureKind.SERVER, "no", retryable=True)


def test_nothing_of_a_transaction_is_stored(store: WorkStore, tmp_path: Path) -> None:
    """Where the log has no room, nothing is stored, and the same goes through once there is."""
    store.results.add("b", [], [FAILURE])
    with files_of_at_most((tmp_path / "work.duckdb.wal").stat().st_size):
        with pytest.raises(DiskFull, match=r"the disk is full [(].*work.duckdb: File too large[)]"):
            store.results.add("b", [], [FAILURE])
        assert attempts(store) == 1
    store.results.add("b", [], [FAILURE])
    assert attempts(store) == 2


def test_stored_though_the_file_is_full(store: WorkStore, tmp_path: Path) -> None:
    """What is in the log is stored, also where the file has no room for it and DuckDB gives up."""
    store.connection.execute("SET wal_autocheckpoint = '1KB'")
    with files_of_at_most((tmp_path / "work.duckdb").stat().st_size):
        store.results.add("b", [], [FAILURE] * 100)
    assert attempts(store) == 100


def test_file_that_is_full(store: WorkStore, tmp_path: Path) -> None:
    """Where DuckDB gives up before anything is in the log, the same goes through later."""
    store.results.add("b", [], [FAILURE])
    store.connection.execute("SET wal_autocheckpoint = '1KB'")
    size = (tmp_path / "work.duckdb").stat().st_size
    with files_of_at_most(size), pytest.raises(DiskFull, match="the disk is full"):
        store.results.add("b", [], [FAILURE] * 5000)
    store.results.add("b", [], [FAILURE] * 5000)
    assert attempts(store) == 5001
