"""Statements of .sql files by their names."""

from __future__ import annotations

from importlib.resources import files


def load(text: str) -> dict[str, str]:
    """Split SQL text at its '-- name: …' lines: name -> statement, without its semicolon."""
    statements: dict[str, str] = {}
    for part in text.split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        statements[name.strip()] = statement.strip().removesuffix(";")
    return statements


def load_file(package: str, name: str) -> dict[str, str]:
    """The statements of a package's .sql file."""
    return load((files(package) / name).read_text("utf-8"))


NOUNS = (
    *("runs", "records", "images", "planning", "requests", "limits"),
    *("results", "costs", "answers", "scores", "compare", "exports", "jobs"),
)
SCHEMA = (files("store") / "sql" / "schema.sql").read_text("utf-8")
QUERIES: dict[str, str] = {}
for noun in NOUNS:
    QUERIES |= load_file("store", f"sql/{noun}.sql")
