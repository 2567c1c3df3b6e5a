"""Whatever stands in an answer's body or line: its text is kept, and nothing of it stops a run."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.openai_api.completion import read_completion
from backends.openai_batch.api.output_lines import LineReader
from fastdatasets.commands import start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from store import Unfinished, WorkStore
from store.database.arrow import FAILURE_SCHEMA, RESULT_SCHEMA, table_of
from store.jobs.events import BatchCounts
from store.money import Bounds, Usage
from store.results import Failure, FailureKind, Result
from tests.conftest import write_jsonl
from tests.llmserver import LineFault, LineKind, LLMServer, Reply, verbatim

ID = "12345678-1234-1234-1234-123456789012"
BOUNDS = Bounds(100, 50)
DEEP = "[" * 20_000 + "]" * 20_000


def body(
    content: str = '"Yes"',
    usage: str = '{"prompt_tokens": 20, "completion_tokens": 10}',
    message: str = "",
    choice: str = "",
    more: str = "",
) -> bytes:
    """A completion's body, its parts as JSON."""
    return (
        f'{{"choices": [{{"message": {{"content": {content}{message}}}{choice}}}], '
        f'"usage": {usage}{more}}}'
    ).encode("utf-8", "surrogatepass")


NUMBERS = {
    "20": 20,
    "20.0": 20,
    '"20"': 20,
    '"20.0"': 20,
    "2e1": 20,
    "20.5": None,
    '"20.5"': None,
    '"twenty"': None,
    "true": None,
    "null": None,
    "NaN": None,
    "Infinity": None,
    "1e400": None,
    "-20": None,
    "100000000000000": None,
    "9223372036854775807": None,
    "9223372036854775808": None,
    "1" + "0" * 30: None,
    "1" + "0" * 5000: None,
    "[20]": None,
    DEEP: None,
}


@pytest.mark.parametrize("written", NUMBERS, ids=lambda written: str(written)[:20])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_counts(name: str, written: str) -> None:
    """A whole number is what it says, however it is written; of any other nothing is known."""
    counts = {"prompt_tokens": "10", "completion_tokens": "10", name: written}
    usage = ", ".join(f'"{key}": {value}' for key, value in counts.items())
    answer = read_completion(ID, body(usage=f"{{{usage}}}"), BOUNDS)
    number = NUMBERS[written]
    prompt, completion = (number, 10) if name == "prompt_tokens" else (10, number)
    usage_of = () if number is None else (prompt, completion)
    assert answer == Result(ID, "Yes", None, "stop", *usage_of)


