"""A batch's output file in one statement, and when it has to be read line by line instead."""

from __future__ import annotations

import json
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from backends.openai_batch.api.output_lines import LineReader
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from store import WorkStore
from store.jobs.events import BatchCounts, Collected
from store.jobs.job import Job
from store.jobs.journal import Caps
from store.money import MAX_COMPLETION_TOKENS, PROMPT_MARGIN, Bounds, Usage
from store.planning import PlannedRequest
from store.requests import Request, RequestOrder

TEXTS = (
    "plain",
    "",
    "null",
    "5",
    '["a", "list"]',
    '{"an": "object"}',
    'a "quote" \\ and \n \t \u2028 \u0085',
    "汉字 😀 façade",
    "I think > so </p>",
)


PARAMS = '{"max_tokens":40}'


def a_job(folder: Path) -> tuple[WorkStore, Job]:
    """A store with one planned job, a request for each of TEXTS."""
    folder.mkdir()
    (folder / "d.jsonl").write_text('{"prompt": "a"}\n')
    run = new_run(RunConfig(dataset_name=str(folder / "d.jsonl")), load_settings())
    store = WorkStore.create(folder / "work.duckdb", run)
    store.planning.add(
        "answer", [PlannedRequest(n, 0, 0, PARAMS, f"[{n}]") for n in range(len(TEXTS))]
    )
    store.journal.build_queue(store.requests.pending_positions(3, RequestOrder.PREFIX))
    job = store.journal.plan(folder, Caps(100, 1 << 20, 1 << 20), "http://127.0.0.1", "/v1", dict)
    assert job is not None
    return store, job


def lines_of(store: WorkStore) -> list[dict[str, Any]]:
    """The lines of a quiet batch."""
    rows = store.connection.execute("SELECT request_id::VARCHAR FROM requests ORDER BY rowid")
    return [
        {
            "custom_id": request_id,
            "error": None,
            "response": {
                "status_code": 200,
                "body": {
                    "choices": [
                        {
                            "message": {"role": "assistant", "content": text, "refusal": None},
                            "finish_reason": "length" if number % 2 else "stop",
                        }
                    ],
                    "usage": {
                        "prompt_tokens": number + 1,
                        "completion_tokens": 7,
                        "prompt_tokens_details": {"cached_tokens": number} if number else None,
                    },
                },
            },
        }
        for number, ((request_id,), text) in enumerate(zip(rows.fetchall(), TEXTS, strict=True))
    ]


def stored(store: WorkStore) -> list[tuple[Any, ...]]:
    """All results but for their time, in the order of the requests."""
    return store.connection.execute(
        "SELECT request_id, text, reasoning, finish_reason, prompt_tokens, completion_tokens, "
        "cached_tokens, backend, job_id FROM results ORDER BY prompt_tokens"
    ).fetchall()


@pytest.mark.parametrize("ascii_only", [True, False])
def test_in_one_statement_as_line_by_line(tmp_path: Path, ascii_only: bool) -> None:
    """Plain lines give the same rows both ways, whatever the texts hold."""
    at_once, job = a_job(tmp_path / "a")
    by_line, other = a_job(tmp_path / "b")
    path = tmp_path / "output [1].jsonl"
    lines = [json.dumps(line, ensure_ascii=ascii_only) + "\n" for line in lines_of(at_once)]
    path.write_text("".join(lines))
    counts, expected = BatchCounts(), BatchCounts()
    assert at_once.journal.answers.collect_plain(job, "b", path, counts)
    reader = LineReader(expected, partial(by_line.journal.answers.bounds, other))
    for results, _ in reader.read(path, is_output=True):
        by_line.journal.add_answers(other, "b", results, expected)
    assert (stored(at_once), counts) == (stored(by_line), expected)
    assert [row[1] for row in stored(at_once)] == list(TEXTS)


