"""What a server's errors mean: the same live and in a batch, in the server's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.openai_api.errors import parse_token_limit
from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from store import Unfinished
from tests.conftest import Command, write_jsonl
from tests.llmserver import Fault, Kind, LLMServer, Reply

BACKENDS = ("openai-batch", "openai")


def distill(backend: str, questions: int = 7, **execution: Any) -> RunResult:
    """A run over so many questions."""
    prompts: list[dict[str, object]] = [{"prompt": f"Question {n}."} for n in range(questions)]
    source = write_jsonl(Path("d.jsonl"), prompts)
    run_config = RunConfig(dataset_name=str(source), sample_size=0, model="m", backend=backend)
    return start(run_config, None, "r", ExecutionConfig(**execution))


def refusing(status: int, body: Any, question: str = "") -> Any:
    """A model that refuses a question, or all of them."""

    def answer(asked: dict[str, Any]) -> str | Reply:
        if question in asked["messages"][-1]["content"]:
            return Reply(status_code=status, body=body)
        return "yes"

    return answer


def error(message: str, code: Any = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": None, "code": code}}


CLASSIFIED = {
    "403": (403, error("Flagged by moderation."), "refused", "403: Flagged by moderation."),
    "425": (425, error("Too early."), "server", "425: Too early."),
    "404": (404, error("No adapter.", 404), "refused", "404: No adapter."),
    "filter": (400, error("Filtered.", "content_filter"), "filtered", "400: Filtered."),
    "policy": (
        400,
        error("Filtered.", "content_policy_violation"),
        "filtered",
        "400: Filtered.",
    ),
    "content type": (400, error("Odd.", "content_type"), "refused", "400: Odd."),
    "detail": (400, {"detail": "Too odd."}, "refused", "400: Too odd."),
    "details": (
        422,
        {"detail": [{"loc": ["body", "top_p"], "msg": "Too high."}, {"msg": "Odd."}]},
        "refused",
        "422: body.top_p: Too high.; Odd.",
    ),
    "message": (400, {"message": "Odd.", "code": 40001}, "refused", "400: Odd."),
    "error text": (500, {"error": "Oh\nno."}, "server", "500: Oh no."),
    "other words": (400, {"reason": "odd"}, "refused", '400: {"reason": "odd"}'),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CLASSIFIED)
def test_one_request(server: LLMServer, name: str, backend: str) -> None:
    """An error of one request is that request's failure, of the same kind on both backends."""
    status, body, kind, words = CLASSIFIED[name]
    server.answer = refusing(status, body, "Question 3.")
    outcome = distill(backend, max_attempts=1)
    assert (outcome.status.requests.done, outcome.reasons) == (6, ((kind, words, 1),))


@pytest.mark.quick(1)
@pytest.mark.parametrize("body", ["<html><h1>Bad</h1>\n<p>gateway</p></html>", "Bad gateway"])
def test_words_that_are_no_json(server: LLMServer, body: str) -> None:
    """Plain text and HTML are shown as a line of text."""
    server.faults.append(Fault("POST /chat/completions", Kind.REFUSE, status=400, body=body))
    outcome = distill("openai")
    assert outcome.reasons == (("refused", f"400: {body if body[0] == 'B' else 'Bad gateway'}", 1),)


