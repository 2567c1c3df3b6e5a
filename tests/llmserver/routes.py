"""The endpoints: what each call does when nothing is in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from time import time

from aiohttp import web

from .bill import Bill
from .errors import ApiError, Json
from .files import FileStore
from .gate import CHAT, Call, Gate, Handler, Result, not_found
from .life import BatchStore
from .model import no_model, respond
from .params import check_batch, check_query, listing, page
from .replies import response_body, usage_of
from .settings import Settings


class Api:
    """Files, batches, live chat completions and models."""

    def __init__(
        self, settings: Settings, files: FileStore, batches: BatchStore, bill: Bill
    ) -> None:
        self._settings = settings
        self._files = files
        self._batches = batches
        self._bill = bill
        self._numbers = count(1)

    def application(self, gate: Gate) -> web.Application:
        """The aiohttp application in which every call goes through the gate."""
        app = web.Application()
        endpoints: list[tuple[str, str, Handler]] = [
            ("POST", "/files", self.upload),
            ("GET", "/files", self.list_files),
            ("GET", "/files/{id}", self.file),
            ("DELETE", "/files/{id}", self.delete_file),
            ("GET", "/files/{id}/content", self.content),
            ("POST", "/batches", self.create_batch),
            ("GET", "/batches", self.list_batches),
            ("GET", "/batches/{id}", self.batch),
            ("POST", "/batches/{id}/cancel", self.cancel),
            ("POST", CHAT, self.chat),
            ("GET", "/models", self.models),
            ("GET", "/models/{id}", self.model),
        ]
        for method, path, handler in endpoints:
            app.router.add_route(method, f"/v1{path}", _through(gate, handler))
        app.router.add_route("*", "/{tail:.*}", _through(gate, not_found))
        return app

    async def upload(self, call: Call) -> Result:
        """POST /files"""
        return await self._files.receive(call.request, call.delay)

    async def list_files(self, call: Call) -> Result:
        """GET /files"""
        return self._files.list(call.query)

    async def file(self, call: Call) -> Result:
        """GET /files/{id}"""
        return self._files.get(call.id()).as_json()

    async def delete_file(self, call: Call) -> Result:
        """DELETE /files/{id}"""
        return self._files.delete(call.id())

    async def content(self, call: Call) -> Result:
        """GET /files/{id}/content"""
        return self._files.get(call.id())

    async def create_batch(self, call: Call) -> Result:
        """POST /batches"""
        params = await call.body()
        check_batch(params, self._settings)
        await self._batches.check_limit(params)
        batch = self._batches.create(params, call.hide_lists, call.hide_retrieves)
        return batch.as_json()

    async def list_batches(self, call: Call) -> Result:
        """GET /batches"""
        check_query(call.query, ("after", "limit"))
        batches = self._batches.visible(call.query)
        cap = self._settings.page_cap
        shown, more = page(batches, call.query, default=20, most=100, cap=cap)
        for batch in shown:
            await self._batches.look(batch)
        return listing(shown, more)

    async def batch(self, call: Call) -> Result:
        """GET /batches/{id}"""
        batch = self._batches.find(call.id())
        await self._batches.look(batch)
        return batch.as_json()

    async def cancel(self, call: Call) -> Result:
        """POST /batches/{id}/cancel"""
        batch = self._batches.find(call.id())
        self._batches.cancel(batch)
        return batch.as_json()

    async def chat(self, call: Call) -> Result:
        """POST /chat/completions, without streaming"""
        body = await call.body()
        if body.get("stream"):
            raise ApiError(400, "This server does not stream.", param="stream")
        await asyncio.sleep(self._settings.latency)
        reply = respond(body, self._settings)
        usage = usage_of(body, reply)
        response = response_body(body, reply, usage, str(next(self._numbers)), int(time()))
        if not reply.billable:
            raise ApiError.of(reply.status_code, response, reply.headers)
        self._bill.charge(body, usage, live=True)
        if reply.drop:
            call.drop()
        return response

    async def models(self, _call: Call) -> Result:
        """GET /models"""
        names = self._settings.models or ()
        return {"object": "list", "data": [self._model(name) for name in names]}

    async def model(self, call: Call) -> Result:
        """GET /models/{id}"""
        models = self._settings.models
        if models is not None and call.id() not in models:
            raise ApiError.of(404, no_model(call.id()), {})
        return self._model(call.id())

    def _model(self, name: str) -> Json:
        owner = self._settings.owned_by
        return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": owner}


def _through(
    gate: Gate, handler: Handler
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await gate.serve(request, handler)

    return serve
