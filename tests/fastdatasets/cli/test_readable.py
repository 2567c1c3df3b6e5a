"""What reaches a terminal or a log: no control characters, no keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from fastdatasets.terminal import readable, readable_json
from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer, Reply
from tests.llmserver.batches import Fate, failed

HOSTILE = "\x1b]0;owned\x07\r\x9b2J\u202egnp"
SHOWN = r"\x1b]0;owned\x07\x0d\x9b2J\u202egnp"
KEY = "sk-secret-0123456789"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
BACKENDS = ("openai-batch", "openai")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    """A server that refuses one question and echoes the key."""

    def answer(body: dict[str, object]) -> str | Reply:
        if "2" not in str(body["messages"]):
            return "yes"
        words = f"Not with {KEY}, {HOSTILE}"
        return Reply(status_code=400, error={"message": words, "code": None})

    with LLMServer(answer=answer, keys=None) as server:
        monkeypatch.setenv("LLM_API_KEY", KEY)
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0")
        yield server


@pytest.mark.usefixtures("server")
@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_hostile_names_and_words(command: Command, backend: str) -> None:
    """Names of columns, runs, models and files, and the server's words are shown escaped."""
    rows: list[dict[str, object]] = [{f"q{HOSTILE}": f"Question {n}"} for n in range(3)]
    source = write_jsonl(Path("d\x1b[31m.jsonl"), rows)
    run = command(
        "distill", "--dataset-name", source, "--sample-size", 0, "--model", "m\x9bm",
        "--instruction-col", f"q{HOSTILE}", "--run", "r\x1b[2J", "--backend", backend,
        "--max-attempts", 1,
    )  # fmt: skip
    state = command("status", "r\x1b[2J")
    machine = command("status", "r\x1b[2J", "--json")
    wrong = command("distill", "--dataset-name", "no\x1b[31m.jsonl", "--model", "m")
    reported = [run.stdout, run.stderr, state.stdout, machine.stdout, wrong.stderr]
    assert [RAW.findall(text) for text in reported] == [[]] * 5
    assert (run.returncode, state.returncode, wrong.returncode) == (3, 0, 1)
    assert SHOWN in run.stderr
    assert f"400: Not with ***, {SHOWN.replace(chr(92) + 'x0d', ' ')}" in state.stdout
    assert r"r\x1b[2J" in run.stdout
    assert json.loads(machine.stdout)["model"] == "m\x9bm"


@pytest.mark.usefixtures("server")
@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_echoed_key_is_not_stored(command: Command, backend: str) -> None:
    """A key in a server's words is masked before they are stored, in a batch's lines too."""
    write_jsonl(Path("d.jsonl"), [{"prompt": f"Question {n}"} for n in range(3)])
    command(
        "distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--model", "m", "--run", "r",
        "--backend", backend, "--max-attempts", 1,
    )  # fmt: skip
    with duckdb.connect("output/r/work.duckdb", read_only=True) as db:
        rows = db.execute("SELECT message FROM failures").fetchall()
    assert [message.startswith("400: Not with ***,") for (message,) in rows] == [True]


def test_echoed_key_in_a_batchs_errors(server: LLMServer, command: Command) -> None:
    """A batch that fails with the key in its reason shows the reason without it."""
    fate: Fate = failed("invalid_request", f"Key {KEY} may not do that.")
    server.fates.append(fate)
    write_jsonl(Path("d.jsonl"), [{"prompt": "Question"}])
    run = command(
        "distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--model", "m",
        "--backend", "openai-batch",
    )  # fmt: skip
    assert (run.returncode, KEY in run.stderr) == (3, False)
    assert "Key *** may not do that" in run.stderr


def test_key_in_an_address(
    server: LLMServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query of LLM_API_BASE is shown by config and in a run's messages without its values."""
    monkeypatch.setenv("LLM_API_BASE", f"{server.base_url}?key=abc123")
    write_jsonl(Path("d.jsonl"), [{"prompt": "Question"}])
    shown = command("config").stdout, command("config", "--json").stdout
    run = command("distill", "--dataset-name", "d.jsonl", "--model", "m", "--max-cost", "1")
    assert [text.count("abc123") for text in (*shown, run.stderr)] == [0, 0, 0]
    assert f"{server.base_url}?***" in shown[0]
    assert f"at {server.base_url}?*** is known" in run.stderr


def test_unencrypted_address(
    server: LLMServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key for another machine's http:// address is warned about, once; for this one's not."""
    write_jsonl(Path("d.jsonl"), [{"prompt": "Question"}])
    words = ("distill", "--dataset-name", "d.jsonl", "--model", "m")
    here = command(*words)
    elsewhere = server.base_url.replace("127.0.0.1", "0.0.0.0")
    monkeypatch.setenv("LLM_API_BASE", elsewhere)
    there = command(*words)
    warning = f"warning: LLM_API_KEY and all texts go unencrypted to {elsewhere}: use https://"
    assert (here.returncode, "go unencrypted" in here.stderr) == (0, False)
    assert (there.returncode, there.stderr.count(warning)) == (0, 1)


def test_readable() -> None:
    """Line ends and tabs stay; JSON keeps its meaning."""
    assert readable("a\tb\nc\x7f\udcff\u2066") == "a\tb\nc\\x7f\\udcff\\u2066"
    assert readable_json(json.dumps("\x9b\u202e", ensure_ascii=False)) == r'"\u009b\u202e"'
