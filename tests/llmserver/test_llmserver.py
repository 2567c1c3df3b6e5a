"""The server without faults: statuses of batches, bill, lists, limits."""

from __future__ import annotations

from time import perf_counter
from typing import Literal

import pytest
from openai import BadRequestError, ConflictError, NotFoundError, OpenAI, RateLimitError

from . import LLMServer, Usage, canonical, default_answer, digest, expired, failed, token_limit
from .driver import (
    body_of,
    client_of,
    contents,
    create,
    jsonl,
    line_of,
    parsed,
    raw,
    run,
    submit,
    upload,
)
from .settings import Command


def statuses(client: OpenAI, batch_id: str, looks: int) -> list[str]:
    """The statuses that so many looks see."""
    return [client.batches.retrieve(batch_id).status for _ in range(looks)]


def test_a_batch_answers_each_request_once(server: LLMServer, client: OpenAI) -> None:
    """A clean batch has one output line a request, no error file, and its usage."""
    batch = run(server, client)
    lines = parsed(raw(client, batch.output_file_id))

    expected = {f"r-{n}": default_answer(line_of(n)["body"]) for n in range(4)}
    assert contents(lines) == expected
    assert expected["r-1"] == f"Answer to: Question 1? [{digest(body_of('Question 1?'))}]"
    assert [line["response"]["status_code"] for line in lines] == [200] * 4
    assert (batch.status, batch.error_file_id, batch.errors) == ("completed", None, None)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 4, "failed": 0}
    assert batch.usage is not None
    # "Question 1?" has 11 characters: 3 tokens and 3 for the message; the answer has 41: 11.
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (4 * 6, 4 * 11)


def test_the_bill_counts_each_body_in_batches_and_live(server: LLMServer, client: OpenAI) -> None:
    """The same body is the same entry, whatever its key order and however it was asked."""
    run(server, client)
    client.chat.completions.create(messages=[{"role": "user", "content": "Question 2?"}], model="m")

    assert server.bill.executions == {
        canonical(body_of(f"Question {n}?")): 2 if n == 2 else 1 for n in range(4)
    }
    assert server.bill.twice() == [canonical(body_of("Question 2?"))]
    assert (server.bill.total, server.bill.batch, server.bill.live) == (5, 4, 1)
    assert server.bill.times(body_of("Question 2?")) == 2
    assert server.bill.tokens == Usage(5 * 6, 5 * 11)


def test_a_batch_advances_by_looks() -> None:
    """Each status lasts as many looks as set, whether retrieves or lists."""
    with LLMServer(looks=2) as server, client_of(server) as client:
        batch = submit(client)
        seen = statuses(client, batch.id, 3)
        seen += [client.batches.list().data[0].status, *statuses(client, batch.id, 2)]
        assert seen == [
            "validating",
            "in_progress",
            "in_progress",
            "finalizing",
            "finalizing",
            "completed",
        ]
        assert server.bill.total == 4


def test_results_are_named_at_the_end_only() -> None:
    """Before it there are counts, but no files and no usage."""
    with LLMServer(looks=1) as server, client_of(server) as client:
        batch = submit(client)
        seen = [client.batches.retrieve(batch.id).to_dict() for _ in range(3)]
        assert [look["output_file_id"] is None for look in seen] == [True, True, False]
        completed = [look["request_counts"]["completed"] for look in seen]  # type: ignore[index]
        assert completed[0] == 2
        assert completed[2] == 4
        assert [look["usage"]["total_tokens"] for look in seen] == [0, 0, 68]  # type: ignore[index]


def test_a_batch_waits_for_the_test() -> None:
    """With looks=None a batch moves only when the test says so."""
    with LLMServer(looks=None) as server, client_of(server) as client:
        batch = submit(client)
        assert statuses(client, batch.id, 5) == ["validating"] * 5
        assert server.finish(batch.id).status == "completed"
        assert statuses(client, batch.id, 1) == ["completed"]


