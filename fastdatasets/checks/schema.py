"""JSON schemas that answers are validated with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from store import UserError

_SHOWN = 200  # characters of what is wrong: messages quote values
_KEYWORDS_OF_DATA = ("const", "default", "enum", "examples")


def check_schema(option: str, text: str) -> None:
    """Raise UserError where a text is no JSON schema that can be used without other documents."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        schema = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UserError(f"{option}: it is no JSON: {error}") from None
    if not isinstance(schema, dict | bool):
        raise UserError(f"{option}: a JSON schema is an object")
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        where = f" at {error.json_path}" if error.absolute_path else ""
        raise UserError(f"{option}: no valid JSON schema{where}: {_brief(error.message)}") from None
    document = Resource.from_contents(schema, default_specification=DRAFT202012)
    address = document.id() or ""
    resolver = Registry().with_resource(address, document).resolver(address)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            raise UserError(
                f"{option}: $ref {reference} leads nowhere in the schema; others are not read"
            ) from None


def validator_of(text: str) -> Callable[[object], str | None]:
    """What is wrong with a value by a schema, and where; None where it is valid."""
    from jsonschema.exceptions import best_match

    validator = _validator(msgspec.json.decode(text))

    def fault_of(value: object) -> str | None:
        error = best_match(validator.iter_errors(value))
        if error is None:
            return None
        return f"{error.json_path}: {_brief(error.message)}"

    return fault_of


def _validator(schema: Any) -> Any:
    """A validator that fetches no other schema."""
    from jsonschema.validators import validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    return validator_for(schema)(schema, registry=EMPTY_REGISTRY)


def _references(schema: Any) -> Iterator[str]:
    """The $ref of a schema, wherever in it."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in _KEYWORDS_OF_DATA:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _brief(message: str) -> str:
    return message if len(message) <= _SHOWN else f"{message[:_SHOWN]}…"
