"""A run from its sample to its files, with a scripted backend over a real store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.pipeline import advance_run
from fastdatasets.runs.folders import open_run
from store import RunFolder, UserError
from store.requests import RequestOrder
from store.runs import Run
from store.status import Status
from tests.conftest import write_jsonl
from tests.doubles import NullProgress, ScriptedBackend

ROWS: list[dict[str, Any]] = [
    {"instruction": f"Question {n}", "input": "", "output": f"old {n}", "reasoning": "why"}
    for n in range(20)
]


def run_for(path: Path, **given: Any) -> Run:
    """A run over a file; all rows unless said otherwise, and the bare instruction as its prompt."""
    template = path.parent / "bare.j2"
    template.write_text("{{ instruction }}{{ input }}", "utf-8")
    run_config: dict[str, Any] = {"sample_size": 0, "prompt_template": str(template)} | given
    return new_run(RunConfig(dataset_name=str(path), **run_config), load_settings())


def run(folder: Path, backend: ScriptedBackend, new: Run | None = None) -> tuple[Status, list[str]]:
    """One command's worth of work on the run in a folder."""
    folder.mkdir(exist_ok=True)
    progress = NullProgress()
    with open_run(RunFolder(folder), new) as store:
        status, _ = advance_run(RunFolder(folder), store, lambda _: backend, progress, 3)
    return status, progress.lines


def exported(folder: Path, name: str = "distilled.json") -> list[dict[str, Any]]:
    """The rows of an exported file."""
    rows: list[dict[str, Any]] = json.loads((folder / name).read_text("utf-8"))
    return rows


def test_files_of_a_run(tmp_path: Path) -> None:
    """A run gives the guide's three files, in sample order whatever order the answers came in."""
    source = write_jsonl(
        tmp_path / "d.jsonl",
        [{"instruction": "A", "input": "x"}, {"instruction": "B", "input": ""}, {"input": "only"}],
    )
    status, _ = run(
        tmp_path / "run",
        ScriptedBackend(reverse=True, answer={"Ax": "42", "B": "```\n{}\n```", "only": "ü"}.get),  # type: ignore[arg-type]
        run_for(source, model="teacher"),
    )
    assert status.state == "done"
    common = {"reasoning": "", "finish_reason": "stop", "model": "teacher"}
    assert exported(tmp_path / "run") == [
        {"instruction": "A", "input": "x", "output": "42", **common, "source_row": 0},
        {"instruction": "B", "input": "", "output": "```\n{}\n```", **common, "source_row": 1},
        {"instruction": "", "input": "only", "output": "ü", **common, "source_row": 2},
    ]
    assert exported(tmp_path / "run", "distilled-alpaca.json") == [
        {"instruction": "A", "input": "x", "output": "42"},
        {"instruction": "B", "input": "", "output": "```\n{}\n```"},
        {"instruction": "", "input": "only", "output": "ü"},
    ]
    assert exported(tmp_path / "run", "distilled-sharegpt.json") == [
        {
            "conversations": [
                {"from": "human", "value": human},
                {"from": "assistant", "value": answer},
            ]
        }
        for human, answer in [
            ("指令: A\n\n输入: x", "42"),
            ("指令: B", "```\n{}\n```"),
            ("输入: only", "ü"),
        ]
    ]


def test_interrupted_run_asks_nothing_twice(tmp_path: Path) -> None:
    """A run that dies after seven answers keeps them and asks only for the other thirteen."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    first = ScriptedBackend(dies_after=7)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", first, run_for(source))
    assert not (tmp_path / "run/distilled.json").exists()
    second = ScriptedBackend(reverse=True)
    status, _ = run(tmp_path / "run", second)
    assert first.asked + second.asked[::-1] == [f"Question {n}" for n in range(20)]
    assert status.state == "done"
    undisturbed = ScriptedBackend()
    run(tmp_path / "other", undisturbed, run_for(source))
    for name in ("distilled.json", "distilled-alpaca.json", "distilled-sharegpt.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_resume_of_a_done_run_writes_missing_exports(tmp_path: Path) -> None:
    """A done run asks nothing more and gets its files back."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    run(tmp_path / "run", ScriptedBackend(), run_for(source))
    before = (tmp_path / "run/distilled.json").read_bytes()
    (tmp_path / "run/distilled.json").unlink()
    again = ScriptedBackend()
    status, _ = run(tmp_path / "run", again)
    assert (status.state, again.asked) == ("done", [])
    assert (tmp_path / "run/distilled.json").read_bytes() == before


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    """Records with equal questions share one request and each get its answer."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": p} for p in ("a", "b", "a")])
    backend = ScriptedBackend()
    status, _ = run(tmp_path / "run", backend, run_for(source))
    assert (backend.asked, status.requests.total, status.records) == (["a", "b"], 2, 3)
    assert [row["output"] for row in exported(tmp_path / "run")] == [
        "Answer to a",
        "Answer to b",
        "Answer to a",
    ]


def test_retries_and_permanent_failures(tmp_path: Path) -> None:
    """What fails twice is answered; what fails thrice or is refused is left out and counted."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": p} for p in ("a", "b", "c", "d")])
    backend = ScriptedBackend(fails={"a": 2, "b": 3, "c": -1})
    status, _ = run(tmp_path / "run", backend, run_for(source))
    assert backend.asked == ["a", "b", "c", "d", "a", "b", "a", "b"]
    assert (status.requests.done, status.requests.failed, status.state) == (2, 2, "incomplete")
    assert [row["instruction"] for row in exported(tmp_path / "run")] == ["a", "d"]
    with open_run(RunFolder(tmp_path / "run")) as store:
        assert store.results.failure_reasons() == [
            ("server", "overloaded", 1),
            ("refused", "too long", 1),
        ]
        store.results.retry_failed()
    again = ScriptedBackend()
    status, _ = run(tmp_path / "run", again)
    assert (again.asked, status.state) == (["b", "c"], "done")


