"""Images of records: from the dataset to the server, and what they cost."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backends.openai_batch.failpoints import FailPoint
from tests.conftest import Command, write_jsonl
from tests.conftest import start as start_command
from tests.fastdatasets.images import data_url, image, png, text, user, written
from tests.llmserver import LLMServer, Reply, Usage

URL = "https://127.0.0.1/a.png"
TALK = [
    {"role": "user", "content": "<image>First?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "And <image>?"},
]
KEPT = f"images/{hashlib.sha256(png(9)).hexdigest()}.png"
ROWS: list[dict[str, object]] = [
    {"messages": [user(text("What?"), image(URL, detail="low"))]},
    {"messages": [user(image(data_url(png(9))), text("Data?"))]},
    {"messages": TALK, "images": ["pics/0.png", "pics/1.png"]},
    {"messages": [{"role": "user", "content": "None?"}]},
    {"messages": TALK[:1], "images": ["pics/none.png"]},
]
SENT: list[Any] = [
    [user(text("What?"), image(URL, detail="low"))],
    [user(image(data_url(png(9))), text("Data?"))],
    [user(image(data_url(png(0))), text("First?")), TALK[1],
     user(text("And "), image(data_url(png(1))), text("?"))],
    [{"role": "user", "content": "None?"}],
]  # fmt: skip


def options(backend: str, rows: list[dict[str, object]], *more: object) -> list[object]:
    """Options of a run of rows whose images are beside their file."""
    for shade in (0, 1):
        written(Path(f"data/pics/{shade}.png"), png(shade))
    source = write_jsonl(Path("data/d.jsonl"), rows)
    return [
        *("--dataset-name", source, "--sample-size", 0, "--backend", backend, "--images"),
        *("--model", "gpt-4.1", *more),
    ]


def sent(server: LLMServer) -> list[Any]:
    """The messages of all requests, which were executed once each."""
    assert server.bill.twice() == []
    return sorted((json.loads(body)["messages"] for body in server.bill.executions), key=str)


def exported(name: str) -> Any:
    """The rows of a file of the run r."""
    return json.loads(Path(f"output/r/{name}.json").read_text("utf-8"))


def test_images_are_sent(command: Command, server: LLMServer, backend: str) -> None:
    """Addresses, data URLs and files are parts of the request; a missing file is said."""
    done = command("distill", *options(backend, ROWS), "--run", "r")
    assert (done.returncode, sent(server)) == (0, sorted(SENT, key=str))
    assert done.stderr.splitlines()[2:5] == [
        "columns: images ← images, instruction, output, system and history ← turns of messages",
        "sampled 4 of 5 rows",
        "left out: 1 rows with an image file that cannot be read (row 5)",
    ]
    assert [path.read_bytes() for path in Path("output/r/images").iterdir()] == [png(9)]
    images = [[URL], [KEPT], ["pics/0.png", "pics/1.png"], []]
    for name in ("distilled", "distilled-alpaca", "distilled-sharegpt"):
        assert [row["images"] for row in exported(name)] == images


def test_preview_and_estimate(command: Command, server: LLMServer, backend: str) -> None:
    """Both are of the requests that are sent, and have the most tokens of the images."""
    given = options(backend, ROWS)
    preview = json.loads(command("preview", *given, "--json").stdout)
    shown = [(one["body"]["messages"], one["images"]) for one in preview["requests"]]
    assert shown == [(SENT[0], 1), (SENT[1], 1), (SENT[2], 2)]
    assert preview["image_tokens"] == 1536
    text = command("preview", *given).stdout
    assert f'"url": "{data_url(png(9))[:60]}… (114 characters)"' in text
    assert (
        "(9 prompt tokens, counted with o200k_base; and at most 1536 for each of 1 images)" in text
    )
    estimate = json.loads(command("estimate", *given, "--json").stdout)
    assert (estimate["images"], estimate["image_tokens"]) == (4, 4 * 1536)
    assert estimate["prompt_tokens"] == 48 + 4 * 1536
    assert server.requests_log == []
    unknown = command("estimate", *given, "--model", "m").stdout
    assert ", without 4 images, whose tokens are not known of m\n" in unknown


@pytest.mark.slow
@pytest.mark.parametrize("point", [FailPoint.PLANNED, FailPoint.UPLOADED, FailPoint.BATCH_SENT])
@pytest.mark.quick(1)
def test_resume_after_a_kill(command: Command, server: LLMServer, point: FailPoint) -> None:
    """A batch with images is sent once, whenever the command is killed."""
    words = ["distill", *options("openai-batch", ROWS), "--run", "r"]
    killed = start_command(*words, env={"FASTDATASETS_FAILPOINT": point.value})
    killed.communicate()
    assert killed.returncode == -9
    Path("output/r/jobs/00001.jsonl").unlink(missing_ok=True)  # it is written anew
    assert command("resume", "r").returncode == 0
    assert sent(server) == sorted(SENT, key=str)


def stopped_before_it_sends(command: Command, backend: str) -> subprocess.CompletedProcess[str]:
    """A run that is planned, and whose cap allows no request."""
    prices = ("--price-in", 1, "--price-out", 1, "--max-cost", "0.000001")
    return command("distill", *options(backend, ROWS, *prices), "--run", "r")


@pytest.mark.slow
def test_a_changed_file(command: Command, server: LLMServer, backend: str) -> None:
    """A request whose file has changed since fails and says so; the others go on."""
    assert stopped_before_it_sends(command, backend).returncode == 3
    written(Path("data/pics/1.png"), png(2))
    done = command("resume", "r", "--max-cost", 1)
    path = Path("data/pics/1.png").resolve()
    assert done.returncode == 3
    assert (
        f"the image {path} has changed since it was sampled; put it back, then resume with "
        "--retry-failed" in done.stderr
    )
    assert sent(server) == sorted(SENT[:2] + SENT[3:], key=str)
    written(path, png(1))
    assert command("resume", "r", "--retry-failed").returncode == 0
    assert sent(server) == sorted(SENT, key=str)


def test_a_line_that_is_too_large(command: Command, server: LLMServer) -> None:
    """A request that with its image is larger than a job file fails; the others go on."""
    rows = [*ROWS[:2], {"messages": TALK[:1], "images": ["big.png"]}]
    written(Path("data/big.png"), png(0, more=3000))
    env = {"FASTDATASETS_BATCH_MAX_BYTES": "2000"}
    done = command("distill", *options("openai-batch", rows), "--run", "r", env=env)
    assert (done.returncode, sent(server)) == (3, sorted(SENT[:2], key=str))
    assert "bytes, and a job file at most 2000: make its images smaller" in done.stderr


def test_the_cap_counts_images(command: Command, server: LLMServer, backend: str) -> None:
    """A request's maximum has that of its images, and a usage within it is accepted."""
    server.answer = lambda _: Reply("Yes.", usage=Usage(1500, 2))
    prices = ("--price-in", 1000, "--price-out", 1000, "--max-output-tokens", 10)
    given = [*options(backend, ROWS[:1], *prices), "--run", "r"]
    done = command("distill", *given, "--max-cost", 2)
    assert (done.returncode, server.bill.total) == (3, 0)
    assert command("resume", "r", "--max-cost", 3).returncode == 0
    spent = json.loads(command("status", "r", "--json").stdout)["cost"]["spent"]
    assert (server.bill.total, spent) == (1, 1.502)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--model", "m", "--price-in", 1, "--price-out", 1, "--max-cost", 1),
            "--max-cost with --images needs the most tokens of an image, and these are not known "
            "of m: leave --max-cost out and try a small --sample-size first",
        ),
        (
            ("--backend", "vllm"),
            "--images is for servers, and vllm takes texts alone: serve the model, as with "
            "'vllm serve', and set --backend openai and LLM_API_BASE",
        ),
    ],
)
def test_what_is_refused(
    command: Command, server: LLMServer, words: tuple[object, ...], message: str
) -> None:
    """No cap without a bound of an image, and no images to an engine that is given texts."""
    done = command("distill", *options("openai", ROWS), *words)
    assert (done.returncode, done.stderr) == (1, f"fastdatasets: {message}\n")
    assert server.requests_log == []


