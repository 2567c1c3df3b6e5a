"""The command line: help, exit codes, errors in a line, and what the docs say of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fastdatasets.cli.app import app
from tests.conftest import Command, write_jsonl

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


def test_every_option_has_help_and_stands_in_the_readme() -> None:
    """Every command and option explains itself, and the README names it."""
    group = typer.main.get_command(app)
    missing = []
    for name, cmd in group.commands.items():  # type: ignore[attr-defined]
        if not cmd.help or f"fastdatasets {name}" not in README:
            missing.append(name)
        for parameter in cmd.params:
            flag = parameter.opts[0]
            if not parameter.help or (flag.startswith("--") and f"`{flag}" not in README):
                missing.append(f"{name} {flag}")
    assert missing == []


def test_help_imports_nothing_heavy() -> None:
    """--help answers without DuckDB, Arrow, datasets, openai or vLLM."""
    heavy = [
        "duckdb",
        "pyarrow",
        "datasets",
        "openai",
        "vllm",
        "torch",
        "transformers",
        "pydantic",
        "jinja2",
    ]
    code = (
        "import sys, fastdatasets.cli.app as cli\n"
        "sys.argv = ['fastdatasets', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_underscores_and_hyphens(command: Command, tmp_path: Path) -> None:
    """An option may be written as the guide writes it, with underscores."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a", "answer": "b"}])
    done = command(
        "distill", "--dataset_name", source, "--sample_size=1", "--skip_generation", "--run", "r"
    )
    assert (done.returncode, done.stdout) == (
        0,
        "output/r/distilled.json  (1 rows)\n"
        "output/r/distilled-alpaca.json  (1 rows)\n"
        "output/r/distilled-sharegpt.json  (1 rows)\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distill"], "name what to distill with either --dataset-name or --high-quality-file"),
        (["distill", "--dataset-name", "nope.json"], "no such file or folder: nope.json"),
        (["distill", "--bogus"], "No such option: --bogus (see --help)"),
        (["distill", "--dataset-name", "d.jsonl", "--formats", "xml"], "unknown format 'xml'"),
        (["distill", "--dataset-name", "d.jsonl", "--backend", "x"], "unknown backend 'x'"),
        (
            ["distill", "--dataset-name", "d.jsonl", "--sample-size", "-1"],
            "--sample-size -1: 0 or more is expected; 0 means all rows",
        ),
        (
            ["augment", "--high-quality-file", "d.jsonl", "--sample-size=-1"],
            "--sample-size -1: 0 or more is expected; 0 means all rows",
        ),
        (["distill", "--dataset-name", "d.jsonl", "--engine-arg", "x"], "KEY=VALUE is expected"),
        (["status"], "there is no run in output/ yet"),
        (["resume", "r"], "no run 'r', nor output/r; runs in output/: none"),
        (["export", "r"], "no run 'r', nor output/r; runs in output/: none"),
    ],
)
def test_users_errors(command: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    """A user's mistake is one line that says what to do, and exit 1; it leaves no run behind."""
    write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a"}])
    done = command(*arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert message in done.stderr
    assert not (tmp_path / "output").exists()


def test_failed_sampling_leaves_no_run(command: Command, tmp_path: Path) -> None:
    """A run whose source has no usable column is gone, so that its name can be used again."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"a": "x"}])
    done = command("distill", "--dataset-name", source, "--run", "r")
    assert done.returncode == 1
    assert list((tmp_path / "output").iterdir()) == []


def test_bad_setting(command: Command) -> None:
    """A setting that has no meaning is named."""
    done = command("status", env={"DEFAULT_SAMPLE_SIZE": "many"})
    assert (done.returncode, done.stderr) == (
        1,
        "fastdatasets: DEFAULT_SAMPLE_SIZE='many' in the environment or .env: Input should be a "
        "valid integer, unable to parse string as an integer\n",
    )


def test_sample_size_below_0(command: Command, tmp_path: Path) -> None:
    """A setting below 0 is the user's mistake where it would be used, and nowhere else."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a", "answer": "b"}])
    base = ("--dataset-name", source, "--skip-generation", "--run")
    env = {"DEFAULT_SAMPLE_SIZE": "-1"}
    done = command("distill", *base, "r", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "fastdatasets: DEFAULT_SAMPLE_SIZE -1: 0 or more is expected; 0 means all rows\n",
    )
    assert not (tmp_path / "output").exists()
    assert command("distill", *base, "r", "--sample-size", 0, env=env).returncode == 0


def test_settings_of_the_guide(command: Command, tmp_path: Path) -> None:
    """.env counts, the environment beats it, and a flag beats both."""
    source = write_jsonl(
        tmp_path / "d.jsonl", [{"prompt": str(n), "answer": str(n)} for n in range(9)]
    )
    (tmp_path / ".env").write_text("DEFAULT_SAMPLE_SIZE=5\nOUTPUT_FORMATS=alpaca\nLANGUAGE=zh\n")
    base = ("distill", "--dataset-name", source, "--skip-generation", "--run")
    assert command(*base, "a").stdout.splitlines() == [
        "output/a/distilled.json  (5 rows)",
        "output/a/distilled-alpaca.json  (5 rows)",
    ]
    env = {"DEFAULT_SAMPLE_SIZE": "4", "LANGUAGE": "en_GB:en"}
    assert command(*base, "b", env=env).stdout.startswith("output/b/distilled.json  (4 rows)")
    done = command(*base, "c", "--sample-size", 2, "--formats", "sharegpt", env=env)
    assert done.stdout.splitlines() == [
        "output/c/distilled.json  (2 rows)",
        "output/c/distilled-sharegpt.json  (2 rows)",
    ]


def test_status_and_export_of_a_done_run(command: Command, tmp_path: Path) -> None:
    """Status --json has the promised keys, an unnamed resume skips done runs, export adds files."""
    source = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a", "answer": "b"}])
    command(
        "distill", "--dataset-name", source, "--skip-generation", "--formats", "", "--run", "r",
        "--model", "m",
    )  # fmt: skip
    status = json.loads(command("status", "--json").stdout)
    del status["as_of"]
    assert status == {
        "run": "r",
        "mode": "distill",
        "backend": "vllm",
        "model": "m",
        "state": "done",
        "records": 1,
        "requests": {"total": 0, "done": 0, "pending": 0, "failed": 0, "in_flight": 0},
        "truncated": 0,
        "tokens": {"prompt": 0, "completion": 0},
        "cost": {
            "currency": "USD",
            "spent": None,
            "estimate": None,
            "uncertain": None,
            "saved": None,
            "price": None,
            "stages": [],
            "jobs": [],
            "in_flight": None,
        },
        "lost": [],
    }
    resumed = command("resume")
    assert (resumed.returncode, resumed.stdout) == (0, "nothing to resume: no run is unfinished\n")
    assert command("export", "r", "--formats", "alpaca").stdout.splitlines() == [
        "output/r/distilled.json  (1 rows)",
        "output/r/distilled-alpaca.json  (1 rows)",
    ]
