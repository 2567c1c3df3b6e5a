"""Each fault of an HTTP call fires as it says, and has the effect it says."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
    RateLimitError,
)

from . import (
    MISSING,
    SCHEDULING,
    UPPER_CASE,
    Fault,
    Kind,
    LLMServer,
    forbidden,
    insufficient_quota,
    no_batch_api,
)
from .driver import ask, client_of, create, jsonl, line_of, parsed, raw, run, submit, upload

pytestmark = pytest.mark.slow

POST = "POST /batches"
CONTENT = "GET /files/*/content"
CHAT = "POST /chat/completions"


@pytest.mark.parametrize(
    ("fault", "error", "made"),
    [
        (Fault(POST, Kind.REFUSE), InternalServerError, 0),
        (Fault(POST, Kind.REFUSE, status=401), AuthenticationError, 0),
        (Fault(POST, Kind.DROP_BEFORE), APIConnectionError, 0),
        (Fault(POST, Kind.HANG), APITimeoutError, 0),
        (Fault(POST, Kind.DROP_AFTER), APIConnectionError, 1),
        (Fault(POST, Kind.ERROR_AFTER), InternalServerError, 1),
        (Fault(POST, Kind.ERROR_AFTER, status=504, body="<html>"), InternalServerError, 1),
        (Fault(POST, Kind.GARBLED), json.JSONDecodeError, 1),
        (Fault(POST, Kind.GARBLED, body="<html>"), json.JSONDecodeError, 1),
        (Fault(POST, Kind.HANG_AFTER), APITimeoutError, 1),
        (Fault(POST, Kind.CUT), APIConnectionError, 1),
    ],
)
def test_a_post_fails_with_or_without_effect(
    server: LLMServer, fault: Fault, error: type[Exception], made: int
) -> None:
    """One call, one fault; the next call is served well."""
    server.faults.append(fault)
    with client_of(server, timeout=0.5) as client:
        file_id = upload(client, jsonl([line_of(0)]))
        with pytest.raises(error):
            create(client, file_id)
        assert len(server.batches) == made
        create(client, file_id)
    assert len(server.batches) == made + 1
    assert server.faults.log == [(fault.kind, "POST", "/batches")]
    assert server.faults.unspent() == []
    assert [call.path for call in server.requests_log].count("/v1/batches") == 2


@pytest.mark.parametrize(
    ("kind", "stored"), [(Kind.DROP_BEFORE, 0), (Kind.DROP_AFTER, 1), (Kind.GARBLED, 1)]
)
def test_an_upload_is_lost_or_its_answer_is(
    server: LLMServer, client: OpenAI, kind: Kind, stored: int
) -> None:
    """Of a file large enough to need many reads."""
    server.faults.append(Fault("POST /files", kind))
    with pytest.raises((APIConnectionError, json.JSONDecodeError)):
        upload(client, b"x" * 3_000_000)
    assert len(server.files) == stored


@pytest.mark.parametrize("where", ["POST /files", POST])
def test_a_delayed_post_takes_effect_after_the_client_gave_up(
    server: LLMServer, where: str
) -> None:
    """Looked for at once there is nothing; later there is a file, or a batch."""

    def made(client: OpenAI) -> int:
        items = client.batches.list() if where == POST else client.files.list()
        return len(items.to_dict()["data"])  # type: ignore[arg-type]

    with client_of(server, timeout=0.3) as client:
        file_id = upload(client, jsonl([line_of(0)])) if where == POST else ""
        server.faults.append(Fault(where, Kind.DELAY, seconds=1.0))
        with pytest.raises(APITimeoutError):
            create(client, file_id) if where == POST else upload(client, b"{}")
        assert made(client) == 0
        deadline = time.monotonic() + 10
        while not made(client) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert made(client) == 1


def test_a_batch_appears_late_in_lists(server: LLMServer, client: OpenAI) -> None:
    """The POST fails, two lists are empty, the third one shows the batch."""
    server.faults.append(Fault(POST, Kind.ERROR_AFTER, status=504, hide_lists=2))
    with pytest.raises(InternalServerError):
        submit(client)
    (batch_id,) = server.batches
    seen = [[batch.id for batch in client.batches.list()] for _ in range(3)]
    assert seen == [[], [], [batch_id]]


def test_a_batch_is_hidden_though_its_post_was_answered(server: LLMServer, client: OpenAI) -> None:
    """Reading after writing lags: 404 twice, then the batch."""
    server.faults.append(Fault(POST, Kind.HIDE, hide_lists=1, hide_retrieves=2))
    batch = submit(client)
    for _ in range(2):
        with pytest.raises(NotFoundError):
            client.batches.retrieve(batch.id)
    assert client.batches.retrieve(batch.id).id == batch.id
    assert [len(client.batches.list().data) for _ in range(2)] == [0, 1]


def test_faults_wait_and_take_turns(server: LLMServer, client: OpenAI) -> None:
    """The first fault lets one call through and hits two; then the second has its turn."""
    server.faults += [
        Fault("GET /batches", Kind.REFUSE, times=2, after=1, status=503),
        Fault("* /batches*", Kind.REFUSE, after=1, status=502),
    ]
    seen = []
    for _ in range(6):
        try:
            client.batches.list()
            seen.append(200)
        except APIStatusError as error:
            seen.append(error.status_code)
    assert seen == [200, 503, 503, 200, 502, 200]
    assert [fired.kind for fired in server.faults.log] == [Kind.REFUSE] * 3


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.CUT_CHUNKED])
def test_a_cut_download_fails(server: LLMServer, client: OpenAI, kind: Kind) -> None:
    """Where the length is known, or chunks are, the client notices."""
    output = run(server, client).output_file_id
    server.faults.append(Fault(CONTENT, kind))
    with pytest.raises(APIConnectionError):
        raw(client, output)
    assert raw(client, output).endswith(b"}\n")


def test_a_silently_cut_download_looks_complete(server: LLMServer, client: OpenAI) -> None:
    """Only the size of the file object tells."""
    output = run(server, client).output_file_id or ""
    server.faults += [Fault(CONTENT, Kind.CUT_SILENT, keep=100), Fault(CONTENT, Kind.CUT_SILENT)]
    size = client.files.retrieve(output).bytes
    assert [len(raw(client, output)) for _ in range(3)] == [100, size // 2, size]


def test_content_is_compressed(server: LLMServer, client: OpenAI) -> None:
    """Less comes over the line than the file object says, and the client unpacks it."""
    output = run(server, client).output_file_id or ""
    whole = raw(client, output)
    server.faults.append(Fault(CONTENT, Kind.GZIP))
    with client.files.with_streaming_response.content(output) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"".join(answer.iter_bytes()) == whole
        assert answer.http_response.num_bytes_downloaded < len(whole)


def test_content_is_still_being_written(server: LLMServer, client: OpenAI) -> None:
    """Whole lines of so many bytes at most come, as if they were the file."""
    output = run(server, client).output_file_id or ""
    whole = raw(client, output)
    two = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    server.faults.append(Fault(CONTENT, Kind.FEW_LINES, keep=two + 10))
    assert [raw(client, output) for _ in range(2)] == [whole[:two], whole]


@pytest.mark.parametrize("size", [MISSING, 7])
def test_file_object_has_another_size(server: LLMServer, client: OpenAI, size: Any) -> None:
    """Or none; its content comes as it is."""
    output = run(server, client).output_file_id or ""
    server.faults.append(Fault("GET /files/*", Kind.SET, None, fields={"bytes": size}))
    seen = client.files.retrieve(output).to_dict().get("bytes", MISSING)
    assert (seen, len(parsed(raw(client, output)))) == (size, 4)


@pytest.mark.parametrize("status", [404, 502])
def test_content_may_not_be_ready(server: LLMServer, client: OpenAI, status: int) -> None:
    """So many times, then it is."""
    output = run(server, client).output_file_id
    server.faults.append(Fault(CONTENT, Kind.REFUSE, times=2, status=status))
    for _ in range(2):
        with pytest.raises(APIStatusError) as refused:
            raw(client, output)
        assert refused.value.status_code == status
    assert raw(client, output)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("", Kind.NO_METADATA), {"metadata": None}),
        (Fault("", Kind.NULL_COUNTS), {"request_counts": None}),
        (Fault("", Kind.NO_OUTPUT_FILE), {"output_file_id": None}),
        (Fault("", Kind.EMPTY_FILE_IDS), {"error_file_id": ""}),
        (Fault("", Kind.STATUS_NAMES, fields=UPPER_CASE), {"status": "COMPLETED"}),
        (Fault("", Kind.SET, fields={"endpoint": None, "x": "1"}), {"x": "1", "endpoint": None}),
    ],
)
def test_batch_objects_are_odd(
    server: LLMServer, client: OpenAI, fault: Fault, expected: dict[str, Any]
) -> None:
    """In answers to a retrieve and in lists, as long as the fault lasts."""
    batch = run(server, client)
    fault.where, fault.times = "GET /batches*", 2
    server.faults.append(fault)
    seen = [client.batches.retrieve(batch.id).to_dict(), client.batches.list().data[0].to_dict()]
    assert [odd | expected for odd in seen] == seen
    assert client.batches.retrieve(batch.id).to_dict() == batch.to_dict()


def test_ids_of_files_are_odd(server: LLMServer, client: OpenAI) -> None:
    """The ids of a batch's files come as objects, or those of its output and errors are one."""
    batch = run(server, client)
    forms: dict[Kind, dict[str, Any]] = {
        Kind.OBJECT_FILE_IDS: {
            "input_file_id": {"id": batch.input_file_id},
            "output_file_id": {"id": batch.output_file_id},
            "error_file_id": None,
        },
        Kind.SAME_FILE_IDS: {"error_file_id": batch.output_file_id},
    }
    for kind, expected in forms.items():
        server.faults.append(Fault("GET /batches/*", kind))
        seen = client.batches.retrieve(batch.id)
        assert {name: getattr(seen, name) for name in expected} == expected


