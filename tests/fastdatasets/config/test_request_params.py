"""What the user adds to requests: parameters, thinking, a system prompt, headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.openai_api.providers import GENERIC, PROVIDERS, dialect_of
from backends.reasoning import has_switch
from fastdatasets.commands import start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from store.runs import Mode
from tests.conftest import Command, write_jsonl
from tests.llmserver import LLMServer, Reply
from tests.llmserver.settings import CHAT_PARAMETERS

BACKENDS = ("openai", "openai-batch")
DISTILL = ("distill", "--dataset-name", "d.jsonl", "--sample-size", 0, "--model", "m", "--run")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


@pytest.fixture(autouse=True)
def _source() -> None:
    write_jsonl(Path("d.jsonl"), [{"prompt": "Why?"}])


def bodies(server: LLMServer) -> list[dict[str, Any]]:
    """The bodies that were executed."""
    return [json.loads(body) for body in server.bill.executions]


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_reach_the_server(server: LLMServer, command: Command, backend: str) -> None:
    """Standard keys, and those that only this server knows, are sent as they were given."""
    server.parameters = CHAT_PARAMETERS | {"top_k", "chat_template_kwargs"}
    Path("system.txt").write_text("Be brief.\n", "utf-8")
    run = command(
        *DISTILL, "r", "--backend", backend, "--system-prompt", "@system.txt",
        "--temperature", 0.5, "--top-p", 0.9, "--param", "seed=7", "--param", "top_k=40",
        "--param", "reasoning_effort=low", "--param", 'stop=["a", "="]',
        "--param", "service_tier=flex", "--param", f"response_format={json.dumps(SCHEMA)}",
        "--param", 'chat_template_kwargs={"enable_thinking": false}',
        env={"LLM_TEMPERATURE": "1", "SYSTEM_PROMPT": "Be long."},
    )  # fmt: skip
    assert (run.returncode, bodies(server)) == (
        0,
        [
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Why?"},
                ],
                "max_tokens": 4096,
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 7,
                "top_k": 40,
                "reasoning_effort": "low",
                "stop": ["a", "="],
                "service_tier": "flex",
                "response_format": SCHEMA,
                "chat_template_kwargs": {"enable_thinking": False},
            }
        ],
    )


@pytest.mark.slow
def test_parameters_are_part_of_the_run(server: LLMServer, command: Command) -> None:
    """A run is not continued with others, and answers to requests with others are not reused."""
    assert command(*DISTILL, "r", "--param", "seed=7").returncode == 0
    again = command(*DISTILL, "r", "--param", "seed=8")
    assert (again.returncode, again.stderr) == (
        1,
        "fastdatasets: run r already exists with another params ({'max_tokens': 4096, 'seed': 7}, "
        "now {'max_tokens': 4096, 'seed': 8}): continue it as it is with 'fastdatasets resume "
        "output/r', or choose another --run name\n",
    )
    for name, seed in (("same", 7), ("other", 8)):
        reuse = ("--param", f"seed={seed}", "--reuse", "r")
        assert command(*DISTILL, name, *reuse).returncode == 0
    assert [body["seed"] for body in bodies(server)] == [7, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--param", "seed"], "--param seed: KEY=VALUE is expected"),
        (["--param", "max_tokens=9"], "--param max_tokens: the limit of an answer is --max-output"),
        (["--param", "model=x"], "--param model: the teacher is --model"),
        (["--param", "temperature=1"], "--param temperature: it is --temperature"),
        (["--param", "n=2"], "--param n: one answer is stored for each request"),
        (["--param", "seed=1", "--param", "seed=2"], "--param seed is given twice"),
        (
            ["--param", 'stop=["a'],
            "--param stop: its value is no valid JSON: Input data was trunca",
        ),
        (["--param", "response_format=json"], "--param response_format: a JSON object is expected"),
        (["--top-p", "0"], "--top-p 0.0: a number above 0, at most 1, is expected"),
        (["--temperature", "nan"], "--temperature nan: a number from 0 is expected"),
        (["--system-prompt", "@no.txt"], "cannot read the system prompt no.txt: [Errno 2]"),
        (["--header", "X=@no"], "cannot read the value of --header X no: [Errno 2]"),
        (["--header", "X=@/dev/null"], "--header X: its value is empty or not printable ASCII"),
        (["--header", "X-Team"], "--header X-Team: NAME=VALUE is expected"),
        (["--header", "X-Team=ü"], "--header X-Team: its value is empty or not printable ASCII"),
        (["--header", "Authorization=Bearer x"], "--header Authorization: the key is LLM_API_KEY"),
        (["--header", "Host=x"], "--header Host is set by the HTTP client"),
    ],
)
def test_users_errors(
    server: LLMServer, command: Command, arguments: list[str], message: str
) -> None:
    """What cannot be sent is an error in one line, before there is a run."""
    run = command(*DISTILL, "r", *arguments)
    assert (run.returncode, run.stderr.count("\n"), Path("output").exists()) == (1, 1, False)
    assert run.stderr.startswith(f"fastdatasets: {message}")
    assert server.requests_log == []


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_headers_are_sent_and_not_stored(server: LLMServer, command: Command, backend: str) -> None:
    """Every call has them; a server that repeats one shows ***, a resume reads them from a file."""
    server.headers = {"X-Team": "secret-of-the-team"}
    wrong = command(*DISTILL, "r", "--backend", backend, "--header", "X-Team=another-secret")
    assert (wrong.returncode, "X-Team: *** is not" in wrong.stderr) == (3, True)
    Path("team").write_text("secret-of-the-team\n", "utf-8")
    named = ("--header", "X-Team=@team")
    assert command("resume", "r", *named).returncode == 0
    assert {call.status for call in server.requests_log[-2:]} == {200}
    stored = b"".join(path.read_bytes() for path in Path("output/r").iterdir() if path.is_file())
    assert [secret in stored for secret in (b"another-secret", b"secret-of-the-team")] == [
        False,
        False,
    ]


def test_headers_are_for_servers(command: Command) -> None:
    """The local engine takes none."""
    run = command(*DISTILL, "r", "--backend", "vllm", "--header", "X-Team=x")
    assert (run.returncode, run.stderr) == (
        1,
        "fastdatasets: --header is for calls to a server, and vllm makes none\n",
    )


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_thinking_at_a_server_of_vllm(server: LLMServer, command: Command, backend: str) -> None:
    """A server whose list of models says vllm gets the variables of chat templates."""
    server.parameters, server.models = CHAT_PARAMETERS | {"chat_template_kwargs"}, ["m"]
    server.owned_by = "vllm"
    own = ("--param", 'chat_template_kwargs={"a": 1}')
    assert command(*DISTILL, "r", "--backend", backend, "--no-think", *own).returncode == 0
    assert [body["chat_template_kwargs"] for body in bodies(server)] == [
        {"enable_thinking": False, "thinking": False, "a": 1}
    ]


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_thinking_at_an_unknown_server(server: LLMServer, command: Command, backend: str) -> None:
    """Elsewhere --think is an error with advice, and leaves no run."""
    run = command(*DISTILL, "r", "--backend", backend, "--think")
    assert (run.returncode, run.stderr.splitlines()[-1], server.bill.total) == (
        1,
        f"fastdatasets: --think: how {server.base_url} turns thinking on and off is not known. "
        "Start a run with the server's own parameter, such as --param reasoning_effort=low",
        0,
    )
    assert not Path("output/r").exists()


def test_thinking_by_provider() -> None:
    """Each provider of the table has its own key, or none that fits all of its models."""
    switches = {
        provider.name: dialect_of("m", provider).body({"think": False})
        for provider in (*PROVIDERS, GENERIC)
    }
    disabled = {"thinking": {"type": "disabled"}}
    assert {name: body for name, body in switches.items() if body} == {
        "dashscope": {"enable_thinking": False},
        "siliconflow": {"enable_thinking": False},
        "deepseek": disabled,
        "zhipu": disabled,
        "moonshot": disabled,
        "volcengine": disabled,
        "openrouter": {"reasoning": {"enabled": False}},
    }


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{%- if enable_thinking is defined and not enable_thinking %}", True),
        ("{% if not thinking %}", True),
        ("{% if message.thinking %}{{ 'thinking' }} thinking", False),
        ("{% if m['enable_thinking'] %}", False),
    ],
)
def test_switch_in_a_chat_template(template: str, expected: bool) -> None:
    """A template that asks for one of the variables can turn thinking on and off."""
    assert has_switch(template) is expected


def test_form_of_answers_is_not_that_of_variants(server: LLMServer) -> None:
    """An augment's response_format goes with answers only."""
    server.answer = lambda body: '["Who?"]' if "JSON array" in str(body) else "{}"
    config = RunConfig(
        mode=Mode.AUGMENT,
        high_quality_file=Path("d.jsonl"),
        num_aug=1,
        model="m",
        param=[f"response_format={json.dumps(SCHEMA)}"],
    )
    assert start(config, None, "r", ExecutionConfig()).status.state == "done"
    assert ["response_format" in body for body in bodies(server)] == [False, True, True]


