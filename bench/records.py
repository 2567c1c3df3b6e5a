"""What is not the model, at 10^4, 10^5 and 10^6 records, each step beside a bare script's.

    python bench/records.py [--full]

Makes its own input with a seed (questions of 60 to 500 bytes, answers of about 450), then times
each step in a process of its own: sample, plan (requests and job files), collect (a batch's output
files), exports, and how long a resume takes to know what is left. The bare scripts do the same work
with DuckDB and msgspec alone: the same choice of rows, sandboxed template, digests and commits.
Then the real commands against the tests' batch server. Seconds are wall clock, CPU is user and
system time of the process, RSS its peak. Writes bench/results.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, cast

import duckdb
import msgspec
import pyarrow as pa

ROOT = Path(__file__).parents[1]
SIZES, FULL_SIZES = (10_000, 100_000), (10_000, 100_000, 1_000_000)
COMMANDS_AT = 200_000  # records of the run whose commands' CPU time is told by the record
JOB = 50_000  # requests in a job file
SEED = 42
TEXT = """
permit wall roof deadline fee architect plan city form license noise crane site water power
street closure neighbour heritage façade scaffold inspection waste debris safety engineer
drawing budget extension office counter online receipt signature owner tenant contract of the
a to and in for with on by or at from that this must may can be is are was when where how what
"""
WORDS = TEXT.split()
MODEL = "gpt-4o-mini"

Figures = dict[str, float]
Config = dict[str, str | bool | int | float | list[str]]
Step = Callable[[Path, int], None]


# -- input


def make_source(folder: Path, n: int) -> None:
    """Questions of a few sentences, every third with an input, as Parquet."""
    words = "[" + ", ".join(f"'{word}'" for word in WORDS) + "]"

    def text(salt: int, fewest: int, spread: int) -> str:
        return (
            f"array_to_string(list_transform(range((hash(n * 31 + {salt} + {SEED}) % {spread})"
            f"::BIGINT + {fewest}), lambda i: ({words})[(1 + hash(n * 1000003 + i * 7919 "
            f"+ {salt}) % {len(WORDS)})::BIGINT]), ' ')"
        )

    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {text(1, 10, 50)} || ' ' || n AS instruction, "
            f"CASE WHEN n % 3 = 0 THEN {text(2, 5, 30)} ELSE '' END AS input, "
            f"{text(3, 10, 40)} AS output FROM range({n}) t(n)) "
            f"TO '{folder}/source.parquet' (FORMAT parquet)"
        )


def write_outputs(folder: Path, n: int) -> None:  # noqa: ARG001
    """An output file of a batch for each job file, in the order in which the lines came."""
    answer = " ".join(WORDS * 2)
    outputs = folder / "outputs"
    outputs.mkdir()
    for job in sorted((folder / "run/jobs").glob("*.jsonl")):
        with job.open("rb") as lines, (outputs / job.name).open("wb") as file:
            for number, line in enumerate(lines):
                custom_id = line[14:50].decode()
                start = hash((number, SEED)) % 200
                body = {
                    "id": f"chatcmpl-{number}",
                    "object": "chat.completion",
                    "created": 1,
                    "model": MODEL,
                    "choices": [
                        {
                            "index": 0,
                            "message": {
                                "role": "assistant",
                                "content": f"{job.stem} {number} {answer[start : start + 450]}",
                                "refusal": None,
                            },
                            "logprobs": None,
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": {
                        "prompt_tokens": 70,
                        "completion_tokens": 80,
                        "total_tokens": 150,
                        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    },
                    "system_fingerprint": None,
                }
                response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
                whole = {"id": f"b{number}", "custom_id": custom_id, "response": response}
                file.write(msgspec.json.encode({**whole, "error": None}) + b"\n")


# -- our steps


def _config(folder: Path, n: int) -> Any:
    from fastdatasets.config.run import RunConfig
    from store.runs import Language

    return RunConfig(
        dataset_name=str(folder / "source.parquet"),
        sample_size=n,
        backend="openai-batch",
        model=MODEL,
        language=Language.EN,
        prompt_template="guide",
    )


@contextmanager
def _our_store(folder: Path, n: int) -> Iterator[Any]:
    from fastdatasets.config.new_run import new_run
    from fastdatasets.config.settings import load_settings
    from fastdatasets.runs.folders import open_run
    from store import RunFolder

    (folder / "run").mkdir(exist_ok=True)
    run = new_run(_config(folder, n), load_settings())
    with open_run(RunFolder(folder / "run"), run) as store:
        yield store


class _Quiet:
    """Progress of what nobody watches; a look is free but for the one that is waited for."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def update(self, store: Any) -> None:
        """Count nothing."""