def test_fields_may_be_missing(server: LLMServer, client: OpenAI) -> None:
    """Usage in particular, of batches and of live answers; several odd shapes add up."""
    batch = run(server, client)
    server.faults += [
        Fault("GET /batches/*", Kind.NO_USAGE),
        Fault("GET /batches/*", Kind.SET, fields={"model": MISSING}),
        Fault(CHAT, Kind.NO_USAGE),
    ]
    odd = client.batches.retrieve(batch.id).to_dict()
    assert batch.to_dict().keys() - odd.keys() == {"usage", "model"}
    made = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    assert made.usage is None


def test_statuses_may_be_unknown() -> None:
    """`scheduling`, and upper case, while the batch goes on."""
    with LLMServer(looks=1) as server, client_of(server) as client:
        where = "GET /batches/*"
        server.faults += [
            Fault(where, Kind.STATUS_NAMES, 1, fields=SCHEDULING),
            Fault(where, Kind.STATUS_NAMES, 1, after=1, fields=UPPER_CASE),
        ]
        batch = submit(client)
        seen: list[str] = [client.batches.retrieve(batch.id).status for _ in range(3)]
        assert seen == ["scheduling", "FINALIZING", "completed"]


def test_lists_may_go_on_for_ever(server: LLMServer, client: OpenAI) -> None:
    """has_more stays true; with `after` ignored each page is the first one."""
    server.page_cap = 2
    made = [submit(client, 1).id for _ in range(3)][::-1]
    server.faults.append(Fault("GET /batches", Kind.ENDLESS, times=2))
    last = client.batches.list(after=made[1])
    assert ([batch.id for batch in last.data], last.has_more) == (made[2:], True)
    empty = client.batches.list(after=made[2])
    assert (empty.data, empty.has_more) == ([], True)
    server.faults.append(Fault("GET /batches", Kind.IGNORE_AFTER, times=None))
    for after in made:
        assert [batch.id for batch in client.batches.list(after=after).data] == made[:2]


