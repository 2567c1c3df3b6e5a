"""Images of records: where their bytes are, and how they are written into requests.

Tables and requests keep a reference to each: the URL of one that the server fetches, else the
SHA-256 of the bytes, which makes the content part of a request's identity. The bytes stay in the
file that the dataset names; those that are in no file of their own are written to the run's folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from store.database.connection import Database

from store.database.arrow import table
from store.errors import RequestRefused, UserError
from store.folder.private_files import open_private
from store.folder.run_folder import IMAGES_NAME, disk_full_raised

PLACEHOLDER = "<image>"  # where an image is in a text, as LLaMA-Factory has it
DIGEST = "sha256:"  # of a reference to bytes
HEAD_BYTES = 12  # that tell an image's type
IMAGE_PAGE = 16  # rows with images read at a time
TYPES = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}

# A part of a message with such a reference, in canonical JSON. In a text its quotes are escaped.
PART = re.compile(
    rb'(?<=\{"image_url":\{)((?:"detail":"[a-z]*",)?"url":")sha256:([0-9a-f]{64})'
    rb'(?="\},"type":"image_url"\})'
)

IMAGE_SCHEMA = pa.schema(
    [
        ("record", pa.int64()),
        ("place", pa.int32()),
        ("url", pa.string()),
        ("detail", pa.string()),
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
    ]
)


class ImageUnreadable(RequestRefused):
    """An image's file is gone or has changed; its requests cannot be sent."""

    def __init__(self, sha256: str, message: str) -> None:
        super().__init__(message, "image")
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class SampledImage:
    """An image of a row that is sampled. url: as it is exported; path, data: one of them has the
    bytes, or neither where url is an address.
    """

    url: str
    detail: str | None = None
    path: Path | None = None
    data: bytes | None = None


def media_type(head: bytes) -> str | None:
    """The type of an image by its first bytes; None for others than OpenAI's API takes."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def name_of(sha256: str, head: bytes) -> str:
    """The path, from the run's folder, of an image that is kept there."""
    return f"{IMAGES_NAME}/{sha256}.{TYPES[media_type(head) or 'image/jpeg']}"


def data_url(data: bytes) -> bytes:
    """The bytes of an image as a data URL."""
    return b"data:%s;base64,%s" % ((media_type(data) or "image/jpeg").encode(), b64encode(data))


def data_url_bytes(size: int) -> int:
    """The length of the data URL of an image of so many bytes, at most."""
    return len("data:image/jpeg;base64,") + 4 * ((size + 2) // 3)


class Images:
    """The images of a run's records."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def rows(self, record: int, images: Sequence[SampledImage]) -> list[tuple[Any, ...]]:
        """The rows of the images of a record, for add; those without a file are written to the
        run's folder.

        Raises UserError where a file cannot be read, DiskFull.
        """
        return [
            (record, place, image.url, image.detail, *self._content(image))
            for place, image in enumerate(images)
        ]

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Store the rows of images."""
        if rows:
            with self._db.incoming(table(rows, IMAGE_SCHEMA)):
                self._db.run("insert_images")

    def _content(self, image: SampledImage) -> tuple[str | None, str | None, int | None]:
        """SHA-256, path and size of an image's bytes."""
        if image.path is not None:
            try:
                with image.path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                    return sha256, str(image.path), os.fstat(file.fileno()).st_size
            except OSError as error:
                reason = error.strerror or error
                raise UserError(f"cannot read the image {image.path}: {reason}") from None
        if image.data is None:
            return None, None, None
        path = self._db.path.parent / image.url
        with disk_full_raised(path):
            path.parent.mkdir(exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with os.fdopen(open_private(path, flags), "wb") as file:
                file.write(image.data)
        return hashlib.sha256(image.data).hexdigest(), image.url, len(image.data)

    def paths(self, digests: Iterable[str]) -> dict[str, Path]:
        """The file of each of these SHA-256."""
        folder = self._db.path.parent  # that of the run may have been moved
        # By a cursor of its own: the lines of a job file are being read.
        pages = self._db.pages("image_paths", IMAGE_PAGE, digests=list(digests))
        return {sha256: folder / path for rows in pages for sha256, path in rows}

    def in_lines(self, lines: bytes) -> Iterable[bytes]:
        """Lines of JSON in pieces, with data URLs in the place of references.

        Raises ImageUnreadable.
        """
        matches = list(PART.finditer(lines))
        if not matches:
            yield lines
            return
        paths = self.paths({match[2].decode() for match in matches})
        end = 0
        for match in matches:
            sha256 = match[2].decode()
            if sha256 in paths:
                yield lines[end : match.end(1)]
                yield data_url(_read(paths[sha256], sha256))
                end = match.end()
        yield lines[end:]


def with_data(messages: list[dict[str, Any]], paths: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Messages with data URLs in the place of references; paths: the files by SHA-256.

    Raises ImageUnreadable.
    """
    if not paths:
        return messages

    def read(part: dict[str, Any]) -> dict[str, Any]:
        image = part.get("image_url")
        if image is None or not image["url"].startswith(DIGEST):
            return part
        sha256 = image["url"].removeprefix(DIGEST)
        url = data_url(_read(paths[sha256], sha256)).decode()
        return {**part, "image_url": {**image, "url": url}}

    return [
        {**message, "content": list(map(read, message["content"]))}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def digests_in(messages: list[dict[str, Any]]) -> set[str]:
    """The SHA-256 of the images in messages that are not addresses."""
    return {
        part["image_url"]["url"].removeprefix(DIGEST)
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if part.get("image_url", {"url": ""})["url"].startswith(DIGEST)
    }


def _read(path: Path, sha256: str) -> bytes:
    """The bytes of an image; raises ImageUnreadable where they are not those of the digest."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
    else:
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
        reason = "has changed since it was sampled"
    raise ImageUnreadable(
        sha256,
        f"the image {path} {reason}; put it back, then resume with --retry-failed",
    )
