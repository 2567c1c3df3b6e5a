"""Settings from the environment and `.env`; options of the command line override both."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backends.openai_api.keys import hide_key
from store import UserError
from store.runs import Language


class Settings(BaseSettings):
    """Settings: the environment, then `.env` in the current folder, then the defaults here."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore"
    )

    llm_api_key: SecretStr | None = None
    llm_api_base: str | None = None
    llm_model: str | None = None
    llm_temperature: float | None = Field(default=None, ge=0)
    llm_top_p: float | None = Field(default=None, gt=0, le=1)
    llm_max_tokens: int | None = Field(default=None, ge=1)
    max_llm_concurrency: int = Field(default=10, ge=1)
    default_sample_size: int = 3
    output_formats: str = "alpaca,sharegpt"
    system_prompt: str | None = None
    language: Language = Language.AUTO
    hf_endpoint: str | None = None
    hf_token: SecretStr | None = None

    fastdatasets_confirm_above: Decimal = Field(default=Decimal(25), ge=0)
    fastdatasets_output_dir: Path = Path("output")
    fastdatasets_timeout_seconds: float = Field(default=600.0, gt=0)
    fastdatasets_poll_seconds: float = Field(default=60.0, ge=0)
    fastdatasets_adopt_grace_seconds: float = Field(default=300.0, ge=0)
    fastdatasets_batch_max_requests: int | None = Field(default=None, ge=1)
    fastdatasets_batch_max_bytes: int | None = Field(default=None, ge=1)

    @field_validator("language", mode="before")
    @classmethod
    def _not_a_locale(cls, value: object) -> object:
        """Systems use LANGUAGE for locales ('de', 'en_GB:en', 'C'): these are ignored."""
        return value if value in set(Language) else Language.AUTO


def load_settings() -> Settings:
    """The settings in force; raises UserError, naming the variable, for an invalid value."""
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise UserError(
            f"{name}={first['input']!r} in the environment or .env: {first['msg']}"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f".env is not UTF-8: {error}") from None
    for key in (settings.llm_api_key, settings.hf_token):
        if key is not None:
            hide_key(key.get_secret_value().strip())
    # `datasets` and transformers read these from the environment when they are imported
    if settings.hf_endpoint:
        os.environ.setdefault("HF_ENDPOINT", settings.hf_endpoint)
    if settings.hf_token:
        os.environ.setdefault("HF_TOKEN", settings.hf_token.get_secret_value())
    return settings