def test_empty_rows_are_not_asked(tmp_path: Path) -> None:
    """Rows without instruction and input are counted and said, never sent."""
    rows: list[dict[str, Any]] = [{"prompt": "a"}, {"prompt": " \n"}, {"prompt": None}]
    source = write_jsonl(tmp_path / "d.jsonl", rows)
    backend = ScriptedBackend()
    _, lines = run(tmp_path / "run", backend, run_for(source))
    assert backend.asked == ["a"]
    assert lines[1:4] == [
        "columns: instruction ← prompt",
        "sampled 1 of 3 rows",
        "left out: 2 rows without a question of the user",
    ]


@pytest.mark.slow
def test_sample_is_seeded_and_grows(tmp_path: Path) -> None:
    """A seed gives one sample, another seed another; a larger sample begins with a smaller."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    picks = {}

    def pick(row: int) -> int:
        return int.from_bytes(hashlib.md5(f"42:{row}".encode()).digest()[8:], "little")

    for name, seed, size in [("a", 42, 5), ("b", 42, 9), ("c", 7, 5), ("d", 42, 50)]:
        run(tmp_path / name, ScriptedBackend(), run_for(source, seed=seed, sample_size=size))
        picks[name] = [row["source_row"] for row in exported(tmp_path / name)]
    assert picks["a"] == sorted(range(20), key=pick)[:5]
    assert picks["b"][:5] == picks["a"]
    assert set(picks["c"]) != set(picks["a"])
    assert sorted(picks["d"]) == list(range(20))


def test_skip_generation(tmp_path: Path) -> None:
    """The dataset's own outputs are exported and nothing is asked."""
    source = write_jsonl(tmp_path / "d.jsonl", [*ROWS[:1], {"instruction": "no output"}])
    backend = ScriptedBackend()
    new = run_for(source, skip_generation=True, include_reasoning=True)
    status, _ = run(tmp_path / "run", backend, new)
    assert (status.state, backend.asked) == ("done", [])
    assert exported(tmp_path / "run")[0] == {
        "instruction": "Question 0",
        "input": "",
        "output": "old 0",
        "reasoning": "why",
        "finish_reason": None,
        "model": None,
        "source_row": 0,
    }
    assert exported(tmp_path / "run", "distilled-alpaca.json") == [
        {"instruction": "Question 0", "input": "", "output": "why\n\nold 0"}
    ]


def test_output_file(tmp_path: Path) -> None:
    """--output-file gets distilled.json's content."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    target = tmp_path / "deep/er/copy.json"
    run(tmp_path / "run", ScriptedBackend(), run_for(source, output_file=target))
    assert target.read_bytes() == (tmp_path / "run/distilled.json").read_bytes()


def test_named_run_with_another_frozen_part(tmp_path: Path) -> None:
    """Going on by name with another model is refused, with other formats it is not."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    new = run_for(source, model="a")
    run(tmp_path / "run", ScriptedBackend(), new)
    run(tmp_path / "run", ScriptedBackend(), replace(new, export=replace(new.export, formats=())))
    with pytest.raises(UserError, match=r"already exists with another model \('a', now 'b'\)"):
        run(tmp_path / "run", ScriptedBackend(), replace(new, model="b"))


def test_system_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SYSTEM_PROMPT leads every chat but one that has a system turn of its own."""
    chats = [
        [{"role": "system", "content": "Own."}, {"role": "user", "content": "a"}],
        [{"role": "user", "content": "b"}],
    ]
    source = write_jsonl(tmp_path / "d.jsonl", [{"messages": chat} for chat in chats])
    monkeypatch.setenv("SYSTEM_PROMPT", "General.")
    run(tmp_path / "run", ScriptedBackend(fails={"a": -1, "b": -1}), run_for(source))
    with open_run(RunFolder(tmp_path / "run")) as store:
        store.results.retry_failed()
        assert [request.messages for request in store.requests.pending(3, RequestOrder.PREFIX)] == [
            [{"role": "system", "content": system}, {"role": "user", "content": user}]
            for system, user in [("Own.", "a"), ("General.", "b")]
        ]