def test_an_expired_batch_keeps_and_bills_what_it_finished() -> None:
    """The unfinished requests are in the error file, without a response."""
    with LLMServer(looks=None) as server, client_of(server) as client:
        batch = submit(client)
        server.expire(batch.id, done=3)
        ended = client.batches.retrieve(batch.id)
        errors = parsed(raw(client, ended.error_file_id))
        assert list(contents(parsed(raw(client, ended.output_file_id)))) == ["r-0", "r-1", "r-2"]
        assert [(e["custom_id"], e["response"], e["error"]["code"]) for e in errors] == [
            ("r-3", None, "batch_expired")
        ]
        assert (ended.status, server.bill.total) == ("expired", 3)


def test_a_batch_may_expire_in_progress() -> None:
    """With as many finished lines as the test says then."""
    with LLMServer(looks=1) as server, client_of(server) as client:
        batch = submit(client)
        statuses(client, batch.id, 1)
        assert server.expire(batch.id, done=1).done == server.bill.total == 1


def test_unfinished_requests_need_not_be_listed() -> None:
    """Some servers name them nowhere."""
    with LLMServer(looks=0, list_unfinished=False) as server, client_of(server) as client:
        server.fates.append(expired(1))
        batch = client.batches.retrieve(submit(client).id)
        assert (batch.status, batch.error_file_id) == ("expired", None)


