"""Live throughput against a bare AsyncOpenAI loop: the same questions, server and run, in turn.

    python bench/live.py [rounds]

The server (tests/llmserver) runs in a process of its own and answers after 200 ms; 64 requests are
in flight. Prints requests a second of both and their ratio, and writes bench/live.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REQUESTS, CONCURRENCY, LATENCY = 6000, 64, 0.2
ROOT = Path(__file__).parents[1]


async def bare(base_url: str, prompts: list[str]) -> float:
    """Requests a second of the loop that everybody writes."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def ask(prompt: str) -> str | None:
        async with slots:
            messages = [{"role": "user", "content": prompt}]
            answer = await client.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
            return answer.choices[0].message.content

    began = time.perf_counter()
    await asyncio.gather(*map(ask, prompts))
    seconds = time.perf_counter() - began
    await client.close()
    return len(prompts) / seconds


def ours(folder: Path) -> float:
    """Requests a second between the first and the last answer stored, flushes included."""
    import duckdb

    from fastdatasets import distill

    name = f"bench-{time.time_ns()}"
    source = str(folder / "d.jsonl")
    began = time.perf_counter()
    distill(source, sample_size=0, backend="openai", model="m", run=name, output_dir=folder)
    seconds = time.perf_counter() - began
    with duckdb.connect(str(folder / name / "work.duckdb"), read_only=True) as store:
        rows = store.execute("SELECT count(*) FROM results").fetchall()
    assert rows == [(REQUESTS,)]
    return REQUESTS / seconds


def main() -> None:
    """Alternate both and print the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    prompts = [f"Question {number}" for number in range(REQUESTS)]
    command = [sys.executable, "-m", "tests.llmserver", "--port", "0", "--latency", str(LATENCY)]
    with (
        tempfile.TemporaryDirectory() as temporary,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server,
    ):
        folder = Path(temporary)
        (folder / "d.jsonl").write_text(
            "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        )
        assert server.stdout is not None
        base_url = server.stdout.readline().strip()
        os.environ |= {
            "LLM_API_KEY": "sk-test",
            "LLM_API_BASE": base_url,
            "MAX_LLM_CONCURRENCY": str(CONCURRENCY),
        }
        pairs = [(ours(folder), asyncio.run(bare(base_url, prompts))) for _ in range(rounds)]
        server.terminate()
        server.communicate()
    figures = {
        "requests": REQUESTS,
        "possible_per_second": CONCURRENCY / LATENCY,
        "bare_per_second": statistics.median(b for _, b in pairs),
        "ours_per_second": statistics.median(o for o, _ in pairs),
        "ratio": statistics.median(o / b for o, b in pairs),
    }
    (ROOT / "bench/live.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
