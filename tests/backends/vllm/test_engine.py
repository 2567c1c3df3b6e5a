"""What becomes of requests when an engine dies, with an engine process that dies on demand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backends.first_failures import TOO_LONG
from backends.vllm.backend import EngineOptions, VllmBackend
from backends.vllm.process import COMMAND
from store import Unfinished, WorkStore
from store.planning import PlannedRequest
from store.requests import RequestOrder
from store.results import FailureKind
from tests.doubles import NullProgress
from tests.store.test_store import store  # noqa: F401 - a fixture


def backend(tmp_path: Path) -> VllmBackend:
    """The backend with the double for an engine."""
    return VllmBackend(
        EngineOptions(
            model="m",
            engine_args={},
            lora=None,
            max_attempts=3,
            log=tmp_path / "engine.log",
            command=(*COMMAND[:-1], "tests.engine_double", str(tmp_path / "journal")),
        )
    )


def ask(store: WorkStore, prompts: list[str]) -> None:  # noqa: F811
    """Plan one request a prompt."""
    asks = [
        PlannedRequest(record, 0, 0, '{"model":"m"}', f'[{{"content":"{prompt}","role":"user"}}]')
        for record, prompt in enumerate(prompts)
    ]
    store.planning.add("answer", asks)


def texts(store: WorkStore) -> set[str]:  # noqa: F811
    """All answers."""
    return {text for (text,) in store.connection.execute("SELECT text FROM results").fetchall()}


def starts(tmp_path: Path) -> list[str]:
    """The engine's starts, by the share of memory they were given."""
    lines = (tmp_path / "journal").read_text().splitlines()
    return [line for line in lines if line.startswith("start")]


