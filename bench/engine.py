"""The local engine against vLLM's own generate: the same requests with a long tail of lengths.

    python bench/engine.py

Three seeds of 192 requests (lengths lognormal, median 28, sigma 1.2, within 8 to 256 tokens) with
SmolLM2-135M, 32 sequences at once: LLM.generate over all, LLM.generate in chunks of 32, and our
backend with store and checkpoints, with lengths known (as the length of old outputs) and unknown.
A logits processor ends each answer at its length, so that no mode is told of it before.
Then 96 requests over 24 long system prompts, interleaved as sampled: through our backend in its
own order, and through LLM.generate as they stand, with a cache too small for all prompts.
Engine steps are exact; CPU seconds are of all processes. Writes bench/engine.json.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SEEDS = (1, 2, 3)
REQUESTS, AT_ONCE, MOST = 192, 32, 256
ENGINE = {
    "max_num_seqs": AT_ONCE,
    "max_model_len": 2048,
    "kv_cache_memory_bytes": 1 << 30,
    "logits_processors": ["bench.stop_after:StopAfter"],
}
# 24 prompts of about 400 tokens, and room for fewer of them
PREFIX_ENGINE = {"max_num_seqs": 16, "max_model_len": 1024, "kv_cache_memory_bytes": 160_000_000}
PREFIXES, QUESTIONS = 24, 4
Load = list[tuple[str | None, str, int]]  # system prompt, prompt, length of the answer


def long_tail(seed: int) -> Load:
    """Requests with a long tail of lengths."""
    dice = random.Random(seed)
    lengths = [
        max(8, min(MOST, round(28 * 2.718281828 ** dice.gauss(0, 1.2)))) for _ in range(REQUESTS)
    ]
    return [(None, f"Tell me about the number {n}.", length) for n, length in enumerate(lengths)]


def shared_prefixes() -> Load:
    """Questions about long documents, interleaved."""
    dice = random.Random(0)
    words = ("permit", "wall", "roof", "deadline", "fee", "architect", "plan", "city", "form")
    documents = [" ".join(dice.choices(words, k=380)) for _ in range(PREFIXES)]
    return [
        (d, f"Question {n}: what is it about?", 16) for n in range(QUESTIONS) for d in documents
    ]


def messages(system: str | None, prompt: str, length: int) -> list[dict[str, str]]:
    """The chat of a request, which says how long its answer is to be."""
    turn = [{"role": "user", "content": f"{prompt} [{length:03}]"}]
    return turn if system is None else [{"role": "system", "content": system}, *turn]


PARAMS = {"max_tokens": MOST, "temperature": 0.0}


def ours(load: Load, *, known: bool, engine_args: dict[str, Any]) -> dict[str, float]:
    """Our backend over a work store; known: the records have old outputs of those lengths."""
    from backends.vllm.backend import EngineOptions, VllmBackend
    from fastdatasets.config.new_run import new_run
    from fastdatasets.config.run import RunConfig
    from fastdatasets.config.settings import load_settings
    from fastdatasets.runs.folders import open_run
    from store import RunFolder
    from store.planning import PlannedRequest, canonical
    from store.status import Status

    class Marks:
        """Progress that notes when answers were in the store."""

        def __init__(self) -> None:
            self.stored: list[tuple[float, int]] = []

        def say(self, line: str) -> None:
            """Say nothing."""

        def update(self, store: Any) -> None:
            """Count."""
            status: Status = store.status("bench", 3)
            self.stored.append((time.perf_counter(), status.requests.done))

    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "d.jsonl")
        source.write_text('{"prompt": "x"}\n')
        run_config = RunConfig(dataset_name=str(source), backend="vllm")
        run = new_run(run_config, load_settings())
        with open_run(RunFolder(Path(temporary)), run) as store:
            warm = [(None, f"Warm {n}", 4) for n in range(4)]
            for first, part in ((0, warm), (len(warm), load)):
                for n, (_, prompt, length) in enumerate(part, first):
                    store.connection.execute(
                        "INSERT INTO records BY NAME SELECT $n AS record, 0 AS source, "
                        "$n AS source_row, $prompt AS instruction, '' AS input, "
                        "$old AS original_output, '' AS reasoning",
                        {"n": n, "prompt": prompt, "old": "x" * 3 * length if known else ""},
                    )
                asks = [
                    PlannedRequest(
                        n,
                        0,
                        0,
                        canonical({"model": "m", **PARAMS}),
                        canonical(messages(system, prompt, length)),
                    )
                    for n, (system, prompt, length) in enumerate(part, first)
                ]
                if first == 0:
                    store.planning.add("answer", asks)
                    backend = VllmBackend(
                        EngineOptions(
                            model="SmolLM2-135M-Instruct",
                            engine_args=engine_args,
                            lora=None,
                            max_attempts=3,
                            log=Path(os.environ.get("BENCH_LOG", os.devnull)),
                        )
                    )
                    backend.work(store, Marks())
                else:
                    before = backend.timings[-1]
                    marks = Marks()
                    store.planning.add("answer", asks)
                    began, cpu = time.perf_counter(), time.process_time()
                    backend.work(store, marks)
                    wall = time.perf_counter() - began
                    cpu = time.process_time() - cpu
            after = backend.timings[-1]
            backend.close()
            status = store.status("bench", 3)
            assert status.requests.done == len(load) + len(warm), status
    done = [(at - began, count - len(warm)) for at, count in marks.stored]
    return {
        "steps": after.steps - before.steps,
        "cpu": cpu + after.cpu_seconds - before.cpu_seconds,
        "wall": wall,
        "first": next(at for at, count in done if count > 0),
        "half": next(at for at, count in done if count >= len(load) / 2),
        "overhead": 1
        - (after.busy_seconds - before.busy_seconds) / (after.loop_seconds - before.loop_seconds),
    }


def theirs(loads: list[tuple[Load, int]], engine_args: dict[str, Any]) -> None:
    """LLM.generate over each load in chunks of that size; prints figures as JSON, a line each."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_LOGGING_STREAM"] = "ext://sys.stderr"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    from vllm import LLM, SamplingParams

    from backends.vllm.demo_model import demo_model

    llm = LLM(str(demo_model(print)), enforce_eager=True, **engine_args)
    step = llm.llm_engine.step
    steps = 0

    def counted() -> Any:
        nonlocal steps
        steps += 1
        return step()

    llm.llm_engine.step = counted
    tokenizer = llm.get_tokenizer()

    def generate(part: Load) -> None:
        prompts = [
            tokenizer.apply_chat_template(
                messages(system, prompt, length), tokenize=False, add_generation_prompt=True
            )
            for system, prompt, length in part
        ]
        chosen = [SamplingParams(**PARAMS) for _ in part]
        answers = llm.generate(prompts, chosen, use_tqdm=False)
        assert len(answers) == len(part)

    generate([(None, f"Warm {n}", 4) for n in range(4)])
    for load, chunk in loads:
        steps = 0
        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(load), chunk):
            generate(load[start : start + chunk])
        figures = {
            "steps": steps,
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - began,
        }
        print(json.dumps(figures), flush=True)


