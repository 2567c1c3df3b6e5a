"""A run's folder: private, whole or not at all, and never a way to write elsewhere."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from backends.vllm.installed import check_model
from backends.vllm.process import EngineProcess
from backends.vllm.protocol import Load
from fastdatasets.commands import export_again, resume, start
from fastdatasets.config.execution import ExecutionConfig
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import Settings
from fastdatasets.runs.folders import find_or_newest
from fastdatasets.runs.status import read_status
from store import RunFolder, UserError
from store.errors import EngineDied
from store.folder.private_files import open_private, private_files
from store.folder.run_folder import atomic_write
from tests.conftest import Command, write_jsonl

OUTPUT = Path("output")


@pytest.fixture(autouse=True)
def source() -> Path:
    """A dataset with outputs of its own, so that nobody has to be asked."""
    return write_jsonl(Path("d.jsonl"), [{"prompt": "a", "answer": "b"}])


def words(name: str, *options: str) -> list[str]:
    """The options of a run that asks nothing."""
    return [
        "distill", "--dataset-name", "d.jsonl", "--skip-generation", "--run", name, *options
    ]  # fmt: skip


def make(name: str, **run_config: object) -> None:
    """A run that asks nothing, and is done."""
    options = {"dataset_name": "d.jsonl", "skip_generation": True} | run_config
    start(RunConfig(**options), None, name, ExecutionConfig())  # type: ignore[arg-type]


def run_child(
    arguments: list[str], shell: str = '"$@"', before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it, before: run in the child."""
    child = [sys.executable, "-m", "fastdatasets", *arguments]
    return subprocess.run(
        ["bash", "-c", shell, "bash", *child],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-"])
def test_closed_standard_files(closed: str) -> None:
    """A run that is started with closed standard files has a store that can be read."""
    assert run_child(words("r"), f'"$@" {closed}').returncode == 0
    status = read_status("r").status
    assert (status.state, status.records) == ("done", 1)


@pytest.mark.slow
def test_closed_reader() -> None:
    """A log reader that leaves after a line ends no command."""
    done = run_child(words("r"), '"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    assert read_status("r").status.state == "done"


@pytest.mark.slow
def test_closed_reader_of_the_output() -> None:
    """A reader of the output that leaves ends no command."""
    make("r")
    done = run_child(["status", "r"], '"$@" | true; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_output_that_cannot_be_written() -> None:
    """A full disk under the output is an error, in one line."""
    make("r")
    done = run_child(["status", "r"], '"$@" > /dev/full')
    assert (done.returncode, done.stderr) == (
        1, "fastdatasets: [Errno 28] No space left on device\n",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 20_000, 300_000])
def test_disk_that_is_full_at_the_start(size: int) -> None:
    """Where there is no room, the disk is named, and the same run goes through later."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = run_child(words("r"), before=limit)
    assert (done.returncode, done.stdout) == (3, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(("fastdatasets: there is no room", "fastdatasets: the disk is full"))
    assert "d.jsonl" not in last
    assert not OUTPUT.joinpath("r").exists() or read_status("r").status.records == 1
    make("r")
    assert read_status("r").status.state == "done"


def test_what_a_killed_command_left() -> None:
    """Files of a store that was being made, and a log without its store, are in nobody's way."""
    folder = OUTPUT / "r"
    folder.mkdir(parents=True)
    for name in (".work.duckdb.0123", ".work.duckdb.0123.wal", "work.duckdb.wal"):
        (folder / name).write_text("left over")
    (folder / ".fastdatasets-0123.tmp").write_text("left over")
    make("r")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "dataset_info.json", "distilled-alpaca.json", "distilled-sharegpt.json",
        "distilled.json", "progress.json", "run.lock", "work.duckdb",
    ]  # fmt: skip


def break_newest() -> None:
    """Make a good run, and newer ones that cannot be read: no store, none of ours, cut off."""
    make("good")
    whole = OUTPUT.joinpath("good/work.duckdb").read_bytes()
    for name, content in [("a", b"x" * 20_000), ("b", b""), ("c", whole[:20_000])]:
        OUTPUT.joinpath(name).mkdir()
        OUTPUT.joinpath(name, "work.duckdb").write_bytes(content)


def test_broken_runs_are_skipped(capfd: pytest.CaptureFixture[str]) -> None:
    """A status and a resume without a name say which runs cannot be read, and find one that can."""
    break_newest()
    capfd.readouterr()
    assert read_status(None).folder.name == "good"
    reported = capfd.readouterr().err.splitlines()
    assert sorted(line.split(" is skipped")[0] for line in reported) == [
        "run output/a", "run output/b", "run output/c",
    ]  # fmt: skip
    assert resume(None, None, ExecutionConfig()) is None
    OUTPUT.joinpath("good/progress.json").unlink()
    outcome = resume(None, None, ExecutionConfig())
    assert outcome is not None
    assert str(outcome.exported[0]) == "output/good/distilled.json  (1 rows)"
    with pytest.raises(UserError, match=r"output/a/work.duckdb"):
        read_status("a")


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b'{"run": 1}',
        b'{"run": "\xff"}',
        b"[" * 200_000,
        b'{"cost": {"spent": 1e99999999999999999999}}',
        b'{"records": 1' + b"0" * 10_000 + b"}",
        None,
    ],
)
def test_damaged_progress(capfd: pytest.CaptureFixture[str], content: bytes | None) -> None:
    """Whatever stands in a progress.json (None: it is a folder), new runs and resumes go on."""
    make("r")
    progress = OUTPUT / "r" / "progress.json"
    progress.unlink()
    if content is None:
        progress.mkdir()
    else:
        progress.write_bytes(content)
    make("another")
    outcome = resume(None, None, ExecutionConfig())
    assert outcome is not None
    assert (outcome.folder.name, outcome.status.state) == ("r", "done")
    reported = "progress.json cannot be written: Is a directory" in capfd.readouterr().err
    assert reported is (content is None)