@pytest.mark.slow
def test_equal_images_are_one_request(command: Command, server: LLMServer, backend: str) -> None:
    """By their bytes, wherever these are; --reuse takes the answer, but not of a changed file."""
    written(Path("data/copy.png"), png(0))
    ask = {"role": "user", "content": "<image>Equal?"}
    rows: list[dict[str, object]] = [
        {"messages": [ask], "images": ["pics/0.png"]},
        {"messages": [ask], "images": ["copy.png"]},
        {"messages": [ask], "images": [data_url(png(0))]},
    ]
    assert command("distill", *options(backend, rows), "--run", "r").returncode == 0
    assert server.bill.total == 1
    assert len({row["output"] for row in exported("distilled")}) == 1
    written(Path("data/copy.png"), png(3))
    again = [*options(backend, rows), "--run", "again", "--reuse", "r"]
    assert command("distill", *again).returncode == 0
    equal, changed = ([user(image(data_url(png(shade))), text("Equal?"))] for shade in (0, 3))
    assert sent(server) == sorted([equal, changed], key=str)


def test_turn_after_turn(command: Command, server: LLMServer, backend: str) -> None:
    """With --turns all each question has the images up to it, and none of those after."""
    server.answer = lambda body: f"A {len(body['messages'])}"
    given = options(backend, [ROWS[2]], "--turns", "all", "--formats", "sharegpt")
    assert command("distill", *given, "--run", "r").returncode == 0
    first, last = SENT[2][0], SENT[2][2]
    answer = {"role": "assistant", "content": "A 1"}
    assert sent(server) == sorted([[first], [first, answer, last]], key=str)
    assert exported("distilled-sharegpt") == [
        {
            "conversations": [
                {"from": "human", "value": "<image>First?"},
                {"from": "assistant", "value": "A 1"},
                {"from": "human", "value": "And <image>?"},
                {"from": "assistant", "value": "A 3"},
            ],
            "images": ["pics/0.png", "pics/1.png"],
        }
    ]
