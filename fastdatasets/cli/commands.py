"""Commands from functions of the Python API, with an option for each field of their options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from fastdatasets.config.options import Option

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")]


def command(
    app: typer.Typer, call: Callable[..., Any], *, has_json: bool = False
) -> Callable[[Callable[..., None]], None]:
    """Add a command that calls a function of the API; the decorated function prints its result.

    has_json: that function takes as_json as well, an option of the command.
    """
    options = call.__dict__["options"]
    parameters = [_parameter(field, hint, option) for field, hint, option in options_of(options)]
    if has_json:
        parameters.append(_keyword("as_json", AsJson, default=False))

    def decorate(show: Callable[..., None]) -> None:
        def run(**given: Any) -> None:
            shown = {"as_json": given.pop("as_json")} if has_json else {}
            # None: not given, for options that may be given more than once
            show(
                call(**{name: value for name, value in given.items() if value is not None}), **shown
            )

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__doc__ = call.__doc__
        app.command(call.__name__)(run)

    return decorate


def options_of(options: type) -> list[tuple[dataclasses.Field[Any], Any, Option]]:
    """The fields of a class that are options, with their types, in the order of the help."""
    hints = get_type_hints(options, include_extras=True, localns={"Display": object})
    fields = []
    for field in dataclasses.fields(options):
        if field.init and get_origin(hints[field.name]) is Annotated:
            hint, option = get_args(hints[field.name])
            fields.append((field, hint, option))
    return fields


def _parameter(field: dataclasses.Field[Any], hint: Any, option: Option) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    if any(get_origin(kind) is Sequence for kind in (hint, *get_args(hint))):
        hint, default = list[str] | None, None
    if option.is_argument:
        declared = typer.Argument(metavar=option.metavar, help=option.help)
    else:
        flags = [option.flag] if option.flag else []
        if hint is bool and not flags:
            flags = ["--" + field.name.replace("_", "-")]
        declared = typer.Option(
            *flags,
            metavar=option.metavar,
            help=option.help,
            min=option.min,
            max=option.max,
            rich_help_panel=option.panel,
        )
    return _keyword(field.name, Annotated[hint, declared], default=default)


def _keyword(name: str, hint: Any, *, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