class _StoppedError(Exception):
    """A resume knows what is left."""


class _StopsAtOnce(_Quiet):
    def update_now(self, store: Any) -> None:
        """Count as the command does, then end it."""
        store.status("run", 3)
        raise _StoppedError


def our_sample(folder: Path, n: int) -> None:
    """Records into the store."""
    from fastdatasets.sources.sampling import sample_records

    with _our_store(folder, n) as store:
        sample_records(store, store.run(), print)


def our_plan(folder: Path, n: int) -> None:
    """Requests and job files."""
    from fastdatasets.stages.answer import Answer
    from store.jobs.journal import Caps
    from store.requests import RequestOrder

    with _our_store(folder, n) as store:
        Answer(store.run()).plan(store, _Quiet())
        caps = Caps(JOB, 200_000_000, 1 << 62)
        store.journal.build_queue(store.requests.pending_positions(3, RequestOrder.PREFIX))
        while store.journal.plan(
            folder / "run", caps, "http://127.0.0.1:1/v1", "/v1/chat/completions", dict
        ):
            pass


def our_collect(folder: Path, n: int) -> None:
    """A batch's answers into the store, job by job."""
    from store.jobs.events import BatchCounts, Closed, CloseReason, Collected

    with _our_store(folder, n) as store:
        jobs = store.journal.jobs()
        for file in sorted((folder / "outputs").glob("*.jsonl")):
            job, counts = jobs[file.stem], BatchCounts()
            assert store.journal.answers.collect_plain(job, "openai-batch", file, counts), file
            store.journal.answers.line_counts(job, {})
            store.journal.end_batch(job, Collected("batch", counts), [], [])
            store.journal.append(job, Closed(CloseReason.DONE))


def our_check(folder: Path, n: int) -> None:
    """All checks that every answer gets."""
    from fastdatasets.checks.ingest import check_answers, check_duplicates

    with _our_store(folder, n) as store:
        check_answers(store, store.run())
        check_duplicates(store)


def our_resume(folder: Path, n: int) -> None:
    """What resume does until it knows what is left."""
    from fastdatasets.pipeline import advance_run
    from store import RunFolder

    with _our_store(folder, n) as store:
        try:
            advance_run(RunFolder(folder / "run"), store, None, cast(Any, _StopsAtOnce()), 3)  # type: ignore[arg-type]
        except _StoppedError:
            return
    raise AssertionError("it was never counted")


def _our_export(*formats: str) -> Step:
    def export(folder: Path, n: int) -> None:
        from fastdatasets.exports.writers import export
        from store import RunFolder
        from store.export_options import ExportOptions

        with _our_store(folder, n) as store:
            options = ExportOptions(formats=formats)
            files = export(
                RunFolder(folder / "run"), store, store.run(), store.status("run", 3), options
            )
            assert [file.rows for file in files] == [n] * (1 + len(formats)), files

    return export


# -- the same by a bare script


