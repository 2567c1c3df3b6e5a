"""Augment: variants are read, never invented, asked for again where they are too few, answered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from backends.openai_batch.failpoints import FailPoint
from fastdatasets.commands import resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.runs.result import RunResult
from fastdatasets.stages.variants import distinct, parse_variants
from store import Unfinished, UserError
from store.runs import Mode
from tests.conftest import start as start_command
from tests.conftest import write_jsonl
from tests.llmserver import LLMServer, Reply, insufficient_quota
from tests.llmserver.settings import CHAT_PARAMETERS

pytestmark = pytest.mark.quick(1)  # of both backends

SAMPLES = [{"instruction": f"Describe item {n}", "input": "x" * (n % 2)} for n in range(4)]


def is_vary(body: dict[str, Any]) -> bool:
    """Whether a body asks for variants."""
    return "Output only a JSON array" in body["messages"][-1]["content"]


def original_of(body: dict[str, Any]) -> str:
    """The instruction that a request for variants is about."""
    content: str = body["messages"][-1]["content"]
    return content.split("Instruction: ")[1].split("\n", maxsplit=1)[0]


def teacher(body: dict[str, Any]) -> str:
    """Three variants, or an answer that repeats the prompt."""
    if is_vary(body):
        item = original_of(body).split()[-1]
        return json.dumps([f"Paint {item} blue", f"Why is {item} heavy?", f"Rhyme about {item}"])
    return f"A: {body['messages'][-1]['content']}"


@pytest.fixture(params=["openai", "openai-batch"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    """A teacher behind either backend."""
    with LLMServer(answer=teacher) as server:
        monkeypatch.setenv("LLM_API_KEY", "sk-test")
        monkeypatch.setenv("LLM_API_BASE", server.base_url)
        monkeypatch.setenv("FASTDATASETS_POLL_SECONDS", "0")
        monkeypatch.setenv("FASTDATASETS_ADOPT_GRACE_SECONDS", "0")
        monkeypatch.setenv("TEST_BACKEND", request.param)
        yield server


def run_config(num_aug: int = 3) -> RunConfig:
    """A run over the samples."""
    source = write_jsonl(Path("d.jsonl"), SAMPLES)  # type: ignore[arg-type]
    return RunConfig(
        mode=Mode.AUGMENT,
        high_quality_file=source,
        num_aug=num_aug,
        model="m",
        backend=os.environ["TEST_BACKEND"],
    )


def augment(num_aug: int = 3, **execution: Any) -> RunResult:
    """Make that run."""
    return start(run_config(num_aug), None, "r", ExecutionConfig(**execution))


def formats(server: LLMServer) -> list[str | None]:
    """The response formats of the requests that were executed."""
    bodies = [json.loads(body) for body in server.bill.executions]
    return [body.get("response_format", {}).get("type") for body in bodies]


def exported(name: str = "distilled.json") -> list[dict[str, Any]]:
    """The rows of a file of the run."""
    rows: list[dict[str, Any]] = json.loads(Path("output/r", name).read_text("utf-8"))
    return rows


def test_samples_and_variants_are_answered(server: LLMServer) -> None:
    """N samples with three variants each give 4 N rows that know their original."""
    assert augment().status.state == "done"
    rows = exported()
    assert len(rows) == 16
    assert rows[5] == {
        "instruction": "Paint 1 blue",
        "input": "x",
        "output": "A: Instruction: Paint 1 blue\n\nInput: x\n\n"
        "Write a suitable output for the instruction and input above.",
        "reasoning": "",
        "finish_reason": "stop",
        "model": "m",
        "source_row": 1,
        "original_instruction": "Describe item 1",
        "variant": 1,
    }
    assert [(row["source_row"], row["variant"]) for row in rows] == [
        (n, variant) for n in range(4) for variant in range(4)
    ]
    assert exported("distilled-alpaca.json")[5].keys() == {"instruction", "input", "output"}
    assert server.bill.twice() == []
    assert server.bill.total == 4 + 16


@pytest.mark.slow
def test_near_duplicates_are_asked_for_again(server: LLMServer) -> None:
    """Variants that repeat the original or each other are dropped, and asked for once more."""
    asked: list[str] = []

    def repetitive(body: dict[str, Any]) -> str:
        if not is_vary(body):
            return teacher(body)
        asked.append(body["messages"][-1]["content"])
        if "Paint" in asked[-1]:
            return teacher(body)
        item = original_of(body).split()[-1]
        return json.dumps([f"describe item {item}!", f"Paint {item} blue", f"Paint {item}, blue."])

    server.answer = repetitive
    outcome = augment()
    assert outcome.status.state == "done"
    assert [row["instruction"] for row in exported()[:4]] == [
        "Describe item 0",
        "Paint 0 blue",
        "Why is 0 heavy?",
        "Rhyme about 0",
    ]
    assert len(asked) == 8
    assert "Write 2 new instructions" in asked[-1]
    assert server.bill.twice() == []


@pytest.mark.slow
def test_what_cannot_be_parsed_is_never_invented(
    server: LLMServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """An answer without variants is asked for again, then reported; its text is kept."""
    server.answer = lambda body: "Sorry, no." if is_vary(body) else teacher(body)
    outcome = augment(max_attempts=2)
    assert outcome.status.state == "done"
    assert [row["variant"] for row in exported()] == [0, 0, 0, 0]
    assert "4 records have fewer than 3 variants: 12 missing" in capfd.readouterr().err
    with duckdb.connect("output/r/work.duckdb", read_only=True) as db:
        kept = db.execute(
            "SELECT check_name, reason, text FROM verdicts JOIN results USING (request_id)"
        ).fetchall()
    reason = "no variants could be read from the answer"
    assert kept == [("variants", reason, "Sorry, no.")] * 8


def test_refused_variants_are_failures(server: LLMServer) -> None:
    """A sample whose variants the server refuses is answered itself, and counted as failed."""
    refusal = Reply(status_code=400, error={"message": "No.", "code": "content_filter"})
    server.answer = lambda body: (
        refusal if is_vary(body) and "item 2" in str(body) else teacher(body)
    )
    outcome = augment()
    assert (outcome.status.requests.failed, outcome.status.state) == (1, "incomplete")
    assert len(exported()) == 13


@pytest.mark.slow
def test_resume_in_either_stage(server: LLMServer) -> None:
    """A death in the first stage, then one in the second: nothing is asked twice."""
    source = write_jsonl(Path("d.jsonl"), SAMPLES)  # type: ignore[arg-type]
    words = ("--high_quality_file", source, "--num_aug", 3, "--model", "m", "--run", "r")
    if os.environ["TEST_BACKEND"] == "openai-batch":
        points: list[str] = [FailPoint.COLLECTING, FailPoint.BATCH_SENT, FailPoint.COLLECTED]
    else:
        points = [""]
    for point in points:
        process = start_command(
            "augment", *words, "--backend", os.environ["TEST_BACKEND"],
            env={"FASTDATASETS_FAILPOINT": point},
        )  # fmt: skip
        process.communicate()
    outcome = resume("r", None, ExecutionConfig(), retry_failed=False)
    assert outcome is not None
    assert outcome.status.state == "done"
    server.settle()
    assert (len(exported()), server.bill.twice(), server.bill.total) == (16, [], 20)


@pytest.mark.slow
def test_server_that_can_force_a_schema(server: LLMServer) -> None:
    """With --json-schema a server is told the schema of variants, and none of answers."""
    words = ("augment", "--high-quality-file", write_jsonl(Path("d.jsonl"), SAMPLES))  # type: ignore[arg-type]
    server.answer = lambda body: (
        json.dumps({"steps": ["Think"], "variations": json.loads(str(teacher(body)))})
        if is_vary(body)
        else teacher(body)
    )
    process = start_command(
        *words, "--model", "m", "--run", "r", "--json-schema",
        "--backend", os.environ["TEST_BACKEND"],
    )  # fmt: skip
    assert process.communicate()[1].count("Unknown") == 0
    assert (process.returncode, len(exported())) == (0, 16)
    assert formats(server) == ["json_schema"] * 4 + [None] * 16


@pytest.mark.slow
def test_vllms_own_server(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """By its list of models it is known to force a schema, also at a resume; a user may forbid."""
    server.models, server.owned_by = ["m"], "vllm"
    server.faults.append(insufficient_quota())
    with pytest.raises(Unfinished):
        augment()
    server.faults.clear()
    outcome = resume("r", None, ExecutionConfig())
    assert outcome is not None
    assert outcome.status.state == "done"
    reported = f"{server.base_url} is a vLLM server: requests for variants have a JSON schema"
    assert reported in capfd.readouterr().err
    assert formats(server) == ["json_schema"] * 4 + [None] * 16
    start(run_config(num_aug=2), None, "s", ExecutionConfig(json_schema=False))
    assert formats(server)[20:] == [None] * 4  # the answers are those of the other run
    assert reported not in capfd.readouterr().err


def test_models_of_another_server(server: LLMServer) -> None:
    """A server that lists another model as vLLM's is told no schema."""
    server.models, server.owned_by = ["m", "other"], "llmserver"
    augment()
    assert formats(server) == [None] * 20