def in_process(which: str) -> list[dict[str, float]]:
    """Run one side in a process of its own, so that neither leaves anything to the other."""
    command = [sys.executable, str(Path(__file__)), which]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENCH_LOG": "/dev/null"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def one_side(which: str) -> None:
    """What a process of its own does."""
    if which == "generate":
        loads = [(long_tail(seed), chunk) for seed in SEEDS for chunk in (REQUESTS, AT_ONCE)]
        theirs(loads, ENGINE)
    elif which == "generate-prefix":
        theirs([(shared_prefixes(), PREFIXES * QUESTIONS)], ENGINE | PREFIX_ENGINE)
    elif which == "prefix":
        print(json.dumps(ours(shared_prefixes(), known=False, engine_args=ENGINE | PREFIX_ENGINE)))
    else:
        for seed in SEEDS:
            known = ours(long_tail(seed), known=which == "known", engine_args=ENGINE)
            print(json.dumps(known), flush=True)


def main() -> None:
    """Run all sides, print and write the figures."""
    both = in_process("generate")
    generate, chunks = both[::2], both[1::2]
    known, unknown = in_process("known"), in_process("unknown")
    (prefix,), (prefix_generate,) = in_process("prefix"), in_process("generate-prefix")

    def ratio(ours: list[dict[str, float]], what: str) -> float:
        return statistics.median(a[what] / b[what] for a, b in zip(ours, generate, strict=True))

    figures = {
        "seeds": list(SEEDS),
        "requests": REQUESTS,
        "steps_ratio_known": ratio(known, "steps"),
        "steps_ratio_unknown": ratio(unknown, "steps"),
        "cpu_ratio_known": ratio(known, "cpu"),
        "cpu_ratio_unknown": ratio(unknown, "cpu"),
        "wall_ratio_known": ratio(known, "wall"),
        "wall_ratio_unknown": ratio(unknown, "wall"),
        "chunked_steps_ratio": ratio(chunks, "steps"),
        "chunked_cpu_ratio": ratio(chunks, "cpu"),
        "checkpoint_overhead": max(one["overhead"] for one in known + unknown),
        "first_stored_share": statistics.median(one["first"] / one["wall"] for one in unknown),
        "half_stored_share": statistics.median(one["half"] / one["wall"] for one in unknown),
        "prefix_cpu_ratio": prefix["cpu"] / prefix_generate["cpu"],
        "raw": {
            "generate": generate,
            "chunks": chunks,
            "known": known,
            "unknown": unknown,
            "prefix": [prefix, prefix_generate],
        },
    }
    (ROOT / "bench/engine.json").write_text(json.dumps(figures, indent=2) + "\n")
    for name, value in figures.items():
        if name != "raw":
            print(f"{name:<22} {value if not isinstance(value, float) else round(value, 4)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_side(sys.argv[1])
    else:
        main()