@contextmanager
def _bare(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    config: Config = {"memory_limit": "1GB", "temp_directory": str(folder / "bare-spill")}
    with duckdb.connect(str(folder / "bare.duckdb"), config=config) as connection:
        yield connection


def bare_sample(folder: Path, n: int) -> None:
    """The n rows with the smallest digests, in that order."""
    with _bare(folder) as connection:
        connection.execute(
            "CREATE TABLE records AS SELECT row_number() OVER () - 1 AS record, source_row, "
            "instruction, input, output FROM "
            f"(FROM (SELECT *, file_row_number AS source_row, md5_number('{SEED}:' || "
            "file_row_number) AS pick FROM read_parquet($source, file_row_number := true)) "
            "WHERE trim(instruction || input) <> '' ORDER BY pick LIMIT $n)",
            {"source": str(folder / "source.parquet"), "n": n},
        )


def bare_plan(folder: Path, n: int) -> None:
    """Render, hash, keep and write the requests."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from fastdatasets.config.new_run import new_run
    from fastdatasets.config.settings import load_settings

    run = new_run(_config(folder, n), load_settings())
    params = {"model": run.model, **run.params}
    hashed = msgspec.json.encode(params, order="sorted") + b"\n"
    opening = msgspec.json.encode(params)[:-1]
    jobs = folder / "bare-jobs"
    jobs.mkdir()
    text = (ROOT / "fastdatasets/stages/templates/answer.en.j2").read_text()
    template = ImmutableSandboxedEnvironment().from_string(text)
    with _bare(folder) as connection:
        connection.execute(
            "CREATE TABLE requests (request_id UUID, record BIGINT, messages VARCHAR)"
        )
        reader = connection.cursor().execute(
            "SELECT record, instruction, input FROM records ORDER BY rowid"
        )
        job = 0
        while rows := reader.fetchmany(JOB):
            ids: list[str] = []
            asked: list[bytes] = []
            digest = hashlib.sha256()
            with (jobs / f"{job:05}.jsonl").open("wb") as file:
                for _, instruction, given in rows:
                    prompt = template.render(instruction=instruction, input=given)
                    messages = msgspec.json.encode([{"content": prompt, "role": "user"}])
                    request_id = hashlib.sha256(hashed + messages).hexdigest()[:32]
                    line = (
                        b'{"custom_id":"%b","method":"POST","url":"/v1/chat/completions",'
                        b'"body":%b,"messages":%b}}\n' % (request_id.encode(), opening, messages)
                    )
                    digest.update(line)
                    file.write(line)
                    ids.append(request_id)
                    asked.append(messages)
            connection.register(
                "incoming",
                pa.table(
                    {
                        "request_id": ids,
                        "record": [row[0] for row in rows],
                        "messages": pa.array(asked, pa.binary()).cast(pa.string()),
                    }
                ),
            )
            connection.execute(
                "INSERT INTO requests SELECT request_id::UUID, record, messages FROM incoming"
            )
            job += 1


def bare_collect(folder: Path, n: int) -> None:
    """Answers by DuckDB's own JSON reader, those of our requests, committed file by file."""
    with _bare(folder) as connection:
        connection.execute(
            "CREATE TABLE results (request_id UUID, text VARCHAR, finish_reason VARCHAR, "
            "prompt_tokens BIGINT, completion_tokens BIGINT)"
        )
        for file in sorted((folder / "outputs").glob("*.jsonl")):
            connection.execute(
                "INSERT INTO results SELECT custom_id AS request_id, "
                "response.body.choices[1].message.content, "
                "response.body.choices[1].finish_reason, "
                "response.body.usage.prompt_tokens, response.body.usage.completion_tokens "
                "FROM read_json($file, format := 'newline_delimited', columns := {custom_id: "
                "'UUID', response: 'STRUCT(status_code INTEGER, body STRUCT(choices STRUCT("
                "message STRUCT(content VARCHAR), finish_reason VARCHAR)[], "
                "usage STRUCT(prompt_tokens BIGINT, completion_tokens BIGINT)))'}) "
                "SEMI JOIN requests ON custom_id = request_id",
                {"file": str(file)},
            )
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (n,)


BARE_ROWS = (
    "FROM (SELECT record, source_row, instruction, input FROM records) "
    "JOIN (SELECT record, request_id FROM requests) USING (record) "
    "JOIN (SELECT request_id, text, finish_reason FROM results) USING (request_id) ORDER BY record"
)
BARE_EXPORTS = {
    "distilled": "SELECT instruction, input, text AS output, '' AS reasoning, finish_reason, "
    f"'{MODEL}' AS model, source_row {BARE_ROWS}",
    "alpaca": f"SELECT instruction, input, text AS output {BARE_ROWS}",
    "sharegpt": "SELECT [{'from': 'human', 'value': '指令: ' || instruction || chr(10) || chr(10) "
    "|| '输入: ' || input}, {'from': 'assistant', 'value': text}] AS conversations " + BARE_ROWS,
}


def _bare_export(*names: str) -> Step:
    def export(folder: Path, n: int) -> None:
        with _bare(folder) as connection:
            for name in names:
                path = folder / f"bare-{name}.json"
                row = connection.execute(
                    f"COPY ({BARE_EXPORTS[name]}) TO '{path}' (FORMAT json, ARRAY true)"
                ).fetchone()
                assert row == (n,)

    return export


def shuffle_results(folder: Path, n: int) -> None:
    """The answers in no order, as an engine gives them that has many in flight."""
    with _our_store(folder, n) as store:
        store.connection.execute("CREATE TEMP TABLE old AS FROM results")
        store.connection.execute("DELETE FROM results")
        store.connection.execute("INSERT INTO results FROM old ORDER BY hash(request_id)")


# Made in processes of their own, since a process inherits the peak RSS of the one that starts it.
INPUTS: dict[str, Step] = {
    "source": make_source,
    "outputs": write_outputs,
    "shuffled": shuffle_results,
}
STEPS: dict[str, tuple[Step, Step | None]] = {
    "sample": (our_sample, bare_sample),
    "plan": (our_plan, bare_plan),
    "what is left, none answered": (our_resume, None),
    "collect": (our_collect, bare_collect),
    "check": (our_check, None),
    "what is left, all answered": (our_resume, None),
    "export distilled": (_our_export(), _bare_export("distilled")),
    "export + alpaca": (_our_export("alpaca"), _bare_export("distilled", "alpaca")),
    "export + sharegpt": (_our_export("sharegpt"), _bare_export("distilled", "sharegpt")),
    "export shuffled": (_our_export("sharegpt"), _bare_export("distilled", "sharegpt")),
}


# -- running and telling


MEASURE = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
figures = {
    "seconds": time.perf_counter() - began,
    "cpu_seconds": usage.ru_utime + usage.ru_stime,
    "rss_mb": usage.ru_maxrss / 1024,
}
print(json.dumps(figures))
sys.exit(code)
"""


def measured(command: list[str], environment: dict[str, str]) -> Figures:
    """A command's wall clock and CPU seconds, and its peak RSS in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures


def step(name: str, side: str, folder: Path, n: int) -> None:
    """Run one side of a step in this process; print its figures, without Python's start."""
    # imported before the clock starts, for both sides
    import backends.openai_batch.backend  # noqa: F401
    import fastdatasets.pipeline  # noqa: F401

    work = INPUTS.get(name) or STEPS[name][side == "bare"]
    assert work is not None
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work(folder, n)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "rss_mb": after.ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def in_process(name: str, side: str, folder: Path, n: int) -> Figures:
    """The figures of one side of a step."""
    done = subprocess.run(
        [sys.executable, __file__, "step", name, side, str(folder), str(n)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def steps_at(n: int, folder: Path) -> dict[str, Any]:
    """All steps of both sides over one input."""
    in_process("source", "ours", folder, n)
    figures: dict[str, Any] = {}
    for name, (_, bare) in STEPS.items():
        if name == "collect":
            in_process("outputs", "ours", folder, n)
        if name == "export shuffled":
            in_process("shuffled", "ours", folder, n)
        os.sync()  # what was written before is not to be paid for now
        ours = in_process(name, "ours", folder, n)
        ours["records_per_second"] = n / ours["seconds"]
        figures[name] = {"ours": ours}
        reported = f"{n:>9,}  {name:<28} {ours['seconds']:8.2f} s {ours['rss_mb']:6.0f} MB"
        if bare is not None:
            theirs = in_process(name, "bare", folder, n)
            ratio = ours["seconds"] / theirs["seconds"]
            figures[name] |= {"bare": theirs, "ratio": ratio}
            reported += (
                f"   bare {theirs['seconds']:8.2f} s {theirs['rss_mb']:6.0f} MB   ratio {ratio:.2f}"
            )
        print(reported, flush=True)
    store = folder / "run/work.duckdb"
    with duckdb.connect(str(store), read_only=True) as connection:
        row = connection.execute(
            "SELECT (SELECT sum(strlen(instruction) + strlen(input) + strlen(original_output)) "
            "FROM records) + (SELECT sum(strlen(messages)) FROM requests) "
            "+ (SELECT sum(strlen(text)) FROM results)"
        ).fetchone()
    assert row is not None
    size = {"bytes": store.stat().st_size, "text_bytes": int(row[0])}
    figures["store"] = {**size, "ratio": size["bytes"] / size["text_bytes"]}
    print(
        f"{n:>9,}  store {size['bytes'] / 1e6:.0f} MB of {size['text_bytes'] / 1e6:.0f} MB of text"
    )
    return figures


def commands_at(n: int, folder: Path) -> dict[str, Any]:
    """The real commands against the tests' batch server; CPU is the command's alone."""
    source, output = folder / "source.parquet", folder / "output"
    in_process("source", "ours", folder, n)
    serve = [sys.executable, "-m", "tests.llmserver", "--port", "0", "--bill-digests"]
    with subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        environment = {
            "LLM_API_KEY": "sk-test",
            "LLM_API_BASE": server.stdout.readline().strip(),
            "FASTDATASETS_OUTPUT_DIR": str(output),
            "FASTDATASETS_POLL_SECONDS": "1",
            "PYTHONPATH": str(ROOT),
        }

        def command(*words: str) -> Figures:
            ours = [sys.executable, "-m", "fastdatasets", *words]
            return measured(ours, environment)

        common = ["distill", "--dataset-name", str(source), "--sample-size", "0", "--model", "m"]
        batch = ["--backend", "openai-batch", "--run", "r", "--no-wait"]
        first = command(*common, *batch)  # ends with a small job at the server, to prove it
        rest = command("resume", "r", "--no-wait")
        figures = {
            "sample + export": command(*common, "--run", "e", "--skip-generation"),
            "sample + plan + submit": {
                "seconds": first["seconds"] + rest["seconds"],
                "cpu_seconds": first["cpu_seconds"] + rest["cpu_seconds"],
                "rss_mb": max(first["rss_mb"], rest["rss_mb"]),
            },
            "collect + export": command("resume", "r"),
            "status": command("status", "r", "--json"),
            "resume of a finished run": command("resume", "r"),
        }
        server.terminate()
        server.communicate()
    for name, one in figures.items():
        one["cpu_us_per_record"] = one["cpu_seconds"] / n * 1e6
        print(
            f"{n:>9,}  {name:<26} {one['seconds']:8.2f} s {one['rss_mb']:6.0f} MB "
            f"{one['cpu_us_per_record']:6.1f} µs of CPU a record",
            flush=True,
        )
    return figures


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        yield Path(folder)


def main() -> None:
    """Run all sizes, print and write the figures."""
    sizes = FULL_SIZES if "--full" in sys.argv else SIZES
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": date.today().isoformat(),
        "seed": SEED,
        "steps": {},
        "commands": {},
    }
    for n in sizes:
        with _folder() as folder:
            figures["steps"][str(n)] = steps_at(n, folder)
    for n in (*SIZES[:-1], COMMANDS_AT, *sizes[len(SIZES) :]):
        with _folder() as folder:
            figures["commands"][str(n)] = commands_at(n, folder)
    (ROOT / "bench/results.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["step"]:
        step(sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
