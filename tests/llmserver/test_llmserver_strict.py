"""What the server refuses, as OpenAI does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI

from . import LLMServer, canonical
from .driver import body_of, client_of, create, jsonl, line_of, parsed, raw, run, upload

Lines = Callable[[], bytes]


def changed(**changes: Any) -> bytes:
    """A good line, and a second one that differs in some fields; None leaves a field out."""
    line = {key: value for key, value in (line_of(1) | changes).items() if value is not None}
    return jsonl([line_of(0), line])


def body_with(**more: Any) -> bytes:
    """A good line, and a second one whose body differs."""
    return changed(body=body_of("Question 1?") | more)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ("empty_file", None, None)),
        (b"\xef\xbb\xbf" + jsonl([line_of(0)]), ("invalid_json_line", 1, None)),
        (jsonl([line_of(0)]) + b'{"custom_id": \n', ("invalid_json_line", 2, None)),
        (jsonl([line_of(0)]) + b"\n", ("invalid_json_line", 2, None)),
        (jsonl([line_of(0)]) + b"[]\n", ("invalid_json_line", 2, None)),
        (jsonl([line_of(0)]) + b'{"custom_id": "\xff"}\n', ("invalid_json_line", 2, None)),
        (body_with(temperature=float("nan")), ("invalid_json_line", 2, None)),
        (changed(custom_id="r-0"), ("duplicate_custom_id", 2, "custom_id")),
        (changed(custom_id=None), ("missing_required_parameter", 2, "custom_id")),
        (changed(custom_id="a b"), ("invalid_custom_id", 2, "custom_id")),
        (changed(custom_id="a" * 65), ("invalid_custom_id", 2, "custom_id")),
        (changed(custom_id=7), ("invalid_custom_id", 2, "custom_id")),
        (changed(method="GET"), ("invalid_method", 2, "method")),
        (changed(url="/v1/embeddings"), ("url_mismatch", 2, "url")),
        (changed(body="text"), ("invalid_request", 2, "body")),
        (changed(priority=1), ("unknown_parameter", 2, "priority")),
        (body_with(model="other"), ("model_mismatch", 2, "body.model")),
        (body_with(model=None), ("missing_required_parameter", 2, "body.model")),
        (body_with(stream=True), ("invalid_request", 2, "body.stream")),
        (jsonl(line_of(n) for n in range(6)), ("too_many_tasks", None, None)),
        (jsonl([line_of(0, body=body_of("x" * 2000))]), ("file_too_large", None, None)),
    ],
)
def test_a_bad_input_file_fails_the_batch(
    content: bytes, expected: tuple[str, int | None, str | None]
) -> None:
    """The batch fails with the error and its line, and nothing is billed."""
    with LLMServer(max_requests=5, max_bytes=2000) as server, client_of(server) as client:
        batch = run(server, client, content)
        assert batch.status == "failed"
        assert batch.errors is not None
        assert batch.errors.data is not None
        assert [(e.code, e.line, e.param) for e in batch.errors.data] == [expected]
        assert batch.request_counts is not None
        assert batch.request_counts.total == server.bill.total == 0
        assert (batch.output_file_id, batch.error_file_id) == (None, None)


@pytest.mark.parametrize("character", "\u2028\u2029\u0085")
def test_a_server_that_splits_lines_elsewhere_too(character: str) -> None:
    """A raw line separator of Unicode ends a line; escaped it is a character as any other."""
    line = line_of(0, body=body_of(f"a{character}b"))
    written = json.dumps(line, ensure_ascii=False).encode() + b"\n"
    with LLMServer(splitlines=True) as server, client_of(server) as client:
        assert run(server, client, written).status == "failed"
        assert run(server, client, jsonl([line])).status == "completed"
        assert server.bill.executions == {canonical(line["body"]): 1}


def test_a_model_that_does_not_exist_fails_the_batch() -> None:
    """And is a 404 for a live call."""
    with LLMServer(models=["gpt"]) as server, client_of(server) as client:
        errors = run(server, client).errors
        assert errors is not None
        assert errors.data is not None
        assert {error.code for error in errors.data} == {"model_not_found"}
        with pytest.raises(NotFoundError, match="The model `m` does not exist"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
        assert [(model.id, model.owned_by) for model in client.models.list()] == [
            ("gpt", "llmserver")
        ]
        server.owned_by = "vllm"
        assert [model.owned_by for model in client.models.list()] == ["vllm"]
        with pytest.raises(NotFoundError):
            client.models.retrieve("m")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"strict_max_tokens": True}, "Unsupported parameter: 'max_tokens' is not supported"),
        ({"parameters": {"model", "messages"}}, "Unrecognized request argument supplied: max_t"),
    ],
)
def test_a_body_parameter_is_refused_live_and_per_line(more: dict[str, Any], message: str) -> None:
    """A batch with it completes, with the refusals in its error file and nothing billed."""
    with LLMServer(**more) as server, client_of(server) as client:
        with pytest.raises(BadRequestError, match=message):
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "?"}], max_tokens=5
            )
        content = jsonl([line_of(0, body=body_of("?", max_tokens=5)), line_of(1)])
        batch = run(server, client, content)
        (error,) = parsed(raw(client, batch.error_file_id))
        assert (error["custom_id"], error["error"]) == ("r-0", None)
        assert error["response"]["status_code"] == 400
        assert message in error["response"]["body"]["error"]["message"]
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
        assert server.bill.total == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 3),
        ("top_p", "high"),
        ("seed", True),
        ("stop", list("abcde")),
        ("reasoning_effort", "lots"),
        ("service_tier", "cheap"),
        ("response_format", {"type": "yaml"}),
    ],
)
def test_values_of_parameters_are_checked(name: str, value: Any) -> None:
    """A value that OpenAI refuses is refused, with the parameter's name."""
    with LLMServer() as server, client_of(server) as client:
        with pytest.raises(BadRequestError, match=f"Invalid value for '{name}'"):
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "?"}], extra_body={name: value}
            )
        assert server.bill.total == 0


