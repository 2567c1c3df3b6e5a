"""Uploads: what is refused, and what stays."""

from __future__ import annotations

import random
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from . import LLMServer
from .driver import raw, upload


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("in.txt", {}, "Must be .jsonl"),
        ("in.jsonl", {"purpose": "fun"}, "'fun' is not supported"),
        ("in.jsonl", {"extra_body": {"folder": "x"}}, "Unknown parameter: 'folder'"),
        ("in.jsonl", {"expires_after": {"anchor": "created_at", "seconds": 1}}, "3600"),
        ("in.jsonl", {"expires_after": {"anchor": "created_at", "seconds": "x"}}, "an integer"),
    ],
)
def test_a_bad_upload_is_refused(
    server: LLMServer, client: OpenAI, name: str, more: dict[str, Any], message: str
) -> None:
    """400, and nothing of it stays."""
    params: dict[str, Any] = {"purpose": "batch", **more}
    with pytest.raises(BadRequestError, match=message):
        client.files.create(file=(name, b"{}"), **params)
    assert server.files == {}
    assert list(server.folder.iterdir()) == []


def test_an_upload_is_stored_byte_for_byte(client: OpenAI) -> None:
    """Whatever in it looks like a boundary, and however its reads fall."""
    for seed in range(20):
        source = random.Random(seed)
        pieces = [
            b"\r\n",
            b"--",
            b"\r",
            b"\n--",
            b"\xff",
            source.randbytes(source.randrange(70_000)),
        ]
        content = b"".join(source.choices(pieces, k=source.randrange(40)))
        assert raw(client, upload(client, content)) == content


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"json": {}}, "file"),
        ({"files": {"purpose": (None, "batch")}}, "file"),
        ({"files": {"file": ("a.jsonl", b"{}")}}, "purpose"),
    ],
)
def test_an_upload_without_its_parts_is_refused(
    server: LLMServer, form: dict[str, Any], param: str
) -> None:
    """400 that names what is missing."""
    headers = {"Authorization": "Bearer sk-test"}
    answer = httpx2.post(f"{server.base_url}/files", headers=headers, **form)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "form", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\n"]
)
def test_a_broken_form_is_refused(server: LLMServer, form: bytes) -> None:
    """400, and nothing of it stays."""
    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Authorization": "Bearer sk-test",
    }
    answer = httpx2.post(f"{server.base_url}/files", content=form, headers=headers)
    assert answer.status_code == 400
    assert "could not parse the multipart form" in answer.json()["error"]["message"]
    assert list(server.folder.iterdir()) == []


def test_an_upload_may_expire_and_may_be_too_large(server: LLMServer, client: OpenAI) -> None:
    """A month for a batch's file if nothing is said; 413 beyond the limit."""
    policy: Any = {"anchor": "created_at", "seconds": 7200}
    kept = client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    short = client.files.create(file=("a.jsonl", b"{}"), purpose="batch", expires_after=policy)
    assert kept.expires_at == kept.created_at + 30 * 24 * 3600
    assert short.expires_at == short.created_at + 7200
    server.max_upload_bytes = 5
    with pytest.raises(APIStatusError) as refused:
        upload(client, b"123456")
    assert refused.value.status_code == 413
