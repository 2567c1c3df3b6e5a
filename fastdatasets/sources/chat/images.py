"""Images of a row: parts of its turns, and a column of images.

In the texts of a record each image is an '<image>', as LLaMA-Factory has it; the images are in the
order of these.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fastdatasets.sources.chat.tools import decoded
from fastdatasets.sources.chat.turns import HAS_MEDIA, ROLE_KEYS, TEXT_KEYS, LeftOut, Message
from store.images import HEAD_BYTES, PLACEHOLDER, SampledImage, media_type, name_of
from store.records import UNREADABLE_IMAGE

OTHER_NUMBER = "with another number of images than of <image> in the texts"
NOT_AN_IMAGE = "with an image that is no JPEG, PNG, WebP or GIF"
NOT_OF_USER = "with images outside of the user's turns"
PART_TYPES = ("image", "image_url", "input_image")
DETAILS = ("low", "high", "auto")

_CHATS = ("history", "chat", "preferred")  # roles whose value may be the JSON of turns
_ROLES = (*_CHATS, "instruction", "input")
_DATA = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


class FoundImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image of a row, as SampledImage, before it is known whether the row is sampled.

    data: in base64; blob: its place among the bytes of the row's column of images.
    """

    url: str
    detail: str | None = None
    path: str | None = None
    data: str | None = None
    blob: int | None = None


def take_images(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """A row with '<image>' for each image in its turns, and what refers to each, in order.

    None of these '<image>' is there where the images are a column's and belong to the first
    question. Raises LeftOut.
    """
    parts: list[Any] = []
    texts = {
        role: _turns(decoded(row[role]) if role in _CHATS else row[role], parts)
        for role in _ROLES
        if row.get(role) not in (None, "")
    }
    column = list(_column(row.get("images")))
    if None in parts:  # TRL's form: parts without an image, which is in the column
        rest = iter(column)
        images = [part if part is not None else next(rest, None) for part in parts]
        if None in images or next(rest, None) is not None:
            raise LeftOut(OTHER_NUMBER)
    else:
        images = parts or column
    placeholders = msgspec.json.encode(texts).count(PLACEHOLDER.encode())
    if images and placeholders not in (0, len(images)):
        raise LeftOut(OTHER_NUMBER)
    return {**row, **texts}, images


def used_images(
    images: Sequence[Any],
    system: str | None,
    history: Sequence[Message],
    asked: Sequence[str],
    folders: Sequence[Path],
) -> list[FoundImage]:
    """The images of the turns that a record keeps; asked: the texts of its questions.

    folders: where paths are looked for. Raises LeftOut.
    """
    if PLACEHOLDER in (system or "") or any(
        PLACEHOLDER in message["content"] for message in history if message["role"] != "user"
    ):
        raise LeftOut(NOT_OF_USER)
    texts = [message["content"] for message in history if message["role"] == "user"]
    used = sum(text.count(PLACEHOLDER) for text in (*texts, *asked))
    return [_found(image, folders) for image in images[:used]]


def sampled_images(found: str, blobs: Sequence[bytes | None] | None) -> list[SampledImage]:
    """The images of a sampled row. found: JSON of a list of FoundImage; blobs: of its column."""
    return [
        SampledImage(
            image.url,
            image.detail,
            None if image.path is None else Path(image.path),
            b64decode(image.data)
            if image.data is not None
            else None
            if image.blob is None or blobs is None
            else blobs[image.blob],
        )
        for image in msgspec.json.decode(found, type=list[FoundImage])
    ]


def _turns(value: Any, found: list[Any]) -> Any:
    """A value of turns, pairs or parts with '<image>' in the place of images."""
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        return {**value, "messages": _turns(value["messages"], found)}
    return [_turn(turn, found) for turn in value] if isinstance(value, list) else value


def _turn(turn: Any, found: list[Any]) -> Any:
    if isinstance(turn, list):  # a pair of question and answer
        return [_content(text, found) for text in turn]
    if isinstance(turn, Mapping) and any(turn.get(key) is not None for key in ROLE_KEYS):
        return {
            key: _content(value, found) if key in TEXT_KEYS else value
            for key, value in turn.items()
        }
    return _part(turn, found)


def _content(content: Any, found: list[Any]) -> Any:
    if isinstance(content, list):
        return [_part(part, found) for part in content]
    return _part(content, found)


def _part(part: Any, found: list[Any]) -> Any:
    is_image = isinstance(part, Mapping) and (
        part.get("type") in PART_TYPES or any(part.get(name) is not None for name in PART_TYPES)
    )
    if not is_image:
        return part
    found.append(_reference(part))
    return PLACEHOLDER


def _reference(part: Mapping[str, Any]) -> Any:
    """What a part says of its image: {url, detail}; None where it says nothing."""
    if isinstance(source := part.get("source"), Mapping):  # Anthropic's
        if source.get("type") == "base64":
            return {"url": f"data:{source.get('media_type')};base64,{source.get('data')}"}
        return {"url": source.get("url")}
    names = (*PART_TYPES, "url", "path")
    image = next((part[name] for name in names if part.get(name) is not None), None)
    if image is None:
        return None
    if isinstance(image, Mapping):
        return {"detail": part.get("detail"), **image}
    return {"url": image, "detail": part.get("detail")}


def _column(value: Any) -> Iterator[Any]:
    """What a column of images refers to, one or several: {url} or {sha256, head, path, blob}."""
    value = decoded(value)
    if value in (None, "", []):
        return
    for place, image in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(image, Mapping):
            if any(image.get(key) is not None for key in ("sha256", "url", "path")):
                yield {**image, "blob": place}
        elif image not in (None, ""):
            yield {"url": image}


def _found(image: Mapping[str, Any], folders: Sequence[Path]) -> FoundImage:
    if image.get("sha256") is not None:  # bytes of a column; see convert.py
        head = bytes.fromhex(image["head"])
        if media_type(head) is None:
            raise LeftOut(NOT_AN_IMAGE)
        return FoundImage(name_of(image["sha256"], head), blob=image["blob"])
    url = image.get("url") or image.get("path")
    detail = image.get("detail") if image.get("detail") in DETAILS else None
    if not isinstance(url, str):
        raise LeftOut(HAS_MEDIA)
    if url.lower().startswith(("http://", "https://")):
        return FoundImage(url, detail)
    if described := _DATA.match(url):
        data = url[described.end() :]
        try:
            content = b64decode(data)
        except (binascii.Error, ValueError):
            raise LeftOut(NOT_AN_IMAGE) from None
        if media_type(content) is None:
            raise LeftOut(NOT_AN_IMAGE)
        return FoundImage(name_of(hashlib.sha256(content).hexdigest(), content), detail, data=data)
    return FoundImage(url, detail, path=str(_file(url.removeprefix("file://"), folders)))


def _file(name: str, folders: Sequence[Path]) -> Path:
    """The file of a path, absolute or from one of the folders; raises LeftOut."""
    for folder in [Path("/")] if Path(name).is_absolute() else folders:
        path = folder / name
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except (OSError, ValueError):
            continue
        if media_type(head) is None:
            raise LeftOut(NOT_AN_IMAGE)
        return path
    raise LeftOut(UNREADABLE_IMAGE)
