"""`make demo`: distill a real sample with a small real model, on any machine."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from backends.registry import LOCAL
from backends.vllm.demo_model import DEMO_MODEL
from fastdatasets.commands import start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.run import RunConfig
from fastdatasets.terminal import open_standard_files, readable
from store import FastDatasetsError, UserError

RECORDS = 24
MAX_TOKENS = 320  # most answers end before, and the demo in a minute


def demo_dataset() -> Path:
    """503 questions and answers on building permits (CC BY 4.0), out of an installed package."""
    package = find_spec("zaragoza_construction_faq")
    if package is None or package.origin is None:
        raise UserError(
            "the demo's dataset comes with the extra 'demo': "
            "make install, or pip install 'fastdatasets-distill[demo]'"
        )
    return Path(package.origin).parent / "data" / "faq-en-alpaca.jsonl"


def demo() -> Path:
    """Distill, then show where the files are and the first answer; returns the run's folder."""
    began = time.monotonic()
    run_config = RunConfig(
        dataset_name=str(demo_dataset()),
        sample_size=RECORDS,
        max_output_tokens=MAX_TOKENS,
        backend=LOCAL.name,
        model=DEMO_MODEL,
    )
    outcome = start(run_config, None, None, ExecutionConfig())
    print(readable("\n".join(map(str, outcome.exported))))
    outcome.raise_if_left()
    rows = json.loads((outcome.folder.path / "distilled.json").read_text("utf-8"))
    print(
        f"\n{len(rows)} answers in {time.monotonic() - began:.0f} s, loading included. The first:"
    )
    print(readable(f"  instruction: {rows[0]['instruction']}"))
    print(readable(f"  output: {rows[0]['output']}"))
    return outcome.folder.path


if __name__ == "__main__":
    open_standard_files()
    try:
        demo()
    except FastDatasetsError as error:
        print(readable(f"fastdatasets: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
