"""A server's list of models, a free call: whether it is reachable, and whether it is vLLM."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from backends.openai_api.client import CONNECT_SECONDS, make_client
from backends.openai_api.errors import CALL_ERRORS, ErrorKind, classify_error
from backends.openai_api.lenient_json import decode_leniently

TRIES = 3
WAIT_SECONDS = 1.0  # after the first attempt; doubled after each


def is_vllm(
    base_url: str, api_key: str, model: str, max_wait: float, headers: Mapping[str, str]
) -> bool:
    """Whether GET /models says that the model is served by vLLM's own server.

    Raises ApiError without a connection after TRIES attempts, at most max_wait seconds apart. Any
    other error returns False: some servers have no such list.
    """
    for attempt in range(TRIES):
        try:
            answer = asyncio.run(_get_models(base_url, api_key, headers))
            return _owner(decode_leniently(answer), model) == "vllm"
        except CALL_ERRORS as error:
            api_error = classify_error(error, api_key)
        if api_error.kind is not ErrorKind.UNREACHABLE:
            return False
        if attempt + 1 < TRIES:
            time.sleep(min(WAIT_SECONDS * 2**attempt, max_wait))
    raise api_error


async def _get_models(base_url: str, api_key: str, headers: Mapping[str, str]) -> bytes:
    async with make_client(
        base_url, api_key, timeout_seconds=CONNECT_SECONDS, headers=headers
    ) as client:
        async with asyncio.timeout(2 * CONNECT_SECONDS):  # to the last byte
            return (await client.models.with_raw_response.list()).content


def _owner(listing: Any, model: str) -> object:
    models = listing.get("data") if isinstance(listing, dict) else None
    for one in models if isinstance(models, list) else ():
        if isinstance(one, dict) and one.get("id") == model:
            return one.get("owned_by")
    return None