ALIKE: dict[str, tuple[int, Any, str]] = {
    "vLLM's 404": (
        404,
        {"object": "error", "message": "The model `m` does not exist.", "code": 404},
        "404: The model `m` does not exist. Nothing more is sent and no attempt used. Check the "
        "address",
    ),
    "context too small": (
        400,
        error("This model's maximum context length is 4096 tokens, you asked for 4110."),
        "you asked for 4110. Nothing more is sent and no attempt used. Resume with a lower "
        "--max-output-tokens",
    ),
    "401 in the text": (
        500,
        error("upstream: 401 Unauthorized"),
        "500: upstream: 401 Unauthorized. Nothing more is sent",
    ),
    "the limit's name": (
        400,
        error("'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
        "Resume with --max-tokens-name max_completion_tokens",
    ),
    "a name it does not know": (
        400,
        error("Unrecognized request argument supplied: max_tokens"),
        "Resume with --max-tokens-name max_completion_tokens",
    ),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ALIKE)
def test_first_requests_fail_alike(server: LLMServer, name: str, backend: str) -> None:
    """It stops the run before all are tried, in its words; only a live 5xx is an attempt."""
    status, body, words = ALIKE[name]
    server.answer = refusing(status, body)
    with pytest.raises(Unfinished) as raised:
        distill(backend, 300, max_attempts=2)
    message = str(raised.value)
    assert message.startswith("the first ")
    assert words in message
    server.answer = lambda _: "yes"
    outcome = resume("r", None, ExecutionConfig(max_attempts=1), retry_failed=status >= 500)
    assert outcome is not None
    counts = outcome.status.requests
    assert (counts.done, counts.failed, server.bill.total) == (300, 0, 300)


def test_first_requests_fail_alike_live_soon(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live, some twenty calls show it, not all of a run."""
    monkeypatch.setenv("MAX_LLM_CONCURRENCY", "4")
    server.latency = 0.02
    server.answer = refusing(404, {"detail": "Not Found"})
    with pytest.raises(Unfinished, match=r"the first \d\d requests all failed alike: 404"):
        distill("openai", 1000)
    assert len(server.requests_log) < 200


def test_refused_by_a_filter_is_no_stop(server: LLMServer) -> None:
    """Answers that were filtered show that the server works, so each fails for good by itself."""
    server.answer = lambda _: Reply("no", finish_reason="content_filter")
    counts = distill("openai").status.requests
    assert (counts.failed, counts.pending, server.bill.total) == (7, 0, 7)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_first_answers_that_are_none(server: LLMServer, backend: str) -> None:
    """Answers without a choice stop the run too; they were billed, so attempts are used."""
    server.answer = lambda _: Reply(body={"choices": [], "object": "chat.completion"})
    with pytest.raises(Unfinished, match="alike: the answer is not a chat completion"):
        distill(backend, 600)
    billed = server.bill.total
    assert billed < 600
    server.answer = lambda _: "yes"
    outcome = resume("r", None, ExecutionConfig(), retry_failed=True)
    assert outcome is not None
    assert (outcome.status.requests.done, server.bill.total) == (600, 600 + billed)


@pytest.mark.slow
def test_custom_headers_in_the_environment(server: LLMServer, command: Command) -> None:
    """Headers that the SDK would read from the environment do not take the place of our key."""
    write_jsonl(Path("d.jsonl"), [{"prompt": "a"}])
    env = {
        "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer other\nX-Other: yes",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_API_KEY": "other",
        "OPENAI_ORG_ID": "other",
    }
    for backend in BACKENDS:
        words = ("--backend", backend, "--model", "m", "--run", backend)
        done = command("distill", "--dataset-name", "d.jsonl", *words, env=env)
        assert done.returncode == 0, done.stderr
    assert server.bill.total == 2


@pytest.mark.quick(2)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tail", ["/", "/chat/completions", "/chat/completions/", "/batches"])
def test_address_of_a_call(
    server: LLMServer, monkeypatch: pytest.MonkeyPatch, backend: str, tail: str
) -> None:
    """An address with a call's path at its end is taken for that of the server."""
    monkeypatch.setenv("LLM_API_BASE", server.base_url + tail)
    assert distill(backend).status.requests.done == 7


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_address_without_its_path(server: LLMServer, command: Command, backend: str) -> None:
    """Without /v1 the run stops after a few 404s, says what an address looks like, and goes on."""
    write_jsonl(Path("d.jsonl"), [{"prompt": f"Question {n}."} for n in range(50)])
    short = server.base_url.removesuffix("/v1")
    words = ("--backend", backend, "--model", "m", "--run", "r", "--sample-size", 0)
    done = command("distill", "--dataset-name", "d.jsonl", *words, env={"LLM_API_BASE": short})
    assert done.returncode == (3 if backend == "openai" else 1)
    assert f"{short} (LLM_API_BASE" in done.stderr
    assert "https://api.example.com/v1" in done.stderr
    again = command("resume", "r", "--max-attempts", 1)
    assert again.returncode == 0, again.stderr
    assert server.bill.total == 50


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        ("Limit: 2.000.000 enqueued tokens", 2_000_000),
        ("limit of 2,000,000 tokens", 2_000_000),
        ("limit of 90.000 tokens", 90_000),
        ("Limit: 1.35M", 1_350_000),
        ("Limit: 200K", 200_000),
        ("Limit: 1.2.3M", None),
        ("Limit: none", None),
    ],
)
def test_limit_in_a_message(words: str, tokens: int | None) -> None:
    """A limit is read with either mark between its thousands, and no number is no limit."""
    assert parse_token_limit(words) == tokens