def test_runs_are_private(command: Command) -> None:
    """A run's folder and files are their owner's alone; the output folder is as the user wants."""
    before = os.umask(0o022)
    try:
        assert command(*words("r")).returncode == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (OUTPUT / "r").iterdir()}
    assert set(modes.values()) == {0o600}
    assert [path.stat().st_mode & 0o777 for path in (OUTPUT, OUTPUT / "r")] == [0o755, 0o700]


def test_engine_has_the_users_umask() -> None:
    """What an engine puts into caches has the user's modes, its log the run's."""
    load = Load("m", {}, None, compiled=False, memory_share=1.0)
    engine = (sys.executable, "-c", "open('cached', 'w').close()")
    before = os.umask(0o022)
    try:
        with private_files(), pytest.raises(EngineDied):
            EngineProcess(load, Path("log"), print, engine)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert [Path(name).stat().st_mode & 0o777 for name in ("cached", "log")] == [0o644, 0o600]


@pytest.mark.parametrize(
    "name", ["run.lock", "work.duckdb", "work.duckdb.wal", "jobs", "engine.log", "spill"]
)
def test_links_are_not_followed(name: str) -> None:
    """A link in a run's folder is refused: nothing is written to where it leads."""
    make("r")
    target = Path("elsewhere")
    link = OUTPUT / "r" / name
    if link.exists():
        link.rename(target)
    else:
        target.write_text("mine")
    content = target.read_bytes()
    link.symlink_to(target.resolve())
    with pytest.raises(UserError, match=f"{name} is a symbolic link"):
        resume("r", None, ExecutionConfig())
    assert target.read_bytes() == content


