"""Which settings are in force, and where each comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from fastdatasets.config.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in force; a key is masked. origin: environment, .env or default."""

    name: str
    value: str
    origin: str


def settings_in_force() -> list[Setting]:
    """All settings by their names; raises UserError for an invalid value."""
    settings = load_settings()
    in_file = {name.upper() for name, value in dotenv_values(Path(".env")).items() if value}
    in_environment = {name.upper() for name, value in os.environ.items() if value}
    in_force = []
    for field in Settings.model_fields:
        name = field.upper()
        origin = "default"
        if name in in_environment:
            origin = "environment"
        elif name in in_file:
            origin = ".env"
        in_force.append(Setting(name, _shown(getattr(settings, field)), origin))
    return in_force


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return f"…{secret[-4:]}" if len(secret) >= 12 else "…"
    return "" if value is None else str(value)
