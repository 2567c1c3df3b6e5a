"""The gate each HTTP call goes through: faults, key, handler, answer, log."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from aiohttp import web

from .errors import ApiError, Json, bad_key, error_body, no_key
from .faults import BEFORE, CONTENTS, CUTS, FLOODS, Fault, Kind, reshape
from .files import CHUNK, StoredFile
from .floods import send_flood
from .replies import to_json_bytes
from .settings import Settings

CHAT = "/chat/completions"
# Kinds after which an answer, or at least an error, is still sent as it is.
HARMLESS = CUTS | CONTENTS | {Kind.HIDE, Kind.DELAY}


class Logged(NamedTuple):
    """One HTTP call; status 0 means that it got no answer so far, or not all of it."""

    method: str
    path: str
    status: int


@dataclass
class Call:
    """A call as its handler sees it."""

    request: web.Request
    hide_lists: int = 0
    hide_retrieves: int = 0
    ignore_after: bool = False
    delay: float = 0.0

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters."""
        query = dict(self.request.query)
        if self.ignore_after:
            query.pop("after", None)
        return query

    def id(self) -> str:
        """The id in the path."""
        return self.request.match_info["id"]

    def drop(self) -> None:
        """Close the connection, so that the answer goes nowhere."""
        if self.request.transport is not None:
            self.request.transport.abort()

    async def wait(self) -> None:
        """The fault's delay: after the body has come, since aiohttp forgets what it has of it
        when the client gives up.
        """
        await asyncio.sleep(self.delay)

    async def body(self) -> Json:
        """The JSON object in the call's body."""
        content = await self.request.read()
        await self.wait()
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            message = "We could not parse the JSON body of your request."
            raise ApiError(400, message)
        return body


Result = Json | StoredFile
RunResult = Result | ApiError
Handler = Callable[[Call], Awaitable[Result]]


