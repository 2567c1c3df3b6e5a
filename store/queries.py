"""The statements of queries.sql by their names."""

from __future__ import annotations

from importlib.resources import files


def load(text: str) -> dict[str, str]:
    """Split SQL text at its '-- name: …' lines into name -> statement."""
    statements: dict[str, str] = {}
    for part in text.split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        statements[name.strip()] = statement.strip()
    return statements


def load_file(package: str, name: str) -> dict[str, str]:
    """The statements of a package's .sql file."""
    return load((files(package) / name).read_text("utf-8"))


SCHEMA = (files("store") / "schema.sql").read_text("utf-8")
QUERIES = load_file("store", "queries.sql")