def test_headers_that_a_gateway_wants() -> None:
    """A call without them, or with others, is refused."""
    with LLMServer(headers={"X-Team": "a"}) as server, client_of(server) as client:
        with pytest.raises(AuthenticationError, match="X-Team: None is not accepted"):
            client.models.list()
        assert client.with_options(default_headers={"X-Team": "a"}).models.list().data == []


@pytest.mark.parametrize(
    "messages",
    [None, [], "text", [{"content": "no role"}]],
)
def test_bad_messages_are_refused(server: LLMServer, client: OpenAI, messages: Any) -> None:
    """400, and nothing billed."""
    with pytest.raises(BadRequestError, match="messages"):
        client.chat.completions.create(model="m", messages=messages)
    assert server.bill.total == 0


def test_all_lines_failed_gives_no_output_file() -> None:
    """Completed does not mean success."""
    with LLMServer(looks=0, strict_max_tokens=True) as server, client_of(server) as client:
        batch = run(server, client, jsonl([line_of(0, body=body_of("?", max_tokens=5))]))
        assert (batch.status, batch.output_file_id) == ("completed", None)
        assert batch.error_file_id is not None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"metadata": {str(n): "" for n in range(17)}}, "at most 16"),
        ({"metadata": {"k" * 65: ""}}, "at most 64"),
        ({"metadata": {"k": "v" * 513}}, "at most 512"),
        ({"metadata": {"k": 1}}, "expected a string"),
        ({"metadata": "text"}, "expected an object"),
        ({"completion_window": "48h"}, "Supported values are: '24h'"),
        ({"endpoint": "/v1/embeddings"}, "Supported values are: '/v1/chat/completions'"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "3600 to 2592000"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "anchor"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": "3600"}}, "an integer"),
        ({"output_expires_after": {"anchor": "created_at", "days": 1}}, "Unknown parameter"),
        ({"output_expires_after": 3600}, "expected an object"),
        ({"extra_body": {"priority": 1}}, "Unknown parameter: 'priority'"),
        ({"extra_body": {"input_file_id": None}}, "expected a string"),
    ],
)
def test_a_bad_batch_is_refused(
    server: LLMServer, client: OpenAI, more: dict[str, Any], message: str
) -> None:
    """400, and there is no batch."""
    file_id = upload(client, jsonl([line_of(0)]))
    params = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
    with pytest.raises(BadRequestError, match=message):
        client.batches.create(input_file_id=file_id, **params)
    assert server.batches == {}


