"""A hundred thousand records: memory stays bounded, and a run can be cut anywhere."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest

from store import RunFolder
from tests.conftest import Command, measured, start
from tests.llmserver import LLMServer

pytestmark = pytest.mark.slow

RECORDS = 100_000
MAX_MB = 700


def a_source(path: Path, output_bytes: int, records: int = RECORDS) -> Path:
    """Parquet with different questions and outputs."""
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 'Question ' || n AS instruction, "
            f"repeat(md5(n::VARCHAR), {output_bytes // 32}) AS output "
            f"FROM range({records}) t(n)) TO '{path}' (FORMAT parquet)"
        )
    return path


def peak_mb(*arguments: object) -> float:
    """Run a command to its end; its peak RSS in MB."""
    code, peak, errors = measured(*arguments)
    assert (code, errors) == (0, errors)
    return peak


def count(table: str) -> int:
    """Rows of a table of the run r."""
    with duckdb.connect("output/r/work.duckdb", read_only=True) as store:
        ((rows,),) = store.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(rows)


def an_arrow_source(path: Path, *, stream: bool) -> Path:
    """The same as Arrow: a stream of many batches, as `datasets` writes it, or a file of one."""
    parquet = pyarrow.parquet.ParquetFile(a_source(path.with_suffix(".parquet"), 5024))
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, parquet.schema_arrow) as writer:
        if stream:
            for batch in parquet.iter_batches(1000):
                writer.write_batch(batch)
        else:
            writer.write_table(parquet.read().combine_chunks())
    return path


@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_texts_of_half_a_gigabyte_do_not_fill_the_memory(tmp_path: Path, kind: str) -> None:
    """Sampling and exporting 100,000 records of 5 KB stay below 700 MB, as Arrow as well."""
    if kind == "parquet":
        source = a_source(tmp_path / "d.parquet", 5024)
    else:
        source = an_arrow_source(tmp_path / "d.arrow", stream=kind == "stream")
    peak = peak_mb(
        "distill", "--dataset-name", source, "--sample-size", 0, "--skip-generation", "--run", "r"
    )
    sizes = [path.stat().st_size > RECORDS * 5024 for path in Path("output/r").glob("distilled*")]
    assert (peak < MAX_MB, count("records"), sizes) == (True, RECORDS, [True, True, True])


def test_many_json_files_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A folder of 200 files is read within the memory of one."""
    (tmp_path / "d").mkdir()
    for number in range(200):
        row = {"prompt": f"Question {number}", "output": "An answer"}
        (tmp_path / f"d/{number}.jsonl").write_text(json.dumps(row))
    peak = peak_mb(
        "distill", "--dataset-name", "d", "--sample-size", 0, "--skip-generation", "--run", "r"
    )
    assert (peak < MAX_MB, count("records")) == (True, 200)


def test_batch_of_a_hundred_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned, submitted, collected and exported below 700 MB, each request billed once."""
    source = a_source(tmp_path / "d.parquet", 96)
    with LLMServer(bill_digests=True) as server:
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0.2")
        peak = peak_mb(
            *("distill", "--dataset-name", source, "--sample-size", 0, "--model", "m"),
            *("--backend", "openai-batch", "--run", "r"),
        )
        bill = (server.bill.total, len(server.bill.twice()))
    assert (peak < MAX_MB, count("results"), bill) == (True, RECORDS, (RECORDS, 0))


@pytest.mark.parametrize("moment", ["sampling", "sampled"])
def test_a_large_run_is_cut_and_resumed(
    command_process: Command, tmp_path: Path, moment: str
) -> None:
    """Ctrl-C while it samples or plans leaves a run that resume brings to the same end."""
    source = a_source(tmp_path / "d.parquet", 96, 3 * RECORDS)
    options = ("distill", "--dataset-name", source, "--sample-size", 0, "--model", "m")
    batch = ("--backend", "openai-batch", "--run", "r", "--no-wait")
    with LLMServer(bill_digests=True) as server:
        env = {"LLM_API_BASE": server.base_url, "LLM_API_KEY": "sk-test"}
        process = start(*options, *batch, env=env)
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith(moment))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        cut = (count("records"), count("row_requests") < 3 * RECORDS)
        resumed = command_process("resume", "r", "--no-wait", env=env)
    assert (process.returncode, resumed.returncode) == (130, 3)
    assert cut == (0 if moment == "sampling" else 3 * RECORDS, True)
    assert (count("records"), count("row_requests"), count("requests")) == (3 * RECORDS,) * 3
    assert not (RunFolder(Path("output/r")).path / "spill").exists()