def test_a_server_may_have_no_batch_api(server: LLMServer, client: OpenAI) -> None:
    """404 on files and batches for ever; live calls go on."""
    server.faults += no_batch_api()
    for call in (client.files.list, client.batches.list, lambda: upload(client, b"{}")):
        with pytest.raises(NotFoundError):
            call()
    ask(client)


def test_what_concerns_every_request_is_refused_for_ever(server: LLMServer) -> None:
    """403 and insufficient_quota; the latter tells itself from a rate limit by its code."""
    server.faults.append(forbidden("GET *"))
    server.faults.append(insufficient_quota())
    with client_of(server) as client:
        for _ in range(2):
            with pytest.raises(PermissionDeniedError):
                client.batches.list()
            with pytest.raises(RateLimitError) as refused:
                ask(client)
            assert refused.value.code == "insufficient_quota"
    assert server.bill.total == 0


@pytest.mark.parametrize("kind", [Kind.FLOOD, Kind.BOMB])
def test_answers_are_flooded(server: LLMServer, client: OpenAI, kind: Kind) -> None:
    """Newlines, packed or not, come before a good answer, a file's content or an error."""
    output = run(server, client).output_file_id or ""
    whole, answer_text = raw(client, output), ask(client)
    server.faults += [Fault("* *", kind, times=3, keep=1_000_000)]
    with client.files.with_streaming_response.content(output) as answer:
        assert b"".join(answer.iter_bytes()) == b"\n" * 1_000_000 + whole
        came = answer.http_response.num_bytes_downloaded
        assert (came == 1_000_000 + len(whole)) is (kind is Kind.FLOOD)
        assert (came < 10_000) is (kind is Kind.BOMB)
    assert ask(client) == answer_text
    with pytest.raises(NotFoundError, match="No batch found"):
        client.batches.retrieve("batch_x")
    assert server.faults.unspent() == []


def test_an_endless_flood_ends_with_its_client(server: LLMServer, client: OpenAI) -> None:
    """And the server goes on."""
    answer_text = ask(client)
    server.faults.append(Fault(CHAT, Kind.FLOOD))
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=[{"role": "user", "content": "?"}]
    ) as answer:
        assert next(iter(answer.iter_bytes())).strip() == b""
    assert ask(client) == answer_text


def test_an_answer_trickles(server: LLMServer, client: OpenAI) -> None:
    """A byte at a time, and it is whole in the end."""
    answer_text = ask(client)
    server.faults.append(Fault(CHAT, Kind.TRICKLE, seconds=0.0001))
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=[{"role": "user", "content": "?"}]
    ) as answer:
        body = json.loads(b"".join(answer.iter_bytes()))
    assert body["choices"][0]["message"]["content"] == answer_text


def test_pages_have_new_ids(server: LLMServer, client: OpenAI) -> None:
    """With an ignored cursor a list of one batch has no end."""
    batch = submit(client)
    where = "GET /batches"
    server.faults += [
        Fault(where, kind, None) for kind in (Kind.ENDLESS, Kind.IGNORE_AFTER, Kind.NEW_IDS)
    ]
    pages = client.batches.list().iter_pages()
    assert [[one.id for one in next(pages).data] for _ in range(3)] == [
        [f"{batch.id}-{number}"] for number in (1, 2, 3)
    ]
