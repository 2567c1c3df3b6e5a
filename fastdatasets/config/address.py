"""The address of a run's server: fixed when the run is created, changed by the user only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from backends.openai_api.providers import OPENAI_BASE, normal_base_url
from backends.registry import BackendInfo
from fastdatasets.config.settings import Settings
from store import UserError, WorkStore

LOCAL_SERVER = "http://localhost:8000/v1"  # the guide's: a vLLM server's own default
ACCEPT = "--accept-other-server"


def new_address(backend: BackendInfo, settings: Settings) -> str | None:
    """Where a new run's requests go; None for the local engine; raises UserError.

    That is LLM_API_BASE; without it OpenAI's address, or LOCAL_SERVER for live requests without a
    key.
    """
    if not backend.uses_server:
        return None
    if (named := named_address(settings)) is not None:
        return named
    return OPENAI_BASE if backend.needs_key or settings.llm_api_key else LOCAL_SERVER


def named_address(settings: Settings) -> str | None:
    """LLM_API_BASE in its normal form, None where it is not set; raises UserError."""
    if settings.llm_api_base is None:
        return None
    base_url = settings.llm_api_base.strip()
    try:
        parts = urlsplit(base_url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError:
        valid = False
    if not valid or "@" in base_url:
        raise UserError(
            "LLM_API_BASE is no address like https://api.example.com/v1 (a key goes into "
            "LLM_API_KEY)"
        )
    return normal_base_url(base_url)


def resolve_address(
    store: WorkStore, settings: Settings, say: Callable[[str], None], *, accept_other: bool
) -> None:
    """Continue a run at LLM_API_BASE, where that is another server than the run's.

    Raises UserError where something was answered or sent, unless accept_other is set; always where
    jobs at the run's server are not closed.
    """
    run, named = store.run(), named_address(settings)
    run_at = run.base_url
    if run_at is None or named in (None, run_at) or run.skip_generation:
        return
    store.journal.check_address(named)
    begun = store.journal.any_result() or any(job.attempt for job in store.journal.jobs().values())
    if begun and not accept_other:
        raise UserError(
            f"this run's server is {run_at}, and LLM_API_BASE is {named}: set "
            f"LLM_API_BASE={run_at}, or "
            f"{ACCEPT} to continue at the other one, with answers of both servers in one export"
        )
    store.change_server(named)
    so_far = "its answers stay in the export" if begun else "it has answered nothing"
    say(f"continuing at {named}, no longer at {run_at}: {so_far}")


def warn_of_plain_http(
    base_url: str | None, settings: Settings, say: Callable[[str], None]
) -> None:
    """Warn where the key and all texts are sent unencrypted to another machine."""
    parts = urlsplit(base_url or "")
    if parts.scheme != "http" or settings.llm_api_key is None:
        return
    host = parts.hostname or ""
    with suppress(ValueError):  # a name
        if ip_address(host).is_loopback:
            return
    if host != "localhost":
        say(f"warning: LLM_API_KEY and all texts go unencrypted to {base_url}: use https://")


def check_servers(
    name: str, servers: Iterable[str | None], base_url: str | None, *, accept_other: bool
) -> None:
    """Raise UserError where a run's answers are from another server than base_url."""
    others = [describe_server(server) for server in sorted(servers, key=str) if server != base_url]
    if others and not accept_other:
        raise UserError(
            f"the answers of run {name} are from {' and '.join(others)}, and this run's server is "
            f"{describe_server(base_url)}: {ACCEPT} reuses them anyway"
        )


def describe_server(base_url: str | None) -> str:
    """An address for a message."""
    return base_url or "the local engine"
