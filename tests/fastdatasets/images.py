"""Small images for tests, and rows that have them."""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from pathlib import Path


def png(shade: int, more: int = 0) -> bytes:
    """A PNG of one pixel, with so many bytes of comment."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((0, shade))))
    comment = chunk(b"tEXt", b"Comment\0" + b"x" * more) if more else b""
    return b"\x89PNG\r\n\x1a\n" + header + comment + pixels + chunk(b"IEND", b"")


def data_url(image: bytes) -> str:
    """A PNG as requests have it."""
    return f"data:image/png;base64,{b64encode(image).decode()}"


def written(path: Path, image: bytes) -> Path:
    """Write an image, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
    return path


def image(url: str, **more: str) -> dict[str, object]:
    """A part of a message."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text(words: str) -> dict[str, object]:
    """A part of a message."""
    return {"type": "text", "text": words}


def user(*parts: object) -> dict[str, object]:
    """A turn of the user."""
    return {"role": "user", "content": list(parts)}
