"""The files at the server: uploads and results, each a file in a temporary folder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time

from aiohttp import web

from .errors import Json, invalid, no_file
from .forms import Form
from .params import MONTH, Ids, check_query, check_upload, listing, page
from .settings import Settings

CHUNK = 1 << 18


@dataclass(frozen=True)
class StoredFile:
    """One file at the server."""

    id: str
    filename: str
    purpose: str
    path: Path
    bytes: int
    created_at: int
    expires_at: int | None

    def as_json(self) -> Json:
        """The file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
            "expires_at": self.expires_at,
        }


class FileStore:
    """All files, in the order of their creation."""

    def __init__(self, folder: Path, ids: Ids, settings: Settings) -> None:
        self._folder = folder
        self._ids = ids
        self._settings = settings
        self._files: dict[str, StoredFile] = {}

    def snapshot(self) -> dict[str, StoredFile]:
        """The files there are now, by id."""
        return self._files.copy()

    def get(self, file_id: str) -> StoredFile:
        """The file, or 404."""
        if file_id not in self._files:
            raise no_file(file_id)
        return self._files[file_id]

    def delete(self, file_id: str) -> Json:
        """Remove a file, whatever still needs it."""
        self.get(file_id).path.unlink()
        del self._files[file_id]
        return {"id": file_id, "object": "file", "deleted": True}

    def list(self, query: Mapping[str, str]) -> Json:
        """The page of GET /files that the query asks for, newest first unless it says asc."""
        check_query(query, ("purpose", "after", "limit", "order"))
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise invalid("order", f"'{order}' is neither 'asc' nor 'desc'.")
        files = [
            file
            for file in self._files.copy().values()
            if query.get("purpose") in (None, file.purpose)
        ]
        cap = self._settings.page_cap
        items = files if order == "asc" else files[::-1]
        found, more = page(items, query, default=10_000, most=10_000, cap=cap)
        return listing(found, more)

    def new_path(self) -> Path:
        """A place for a file that is still being written."""
        return self._folder / self._ids.new("part-")

    def link(self, file: StoredFile) -> Path:
        """A second name for a file's bytes."""
        path = self.new_path()
        path.hardlink_to(file.path)
        return path

    def add(
        self, path: Path, filename: str, purpose: str, expires_in: int | None = MONTH
    ) -> StoredFile:
        """Take a written file in under a new id."""
        now = int(time())
        file = StoredFile(
            id=self._ids.new("file-"),
            filename=filename,
            purpose=purpose,
            path=path,
            bytes=path.stat().st_size,
            created_at=now,
            expires_at=now + expires_in if expires_in else None,
        )
        self._files[file.id] = file
        return file

    async def receive(self, request: web.Request, delay: float) -> Json:
        """POST /files: write the upload to disk as it comes, then judge the whole form."""
        form = Form(request, self.new_path(), self._settings.max_upload_bytes)
        try:
            await form.read()
            await asyncio.sleep(delay)
            expires_in = check_upload(form.fields, form.filename)
        except BaseException:  # a client that goes away in the middle leaves nothing, too
            form.path.unlink(missing_ok=True)
            raise
        purpose = form.fields["purpose"]
        return self.add(form.path, form.filename or "", purpose, expires_in).as_json()