@pytest.mark.parametrize("name", ["run.lock", "work.duckdb", "jobs/1.jsonl", "engine.log"])
def test_hard_links_are_not_written_to(name: str) -> None:
    """A file of a run that has another name elsewhere is refused and stays as it is."""
    make("r")
    file = OUTPUT / "r" / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    content = file.read_bytes()
    Path("elsewhere").hardlink_to(file)
    with pytest.raises(UserError, match=f"{name} has another name elsewhere [(]a hard link[)]"):
        resume("r", None, ExecutionConfig())
    assert Path("elsewhere").read_bytes() == content


def test_file_that_is_opened_for_writing() -> None:
    """It is looked at once it is open, too: a look before may be out of date."""
    file = Path("file")
    file.touch()
    Path("elsewhere").hardlink_to(file)
    with pytest.raises(UserError, match="file has another name elsewhere"):
        open_private(file, os.O_RDWR)
    os.close(open_private(file, os.O_RDONLY))


@pytest.mark.skipif(os.geteuid() != 0, reason="files of another user need root")
def test_files_of_another_user() -> None:
    """A run's file that belongs to somebody else is refused, but to root."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "run.lock").touch(0o666)
        with RunFolder(folder).lock():
            pass
        os.seteuid(65534)
        try:
            with (
                pytest.raises(UserError, match=r"run\.lock is another user's [(]uid 0[)]"),
                RunFolder(folder).lock(),
            ):
                pass
        finally:
            os.seteuid(0)


def test_progress_that_is_a_link() -> None:
    """A progress.json that is a link is neither read nor written through."""
    make("r")
    progress = OUTPUT / "r" / "progress.json"
    progress.rename("elsewhere")
    progress.symlink_to(Path("elsewhere").resolve())
    assert RunFolder(OUTPUT / "r").read_progress() is None
    Path("elsewhere").write_text("mine")
    assert resume("r", None, ExecutionConfig()) is not None
    assert (Path("elsewhere").read_text(), progress.is_symlink()) == ("mine", False)


def test_temporary_files() -> None:
    """Two writers of one file have temporary files of their own, and each is whole."""
    path = Path("file")
    with atomic_write(path) as one:
        one.write_text("one")
        with atomic_write(path) as other:
            other.write_text("other")
            modes = [file.stat().st_mode & 0o777 for file in (one, other)]
        assert path.read_text() == "other"
    assert (path.read_text(), modes, one != other) == ("one", [0o600, 0o600], True)
    assert sorted(file.name for file in Path().iterdir()) == ["d.jsonl", "file"]


def test_stored_output_file_is_named_again(capfd: pytest.CaptureFixture[str]) -> None:
    """A file outside of the run's folder is written only by a command that names it."""
    outside = Path("outside.json")
    make("r", output_file=outside)
    content = outside.read_text()
    outside.unlink()
    reported = f"{outside.resolve()} is written only with the option: --output-file"
    resume("r", None, ExecutionConfig())
    assert reported in capfd.readouterr().err
    export_again("r")
    assert reported in capfd.readouterr().err
    assert not outside.exists()
    resume("r", None, ExecutionConfig(), output_file=outside)
    assert outside.read_text() == content


@pytest.mark.parametrize("name", ["", " ", ".", "..", "./", "a/..", "../..", "a/../.."])
def test_names_that_leave_the_output_folder(name: str) -> None:
    """What is the output folder itself, or around it, is no run's name; nothing is made."""
    with pytest.raises(UserError, match=f"--run {re.escape(repr(name))} is no name for a run"):
        make(name)
    assert not OUTPUT.exists()


def test_path_on_purpose() -> None:
    """A path with a slash in it is where the user wants the run."""
    make("../beside")
    make("below/r")
    assert (
        read_status("beside").status.state == read_status("output/below/r").status.state == "done"
    )
    with pytest.raises(UserError, match="'' names no run"):
        find_or_newest("", OUTPUT)