class Gauge:
    """How many live calls are under way, and how many were at most."""

    def __init__(self) -> None:
        self.now = 0
        self.highest = 0

    def __enter__(self) -> None:
        self.now += 1
        self.highest = max(self.highest, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class Gate:
    """Lets calls through to their handlers, or not, as the faults say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._numbers = count(1)
        self.live = Gauge()
        self.log: list[Logged] = []

    async def serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one call; the log has its place at once, its status before the client knows it."""
        path = request.path.removeprefix("/v1")
        effect, shapes = self._settings.faults.take(request.method, path)
        place = len(self.log)
        self.log.append(Logged(request.method, request.path, 0))
        with self.live if path == CHAT else nullcontext():
            answer = await self._serve(request, handler, effect, shapes)
        if _connected(request):
            status = 200 if isinstance(answer, StoredFile) else answer.status
            self.log[place] = Logged(request.method, request.path, status)
        return await _send_file(request, answer) if isinstance(answer, StoredFile) else answer

    async def _serve(
        self, request: web.Request, handler: Handler, effect: Fault | None, shapes: list[Fault]
    ) -> web.StreamResponse | StoredFile:
        """What the call is answered with, of which nothing is sent yet, unless it is a flood."""
        if effect is not None and effect.kind in BEFORE:
            await _drain(request)
            return await self._spoil(request, effect)
        outcome = await self._take_effect(request, handler, effect, shapes)
        if effect is not None and effect.kind in FLOODS:
            status = outcome.status if isinstance(outcome, ApiError) else 200
            return await send_flood(request, effect, *_whole(outcome), status)
        if effect is not None and effect.kind in CUTS and not isinstance(outcome, ApiError):
            return _send_cut(request, outcome, effect)
        if effect is not None and effect.kind in CONTENTS and isinstance(outcome, StoredFile):
            return _content(outcome, effect)
        if effect is not None and effect.kind is Kind.GARBLED:
            return _garbled(outcome, effect)
        if effect is not None and effect.kind not in HARMLESS:
            return await self._spoil(request, effect)
        if isinstance(outcome, ApiError):
            return self._json(outcome.body, outcome.status, dict(outcome.headers))
        return outcome if isinstance(outcome, StoredFile) else self._json(outcome)

    async def _take_effect(
        self, request: web.Request, handler: Handler, effect: Fault | None, shapes: list[Fault]
    ) -> RunResult:
        """What the call comes to, before anything of it is sent."""
        call = Call(request, ignore_after=any(f.kind is Kind.IGNORE_AFTER for f in shapes))
        if effect is not None:
            call.hide_lists, call.hide_retrieves = effect.hide_lists, effect.hide_retrieves
            call.delay = effect.seconds
        try:
            self._check_key(request)
            if not request.can_read_body:
                await call.wait()
            result = await handler(call)
        except ApiError as error:
            await _drain(request)
            return error
        return result if isinstance(result, StoredFile) else reshape(result, shapes)

    def _check_key(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise no_key()
        if self._settings.keys is not None and key not in self._settings.keys:
            raise bad_key(key)
        for name, value in self._settings.headers.items():
            if request.headers.get(name) != value:
                raise ApiError(401, f"{name}: {request.headers.get(name)} is not accepted.")

    async def _spoil(self, request: web.Request, fault: Fault) -> web.Response:
        """Refuse, drop or hang."""
        match fault.kind:
            case Kind.REFUSE | Kind.ERROR_AFTER:
                headers = dict(fault.headers)
                body, status = fault.answer_body, fault.answer_status
                if isinstance(body, str):
                    return web.Response(text=body, status=status, headers=headers)
                return self._json(body, status, headers)
            case Kind.HANG | Kind.HANG_AFTER:
                while _connected(request):
                    await asyncio.sleep(0.02)
        return _drop(request)

    def _json(
        self, body: Json, status: int = 200, headers: dict[str, str] | None = None
    ) -> web.Response:
        named = {"x-request-id": f"req_{next(self._numbers)}", **(headers or {})}
        content = to_json_bytes(body)
        return web.Response(
            body=content, status=status, headers=named, content_type="application/json"
        )


async def not_found(call: Call) -> Result:
    """Any path or method that the API does not have."""
    message = f"Invalid URL ({call.request.method} {call.request.path})"
    raise ApiError.of(404, error_body(message), {})


def _connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


async def _drain(request: web.Request) -> None:
    """Read what the client still sends, so that it gets to see the answer."""
    async for _ in request.content.iter_chunked(CHUNK):
        pass


def _drop(request: web.Request) -> web.Response:
    """Close the connection; the response is for aiohttp and goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _garbled(outcome: RunResult, fault: Fault) -> web.Response:
    """A 200 whose body is no JSON."""
    if isinstance(fault.body, str):
        return web.Response(text=fault.body, content_type="application/json")
    whole = json.dumps(outcome).encode() if isinstance(outcome, dict) else b"{{"
    return web.Response(body=whole[: len(whole) // 2], content_type="application/json")


async def _send_file(request: web.Request, file: StoredFile) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = file.bytes
    with file.path.open("rb") as content:
        await response.prepare(request)
        while chunk := content.read(CHUNK):
            await response.write(chunk)
    await response.write_eof()
    return response


def _content(file: StoredFile, fault: Fault) -> web.Response:
    """A file's content with the fault, in one piece."""
    body, headers = file.path.read_bytes(), {"Content-Type": "application/octet-stream"}
    if fault.kind is Kind.FEW_LINES:
        body = body[: body.rfind(b"\n", 0, fault.keep) + 1]
    else:
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}
    return web.Response(body=body, headers=headers)


def _whole(outcome: RunResult) -> tuple[bytes, str]:
    """The body of an answer, and its type."""
    if isinstance(outcome, StoredFile):
        return outcome.path.read_bytes(), "application/octet-stream"
    body = outcome.body if isinstance(outcome, ApiError) else outcome
    return to_json_bytes(body), "application/json"


def _send_cut(request: web.Request, result: Result, fault: Fault) -> web.Response:
    """Write part of the answer to the bare connection, as aiohttp would not lie about length."""
    whole, kind = _whole(result)
    content = whole[: len(whole) // 2 if fault.keep is None else fault.keep]
    head = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", "Connection: close"]
    if fault.kind is Kind.CUT:
        head.append(f"Content-Length: {len(whole)}")
    if fault.kind is Kind.CUT_CHUNKED:
        head.append("Transfer-Encoding: chunked")
        content = b"%x\r\n%b\r\n" % (len(content), content)
    if request.transport is not None:
        request.transport.write("\r\n".join([*head, "", ""]).encode() + content)
        request.transport.close()
    return web.Response()