def test_request_that_kills_the_engine(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """A request that kills the engine is set aside at its third death; all others are answered."""
    prompts = [f"question {number}" for number in range(60)]
    ask(store, [*prompts[:30], "poison", *prompts[30:]])
    engine = backend(tmp_path)
    engine.work(store, NullProgress())
    engine.close()
    assert texts(store) == {f"Answer to {prompt}" for prompt in prompts}
    assert store.results.failure_reasons() == [
        (
            FailureKind.SERVER,
            "set aside: the engine died 3 times with it (killed by SIGKILL)",
            1,
        )
    ]
    assert len(starts(tmp_path)) == 4
    assert not store.requests.has_pending(3)


def test_requests_that_are_refused_alike(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """A model that refuses the first requests alike ends the run; too long prompts fail alone."""
    ask(store, [f"refuse template {number}" for number in range(30)])
    engine = backend(tmp_path)
    with pytest.raises(Unfinished, match=r"the first \d+ requests all failed alike: No"):
        engine.work(store, NullProgress())
    engine.close()
    assert len(store.requests.pending_positions(1, RequestOrder.PREFIX)) == 30


def test_prompts_that_are_too_long_fail_alone(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """They are asked first, being the longest, and end nothing."""
    ask(store, [*(f"refuse {TOO_LONG} {number}" for number in range(30)), "a"])
    engine = backend(tmp_path)
    engine.work(store, NullProgress())
    engine.close()
    assert (texts(store), store.results.failure_reasons()) == (
        {"Answer to a"},
        [(FailureKind.REFUSED, "No.", 30)],
    )


def test_ctrl_c(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """A Ctrl-C stores all that the engine had answered, and what it had not is pending."""
    questions = [f"question {number}" for number in range(40)]
    ask(store, [*questions, "interrupt"])
    engine = backend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        engine.work(store, NullProgress())
    engine.close()
    # It holds 16 at a time: so many answers had come when the last request went out.
    assert {f"Answer to {question}" for question in questions[:25]} <= texts(store)
    assert store.results.failure_reasons() == []


def test_lack_of_memory(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """After running out of memory the engine is started again with less, and goes on."""
    ask(store, ["a", "starve", "b"])
    engine = backend(tmp_path)
    progress = NullProgress()
    engine.work(store, progress)
    engine.close()
    assert texts(store) == {"Answer to a", "Answer to starve", "Answer to b"}
    assert starts(tmp_path) == ["start 1.0", "start 0.8"]
    assert "the engine died: CUDA out of memory. Starting it again" in progress.lines


def test_engine_that_cannot_live(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """An engine that dies without a word at each start is given up, with nothing set aside."""
    ask(store, ["a"])
    options = backend(tmp_path)._options
    engine = VllmBackend(replace(options, command=(sys.executable, "-c", "pass")))
    with pytest.raises(
        Unfinished, match=r"died 2 times before it answered anything \(it ended with"
    ):
        engine.work(store, NullProgress())
    assert store.requests.has_pending(3)


def test_engine_that_never_answers(store: WorkStore, tmp_path: Path) -> None:  # noqa: F811
    """An adapter or a tokenizer that kills the engine with whatever is asked ends the run."""
    ask(store, [f"poison {number}" for number in range(6)])
    engine = backend(tmp_path)
    with pytest.raises(Unfinished, match=r"the engine died 2 times before it answered anything"):
        engine.work(store, NullProgress())
    assert starts(tmp_path) == ["start 1.0"] * 2
    assert (store.results.failure_reasons(), store.requests.has_pending(1)) == ([], True)


@pytest.mark.parametrize("others", [3, 40])
def test_first_request_kills_the_engine(
    store: WorkStore,  # noqa: F811
    tmp_path: Path,
    others: int,
) -> None:
    """A request that kills the engine before it has answered anything is still set aside alone."""
    prompts = [f"question {number}" for number in range(others)]
    ask(store, ["poison", *prompts])
    engine = backend(tmp_path)
    engine.work(store, NullProgress())
    engine.close()
    assert texts(store) == {f"Answer to {prompt}" for prompt in prompts}
    assert [reason[::2] for reason in store.results.failure_reasons()] == [(FailureKind.SERVER, 1)]


def test_keys_are_not_the_engines(
    store: WorkStore,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine gets no key of a server, but the Hub's token; that remote code runs is said."""
    for name in ("LLM_API_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "HF_TOKEN"):
        monkeypatch.setenv(name, "x")
    ask(store, ["keys"])
    options = replace(backend(tmp_path)._options, engine_args={"trust_remote_code": True})
    engine, progress = VllmBackend(options), NullProgress()
    engine.work(store, progress)
    engine.close()
    assert "keys ['HF_TOKEN']" in (tmp_path / "journal").read_text().splitlines()
    assert progress.lines[1] == "trust_remote_code: Python code that comes with m is run"


def test_longest_first(store: WorkStore) -> None:  # noqa: F811
    """Requests go by expected answer, longest first; what is not known counts half its limit."""
    for record, limit in enumerate((40, 400, 200)):
        params = f'{{"max_tokens":{limit},"model":"m"}}'
        store.planning.add(
            "answer", [PlannedRequest(record, 0, 0, params, f'[{{"content":"{limit}"}}]')]
        )
    assert [
        request.params["max_tokens"] for request in store.requests.pending(3, RequestOrder.PREFIX)
    ] == [
        40,
        400,
        200,
    ]
    longest = store.requests.pending(3, RequestOrder.LONGEST_FIRST)
    assert [request.params["max_tokens"] for request in longest] == [400, 200, 40]
    assert store.requests.expected_tokens() == 320


def test_request_without_a_limit(store: WorkStore) -> None:  # noqa: F811
    """What is expected of it, and at most, follows from the one limit that its bill assumes."""
    store.planning.add("answer", [PlannedRequest(0, 0, 0, '{"model":"m"}', '[{"content":"q"}]')])
    (request,) = store.requests.pending(3, RequestOrder.PREFIX)
    limit = request.bounds.max_tokens
    backlog = store.requests.backlog(3)
    assert (backlog.completion_tokens, backlog.max_completion_tokens) == (limit // 2, limit)


def test_old_outputs_tell_lengths(store: WorkStore) -> None:  # noqa: F811
    """Where the records have old outputs, their lengths order the requests."""
    outputs = ["x" * 30, "x" * 900, "x" * 300]
    for record, output in enumerate(outputs):
        store.connection.execute(
            "INSERT INTO records BY NAME SELECT $record AS record, 0 AS source, "
            "$record AS source_row, 'q' AS instruction, '' AS input, "
            "$output AS original_output, '' AS reasoning",
            {"record": record, "output": output},
        )
    params = '{"max_tokens":4096,"model":"m"}'
    store.planning.add(
        "answer", [PlannedRequest(n, 0, 0, params, f'[{{"content":"{n}"}}]') for n in range(3)]
    )
    longest = store.requests.pending(3, RequestOrder.LONGEST_FIRST)
    assert [request.messages[0]["content"] for request in longest] == ["1", "2", "0"]
    assert store.requests.expected_tokens() == 10 + 300 + 100


def test_shared_beginnings_stand_together(store: WorkStore) -> None:  # noqa: F811
    """Requests that share a long beginning go side by side, those first that were first asked."""
    systems = {name: name * 1500 for name in "ab"}
    order = ["a0", "b0", "a1", "b1", "a2", "b2"]
    asks = [
        PlannedRequest(n, 0, 0, "{}", f'[{{"content":"{systems[key[0]]}"}},{{"content":"{key}"}}]')
        for n, key in enumerate(order)
    ]
    store.planning.add("answer", asks)
    found = [
        request.messages[1]["content"] for request in store.requests.pending(3, RequestOrder.PREFIX)
    ]
    assert found == ["a0", "a1", "a2", "b0", "b1", "b2"]