@pytest.mark.parametrize(
    ("env", "options"),
    [
        ({}, ["--backend", "openai-batch"]),
        ({"LLM_API_KEY": "k e y"}, ["--backend", "openai"]),
        ({"LLM_API_KEY": "k", "LLM_API_BASE": "nowhere"}, ["--backend", "openai"]),
    ],
)
def test_failed_start_leaves_no_run(
    command: Command, env: dict[str, str], options: list[str]
) -> None:
    """A run that cannot be asked for anything leaves nothing that a resume would find."""
    named = ["--dataset-name", "d.jsonl", "--model", "m", "--run", "r", *options]
    done = command("distill", *named, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert not OUTPUT.exists()
    assert resume() is None


BAD_SOURCES = {
    "d.txt": "d.txt: unknown kind of file",
    "empty": "empty: no data files",
    "split": "split has no split 'train'",
    "kinds": "kinds: files of several kinds",
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_source_without_data_files(name: str) -> None:
    """What a look at the names of a source's files tells is told before anything is made."""
    Path("d.txt").touch()
    Path("empty").mkdir()
    for file in ("split/test.jsonl", "kinds/a.jsonl", "kinds/b.csv"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    with pytest.raises(UserError, match=BAD_SOURCES[name]):
        make("r", dataset_name=name)
    assert not OUTPUT.exists()


@pytest.mark.parametrize("name", ["r", None])
def test_folder_that_cannot_be_made(name: str | None) -> None:
    """Where the output folder is a file, that is said in one line."""
    OUTPUT.touch()
    run_config = RunConfig(dataset_name="d.jsonl", skip_generation=True)
    with pytest.raises(UserError, match=r"^cannot make the run's folder output/.*: File exists$"):
        start(run_config, None, name, ExecutionConfig())


def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of this test, with an adapter and a model in it."""
    folder = Path("home").resolve()
    for name in ("m/config.json", "lora/adapter_config.json"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_home_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ~ is the home folder in paths of a model, an adapter and an output file."""
    folder = home(monkeypatch)
    run_config = RunConfig(
        dataset_name="d.jsonl", backend="vllm", model="~/m", lora=Path("~/lora"),
        output_file=Path("~/x.json"),
    )  # fmt: skip
    new = new_run(run_config, Settings())
    assert (new.model, new.params["lora"]) == (f"{folder}/m", f"{folder}/lora")
    assert new.export.output_file == f"{folder}/x.json"


def test_names_that_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such user, a ~ is part of a name, as in a shell."""
    here = home(monkeypatch).rename(Path("~no-such-user").resolve())
    run_config = RunConfig(
        dataset_name="d.jsonl", backend="vllm", model="~no-such-user/m",
        lora=Path("~no-such-user/lora"), output_file=Path("./~x.json"),
    )  # fmt: skip
    new = new_run(run_config, Settings())
    assert (new.model, new.params["lora"]) == (f"{here}/m", f"{here}/lora")
    assert new.export.output_file == str(here.with_name("~x.json"))
    with pytest.raises(UserError, match=r"no LoRA adapter at .*/~nobody-there: a folder"):
        new_run(replace(run_config, lora=Path("~nobody-there")), Settings())
    with pytest.raises(UserError, match="no model at ~nobody-there"):
        check_model("~nobody-there")


def test_broken_source_leaves_no_run(command: Command) -> None:
    """A source that fails while it is read leaves no run."""
    Path("g.jsonl.gz").write_bytes(b"\x1f\x8bgarbage")
    done = command("distill", "--dataset-name", "g.jsonl.gz", "--skip-generation", "--run", "r")
    assert (done.returncode, list(OUTPUT.iterdir())) == (1, [])


def test_run_that_stands_is_not_removed() -> None:
    """A command that does not fit a run that stands leaves it as it is."""
    make("r")
    with pytest.raises(UserError, match="already exists with another seed"):
        make("r", seed=7)
    assert read_status("r").status.state == "done"