def test_a_cancelled_batch_keeps_and_bills_what_it_finished() -> None:
    """Cancelled in progress, half of it is done; cancelled earlier, nothing is."""
    with LLMServer(looks=1) as server, client_of(server) as client:
        early, late = submit(client), submit(client)
        statuses(client, late.id, 1)
        for batch in (early, late):
            assert client.batches.cancel(batch.id).status == "cancelling"
        ended = [client.batches.retrieve(batch.id) for batch in (early, late)]
        assert [batch.status for batch in ended] == ["cancelled", "cancelled"]
        assert ended[0].output_file_id is None
        assert len(parsed(raw(client, ended[1].output_file_id))) == server.bill.total == 2
        errors = parsed(raw(client, ended[1].error_file_id))
        assert [line["error"]["code"] for line in errors] == ["batch_cancelled"] * 2
        with pytest.raises(ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
            client.batches.cancel(early.id)


def test_a_batch_may_fail_before_or_after_running(server: LLMServer, client: OpenAI) -> None:
    """A failed batch shows its errors; nothing is billed unless lines were done."""
    server.fates += [failed("invalid_request", "No.", line=2), failed("quota", done=1), None]
    ends = [client.batches.retrieve(submit(client).id) for _ in range(3)]
    assert [end.status for end in ends] == ["failed", "failed", "completed"]
    assert ends[0].errors is not None
    assert ends[0].errors.data is not None
    assert ends[0].errors.data[0].to_dict() == {
        "code": "invalid_request",
        "message": "No.",
        "line": 2,
        "param": None,
    }
    assert [end.output_file_id is None for end in ends] == [True, False, False]
    assert server.bill.total == 1 + 4


def test_a_scripted_token_limit_needs_no_counting(server: LLMServer, client: OpenAI) -> None:
    """The same error as the limit's own, for one batch."""
    server.fates.append(token_limit("m", 90_000))
    errors = client.batches.retrieve(submit(client).id).errors
    assert errors is not None
    assert errors.data is not None
    assert [(error.code, error.line) for error in errors.data] == [("token_limit_exceeded", None)]
    assert "Limit: 90,000 enqueued tokens" in str(errors.data[0].message)


def test_fail_ends_a_batch_in_progress() -> None:
    """Even then no line has run."""
    with LLMServer(looks=1) as server, client_of(server) as client:
        batch = submit(client)
        statuses(client, batch.id, 1)
        server.fail(batch.id, "internal", "Broken.")
        assert statuses(client, batch.id, 1) == ["failed"]
        assert server.bill.total == 0


def test_settle_bills_what_nobody_looks_at() -> None:
    """An orphan would be paid for, too."""
    with LLMServer(looks=None) as server, client_of(server) as client:
        submit(client)
        server.settle()
        assert server.bill.total == 4


def test_a_batch_whose_input_is_deleted_fails() -> None:
    """A client must not delete what is still needed."""
    with LLMServer(looks=1) as server, client_of(server) as client:
        batch = submit(client)
        client.files.delete(batch.input_file_id)
        assert statuses(client, batch.id, 2) == ["in_progress", "failed"]


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
def test_lists_have_pages_and_an_order(order: Command) -> None:
    """The client pages through all batches, in an order that is settled."""
    with LLMServer(looks=0, page_cap=2, list_order=order) as server, client_of(server) as client:
        made = [submit(client, 1).id for _ in range(5)]
        listed = [batch.id for batch in client.batches.list(limit=100)]
        assert sorted(listed) == sorted(made)
        assert (listed == made[::-1], listed == made) == (order == "newest", order == "oldest")
        assert [batch.id for batch in client.batches.list()] == listed


def test_files_are_listed_read_and_deleted(server: LLMServer, client: OpenAI) -> None:
    """Files page and filter by purpose; deleted ones are gone."""
    server.page_cap = 2
    made = [upload(client, jsonl([line_of(n)]), f"{n}.jsonl") for n in range(3)]
    batch = client.batches.retrieve(create(client, made[0]).id)
    assert [file.id for file in client.files.list(purpose="batch", order="asc")] == made
    assert [file.id for file in client.files.list(purpose="batch_output")] == [batch.output_file_id]
    assert client.files.retrieve(made[1]).bytes == len(raw(client, made[1]))
    assert client.files.delete(made[1]).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(NotFoundError, match="No such File object"):
            call(made[1])


def test_the_token_limit_fails_a_batch_and_is_freed_by_its_end() -> None:
    """Each batch holds 24 tokens; a second one is failed until the first has ended."""
    with LLMServer(looks=1, enqueued_limit=30) as server, client_of(server) as client:
        first, second = submit(client), submit(client)
        statuses(client, second.id, 1)
        refused = client.batches.retrieve(second.id)
        assert refused.errors is not None
        assert refused.errors.data is not None
        assert refused.errors.data[0].to_dict() == {
            "code": "token_limit_exceeded",
            "line": None,
            "param": None,
            "message": "Enqueued token limit reached for m in organization org-llmserver. "
            "Limit: 30 enqueued tokens. Please try again once some in_progress batches have "
            "been completed.",
        }
        assert refused.request_counts is not None
        assert refused.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
        server.finish(first.id)
        third = create(client, second.input_file_id)
        assert statuses(client, third.id, 3)[-1] == "completed"
        assert server.bill.total == 4 + 4


@pytest.mark.parametrize(("form", "error"), [(400, BadRequestError), (429, RateLimitError)])
def test_the_token_limit_may_refuse_the_post(
    form: Literal[400, 429], error: type[Exception]
) -> None:
    """The server's own count, doubled here, decides."""
    with LLMServer(looks=None, enqueued_limit={"m": 47}) as server, client_of(server) as client:
        server.enqueued_form = form
        server.token_factor = 2.0
        with pytest.raises(error, match=r"Enqueued token limit reached for m .* Limit: 47"):
            submit(client)
        server.token_factor = 1.0
        submit(client)
        assert len(server.batches) == 1


@pytest.mark.slow
def test_twenty_thousand_requests_run_quickly(server: LLMServer, client: OpenAI) -> None:
    """Well under a second on a usual machine; the bound here is for a busy one."""
    file_id = upload(client, jsonl(line_of(n) for n in range(20_000)))
    start = perf_counter()
    batch = create(client, file_id)
    server.finish(batch.id)
    assert perf_counter() - start < 10
    assert server.bill.total == 20_000
    assert server.bill.twice() == []
    output = client.batches.retrieve(batch.id).output_file_id
    assert raw(client, output).count(b"\n") == 20_000