NOT_TOLD = Result(ID, "Yes", None, "stop")
YES = Result(ID, "Yes", None, "stop", 20, 10)
ODD: dict[str, tuple[bytes, Result]] = {
    "deep in a message": (body(message=f', "tool_calls": {DEEP}'), YES),
    "deep as reasoning": (body(message=f', "reasoning": {DEEP}'), YES),
    "deep as refusal": (body(message=f', "refusal": {DEEP}'), YES),
    "deep in a choice": (body(choice=f', "logprobs": {{"content": {DEEP}}}'), YES),
    "deep as finish_reason": (body(choice=f', "finish_reason": {DEEP}'), YES),
    "deep beside": (body(more=f', "x": {DEEP}'), YES),
    "deep objects": (body(more=', "x": ' + '{"a": ' * 20_000 + "1" + "}" * 20_000), YES),
    "deep usage": (body(usage=DEEP), NOT_TOLD),
    "deep in usage": (body(usage=f'{{"prompt_tokens": 20, "x": {DEEP}}}'), NOT_TOLD),
    "brackets in a text": (body(r'"Yes"', message=r', "x": "[[[\"[[{\\"'), YES),
    "numbers out of range beside": (body(more=', "x": [1e400, -1e400, NaN, -Infinity]'), YES),
    "a finish_reason that is a number": (body(choice=', "finish_reason": 5'), YES),
    "usage that is a text": (body(usage='"20"'), NOT_TOLD),
    "usage that is null": (body(usage="null"), NOT_TOLD),
    "keys twice": (body(message=', "content": "Yes"', more=', "x": 1, "x": 2'), YES),
    "a byte order mark": (b"\xef\xbb\xbf" + body(), YES),
    "content in parts": (body('[{"text": "Y"}, 5, {"type": "x"}, {"text": "es"}]'), YES),
    "content as one part": (body('{"type": "text", "text": "Yes"}'), YES),
    "a choice that is null beside": (body().replace(b"}}],", b"}}, null],"), YES),
    "a string": (json.dumps(body().decode()).encode(), YES),
    "a string with a deep one": (json.dumps(body(more=f', "x": {DEEP}').decode()).encode(), YES),
    "control characters": (
        body('"a\tb\x01\x7f"'),
        Result(ID, "a\tb\x01\x7f", None, "stop", 20, 10),
    ),
    "a NUL": (body(r'"a\u0000b"'), Result(ID, "a\0b", None, "stop", 20, 10)),
    "half a character": (body(r'"a\ud83db"'), Result(ID, "a\ufffdb", None, "stop", 20, 10)),
    "50 MB": (body(f'"{"x" * 50_000_000}"'), Result(ID, "x" * 50_000_000, None, "stop", 20, 10)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_bodies(name: str) -> None:
    """The text is kept, and of the rest what can be read."""
    content, expected = ODD[name]
    assert read_completion(ID, content, BOUNDS) == expected


NO_ANSWER = {
    "choices null": '{"choices": null, "usage": {"prompt_tokens": 20, "completion_tokens": 0}}',
    "no choice": '{"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 0}}',
    "a choice null": '{"choices": [null], "usage": {"prompt_tokens": 20, "completion_tokens": 0}}',
    "message null": '{"choices": [{"message": null}], "usage": {"prompt_tokens": 20, '
    '"completion_tokens": 0.0}}',
    "content a number": '{"choices": [{"message": {"content": 5}}], "usage": {"prompt_tokens": '
    '"20", "completion_tokens": 0}}',
    "content an object": '{"choices": [{"message": {"content": {"a": 1}}}], "usage": '
    '{"prompt_tokens": 20, "completion_tokens": 0}}',
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_bodies_without_an_answer(name: str) -> None:
    """What came is kept in the failure, and billed as the server says."""
    assert read_completion(ID, NO_ANSWER[name].encode(), BOUNDS) == Failure(
        ID,
        FailureKind.UNUSABLE,
        "the answer is not a chat completion",
        retryable=False,
        text=NO_ANSWER[name],
        answered=True,
        usage=Usage(20, 0, 0),
    )


def test_text_that_a_content_filter_cut_off() -> None:
    """It is no answer, and stays to be looked at."""
    content = body('"Ye"', choice=', "finish_reason": "content_filter"')
    found = read_completion(ID, content, BOUNDS)
    assert isinstance(found, Failure)
    assert (found.code, found.text, found.usage) == ("content_filter", "Ye", Usage(20, 0, 10))


# -- at random

NUMBER = st.integers() | st.floats() | st.sampled_from([10**14, 2**63 - 1, 10**30, -1, 0, 20])
# json.dumps writes lone surrogates as escapes; a think tag would be reasoning
TEXT = st.text(st.characters(exclude_categories=())).filter(lambda text: "think>" not in text)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
USAGE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("prompt_tokens", "completion_tokens"), JSON)
) | st.fixed_dictionaries({"prompt_tokens": NUMBER, "completion_tokens": NUMBER})


def with_fields(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have all, some or none of the fields, and others."""
    return st.tuples(
        st.dictionaries(st.sampled_from(["x", "y"]), JSON, max_size=1),
        st.fixed_dictionaries({}, optional=fields),
    ).map(lambda parts: parts[0] | parts[1])


MESSAGE = with_fields(
    content=TEXT | JSON, reasoning=JSON, reasoning_content=JSON, refusal=JSON, tool_calls=JSON
)
CHOICE = with_fields(message=MESSAGE | JSON, finish_reason=JSON | st.just("stop"), logprobs=JSON)
BODY = with_fields(choices=st.lists(CHOICE | JSON, max_size=2) | JSON, usage=USAGE | JSON)
LINE = with_fields(
    custom_id=st.just(ID) | TEXT | JSON,
    error=JSON,
    response=with_fields(status_code=st.just(200) | JSON, body=BODY | JSON) | JSON,
)


def text_in(value: Any) -> str | None:
    """The text at choices[0].message.content, with replacement characters, if there is one."""
    try:
        text = value["choices"][0]["message"]["content"]
    except (TypeError, KeyError, IndexError):
        return None
    return re.sub("[\ud800-\udfff]", "\ufffd", text) if isinstance(text, str) else None


def check(outcome: Result | Failure | None, value: Any) -> None:
    """It can be stored, and has the text."""
    if isinstance(outcome, Result):
        table_of([outcome], RESULT_SCHEMA)
    elif outcome is not None:
        table_of([outcome], FAILURE_SCHEMA)
    if (text := text_in(value)) is not None:
        assert outcome is not None
        assert outcome.text == text


@settings(deadline=None)
@given(BODY | JSON, st.booleans())
def test_any_body(value: Any, in_a_string: bool) -> None:
    """It never raises, and never loses a text."""
    written = json.dumps(json.dumps(value)) if in_a_string else json.dumps(value)
    check(read_completion(ID, written.encode(), BOUNDS), value)


@settings(deadline=None)
@given(st.binary() | BODY.map(lambda value: json.dumps(value)[:-1].encode()))
def test_any_bytes(content: bytes) -> None:
    """What is no JSON is kept as it came."""
    outcome = read_completion(ID, content, BOUNDS)
    assert isinstance(outcome, Failure)
    table_of([outcome], FAILURE_SCHEMA)


@settings(deadline=None)
@given(LINE, st.booleans())
def test_any_line(line: dict[str, Any], is_output: bool) -> None:
    """It never raises, and never loses a text of ours."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(json.dumps(line).encode())
        file.flush()
        counts = BatchCounts()
        reader = LineReader(counts, lambda: {ID: BOUNDS})
        ((results, failures),) = reader.read(Path(file.name), is_output=is_output)
    outcomes: list[Result | Failure] = [*results, *failures]
    response = line.get("response")
    ours = line.get("custom_id") == ID
    reported = response if ours and isinstance(response, dict) else {}
    check(
        outcomes[0] if outcomes else None,
        reported.get("body") if reported.get("status_code") == 200 else None,
    )


# -- whole runs

REPLIES = {
    "completion_tokens of 10^14": Reply("yes", reported={"completion_tokens": 10**14}),
    "2^63-1": Reply("yes", reported={"prompt_tokens": 5, "completion_tokens": 2**63 - 1}),
    "10^30": Reply("yes", reported={"prompt_tokens": 5, "completion_tokens": 10**30}),
    "1e400": Reply("yes", reported=verbatim('{"prompt_tokens": 1e400}')),
    "NaN": Reply("yes", message={"x": float("nan")}),
    "deep usage": Reply("yes", reported=verbatim(DEEP)),
    "deep tool calls": Reply("yes", message={"tool_calls": verbatim(DEEP)}),
}


def texts(backend: str) -> list[tuple[str, int | None]]:
    """What a run over two questions stores, and its completion tokens."""
    source = write_jsonl(Path("d.jsonl"), [{"prompt": "The first"}, {"prompt": "Another"}])
    run_config = RunConfig(dataset_name=str(source), sample_size=0, model="m", backend=backend)
    start(run_config, None, "r", ExecutionConfig()).raise_if_left()
    with WorkStore.open(Path("output/r/work.duckdb"), read_only=True) as store:
        return store.connection.execute(
            "SELECT text, completion_tokens FROM results ORDER BY rowid"
        ).fetchall()


@pytest.mark.quick(2)
@pytest.mark.parametrize("backend", ["openai", "openai-batch"])
@pytest.mark.parametrize("name", REPLIES)
def test_one_odd_answer_stops_nothing(server: LLMServer, name: str, backend: str) -> None:
    """Its text is stored as any other's, and so is the rest of the job."""
    server.answer = lambda body: (
        REPLIES[name] if "first" in body["messages"][-1]["content"] else "no"
    )
    reported = None if REPLIES[name].reported else 1
    assert sorted(texts(backend)) == [("no", 1), ("yes", reported)]
    assert server.bill.twice() == []


def test_a_line_that_is_nested_deep(server: LLMServer) -> None:
    """Beside an answer, and in an error, which is an attempt of one request."""
    error = LineFault(LineKind.HTTP_ERROR, status=500, message="no luck", times=1)
    server.line_faults += [LineFault(LineKind.DEEP), error]
    assert len(texts("openai-batch")) == 2
    assert (server.bill.total, server.bill.twice()) == (2, [])


@pytest.mark.quick(2)
@pytest.mark.parametrize("backend", ["openai", "openai-batch"])
@pytest.mark.parametrize(
    "message", [r'"a \ud800"', f'"a {chr(0xFFFD)}", "nested": {DEEP}'], ids=["surrogate", "deep"]
)
def test_an_odd_error_is_one_requests_own(server: LLMServer, message: str, backend: str) -> None:
    """Half a character in a refusal's words, or deep nesting beside them, stop nothing."""
    error = {"message": verbatim(message), "code": verbatim(r'"\ud800"')}
    refusal = Reply(status_code=400, error=error)
    server.answer = lambda body: refusal if "first" in body["messages"][-1]["content"] else "no"
    with pytest.raises(Unfinished, match="failed for good"):
        texts(backend)
    with WorkStore.open(Path("output/r/work.duckdb"), read_only=True) as store:
        found = store.connection.execute("SELECT code, message FROM failures").fetchall()
    assert found == [("\ufffd", "400: a \ufffd")]
    assert server.bill.total == 1
