"""Live calls, the answer function, and the server's own life."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)
from openai.types.chat import completion_create_params as chat_params

from . import Fault, Kind, LLMServer, Reply, Usage, http_date, prompt_tokens, rate_limited, verbatim
from .bill import Body
from .driver import ask, body_of, client_of, jsonl, line_of, raw, run, submit
from .errors import Json
from .settings import CHAT_PARAMETERS

pytestmark = pytest.mark.slow

CHAT = "POST /chat/completions"


@pytest.mark.parametrize("live", [True, False])
def test_a_reply_reports_another_usage_than_it_bills(live: bool) -> None:
    """And holds JSON that no json.dumps would write."""
    odd = verbatim('{"prompt_tokens": 1e400, "text": "\\"", "prompt_tokens": [5]}')
    reply = Reply("x", usage=Usage(7, 8), reported=odd)
    with LLMServer(answer=lambda _: reply) as server, client_of(server) as client:
        if live:
            made = client.chat.completions.with_raw_response.create(
                model="m", messages=[{"role": "user", "content": "?"}]
            )
            content = made.content
        else:
            content = raw(client, run(server, client, jsonl([line_of(0)])).output_file_id)
        reported = b'"usage": {"prompt_tokens": 1e400, "text": "\\"", "prompt_tokens": [5]}, "'
        assert reported in content
        assert server.bill.tokens == Usage(7, 8)


def test_answers_are_a_function_of_the_body() -> None:
    """Text, a JSON object or a Reply; a refusal is not billed, nor is a crash."""

    def answer(body: Body) -> str | Json | Reply:
        replies: dict[str, str | Json | Reply] = {
            "text": "Hi",
            "object": {"a": 1},
            "reply": Reply("x", reasoning_content="hm", finish_reason="length", usage=Usage(7, 8)),
            "extra": Reply("x", message={"reasoning": "r"}),
            "whole": Reply(body={"choices": []}),
            "bare": Reply(status_code=500),
            "no": Reply(status_code=429, error={"message": "slow"}, headers={"Retry-After": "3"}),
        }
        return replies[body["messages"][0]["content"]]

    with LLMServer(answer=answer) as server, client_of(server) as client:

        def message(text: str) -> Any:
            made = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}]
            )
            return made.choices[0].message

        assert ask(client, "text") == "Hi"
        assert ask(client, "object") == '{"a":1}'
        assert message("reply").reasoning_content == "hm"
        assert message("extra").reasoning == "r"
        made = client.post("/chat/completions", cast_to=object, body=body_of("whole"))
        assert made == {"choices": []}
        parts = [
            {"type": "text", "text": "a"},
            {"type": "image_url"},
            {"type": "text", "text": "b"},
        ]
        assert prompt_tokens({"messages": [{"role": "user", "content": parts}]}) == 1 + 3
        assert server.bill.total == 5
        with pytest.raises(InternalServerError, match="refused with status 500"):
            ask(client, "bare")
        with pytest.raises(RateLimitError, match="slow") as refused:
            ask(client, "no")
        assert refused.value.response.headers["retry-after"] == "3"
        with pytest.raises(InternalServerError, match="KeyError"):
            ask(client, "unknown")
        assert server.bill.total == 5


def test_live_calls_run_at_once_and_are_counted() -> None:
    """Sixteen calls of 0.2 s in sixteen threads take little more than one."""
    with LLMServer(latency=0.2) as server, client_of(server) as client:
        barrier = threading.Barrier(16)

        def ask_at_once(number: int) -> None:
            barrier.wait()
            ask(client, str(number))

        start = perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask_at_once, range(16)))
        assert perf_counter() - start < 1.5
        assert server.max_concurrency == 16
        assert server.bill.live == server.bill.total == 16


def test_a_server_comes_back_with_what_it_knew() -> None:
    """Stop and start keep port, files and batches; a new server on the port knows nothing."""
    with LLMServer(looks=None) as server:
        with client_of(server) as client:
            batch = submit(client)
        port = server.port
        server.stop()
        with client_of(server) as client, pytest.raises(APIConnectionError):
            client.batches.retrieve(batch.id)
        server.start()
        assert server.port == port
        with client_of(server) as client:
            assert client.batches.retrieve(batch.id).id == batch.id
    with (
        LLMServer(port=port) as other,
        client_of(other) as client,
        pytest.raises(NotFoundError, match="No batch found"),
    ):
        client.batches.retrieve(batch.id)
    assert not server.folder.exists()


def test_a_port_is_taken_once(server: LLMServer) -> None:
    """A second server on it says so."""
    with pytest.raises(OSError, match="address already in use"), LLMServer(port=server.port):
        pass


def test_every_call_is_logged(server: LLMServer, client: OpenAI) -> None:
    """Method, path and status."""
    with pytest.raises(NotFoundError):
        client.batches.retrieve("batch_x")
    client.models.list()
    assert server.requests_log == [("GET", "/v1/batches/batch_x", 404), ("GET", "/v1/models", 200)]


def test_the_parameters_are_those_of_openai() -> None:
    """The list of body parameters is the client's own."""
    kinds = (
        chat_params.CompletionCreateParamsBase,
        chat_params.CompletionCreateParamsNonStreaming,
    )
    assert frozenset().union(*(kind.__annotations__ for kind in kinds)) == CHAT_PARAMETERS