def test_server_that_knows_no_schema(server: LLMServer) -> None:
    """One that refuses the schema stops the run, which goes on without."""
    server.parameters = CHAT_PARAMETERS - {"response_format"}
    with pytest.raises(Unfinished, match=r"Resume with --no-json-schema$"):
        augment(json_schema=True)
    outcome = resume("r", None, ExecutionConfig(json_schema=False, max_attempts=1))
    assert outcome is not None
    assert (outcome.status.state, server.bill.total) == ("done", 20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', ["a", "b"]),
        ('Sure! Here they are:\n["a", "b"]\nEnjoy.', ["a", "b"]),
        ('```json\n["a", "b"]\n```', ["a", "b"]),
        ('{"variations": ["a", "b"]}', ["a", "b"]),
        ('{"note": "x", "variations": [{"instruction": "a"}, {"question": "b"}]}', ["a", "b"]),
        ('<think>I [must] think</think>["a", "b"]', ["a", "b"]),
        ("1. a\n2. b", ["a", "b"]),
        ('Here:\n1) "a",\n2) "b"', ["a", "b"]),
        ("- a\n- b", ["a", "b"]),
        ("1、甲\n2、乙", ["甲", "乙"]),
        ('["a", "b",]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b", "half of', ["a", "b"]),
        ('["only half of', None),
        ("Sorry, I cannot.", None),
        ("", None),
        ("[]", None),
        ("[1, 2]", None),
        ("42", None),
    ],
)
def test_parse_variants(text: str, expected: list[str] | None) -> None:
    """Variants are found however the teacher wraps them, and nowhere else."""
    assert parse_variants(text) == expected


