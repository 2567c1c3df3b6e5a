"""Files of jobs: one JSONL file each, written from the store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from store.database.arrow import (
    BODY_SCHEMA,
    table,
)
from store.database.statements import QUERIES
from store.images import Images

if TYPE_CHECKING:
    from store.database.connection import Database

# U+007F to U+009F, U+2028 and U+2029 in UTF-8: some servers take them for line ends, or refuse
# them. In JSON they only occur in strings. Their first bytes are a fast check for their absence.
_MISREAD = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]")
_MISREAD_BYTES = (b"\x7f", b"\xc2", b"\xe2\x80\xa8", b"\xe2\x80\xa9")


def write_job_file(
    database: Database,
    job_id: str,
    folder: Path,
    endpoint: str,
    body: Callable[[dict[str, Any]], dict[str, Any]],
) -> str:
    """Write a job's JSONL file, a few megabytes in memory at a time; returns its SHA-256.

    Raises ImageUnreadable.
    """
    images = Images(database)
    first, last, different = database.row("job_span", job_id=job_id)
    openings = [
        (params, msgspec.json.encode(body(msgspec.json.decode(params))).decode()[:-1])
        for params in different
    ]
    digest = hashlib.sha256()
    with (
        database.incoming(table(openings, BODY_SCHEMA)),
        job_file(folder, job_id).open("wb") as file,
    ):
        lines = {"job_id": job_id, "endpoint": endpoint, "first": first, "last": last}
        for _, texts in database.texts(QUERIES["job_lines"], **lines):
            for data in images.in_lines(_escaped(texts)):
                digest.update(data)
                file.write(data)
    return digest.hexdigest()


def _escaped(texts: memoryview) -> bytes:
    """Lines of JSON with escapes for characters that some servers misread."""
    lines = bytes(texts)
    if not any(part in lines for part in _MISREAD_BYTES):
        return lines
    return _MISREAD.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), lines)


def job_file(folder: Path, job_id: str) -> Path:
    """The path of a job's JSONL file in the run's folder, until it is uploaded."""
    jobs = folder / "jobs"
    jobs.mkdir(exist_ok=True)
    return jobs / f"{job_id}.jsonl"