def test_rate_limits_say_how_long_to_wait(server: LLMServer, client: OpenAI) -> None:
    """In seconds, in milliseconds or as a date."""
    server.faults += [
        rate_limited(CHAT, headers={"Retry-After": "7"}),
        rate_limited(CHAT, headers={"retry-after-ms": "70"}),
        rate_limited(CHAT, headers={"Retry-After": http_date(60)}),
    ]
    reported = []
    for _ in range(3):
        with pytest.raises(RateLimitError) as refused:
            ask(client)
        reported.append(refused.value.response.headers)
    assert (reported[0]["retry-after"], reported[1]["retry-after-ms"]) == ("7", "70")
    wait = parsedate_to_datetime(reported[2]["retry-after"]).timestamp() - time.time()
    assert 50 < wait <= 60
    ask(client)


@pytest.mark.parametrize(
    ("kind", "billed"),
    [(Kind.REFUSE, 0), (Kind.DROP_BEFORE, 0), (Kind.HANG, 0), (Kind.DROP_AFTER, 1)],
)
def test_live_calls_fail_and_are_billed_if_they_ran(
    server: LLMServer, kind: Kind, billed: int
) -> None:
    """An answer that was lost is paid for; asked again, it is paid for twice."""
    server.faults.append(Fault(CHAT, kind))
    with client_of(server, timeout=0.5) as client:
        with pytest.raises((APIConnectionError, InternalServerError)):
            ask(client)
        assert server.bill.total == billed
        ask(client)
    assert len(server.bill.twice()) == billed


def test_a_hanging_call_ends_with_the_server() -> None:
    """Stop breaks connections, which is how a network goes away."""
    with LLMServer() as server, client_of(server, timeout=30) as client:
        server.faults.append(Fault("GET /models", Kind.HANG))
        server.faults.append(Fault("GET /batches", Kind.DELAY, seconds=0.2))
        client.batches.list()
        server.stop()
        with pytest.raises(APIConnectionError):
            client.models.list()


def test_the_command_serves_and_prints_the_bill() -> None:
    """`python -m` prints the address at the start and the bill at the end."""
    command = [sys.executable, "-m", LLMServer.__module__.rpartition(".")[0]]
    folder = Path(__file__).parents[LLMServer.__module__.count(".")]
    process = subprocess.Popen(
        [*command, "--port", "0", "--keys", "k"], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    assert process.stdout is not None
    base_url = process.stdout.readline().strip()
    with OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        ask(client, "Hi")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    reported = json.loads(out)
    assert {name: reported[name] for name in ("executions", "live", "twice", "calls")} == {
        "executions": 1,
        "live": 1,
        "twice": 0,
        "calls": 1,
    }