ODD: dict[str, Any] = {
    "a list as content": lambda line: message(line).update(content=[{"text": "a"}]),
    "a number as content": lambda line: message(line).update(content=5),
    "no content": lambda line: message(line).update(content=None),
    "a refusal": lambda line: message(line).update(refusal="no"),
    "reasoning": lambda line: message(line).update(reasoning="so"),
    "reasoning_content": lambda line: message(line).update(reasoning_content="so"),
    "reasoning in the text": lambda line: message(line).update(content="<think>so</think>a"),
    "a surrogate": lambda line: message(line).update(content="\ud800"),
    "a content filter": lambda line: choice(line).update(finish_reason="content_filter"),
    "no usage": lambda line: line["response"]["body"].pop("usage"),
    "a usage of nothing": lambda line: usage(line).update(prompt_tokens=0, completion_tokens=0),
    "no completion tokens for a text": lambda line: usage(line).update(completion_tokens=0),
    "negative prompt tokens": lambda line: usage(line).update(prompt_tokens=-1),
    "prompt tokens beyond its bytes": lambda line: usage(line).update(prompt_tokens=516),
    "completion tokens beyond the limit": lambda line: usage(line).update(completion_tokens=41),
    "cached tokens beside": lambda line: usage(line).update(
        prompt_tokens_details={"cached_tokens": 5}
    ),
    "negative cached tokens": lambda line: usage(line).update(
        prompt_tokens_details={"cached_tokens": -1}
    ),
    "a count with a fraction": lambda line: usage(line).update(completion_tokens=6.7),
    "a whole float as count": lambda line: usage(line).update(completion_tokens=7.0),
    "a bool as count": lambda line: usage(line).update(completion_tokens=True),
    "a count out of range": lambda line: usage(line).update(completion_tokens=10**30),
    "cached tokens that are none": lambda line: usage(line).update(
        prompt_tokens_details={"cached_tokens": "few"}
    ),
    "a text of 40 MB": lambda line: message(line).update(content="x" * 40_000_000),
    "no choices": lambda line: line["response"]["body"].update(choices=[]),
    "no body": lambda line: line["response"].pop("body"),
    "no response": lambda line: line.update(response=None),
    "an error": lambda line: line.update(error={"code": "x"}),
    "another status": lambda line: line["response"].update(status_code=400),
    "another's id": lambda line: line.update(custom_id="12345678-1234-1234-1234-123456789012"),
    "no id": lambda line: line.update(custom_id="x"),
}


def usage(line: dict[str, Any]) -> dict[str, Any]:
    """The usage of a line."""
    found: dict[str, Any] = line["response"]["body"]["usage"]
    return found


def choice(line: dict[str, Any]) -> dict[str, Any]:
    """The choice of a line."""
    found: dict[str, Any] = line["response"]["body"]["choices"][0]
    return found


def message(line: dict[str, Any]) -> dict[str, Any]:
    """The message of a line."""
    found: dict[str, Any] = choice(line)["message"]
    return found


@pytest.mark.quick(6)
@pytest.mark.parametrize("odd", ODD)
def test_odd_line_is_left_to_the_reader(tmp_path: Path, odd: str) -> None:
    """One line that is not plain, and nothing of the file is stored at once."""
    store, job = a_job(tmp_path / "a")
    lines = lines_of(store)
    ODD[odd](lines[3])
    path = tmp_path / "output.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = BatchCounts()
    assert not store.journal.answers.collect_plain(job, "b", path, counts)
    assert (stored(store), counts) == ([], BatchCounts())


def test_both_ways_allow_the_same_usage(tmp_path: Path) -> None:
    """The one statement and the reader of lines have one meaning of what a usage can be."""
    store, job = a_job(tmp_path / "a")
    (bounds,) = set(store.journal.answers.bounds(job).values())
    assert (bounds, bounds.most) == (Bounds(3, 40), Usage(3 + PROMPT_MARGIN, 0, 40))
    numbers = (-1, 0, 1, 3, 40, 41, 515, 516, 2**63 - 1)
    for prompt, cached, completion in product(numbers, (None, *numbers), numbers):
        for has_text in (True, False):
            (allowed,) = store.connection.execute(
                "SELECT plausible_usage($prompt, $cached, $completion, $has_text, 3, 40)",
                {
                    "prompt": prompt,
                    "cached": cached,
                    "completion": completion,
                    "has_text": has_text,
                },
            ).fetchall()[0]
            usage = Usage(prompt, cached or 0, completion)
            assert allowed == bounds.allow(usage, has_text=has_text), usage