@pytest.mark.quick(1)
@pytest.mark.parametrize("backend", BACKENDS)
def test_large_schema_is_part_of_the_prompt(server: LLMServer, backend: str) -> None:
    """Prompt tokens that a server counts for a schema are possible, and are billed as reported."""
    schema = {"type": "object", "description": "x" * 5000}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    usage = {"prompt_tokens": 1300, "completion_tokens": 1, "total_tokens": 1301}
    server.answer = lambda _: Reply("{}", reported=usage)
    config = RunConfig(
        dataset_name="d.jsonl",
        sample_size=0,
        model="m",
        backend=backend,
        param=[f"response_format={json.dumps(form)}"],
    )
    status = start(config, None, "r", ExecutionConfig(price_in="1", price_out="1")).status
    assert (status.tokens.prompt, str(status.cost.spent)) == (1300, "0.001301")


def test_cancel_takes_headers(server: LLMServer, command: Command) -> None:
    """A batch behind a gateway is cancelled with the gateway's header, and not without."""
    server.headers, server.looks = {"X-Team": "secret-of-the-team"}, None
    named = ("--header", "X-Team=secret-of-the-team")
    batch = ("--backend", "openai-batch", "--no-wait")
    assert command(*DISTILL, "r", *batch, *named).returncode == 3
    assert command("cancel", "r").returncode == 3
    assert [one.status for one in server.batches.values()] == ["validating"]
    server.looks = 1
    command("cancel", "r", *named)
    assert [one.status for one in server.batches.values()] == ["cancelled"]