def test_limits_of_metadata_are_allowed(server: LLMServer, client: OpenAI) -> None:
    """16 pairs of 64 and 512 characters come back as they went in."""
    metadata = {f"{n:064}": "v" * 512 for n in range(16)}
    expiry: Any = {"anchor": "created_at", "seconds": 3600}
    file_id = upload(client, jsonl([line_of(0)]))
    batch = create(client, file_id, metadata=metadata, output_expires_after=expiry)
    assert client.batches.list().data[0].metadata == metadata
    output = server.files[client.batches.retrieve(batch.id).output_file_id or ""]
    assert output.expires_at == output.created_at + 3600


def test_a_body_that_is_no_object_is_refused(server: LLMServer, client: OpenAI) -> None:
    """400 before anything else."""
    for content in (b"{", b"[]"):
        with pytest.raises(BadRequestError, match="could not parse the JSON body"):
            client.post("/batches", cast_to=object, content=content)
    with pytest.raises(BadRequestError, match="Missing required parameter: 'input_file_id'"):
        client.post("/batches", cast_to=object, body={})
    assert server.batches == {}


def test_keys_are_checked(server: LLMServer) -> None:
    """401 without a key and for an unknown one, of which only the ends are told."""
    secret = "sk-proj-abcdefghijklmnop"
    with client_of(server, secret) as client:
        with pytest.raises(
            AuthenticationError, match="Incorrect API key provided: sk-p"
        ) as reported:
            client.batches.list()
        assert secret not in str(reported.value)
        with pytest.raises(AuthenticationError, match="You didn't provide an API key"):
            client.batches.list(extra_headers={"Authorization": ""})
        server.keys = {secret}
        assert client.batches.list().data == []
        server.keys = None
        assert client.with_options(api_key="any").batches.list().data == []


def test_unknown_things_are_not_found(client: OpenAI) -> None:
    """404 for ids and for paths."""
    with pytest.raises(NotFoundError, match="No such File object: file-x"):
        create(client, "file-x")
    for call in (client.batches.retrieve, client.batches.cancel):
        with pytest.raises(NotFoundError, match="No batch found with id 'batch_x'"):
            call("batch_x")
    with pytest.raises(NotFoundError, match="Invalid URL"):
        client.get("/uploads", cast_to=object)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"status": "completed"}]
)
def test_bad_list_queries_are_refused(client: OpenAI, query: dict[str, Any]) -> None:
    """400 for limits out of range and for filters that do not exist."""
    with pytest.raises(BadRequestError):
        client.batches.list(extra_query=query)


def test_a_list_goes_on_after_something_that_exists(client: OpenAI) -> None:
    """404 for an unknown cursor, 400 for an unknown order."""
    with pytest.raises(NotFoundError, match="No such object: batch_x"):
        client.batches.list(after="batch_x")
    with pytest.raises(BadRequestError, match="neither 'asc' nor 'desc'"):
        client.files.list(extra_query={"order": "up"})


def test_live_calls_are_checked(client: OpenAI) -> None:
    """A model must be named, and nothing is streamed."""
    messages = [{"role": "user", "content": "?"}]
    for body, message in [
        ({"messages": messages}, "you must provide a model"),
        ({"model": "m", "messages": messages, "stream": True}, "does not stream"),
    ]:
        with pytest.raises(BadRequestError, match=message):
            client.post("/chat/completions", cast_to=object, body=body)


def test_a_file_of_another_purpose_makes_no_batch(client: OpenAI) -> None:
    """Only purpose=batch will do."""
    file = client.files.create(file=("a.jsonl", b"{}"), purpose="user_data")
    with pytest.raises(BadRequestError, match="expected 'batch', but got 'user_data'"):
        create(client, file.id)
