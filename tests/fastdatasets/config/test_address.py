"""The address of a run's server: one form of it, frozen in the run, and what happens elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.openai_api.providers import normal_base_url
from fastdatasets.commands import cancel, resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.runs.result import RunResult
from store import Unfinished, UserError, WorkStore
from store.status import Counts
from tests.conftest import Command, write_jsonl
from tests.llmserver import Fault, Kind, LLMServer, Reply

SPELLINGS = {
    "https://h.example/v1": ("https://h.example/v1/", " HTTPS://H.Example:443/v1\n"),
    "http://127.0.0.1:8000/v1": (
        "http://127.0.0.1:8000/v1/chat/completions",
        "http://127.0.0.1:8000/v1/batches/",
        "http://127.0.0.1:8000/v1//models",
    ),
    "http://[::1]:8000/V1": ("http://[::1]:8000/V1/files",),
    "https://h.example": ("https://h.example/", "https://h.example:443/responses"),
    "https://h.example:80": ("https://h.example:80/completions",),
    "https://api.openai.com/v1": ("https://api.openai.com", "https://api.openai.com/v1/files"),
    "https://h.example/v1?v=1": ("https://h.example/v1/?v=1",),
}


@pytest.mark.parametrize("normal", SPELLINGS)
def test_spellings_of_an_address(normal: str) -> None:
    """All spellings of an address have one normal form, which is its own."""
    spellings = (normal, *SPELLINGS[normal])
    assert [normal_base_url(spelling) for spelling in spellings] == [normal] * len(spellings)


KEY = "sk-test"
QUESTIONS = ("one", "two", "three")


def teacher(name: str, refuses: str = "") -> Callable[[dict[str, Any]], Reply]:
    """A model whose answers say whose they are, and that refuses one question."""

    def answer(body: dict[str, Any]) -> Reply:
        if refuses and refuses in body["messages"][-1]["content"]:
            return Reply(status_code=400, error={"message": "no", "code": "no"})
        return Reply(name)

    return answer


@dataclass
class Servers:
    """Two servers with a model of the same name; the first refuses the second question."""

    first: LLMServer
    second: LLMServer

    def billed(self) -> tuple[int, int]:
        """What each of them executed."""
        return self.first.bill.total, self.second.bill.total


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """The servers, with the environment pointing at the first."""
    with (
        LLMServer(answer=teacher("first", "two")) as first,
        LLMServer(answer=teacher("second")) as second,
    ):
        monkeypatch.setenv("LLM_API_KEY", KEY)
        monkeypatch.setenv("LLM_API_BASE", f"{first.base_url}/")
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0")
        yield Servers(first, second)


def distill(name: str = "r", backend: str = "openai", **execution: Any) -> RunResult:
    """A run over the questions."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    run_config = RunConfig(
        dataset_name=str(source), sample_size=0, backend=backend, model="default"
    )
    return start(run_config, None, name, ExecutionConfig(**execution))


def outputs(name: str = "r") -> list[str]:
    """The answers of a run."""
    rows = json.loads(Path(f"output/{name}/distilled.json").read_text("utf-8"))
    return [row["output"] for row in rows]


