"""A batch's output file in one statement, and when it has to be read line by line instead."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends.batch_lines import LineReader
from fastdatasets.settings import load_settings
from fastdatasets.wishes import Wishes
from store import WorkStore
from store.jobs import Job
from store.journal import Caps, Collected
from store.models import Ask, AskOrder

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


def a_job(folder: Path) -> tuple[WorkStore, Job]:
    """A store with one planned job, a request for each of TEXTS."""
    folder.mkdir()
    (folder / "d.jsonl").write_text('{"prompt": "a"}\n')
    run = Wishes(dataset_name=str(folder / "d.jsonl")).spec(load_settings()).run()
    store = WorkStore.create(folder / "work.duckdb", run)
    store.add_asks("answer", [Ask(n, 0, 0, "{}", f"[{n}]") for n in range(len(TEXTS))])
    store.journal.line_up(store.pending_rows(3, AskOrder.PREFIX))
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
    counts, expected = Collected(), Collected()
    assert at_once.journal.collect_plain(job, "b", path, counts)
    reader = LineReader(expected, partial(by_line.journal.bounds, other))
    pages = reader.read(path, is_output=True)
    by_line.journal.collect(other, "batch", "b", pages, expected, lambda: None)
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
    "no choices": lambda line: line["response"]["body"].update(choices=[]),
    "no body": lambda line: line["response"].pop("body"),
    "no response": lambda line: line.update(response=None),
    "an error": lambda line: line.update(error={"code": "x"}),
    "another status": lambda line: line["response"].update(status_code=400),
    "another's id": lambda line: line.update(custom_id="12345678-1234-1234-1234-123456789012"),
    "no id": lambda line: line.update(custom_id="x"),
}


def choice(line: dict[str, Any]) -> dict[str, Any]:
    """The choice of a line."""
    found: dict[str, Any] = line["response"]["body"]["choices"][0]
    return found


def message(line: dict[str, Any]) -> dict[str, Any]:
    """The message of a line."""
    found: dict[str, Any] = choice(line)["message"]
    return found


@pytest.mark.parametrize("odd", ODD)
def test_odd_line_is_left_to_the_reader(tmp_path: Path, odd: str) -> None:
    """One line that is not plain, and nothing of the file is stored at once."""
    store, job = a_job(tmp_path / "a")
    lines = lines_of(store)
    ODD[odd](lines[3])
    path = tmp_path / "output.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = Collected()
    assert not store.journal.collect_plain(job, "b", path, counts)
    assert (stored(store), counts) == ([], Collected())


@pytest.mark.parametrize("tail", ["{", "twice"])
def test_odd_file_is_left_to_the_reader(tmp_path: Path, tail: str) -> None:
    """Half a line or a line twice at the end, and nothing is stored at once."""
    store, job = a_job(tmp_path / "a")
    lines = [json.dumps(line) + "\n" for line in lines_of(store)]
    path = tmp_path / "output.jsonl"
    path.write_text("".join(lines) + (lines[0] if tail == "twice" else tail))
    assert not store.journal.collect_plain(job, "b", path, Collected())
    assert stored(store) == []


def test_file_that_was_stored_is_left_to_the_reader(tmp_path: Path) -> None:
    """A second collecting stores nothing twice and counts through the reader."""
    store, job = a_job(tmp_path / "a")
    path = tmp_path / "output.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines_of(store)))
    first = store.journal.collect_plain(job, "b", path, Collected())
    again = store.journal.collect_plain(job, "b", path, Collected())
    assert (first, again, len(stored(store))) == (True, False, len(TEXTS))
