"""The server: one object in the test's process, served by a thread of its own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from aiohttp import web

from .batches import Batch, expired, failed
from .bill import Bill
from .files import FileStore, StoredFile
from .gate import Gate, Logged
from .life import BatchStore
from .params import Ids
from .routes import Api
from .settings import Settings


@dataclass(kw_only=True, eq=False)
class LLMServer(Settings):
    """A strict double of OpenAI's Files, Batches and chat completions on 127.0.0.1.

        with LLMServer(looks=0) as server:
            client = OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)

    It keeps a bill of what was executed, and fails as `faults`, `line_faults` and `fates` say;
    these and all settings may be changed while it runs. `stop` and `start` take it off the
    network and back to the same port with all it knows.
    """

    def __post_init__(self) -> None:
        self.bill = Bill(digests=self.bill_digests)
        self.folder = Path(tempfile.mkdtemp(prefix="llmserver-"))
        self._thread: threading.Thread | None = None
        self._halt: Callable[[], object] = lambda: None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmserver-worker")
        ids = Ids(self.seed)
        self._files = FileStore(self.folder, ids, self)
        self._batches = BatchStore(self, self._files, self.bill, ids, self._worker)
        self._gate = Gate(self)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except OSError:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def batches(self) -> dict[str, Batch]:
        """All batches by id, in the order of their creation, hidden ones too."""
        return self._batches.snapshot()

    @property
    def files(self) -> dict[str, StoredFile]:
        """All files by id, in the order of their creation."""
        return self._files.snapshot()

    @property
    def requests_log(self) -> list[Logged]:
        """All HTTP calls in the order they came in, with the status of their answer."""
        return self._gate.log.copy()

    @property
    def max_concurrency(self) -> int:
        """The most live calls that were under way at once."""
        return self._gate.live.highest

    def start(self) -> Self:
        """Listen, at the same port as before if there was one."""
        ready: Future[int] = Future()
        thread = threading.Thread(target=self._run, args=(ready,), name="llmserver", daemon=True)
        thread.start()
        self.port = ready.result()
        self._thread = thread
        return self

    def stop(self) -> None:
        """Break all connections and stop listening; everything the server knows stays."""
        if self._thread is not None:
            self._halt()
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """Stop for good and remove the files."""
        self.stop()
        self._worker.shutdown(cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, batch_id: str) -> Batch:
        """Bring a batch to the end it is fated to, or that a cancellation asked for."""
        return self._batches.run_to_end(batch_id)

    def expire(self, batch_id: str, done: int = 0) -> Batch:
        """Let a batch expire after so many finished lines."""
        return self._batches.run_to_end(batch_id, expired(done))

    def fail(
        self, batch_id: str, code: str, message: str = "", *, line: int | None = None
    ) -> Batch:
        """Let a batch fail before any line of it has run."""
        return self._batches.run_to_end(batch_id, failed(code, message, line=line))

    def settle(self) -> None:
        """Bring all batches to their end, so that the bill holds what nobody waits for, too."""
        for batch_id in self.batches:
            self.finish(batch_id)

    def _run(self, ready: Future[int]) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: Future[int]) -> None:
        stopping = asyncio.Event()
        self._halt = partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
        app = Api(self, self._files, self._batches, self.bill).application(self._gate)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            ready.set_exception(error)
        else:
            ready.set_result(runner.addresses[0][1])
            await stopping.wait()
        await runner.cleanup()
