"""The Python API: options as keyword arguments, results as paths and datasets."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest

import fastdatasets
from fastdatasets import api
from store import UserError
from store.status import Status
from tests.conftest import write_jsonl
from tests.llmserver import LLMServer


@dataclass
class Lines:
    """A display that keeps what it is given."""

    lines: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.lines.append("begin")
        return self

    def __exit__(self, *exc: object) -> None:
        self.lines.append("end")

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)

    def show(self, status: Status) -> None:
        """Keep how many requests are done."""
        self.done.append(status.requests.done)

    def confirm(self, question: str) -> bool:
        """Say no."""
        self.lines.append(question)
        return False


def test_distill(server: LLMServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Options are keyword arguments; files are paths; rows are a dataset; a display takes over."""
    source = write_jsonl(Path("questions.jsonl"), [{"prompt": "a"}, {"prompt": "b"}])
    server.answer = lambda _: "An answer."
    display = Lines()
    result = fastdatasets.distill(
        str(source), model="m", run="night", sample_size=0, formats="alpaca", display=display
    )
    assert result.files == tuple(
        Path("output/night", name) for name in ("distilled.json", "distilled-alpaca.json")
    )
    assert result.status.requests.done == 2
    assert result.to_dataset()["output"][:] == ["An answer."] * 2
    assert (display.lines[0], display.lines[-1], display.done[-1]) == ("begin", "end", 2)
    assert "run output/night: backend openai" in display.lines[1]
    assert tuple(capfd.readouterr()) == ("", "")
    now = fastdatasets.status("night").status
    assert replace(now, as_of=result.status.as_of) == result.status
    again = fastdatasets.export("night", formats="sharegpt", display=Lines())
    assert again.files[-1] == Path("output/night/distilled-sharegpt.json")
    assert fastdatasets.resume(display=Lines()) is None


def test_options_that_are_not_there() -> None:
    """An option of another command is a TypeError, as Python has it; a wrong value a UserError."""
    with pytest.raises(TypeError, match="num_aug"):
        fastdatasets.distill("d.jsonl", num_aug=3)  # type: ignore[call-arg]
    with pytest.raises(UserError, match=r"no such file or folder: nope\.jsonl"):
        fastdatasets.distill("nope.jsonl", model="m")


def test_signatures() -> None:
    """help() shows an option for each field, the dataset or the run first and by position."""
    for name in fastdatasets.__all__:
        call = getattr(fastdatasets, name)
        parameters = list(inspect.signature(call).parameters.values())
        assert parameters == list(inspect.signature(call.options).parameters.values())
        by_position = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
        of_dataset = name in ("distill", "augment", "estimate", "preview")
        others = {"push": ["run", "repository"], "compare": ["first", "second"]}
        expected = ["dataset_name"] if of_dataset else others.get(name, ["run"])
        assert by_position == expected
        assert call is getattr(api, name)
        assert call.__doc__