def test_limit_of_a_request_without_one(tmp_path: Path) -> None:
    """It is the same in the store and outside."""
    store, _ = a_job(tmp_path / "a")
    found = store.connection.execute("SELECT limit_of('{}'), max_prompt_tokens(0)").fetchall()
    assert found == [(MAX_COMPLETION_TOKENS, PROMPT_MARGIN)]
    assert Request("", {}, []).bounds == Bounds(len("[]"), MAX_COMPLETION_TOKENS)


def test_usage_that_cannot_be_is_uncertain(tmp_path: Path) -> None:
    """Its answer is stored without counts, and charged what it can cost at most."""
    store, job = a_job(tmp_path / "a")
    lines = lines_of(store)
    usage(lines[3]).update(completion_tokens=0)
    path = tmp_path / "output.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *lines[3:4]]))
    counts = BatchCounts()
    reader = LineReader(counts, partial(store.journal.answers.bounds, job))
    for results, _ in reader.read(path, is_output=True):
        store.journal.add_answers(job, "b", results, counts)
    store.journal.end_batch(job, Collected("x", counts), [])
    uncertain = Usage(3 + PROMPT_MARGIN, 0, 40)
    assert (counts.results, counts.duplicates, counts.unmetered) == (len(TEXTS), 1, 2)
    assert counts.uncertain == job.uncertain == uncertain + uncertain
    assert counts.usage == Usage(45 - 4, 36 - 3, 7 * 8)
    assert stored(store)[-1][1:7] == (TEXTS[3], None, "length", None, None, None)


def test_lines_of_others_are_not_billed(tmp_path: Path) -> None:
    """Ids that are not the job's are counted, whatever they say and however broken they are."""
    store, job = a_job(tmp_path / "a")
    other = {**lines_of(store)[1], "custom_id": "12345678-1234-1234-1234-123456789012"}
    failed = {**other, "response": {"status_code": 500, "body": {}}}
    written = [json.dumps(other), json.dumps(failed), json.dumps({**other, "custom_id": "x"})]
    path = tmp_path / "output.jsonl"
    path.write_text("\n".join([*written, json.dumps(other)[:-9]]))
    counts = BatchCounts()
    reader = LineReader(counts, partial(store.journal.answers.bounds, job))
    assert list(reader.read(path, is_output=True)) == [([], [])]
    assert counts == BatchCounts(foreign=3, broken=1)


@pytest.mark.parametrize("tail", ["{", "twice"])
def test_odd_file_is_left_to_the_reader(tmp_path: Path, tail: str) -> None:
    """Half a line or a line twice at the end, and nothing is stored at once."""
    store, job = a_job(tmp_path / "a")
    lines = [json.dumps(line) + "\n" for line in lines_of(store)]
    path = tmp_path / "output.jsonl"
    path.write_text("".join(lines) + (lines[0] if tail == "twice" else tail))
    assert not store.journal.answers.collect_plain(job, "b", path, BatchCounts())
    assert stored(store) == []


def test_file_that_was_stored_is_left_to_the_reader(tmp_path: Path) -> None:
    """A second collecting stores nothing twice and counts through the reader."""
    store, job = a_job(tmp_path / "a")
    path = tmp_path / "output.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines_of(store)))
    first = store.journal.answers.collect_plain(job, "b", path, BatchCounts())
    again = store.journal.answers.collect_plain(job, "b", path, BatchCounts())
    assert (first, again, len(stored(store))) == (True, False, len(TEXTS))