def advance_run(how: str, **execution: Any) -> RunResult:
    """Go on with the run, by either command."""
    outcome = (
        resume("r", None, ExecutionConfig(**execution)) if how == "resume" else distill(**execution)
    )
    assert outcome is not None
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("how", ["resume", "distill"])
def test_another_server_needs_the_users_word(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A run goes on elsewhere only when told to, and from then on is asked there."""
    first, second = servers.first.base_url, servers.second.base_url
    assert distill().status.requests == Counts(3, 2, 0, 1, 0)
    with WorkStore.open(Path("output/r/work.duckdb")) as store:
        store.results.retry_failed()
    monkeypatch.setenv("LLM_API_BASE", second)
    with pytest.raises(UserError) as raised:
        advance_run(how)
    assert str(raised.value) == (
        f"this run's server is {first}, and LLM_API_BASE is {second}: set LLM_API_BASE={first}, or "
        "--accept-other-server to continue at the other one, with answers of both servers in one "
        "export"
    )
    assert servers.billed() == (2, 0)
    outcome = advance_run(how, accept_other_server=True)
    assert (outcome.status.state, outputs()) == ("done", ["first", "second", "first"])
    monkeypatch.delenv("LLM_API_BASE")
    with WorkStore.open(Path("output/r/work.duckdb")) as store:
        assert (store.run().base_url, store.servers()) == (second, {first, second})


@pytest.mark.quick(1)
@pytest.mark.parametrize("how", ["resume", "distill"])
def test_run_with_nothing_to_ask_needs_no_server(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever LLM_API_BASE is, its files are written, until it has something to ask again."""
    assert distill().status.requests == Counts(3, 2, 0, 1, 0)
    Path("output/r/distilled.json").unlink()
    monkeypatch.setenv("LLM_API_BASE", servers.second.base_url)
    assert advance_run(how).status.requests == Counts(3, 2, 0, 1, 0)
    assert outputs() == ["first", "first"]
    with pytest.raises(UserError, match=f"this run's server is {servers.first.base_url}"):
        resume("r", None, ExecutionConfig(), retry_failed=True)
    assert servers.billed() == (2, 0)


@pytest.mark.slow
def test_run_is_asked_at_its_own_server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without LLM_API_BASE, or with another spelling of it, a run goes on where it was made."""
    distill()
    servers.first.answer = teacher("first again")
    monkeypatch.delenv("LLM_API_BASE")
    assert resume("r", retry_failed=True) is not None
    assert outputs() == ["first", "first again", "first"]
    spelling = servers.first.base_url.replace("http", "HTTP") + "/chat/completions"
    monkeypatch.setenv("LLM_API_BASE", spelling)
    assert resume("r") is not None


def test_run_that_was_answered_nothing_moves(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing was answered or sent, another address is taken without a word of the user's."""
    first, second = servers.first.base_url, servers.second.base_url
    servers.first.answer = teacher("first", "o")
    servers.first.faults.append(Fault("POST /chat/completions", Kind.REFUSE, None, status=401))
    with pytest.raises(Unfinished):
        distill()
    monkeypatch.setenv("LLM_API_BASE", second)
    outcome = resume("r")
    assert outcome is not None
    assert (outcome.status.state, outputs()) == ("done", ["second"] * 3)
    line = f"continuing at {second}, no longer at {first}: it has answered nothing"
    assert line in capfd.readouterr().err
    with WorkStore.open(Path("output/r/work.duckdb")) as store:
        assert store.servers() == {second}


@pytest.mark.slow
def test_jobs_keep_a_run_at_their_server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """With jobs going on at a server no word lets the run go elsewhere, and nothing changes."""
    servers.first.looks = None
    distill(backend="openai-batch", wait=False)
    monkeypatch.setenv("LLM_API_BASE", servers.second.base_url)
    for accept in (True, False):
        with pytest.raises(UserError, match="job 00001 of this run is at"):
            resume("r", None, ExecutionConfig(accept_other_server=accept))
    with pytest.raises(UserError, match=f"set LLM_API_BASE={servers.first.base_url} until"):
        cancel("r")
    monkeypatch.delenv("LLM_API_BASE")
    servers.first.looks = 1
    outcome = resume("r")
    assert outcome is not None
    assert (outputs(), servers.billed()) == (["first", "first"], (2, 0))


@pytest.mark.slow
def test_answers_of_another_server_are_not_reused(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run reuses answers of its own server; others' at the user's word, which stays known."""
    first, second = servers.first.base_url, servers.second.base_url
    distill("a")
    monkeypatch.setenv("LLM_API_BASE", second)
    with pytest.raises(UserError) as raised:
        distill("b", reuse=["a"])
    assert str(raised.value) == (
        f"the answers of run a are from {first}, and this run's server is {second}: "
        "--accept-other-server reuses them anyway"
    )
    assert not Path("output/b").exists()
    distill("b", reuse=["a"], accept_other_server=True)
    assert (outputs("b"), servers.billed()) == (["first", "second", "first"], (2, 1))
    with pytest.raises(UserError, match=f"the answers of run b are from {first}, and"):
        distill("c", reuse=["b"])
    monkeypatch.setenv("LLM_API_BASE", first)
    distill("d", reuse=["a"])
    assert servers.billed() == (2, 1)
    with pytest.raises(UserError, match=f"the answers of run b are from {second}, and"):
        resume("d", None, ExecutionConfig(reuse=["b"]))


@pytest.mark.parametrize(
    ("backend", "key", "address"),
    [
        ("openai-batch", KEY, "https://api.openai.com/v1"),
        ("openai", KEY, "https://api.openai.com/v1"),
        ("openai", "", "http://localhost:8000/v1"),
        ("vllm", KEY, None),
    ],
)
def test_addresses_without_a_setting(
    monkeypatch: pytest.MonkeyPatch, backend: str, key: str, address: str | None
) -> None:
    """Without LLM_API_BASE a run asks OpenAI, live without a key a local server, or none at all."""
    monkeypatch.setenv("LLM_API_KEY", key)
    source = write_jsonl(Path("d.jsonl"), [{"prompt": "a"}])
    new = new_run(RunConfig(dataset_name=str(source), backend=backend, model="m"), load_settings())
    assert new.base_url == address


def test_local_answers_are_the_local_engines(servers: Servers) -> None:
    """Answers of the local engine are not those of a server, whatever the model's name."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    run_config = RunConfig(
        dataset_name=str(source), backend="vllm", model="default", skip_generation=True
    )
    start(run_config, None, "local", ExecutionConfig())
    with pytest.raises(
        UserError, match="run local are from the local engine, and this run's server is"
    ):
        distill("b", reuse=["local"])
    assert servers.billed() == (0, 0)


@pytest.mark.slow
def test_by_the_command(servers: Servers, command: Command) -> None:
    """The command's exit is 1 elsewhere, and 0 with --accept-other-server."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": question} for question in QUESTIONS])
    base = ("distill", "--dataset-name", source, "--sample-size", 0, "--model", "default")
    assert command(*base, "--run", "r").returncode == 3
    env = {"LLM_API_BASE": servers.second.base_url}
    advance_run = ("resume", "r", "--retry-failed")
    assert [
        command(*advance_run, *flag, env=env).returncode
        for flag in ((), ("--accept-other-server",))
    ] == [1, 0]
    reuse = (*base, "--run", "b", "--reuse", "r")
    done = [command(*reuse, *flag).returncode for flag in ((), ("--accept-other-server",))]
    assert (done, servers.billed()) == ([1, 0], (2, 1))
