"""The work store: what it promises whoever opens it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from uuid import UUID

import duckdb
import pytest

from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.runs.folders import open_run
from store import Busy, RunFolder, UserError, WorkStore
from store.database.statements import QUERIES, SCHEMA
from store.errors import SqlError, StoreHeld
from store.jobs.events import EVENT_NAMES
from store.money import Charge
from store.planning import PlannedRequest
from store.requests import RequestOrder
from store.results import FailureKind, Result
from store.runs import Event, Language, Mode, Run, Turns


def a_run(tmp_path: Path) -> Run:
    """Any run."""
    (tmp_path / "d.jsonl").write_text('{"prompt": "a"}\n')
    return new_run(RunConfig(dataset_name=str(tmp_path / "d.jsonl")), load_settings())


@pytest.fixture
def store(tmp_path: Path) -> WorkStore:
    """A new store."""
    return WorkStore.create(tmp_path / "work.duckdb", a_run(tmp_path))


def test_run_comes_back(tmp_path: Path) -> None:
    """A run is read as it was written."""
    run = a_run(tmp_path)
    with WorkStore.create(tmp_path / "work.duckdb", run) as store:
        assert store.run() == run


def test_first_success_wins(store: WorkStore) -> None:
    """A second answer to a request changes nothing, and identity is the request's content."""
    store.planning.add(
        "answer", [PlannedRequest(0, 0, 0, '{"model":"m"}', '[{"content":"a","role":"user"}]')]
    )
    (request,) = store.requests.pending(3, RequestOrder.PREFIX)
    digest = hashlib.sha256(b'{"model":"m"}\n[{"content":"a","role":"user"}]').hexdigest()
    assert request.request_id == str(UUID(digest[:32]))
    for text in ("first", "second"):
        store.results.add("b", [Result(request.request_id, text, None, "stop")], [])
    rows = store.connection.execute("SELECT text FROM results").fetchall()
    assert (rows, list(store.requests.pending(3, RequestOrder.PREFIX))) == ([("first",)], [])


def test_failed_transaction_leaves_nothing(store: WorkStore) -> None:
    """A transaction that dies has no effect."""

    def half() -> None:
        with store.database.transaction():
            store.results.retry_failed()
            store.connection.execute("SELECT 'no number'::INTEGER")

    with pytest.raises(SqlError, match="Could not convert"):
        half()
    assert store.connection.execute("SELECT count(*) FROM events").fetchall() == [(0,)]


def test_enums_are_the_tables_checks() -> None:
    """Every CHECK of the schema is a closed set of words, that of an Enum, and none is missing."""
    words = [*map(tuple, (Mode, Language, Turns, FailureKind, Event, Charge)), EVENT_NAMES]
    listed = [", ".join(f"'{word}'" for word in one) for one in words]
    checks = re.findall(r"\bCHECK\b(?: \(\w+ IN \((.+?)\)\))?", SCHEMA)
    assert sorted(listed) == sorted(checks)


def test_run_is_the_tables_row(store: WorkStore) -> None:
    """The table of the run has the fields of Run, in their order."""
    columns = store.connection.execute("SELECT name FROM pragma_table_info('run')").fetchall()
    assert [name for (name,) in columns] == [field.name for field in fields(Run)]


def test_every_query_is_used() -> None:
    """No statement is in store/sql that nobody runs."""
    code = "".join(path.read_text() for path in Path(__file__).parents[2].glob("store/**/*.py"))
    assert [name for name in QUERIES if f'"{name}"' not in code] == []


def test_one_room_knows_duckdb() -> None:
    """Only store/database imports duckdb: its errors become the store's there."""
    root = Path(__file__).parents[2]
    code = [
        path for top in ("store", "backends", "fastdatasets") for path in (root / top).rglob("*.py")
    ]
    importers = {
        str(path.parent.relative_to(root))
        for path in code
        if re.search(r"^\s*(import|from) duckdb", path.read_text(), re.MULTILINE)
    }
    assert importers == {"store/database"}


def test_store_of_a_newer_version(store: WorkStore, tmp_path: Path) -> None:
    """A store written by a newer version is refused with what to do."""
    store.connection.execute("UPDATE meta SET schema_version = 99")
    store.close()
    with pytest.raises(UserError, match=r"newer version of this tool \(store version 99"):
        WorkStore.open(tmp_path / "work.duckdb")


def test_store_of_an_older_version(store: WorkStore, tmp_path: Path) -> None:
    """A store whose tables were others is refused with what to do."""
    store.connection.execute("UPDATE meta SET schema_version = 1")
    store.close()
    with pytest.raises(UserError, match=r"older version of this tool \(store version 1"):
        WorkStore.open(tmp_path / "work.duckdb")


def test_other_files_are_no_store(tmp_path: Path) -> None:
    """A text file and a foreign DuckDB file are told apart from a store."""
    (tmp_path / "text").write_text("x" * 5000)
    duckdb.connect(str(tmp_path / "foreign")).close()
    for name, message in [("text", "not a valid DuckDB"), ("foreign", "not a work store")]:
        with pytest.raises(UserError, match=message):
            WorkStore.open(tmp_path / name)


HOLD = """
import sys
from store import RunFolder, WorkStore
from pathlib import Path
folder = RunFolder(Path(sys.argv[1]))
with folder.lock(), WorkStore.open(folder.store_path):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_commands_on_one_run(tmp_path: Path) -> None:
    """The second command on a run says who works on it; a reader is told who holds the store."""
    with open_run(RunFolder(tmp_path), a_run(tmp_path)):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        busy = f"is busy: process {holder.pid} is working on it"
        with pytest.raises(Busy, match=busy), open_run(RunFolder(tmp_path)):
            pass
        with pytest.raises(StoreHeld, match=f"PID {holder.pid}"):
            WorkStore.open(tmp_path / "work.duckdb", read_only=True, wait_seconds=0)
        holder.kill()
    with open_run(RunFolder(tmp_path)) as store:  # the kernel freed both locks
        assert store.run().mode is Mode.DISTILL
