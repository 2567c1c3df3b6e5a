"""What `preview` shows: the mapping, and the first requests as they are sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Who?"},
]
TOOL = {"type": "function", "function": {"name": "weather"}}
ROWS: list[dict[str, object]] = [
    {"messages": TALK, "tools": [TOOL], "id": 1},
    {"messages": [], "tools": [], "id": 2},
    *({"messages": TALK[:2], "tools": [], "id": number} for number in range(3, 6)),
]


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", ["openai", "openai-batch"])
def test_requests_are_those_that_are_sent(
    command: Command, server: LLMServer, tmp_path: Path, backend: str
) -> None:
    """Each body is that of the run, parameters, turns and tools included; nothing is sent."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    options = (
        *("--dataset-name", source, "--sample-size", 0, "--backend", backend, "--model", "gpt-4.1"),
        *("--temperature", 0.5, "--max-output-tokens", 100),
    )
    shown = command("preview", *options, "--json")
    assert (shown.returncode, server.requests_log) == (0, [])
    preview = json.loads(shown.stdout)
    assert preview["lines"] == [
        f"sampling {source}",
        "columns: tools ← tools, instruction, output, system and history ← turns of messages; "
        "not used: id",
        "sampled 4 of 5 rows",
        "left out: 1 rows without a question of the user",
    ]
    assert [request["prompt_tokens"] for request in preview["requests"]] == [38, 15]
    assert command("distill", *options).returncode == 0
    sent = map(json.loads, server.bill.executions)
    assert sorted(sent, key=str) == sorted(
        (dict(sorted(request["body"].items())) for request in preview["requests"]), key=str
    )


MODELS_ASKED = "open until the server is asked for its models:"


@pytest.mark.parametrize(
    ("options", "line", "serves_vllm"),
    [
        (("--num-aug", 2), "vLLM gets a JSON schema as well (--json-schema shows it)", False),
        (("--num-aug", 2, "--json-schema"), None, False),
        (("--num-aug", 2, "--no-json-schema"), None, True),
        (("--no-think",), "--no-think is sent like this to vLLM, and is an error elsewhere", True),
        (("--think", "--num-aug", 2),
         "--think is sent like this to vLLM, and is an error elsewhere", True),
        (("--max-tokens-name", "max_completion_tokens"), None, False),
    ],
)  # fmt: skip
def test_what_the_server_decides(
    command: Command, server: LLMServer, tmp_path: Path, options: Any, line: str | None,
    serves_vllm: bool,
) -> None:  # fmt: skip
    """It is named, and with it the body is that of the run."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"instruction": "Why?", "output": "So."}])
    server.parameters, server.models = None, ["m"]
    server.answer = lambda _: "1. Why so?\n2. Why not?"
    server.owned_by = "vllm" if serves_vllm else "somebody"
    shared = ("--dataset-name", source, "--backend", "openai", "--model", "m")
    shown = command("preview", *shared, *options, "--json")
    assert (shown.returncode, server.requests_log) == (0, [])
    preview = json.loads(shown.stdout)
    assert preview["notes"] == ([] if line is None else [f"{MODELS_ASKED} {line}"])
    command("augment" if "--num-aug" in options else "distill", *shared, *options)
    assert dict(sorted(preview["requests"][0]["body"].items())) in map(
        json.loads, server.bill.executions
    )


def test_thinking_that_is_not_known(command: Command, tmp_path: Path) -> None:
    """--think is the error that it is for the run."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"instruction": "Why?"}])
    shown = command(
        *("preview", "--dataset-name", source, "--backend", "openai", "--model", "m", "--think"),
        env={"LLM_API_BASE": "https://api.groq.com/openai/v1"},
    )
    assert (shown.returncode, shown.stderr.partition(". ")[0]) == (
        1,
        "fastdatasets: --think: how https://api.groq.com/openai/v1 turns thinking on and off is "
        "not known",
    )


def test_text(command: Command, server: LLMServer, tmp_path: Path) -> None:
    """For people: the same lines, and bodies that can be read."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "Who?", "context": "Me."}])
    options = ("--dataset-name", source, "--backend", "openai", "--model", "gpt-4.1")
    shown = command("preview", *options, "--prompt-template", "plain")
    assert (shown.returncode, server.requests_log) == (0, [])
    assert shown.stdout.splitlines() == [
        f"sampling {source}",
        "columns: instruction ← prompt, input ← context",
        "sampled 1 of 1 rows",
        "the first 1 requests:",
        "",
        "{",
        '  "model": "gpt-4.1",',
        '  "max_tokens": 4096,',
        '  "messages": [',
        "    {",
        '      "content": "Who?\\n\\nMe.",',
        '      "role": "user"',
        "    }",
        "  ]",
        "}",
        "(11 prompt tokens, counted with o200k_base)",
    ]


UNUSED: dict[str, list[dict[str, object]]] = {
    "2 turns after the question that is asked, in 1 rows": [
        {"messages": [*TALK, {"role": "assistant", "content": "I."}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ],
    "3 instances after the first, in 2 rows": [
        {"instruction": "Add", "instances": [{"input": f"{n}", "output": ""} for n in range(more)]}
        for more in (3, 1, 2)
    ],
}


@pytest.mark.parametrize("line", UNUSED)
def test_what_is_not_used(command: Command, tmp_path: Path, line: str) -> None:
    """What a record leaves of its row is said by its kind."""
    source = write_jsonl(tmp_path / "d.jsonl", UNUSED[line])
    options = ("--dataset-name", source, "--backend", "openai", "--model", "m", "--turns", "first")
    preview = json.loads(command("preview", *options, "--json").stdout)
    assert preview["lines"][-1] == f"not used: {line}"


def test_estimate_says_the_mapping(command: Command, tmp_path: Path) -> None:
    """The estimate has the lines about columns, turns and rows, too."""
    source = write_jsonl(tmp_path / "d.jsonl", ROWS)
    options = ("--dataset-name", source, "--backend", "openai", "--model", "m")
    shown = command("estimate", *options, "--sample-size", 0)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[1:4] == [
        "columns: tools ← tools, instruction, output, system and history ← turns of messages; "
        "not used: id",
        "sampled 4 of 5 rows",
        "left out: 1 rows without a question of the user",
    ]


def test_samples(command: Command, tmp_path: Path) -> None:
    """Several answers to a question are one request that is shown once, and a note."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "Who?"}, {"prompt": "Why?"}])
    options = ("--backend", "openai", "--model", "m", "--samples", 4, "--sample-size", 0)
    done = command("preview", "--dataset-name", source, *options, "--json")
    preview = json.loads(done.stdout)
    assert [one["body"]["messages"][0]["content"] for one in preview["requests"]] == [
        "Who?", "Why?",
    ]  # fmt: skip
    assert preview["notes"] == ["each request is sent 4 times, for --samples"]
