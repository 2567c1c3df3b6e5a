"""Prompt templates: Jinja2 in a bounded sandbox, and the choice between the package's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, Template, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from fastdatasets.languages import language_by_script
from fastdatasets.stages.sandbox import BoundedSandbox
from store import UserError
from store.planning import Row
from store.runs import Language

VARIABLES = "instruction, input, output, reasoning, row"

NO_INPUT = "no_input"  # what a template for records without an input is named after its stage

_NO_FIELDS: dict[str, Any] = {}


def answer_templates(named: str | None) -> dict[str, str]:
    """The templates of answers: a built-in's name, else the path of a file; raises UserError.

    None: the guide's for records with an input, the question itself for others; docs/design.md has
    the reasons.
    """
    if named is None:
        return default_templates("answer") | {f"answer.{NO_INPUT}": _packaged("answer.plain")}
    if named == "guide":
        return default_templates("answer")
    if named == "plain":
        return {"answer": _packaged("answer.plain")}
    return own_template("answer", Path(named))


def judge_templates(named: Path | None) -> dict[str, str]:
    """The package's templates of the judge, or a user's; raises UserError."""
    if named is None:
        return default_templates("judge")
    return own_template("judge", named, answer="text", system="text", turns=[])


def compare_templates() -> dict[str, str]:
    """The package's templates of pairs of answers, which are the questions of a judge's run."""
    templates = default_templates("compare")
    return {name.replace("compare", "answer", 1): text for name, text in templates.items()}


def default_templates(stage: str) -> dict[str, str]:
    """The package's templates of a stage by language; of answers: the guide's."""
    return {
        f"{stage}.{language}": _packaged(f"{stage}.{language}")
        for language in (Language.ZH, Language.EN)
    }


def _packaged(name: str) -> str:
    return (files("fastdatasets.stages") / "templates" / f"{name}.j2").read_text("utf-8")


def own_template(stage: str, path: Path, **more: object) -> dict[str, str]:
    """A user's template, which serves records of every language; raises UserError.

    more: the stage's variables beside those of every stage.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the prompt template {path}: {error}") from None
    templates = {stage: text.removesuffix("\n")}
    try:
        if uses_row(templates):
            _compile(templates[stage])  # what a row has is not known yet
        else:
            Prompt(stage, templates, Language.AUTO).render(Row(0, 0, "text", "text"), **more)
    except TemplateSyntaxError as error:
        raise UserError(f"prompt template {path}, line {error.lineno}: {error.message}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return templates


def uses_row(templates: Mapping[str, str]) -> bool:
    """Whether one of the templates has the variable row, of all columns of a record's row."""
    environment = Environment()  # noqa: S701 - parses only
    return any(
        "row" in find_undeclared_variables(environment.parse(text))
        for text in templates.values()
        if "row" in text
    )


def language_of(text: str) -> Language:
    """ZH where a text is mostly Chinese, else EN, which Japanese and Korean get too."""
    return Language.ZH if language_by_script(text) == "zh" else Language.EN


class Prompt:
    """The templates of one stage of a run; renders a record into the text of the user turn."""

    def __init__(self, stage: str, templates: dict[str, str], language: Language) -> None:
        self._stage = stage
        self._templates = templates
        self._language = language

    def render(self, row: Row, **more: object) -> str:
        """The prompt for a row; raises UserError where the template cannot be filled."""
        sandbox, template, builtins = _compile(self._text(row))
        variables = {
            **builtins,
            "instruction": row.instruction,
            "input": row.input,
            "output": row.original_output,
            "reasoning": row.reasoning,
            "row": _NO_FIELDS if row.fields is None else msgspec.json.decode(row.fields),
            **more,
        }
        try:
            # What template.render does, without gathering Jinja's builtins anew for every row,
            # which takes longer than all the rest.
            context = template.new_context(variables, shared=True)
            sandbox.start()
            prompt = sandbox.joined(template.root_render_func(context))
        except Exception as error:  # a template can do anything: 1 / 0, an unknown variable
            raise UserError(
                f"the prompt template of stage {self._stage} fails on record {row.record}: "
                f"{error}; its variables are {', '.join((VARIABLES, *more))}"
            ) from None
        if not prompt.strip():
            raise UserError(
                f"the prompt template of stage {self._stage} renders an empty prompt for record "
                f"{row.record}"
            )
        return prompt

    def _text(self, row: Row) -> str:
        if (own := self._templates.get(self._stage)) is not None:
            return own
        if (
            not row.input
            and (plain := self._templates.get(f"{self._stage}.{NO_INPUT}")) is not None
        ):
            return plain
        language = self._language
        if language is Language.AUTO:
            language = language_of(f"{row.instruction}\n{row.input}")
        return self._templates[f"{self._stage}.{language}"]


@cache
def _compile(text: str) -> tuple[BoundedSandbox, Template, dict[str, Any]]:
    """A compiled template, its sandbox and Jinja's globals; raises UserError, TemplateError."""
    sandbox = BoundedSandbox()
    try:
        template = sandbox.from_string(text)
    except (RecursionError, MemoryError, SyntaxError):  # the last ones are Python's compiler's
        raise UserError("the prompt template is nested too deeply") from None
    return sandbox, template, dict(template.globals)
