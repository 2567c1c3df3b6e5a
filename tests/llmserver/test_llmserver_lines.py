"""Each fault of the lines in result files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import NotFoundError, OpenAI

from . import (
    Fate,
    LineFault,
    LineKind,
    LLMServer,
    Status,
    content_filter,
    default_answer,
    rate_limited_line,
)
from .bill import Body
from .driver import contents, line_of, parsed, raw, run, submit

IDS = ["r-0", "r-1", "r-2", "r-3"]


def second(body: Body) -> bool:
    """Whether it is the body of r-1."""
    return bool(body["messages"][0]["content"] == "Question 1?")


def answer_of(number: int) -> str:
    """The answer to a good line."""
    return default_answer(line_of(number)["body"])


def with_in_middle(odd: str) -> str:
    """The answer to r-1 with something in its middle."""
    answer = answer_of(1)
    return answer[: len(answer) // 2] + odd + answer[len(answer) // 2 :]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (LineFault(LineKind.HTTP_ERROR, second, code="bad"), 400, "bad"),
        (LineFault(LineKind.HTTP_ERROR, second, status=500), 500, None),
        (rate_limited_line(second), 429, "rate_limit_exceeded"),
        (content_filter(second), 400, "content_filter"),
        (
            LineFault(LineKind.HTTP_ERROR, second, status=404, code="model_not_found"),
            404,
            "model_not_found",
        ),
    ],
)
def test_a_line_fails_with_an_http_status(
    server: LLMServer, client: OpenAI, fault: LineFault, status: int, code: str | None
) -> None:
    """It is in the error file, with a response and no error of its own, and is not billed."""
    server.line_faults.append(fault)
    batch = run(server, client)
    (line,) = parsed(raw(client, batch.error_file_id))
    assert (line["custom_id"], line["error"]) == ("r-1", None)
    assert line["response"]["status_code"] == status
    assert line["response"]["body"]["error"]["code"] == code
    assert list(contents(parsed(raw(client, batch.output_file_id)))) == ["r-0", "r-2", "r-3"]
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 3, "failed": 1}
    assert server.bill.total == 3
    assert fault.fired == ["r-1"]


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled", "request_timeout"])
def test_a_line_was_never_run(server: LLMServer, client: OpenAI, code: str) -> None:
    """Its response is null."""
    server.line_faults.append(LineFault(LineKind.NOT_RUN, second, code=code))
    (line,) = parsed(raw(client, run(server, client).error_file_id))
    assert (line["response"], line["error"]["code"]) == (None, code)
    assert server.bill.total == 3


def test_a_line_is_missing(server: LLMServer, client: OpenAI) -> None:
    """It is in neither file and in no count; it is not billed."""
    server.line_faults.append(LineFault(LineKind.MISSING, second))
    batch = run(server, client)
    assert list(contents(parsed(raw(client, batch.output_file_id)))) == ["r-0", "r-2", "r-3"]
    assert batch.error_file_id is None
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 3
    assert server.bill.total == 3


def test_a_line_is_withheld(server: LLMServer, client: OpenAI) -> None:
    """It is billed and counted as completed, and in neither file."""
    server.line_faults.append(LineFault(LineKind.WITHHELD, second))
    batch = run(server, client)
    assert list(contents(parsed(raw(client, batch.output_file_id)))) == ["r-0", "r-2", "r-3"]
    assert batch.error_file_id is None
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 4, "failed": 0}
    assert server.bill.total == 4


def test_a_cancelled_batch_delivers_nothing(server: LLMServer, client: OpenAI) -> None:
    """It ran two lines, says so, bills them, and names no output file."""
    server.fates.append(Fate(Status.CANCELLED, 2))
    server.line_faults.append(LineFault(LineKind.WITHHELD))
    batch = run(server, client)
    assert (batch.status, batch.output_file_id) == ("cancelled", None)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 2
    assert len(parsed(raw(client, batch.error_file_id))) == 2
    assert server.bill.total == 2


def test_all_ids_are_others(server: LLMServer, client: OpenAI) -> None:
    """Answers as good as any, to ids that nobody sent."""
    server.line_faults.append(LineFault(LineKind.OTHER_ID))
    ids = list(contents(parsed(raw(client, run(server, client).output_file_id))))
    assert ids == [f"foreign-r-{number}" for number in range(4)]
    assert server.bill.total == 4


@pytest.mark.parametrize("what", ["output", "error"])
def test_a_file_is_absent(server: LLMServer, client: OpenAI, what: Any) -> None:
    """The batch names it, and the server does not have it; the other is there."""
    server.absent_files = [what]
    server.line_faults.append(LineFault(LineKind.HTTP_ERROR, second))
    batch = run(server, client)
    files = {"output": batch.output_file_id or "", "error": batch.error_file_id or ""}
    for call in (client.files.retrieve, client.files.content):
        with pytest.raises(NotFoundError):
            call(files[what])
    del files[what]
    (other,) = files.values()
    assert parsed(raw(client, other))


def test_a_line_has_status_zero(server: LLMServer, client: OpenAI) -> None:
    """It is in the output file without a body; it is not billed."""
    server.line_faults.append(LineFault(LineKind.STATUS_ZERO, second))
    line = parsed(raw(client, run(server, client).output_file_id))[1]
    assert (line["response"]["status_code"], line["response"]["body"]) == (0, None)
    assert server.bill.total == 3


def test_content_has_a_lone_surrogate(server: LLMServer, client: OpenAI) -> None:
    """As an escape, which only JSON can hold."""
    server.line_faults.append(LineFault(LineKind.LONE_SURROGATE, second))
    content = raw(client, run(server, client).output_file_id)
    assert content.count(b"\\ud800") == 1
    assert contents(parsed(content))["r-1"] == with_in_middle("\ud800")
    assert server.bill.total == 4


def test_content_has_line_separators(server: LLMServer, client: OpenAI) -> None:
    """Raw, so that only a split on the newline byte keeps lines whole."""
    server.line_faults.append(LineFault(LineKind.LINE_SEPARATORS, second))
    content = raw(client, run(server, client).output_file_id)
    assert contents(parsed(content))["r-1"] == with_in_middle("\u2028\u2029\u0085")
    assert len(content.decode().splitlines()) == 4 + 3


def test_content_has_invalid_utf8(server: LLMServer, client: OpenAI) -> None:
    """Two bytes that no decoder takes."""
    server.line_faults.append(LineFault(LineKind.INVALID_UTF8, second))
    line = raw(client, run(server, client).output_file_id).split(b"\n")[1]
    assert line.count(b"\xff\xfe") == 1
    repaired = json.loads(line.replace(b"\xff\xfe", b""))
    assert contents([repaired])["r-1"] == answer_of(1)


def test_odd_characters_come_together(server: LLMServer, client: OpenAI) -> None:
    """A surrogate forces escapes, the invalid bytes stay bytes, in a body given as a string."""
    kinds = [LineKind.LONE_SURROGATE, LineKind.INVALID_UTF8, LineKind.STRING_BODY]
    server.line_faults += [LineFault(kind, second) for kind in kinds]
    line = raw(client, run(server, client).output_file_id).split(b"\n")[1]
    body = json.loads(json.loads(line.replace(b"\xff\xfe", b""))["response"]["body"])
    assert body["choices"][0]["message"]["content"] == with_in_middle("\ud800")


def test_a_body_is_a_string(server: LLMServer, client: OpenAI) -> None:
    """response.body holds JSON in a string."""
    server.line_faults.append(LineFault(LineKind.STRING_BODY, second))
    lines = parsed(raw(client, run(server, client).output_file_id))
    lines[1]["response"]["body"] = json.loads(lines[1]["response"]["body"])
    assert contents(lines) == {name: answer_of(n) for n, name in enumerate(IDS)}


def test_a_line_is_nested_deep(server: LLMServer, client: OpenAI) -> None:
    """In each of its objects; without that it is what it was."""
    server.line_faults.append(LineFault(LineKind.DEEP, second))
    line = raw(client, run(server, client).output_file_id).split(b"\n")[1]
    nested = b', "nested": ' + b"[" * 20_000 + b"]" * 20_000
    assert line.count(nested) == 1 + 1 + 1 + 1 + 2  # line, response, body, usage, its details
    assert contents([json.loads(line.replace(nested, b""))]) == {"r-1": answer_of(1)}


@pytest.mark.parametrize(
    ("kind", "good"), [(LineKind.BROKEN, [0, 2, 3]), (LineKind.BROKEN_COPY, [0, 1, 2, 3])]
)
def test_a_line_is_broken(
    server: LLMServer, client: OpenAI, kind: LineKind, good: list[int]
) -> None:
    """Cut in half, and billed; or a cut copy precedes the good one."""
    server.line_faults.append(LineFault(kind, second))
    lines = raw(client, run(server, client).output_file_id).split(b"\n")[:-1]
    broken = lines.pop(1)
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    assert contents([json.loads(line) for line in lines]) == {f"r-{n}": answer_of(n) for n in good}
    assert server.bill.total == 4


def test_a_line_comes_twice(server: LLMServer, client: OpenAI) -> None:
    """The second one has another text; it is billed once."""
    server.line_faults.append(LineFault(LineKind.DUPLICATE, second))
    lines = parsed(raw(client, run(server, client).output_file_id))
    assert [line["custom_id"] for line in lines] == ["r-0", "r-1", "r-1", "r-2", "r-3"]
    assert [contents([line])["r-1"] for line in lines[1:3]] == [
        answer_of(1),
        f"Another answer. {answer_of(1)}",
    ]
    assert server.bill.total == 4


def test_a_line_is_foreign(server: LLMServer, client: OpenAI) -> None:
    """A custom_id that nobody sent, besides all of ours."""
    server.line_faults.append(LineFault(LineKind.FOREIGN_ID, second))
    lines = parsed(raw(client, run(server, client).output_file_id))
    ids = [line["custom_id"] for line in lines]
    assert ids == ["r-0", "foreign-r-1", "r-1", "r-2", "r-3"]


def test_lines_are_shuffled(server: LLMServer, client: OpenAI) -> None:
    """The same way each time."""
    server.line_faults.append(LineFault(LineKind.SHUFFLE))
    commands = []
    for _ in range(2):
        commands.append(list(contents(parsed(raw(client, run(server, client).output_file_id)))))
    assert commands[0] == commands[1] != IDS
    assert sorted(commands[0]) == IDS


@pytest.mark.parametrize(
    ("kinds", "change"),
    [
        ([LineKind.CRLF], lambda good: good.replace(b"\n", b"\r\n")),
        ([LineKind.BLANK_LINES], lambda good: good.replace(b"\n", b"\n\n")),
        ([LineKind.NO_FINAL_NEWLINE], lambda good: good[:-1]),
        (
            [LineKind.CRLF, LineKind.BLANK_LINES, LineKind.NO_FINAL_NEWLINE],
            lambda good: good.replace(b"\n", b"\r\n\r\n")[:-4],
        ),
    ],
)
def test_files_have_odd_ends_of_lines(
    server: LLMServer, client: OpenAI, kinds: list[LineKind], change: Any
) -> None:
    """Both files, and nothing else in them changes."""
    server.line_faults += [LineFault(kind) for kind in kinds]
    server.line_faults.append(LineFault(LineKind.HTTP_ERROR, second))
    batch = run(server, client)
    for file_id in (batch.output_file_id, batch.error_file_id):
        content = raw(client, file_id)
        good = b"".join(
            json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in parsed(content)
        )
        assert content == change(good)


def test_a_clean_batch_has_an_error_file_of_no_bytes(server: LLMServer, client: OpenAI) -> None:
    """Where there would be none."""
    server.line_faults.append(LineFault(LineKind.EMPTY_ERROR_FILE))
    batch = run(server, client)
    assert batch.error_file_id is not None
    assert client.files.retrieve(batch.error_file_id).bytes == 0
    assert raw(client, batch.error_file_id) == b""


def test_a_fault_is_spent_or_of_one_batch(server: LLMServer, client: OpenAI) -> None:
    """`times` counts over all batches, `batch` chooses one by its number."""
    once = LineFault(LineKind.HTTP_ERROR, times=1)
    third = LineFault(LineKind.HTTP_ERROR, second, batch=2)
    server.line_faults += [once, third]
    failed = []
    for _ in range(4):
        batch = client.batches.retrieve(submit(client).id)
        errors = parsed(raw(client, batch.error_file_id))
        failed.append([line["custom_id"] for line in errors])
    assert failed == [["r-0"], [], ["r-1"], []]
    assert (once.fired, third.fired) == (["r-0"], ["r-1"])