ENGLISH = """Sure! Here are 3 [new] instructions:

1. Write a haiku about rain.
2. Explain [briefly] why the sky is "blue".
3. Convert ["a", "b"] into a string: ["a"]

Let me know if you need more."""
CHINESE = """好的，以下是 3 条[全新]指令：

1. 写一首关于雨的诗。
2. 解释[简短]天空为什么是蓝色的。

希望对你有帮助！"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ENGLISH,
            [
                "Write a haiku about rain.",
                'Explain [briefly] why the sky is "blue".',
                'Convert ["a", "b"] into a string: ["a"]',
            ],
        ),
        (CHINESE, ["写一首关于雨的诗。", "解释[简短]天空为什么是蓝色的。"]),
        ('{"reasoning": ["First", "Second"], "variations": ["a", "b"]}', ["a", "b"]),
        ('{"reasoning": ["First", "Second"], "variations": ["a", "b", "hal', ["a", "b"]),
        ('{"reasoning": ["First", "Sec', None),
        ('{"思考": ["先想"], "指令": ["甲", "乙"]}', ["甲", "乙"]),
        ('{"result": {"steps": ["x"], "questions": ["a", "b"]}}', ["a", "b"]),
        ('{"error": "not allowed", "suggestions": ["Ask for a poem", "Ask a doctor"]}', None),
        ('Kinds: ["poem", "song"]\n```json\n{"variations": ["a", "b"]}\n```', ["a", "b"]),
        ('Kinds I thought of: ["poem", "song"]\n\n["a", "b"]', ["a", "b"]),
        ('[{"reasoning": "why", "instruction": "a"}, {"instruction": "b"}]', ["a", "b"]),
        ('[{"指令": "甲"}, {"指令": "乙"}]', ["甲", "乙"]),
        ('["Write:\n- a poem\n- a song", "b"]', ["Write:\n- a poem\n- a song", "b"]),
        ("Analysis:\n- short\n- polite\n\nInstructions:\n1. a\n2. b", ["a", "b"]),
        ("1. Read it\n2. Vary it\n\nNew instructions:\n1. a\n2. b", ["a", "b"]),
        ("1. a\n   - in short\n   - politely\n2. b\n   - at length", ["a", "b"]),
        ("1. a\n\nThis one is harder.\n\n2. b\n\nThis one is easier.", ["a", "b"]),
        ("1. a\n1. b\n1. c", ["a", "b", "c"]),
        ("**1. Write a poem**\n**2.** Write *one* song", ["Write a poem", "Write *one* song"]),
        ("**Instruction 1:** a\n**Instruction 2:** b", ["a", "b"]),
        ("指令1：甲\n指令2：乙", ["甲", "乙"]),
        ("（1）甲\n（2）乙", ["甲", "乙"]),
        ("① 甲\n② 乙", ["甲", "乙"]),
        ("1. “甲”\n2. “乙”", ["甲", "乙"]),
        ("- a\n- b\n---\n", ["a", "b"]),
        ("Think of:\n- tone\n- length\nThen:\n- a\n- b", None),
        ("1.5 million people live there.", None),
        ("I'm sorry, but I can't help with that. You could:\n- Ask a doctor\n- Call 112", None),
        ("I cannot write such instructions because they are:\n1. Harmful\n2. Illegal", None),
        ("Thank you for asking. I’m unable to provide these. Instead:\n- Ask me for a poem", None),
        ("抱歉，我无法提供这类指令，原因如下：\n1. 涉及隐私\n2. 违反规定", None),
        ("作为一个AI语言模型，我不能生成此类内容。您可以：\n- 咨询律师\n- 报警", None),
        ("感谢提问。我无法协助此请求，建议：\n• 咨询医生", None),
        ('{"variations": ["I\'m sorry, but I can\'t assist with that."]}', None),
        ('["抱歉，我无法满足该请求。"]', None),
        (
            '["I cannot log in. What now?", "为无法提供收据的客户写一封邮件"]',
            ["I cannot log in. What now?", "为无法提供收据的客户写一封邮件"],
        ),
        ("[" * 100_000, None),
        ('{"a":' * 20_000, None),
        ('["' * 20_000, None),
    ],
)
def test_answers_of_teachers(text: str, expected: list[str] | None) -> None:
    """Only instructions are taken: no word in brackets, no reasoning, nothing of a refusal."""
    assert parse_variants(text) == expected


def test_distinct() -> None:
    """Near-duplicates of taken ones and of each other go, in order, until enough are kept."""
    candidates = ["Write a poem.", "write a poem!", "Write a song", "Sing", "More"]
    assert distinct(candidates, ["Write  a SONG"], 2) == (["Write a poem.", "Sing"], 2)


@pytest.mark.parametrize(
    ("content", "num_aug", "message"),
    [
        ('{"instruction": "a"}\n', 0, "--num-aug 0: at least 1 variant is expected"),
        ('{"instruction": "a"}\n{"instruction": "", "input": "b"}\n', 1, "the sample in row 2 has"),
        ('{"instruction": }\n', 1, "is not valid JSON: line 1"),
        ("", 1, "no objects in it"),
    ],
)
def test_users_errors(tmp_path: Path, content: str, num_aug: int, message: str) -> None:
    """A file that cannot be augmented is said, with the place, and leaves no run."""
    path = tmp_path / "d.jsonl"
    path.write_text(content)
    run_config = RunConfig(mode=Mode.AUGMENT, high_quality_file=path, num_aug=num_aug, model="m")
    with pytest.raises(UserError, match=message):
        start(run_config, None, "r", ExecutionConfig())
    assert not Path("output/r").exists()
