"""Pushing a run's files to the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command, write_jsonl
from tests.hub import Hub

RUN = Path("output/r")


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize("private", [False, True])
def test_push(command: Command, command_process: Command, tmp_path: Path, private: bool) -> None:
    """A push that fails at its end sends no content twice when it is repeated."""
    rows: list[dict[str, object]] = [{"instruction": f"{n}", "output": "x" * 99} for n in range(99)]
    write_jsonl(Path("d.jsonl"), rows)
    copied = ("--backend", "openai", "--model", "m", "--skip-generation", "--sample-size", "0")
    made = command("distill", "--dataset-name", "d.jsonl", "--run", "r", *copied)
    assert made.returncode == 0
    push = ("push", "r", "me/answers", *(["--private"] if private else []))
    with Hub(failing_commits=1) as hub:
        env = hub.env(tmp_path / "home", HF_TOKEN="hf_x", HF_HUB_DISABLE_XET="1")
        failed = command_process(*push, env=env)
        assert (failed.returncode, len(hub.uploaded)) == (1, 3)
        assert failed.stderr.splitlines()[-1].startswith(
            "fastdatasets: cannot push to me/answers: "
        )
        done = command_process(*push, env=env)
        assert (done.returncode, done.stdout) == (0, f"{hub.address}/datasets/me/answers\n")
        names = [*(path.name for path in RUN.glob("distilled*")), "README.md", "dataset_info.json"]
        files = hub.repositories["me/answers"].files
        assert {name: files[name] for name in names} == dict(files)
        assert {name: (RUN / name).read_bytes() for name in names} == files
        assert sum(call.startswith("PUT /lfs/") for call in hub.calls) == 3
        assert hub.created == {"me/answers": private}
