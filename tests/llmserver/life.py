"""The life of batches: created, moved on by looks or by the test, ended."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Literal

from .batches import Batch, Fate, Status, failed, token_limit, token_limit_message
from .bill import Bill
from .errors import ApiError, Json, no_batch
from .execution import Execution, Job, Tally
from .files import FileStore
from .inputs import Scan, scan
from .params import MONTH, Ids
from .settings import Settings


class BatchStore:
    """All batches, in the order of their creation.

    Their files are scanned and run by one worker thread, in that order; statuses change only
    under the lock, by the looks of clients and by the test's own thread.
    """

    def __init__(
        self,
        settings: Settings,
        files: FileStore,
        bill: Bill,
        ids: Ids,
        worker: Executor,
    ) -> None:
        self._settings = settings
        self._files = files
        self._bill = bill
        self._ids = ids
        self._worker = worker
        self._batches: dict[str, Batch] = {}
        self._created = 0
        self._lock = threading.Lock()

    def snapshot(self) -> dict[str, Batch]:
        """The batches there are now, by id."""
        return self._batches.copy()

    def create(self, params: Json, hide_lists: int, hide_retrieves: int) -> Batch:
        """A new batch, whose validation begins in the background."""
        file = self._files.get(params["input_file_id"])
        if file.purpose != "batch":
            message = f"Invalid file purpose: expected 'batch', but got '{file.purpose}'."
            raise ApiError(400, message, param="input_file_id", code="invalid_file_purpose")
        with self._lock:
            batch = Batch(
                id=self._ids.new("batch_"),
                number=self._created,
                input_file_id=file.id,
                input=self._files.link(file),
                endpoint=params["endpoint"],
                completion_window=params["completion_window"],
                metadata=params.get("metadata"),
                output_expires_in=(params.get("output_expires_after") or {}).get("seconds", MONTH),
                fate=self._next_fate(),
                hidden_lists=hide_lists,
                hidden_retrieves=hide_retrieves,
            )
            self._created += 1
            self._batches[batch.id] = batch
            batch.work = self._worker.submit(self._validate, batch)
        return batch

    def _next_fate(self) -> Fate:
        fates = self._settings.fates
        return (fates.pop(0) if fates else None) or Fate()

    async def check_limit(self, params: Json) -> None:
        """Refuse a batch over the token limit, where POST /batches itself does that."""
        form = self._settings.enqueued_form
        if form == "failed":
            return
        path = self._files.get(params["input_file_id"]).path
        work = self._worker.submit(scan, path, params["endpoint"], self._settings)
        found = await asyncio.wrap_future(work)
        limit = self._exceeded(found)
        if limit is not None:
            message = token_limit_message(found.model or "", limit)
            raise ApiError(form, message, code="token_limit_exceeded")

    def find(self, batch_id: str) -> Batch:
        """The batch as a client sees it: 404 while it is hidden."""
        batch = self._batches.get(batch_id)
        if batch is None:
            raise no_batch(batch_id)
        if batch.hidden_retrieves:
            batch.hidden_retrieves -= 1
            raise no_batch(batch_id)
        return batch

    def visible(self, query: Mapping[str, str]) -> list[Batch]:
        """The batches that a list shows, in its order; only a first page wears hiding off."""
        with self._lock:
            batches = list(self._batches.values())
            shown = [batch for batch in batches if not batch.hidden_lists]
            if "after" not in query:
                for batch in batches:
                    batch.hidden_lists = max(batch.hidden_lists - 1, 0)
        if self._settings.list_order == "newest":
            shown.reverse()
        elif self._settings.list_order == "shuffled":
            seed = self._settings.seed
            shown.sort(key=lambda batch: random.Random(f"{seed}-{batch.number}").random())
        return shown

    async def look(self, batch: Batch) -> None:
        """A client looks at a batch, which may move it on."""
        pace = self._settings.looks
        if pace is None or batch.ended:
            return
        batch.looks += 1
        if batch.looks < pace:
            return
        while not batch.ended and await self._ready(batch, self._settings.patience):
            self._step(batch)
            if pace:
                return

    async def _ready(self, batch: Batch, patience: float | None) -> bool:
        """Whether the work in the background is done, waiting for it with some patience."""
        if batch.work is None:
            return True
        done, _ = await asyncio.wait([asyncio.wrap_future(batch.work)], timeout=patience)
        return bool(done)

    def cancel(self, batch: Batch) -> None:
        """A client cancels a batch: what is finished by now is kept and billed."""
        with self._lock:
            if batch.status not in (Status.VALIDATING, Status.IN_PROGRESS):
                message = f"Cannot cancel a batch with status '{batch.status}'."
                raise ApiError(409, message)
            started = batch.status is Status.IN_PROGRESS
            batch.enter(Status.CANCELLING)
            if started:
                batch.work = self._execute(batch, "batch_cancelled")

    def run_to_end(self, batch_id: str, fate: Fate | None = None) -> Batch:
        """Bring a batch to its end, or to another fate, from the test's thread."""
        batch = self._batches[batch_id]
        if fate is not None:
            batch.fate = fate
            if batch.status is Status.IN_PROGRESS and fate.done is not None:
                batch.done = fate.done
        while not batch.ended:
            if batch.work is not None:
                wait([batch.work])
            self._step(batch)
        return batch

    def _step(self, batch: Batch) -> None:
        """One status further, if the work in the background is done."""
        with self._lock:
            if batch.ended or (batch.work is not None and not batch.work.done()):
                return
            match batch.status:
                case Status.VALIDATING:
                    self._leave_validation(batch)
                case Status.IN_PROGRESS if batch.input_file_id not in self._files.snapshot():
                    message = "The input file was deleted before the batch ended."
                    batch.fate = failed("input_file_not_found", message)
                    self._end(batch, Status.FAILED)
                case Status.IN_PROGRESS if batch.fate.fails_unrun:
                    self._end(batch, Status.FAILED)
                case Status.IN_PROGRESS:
                    batch.enter(Status.FINALIZING)
                    batch.work = self._execute(batch, "batch_expired")
                case Status.FINALIZING:
                    self._close(batch, batch.fate.end)
                case Status.CANCELLING:
                    self._close(batch, Status.CANCELLED)

    def _leave_validation(self, batch: Batch) -> None:
        self._work_result(batch)
        if batch.errors:
            batch.fate = Fate(Status.FAILED)
        if batch.fate.fails_unrun:
            self._end(batch, Status.FAILED)
            return
        done = batch.fate.done
        batch.done = batch.total // 2 if done is None else min(done, batch.total)
        batch.enter(Status.IN_PROGRESS)

    def _close(self, batch: Batch, end: Status) -> None:
        self._work_result(batch)
        self._end(batch, end)

    def _end(self, batch: Batch, status: Status) -> None:
        if status is Status.FAILED:
            batch.errors += batch.fate.errors
        batch.enqueued = 0
        batch.input.unlink()
        batch.enter(status)

    def _work_result(self, batch: Batch) -> None:
        """Let a crash of the worker be seen by whoever looks."""
        if batch.work is not None:
            batch.work.result()
            batch.work = None

    def _validate(self, batch: Batch) -> None:
        found = scan(batch.input, batch.endpoint, self._settings)
        with self._lock:
            batch.model, batch.total = found.model, found.total
            batch.errors = found.errors
            limit = self._exceeded(found)
            if batch.errors or batch.ended:
                return
            if limit is not None:
                batch.errors = list(token_limit(found.model or "", limit).errors)
            else:
                batch.enqueued = self._tokens(found)

    def _tokens(self, found: Scan) -> int:
        return int(found.tokens * self._settings.token_factor)

    def _exceeded(self, found: Scan) -> int | None:
        """The limit that a file would break, counting what is enqueued already; or None."""
        limit = self._settings.limit_of(found.model or "")
        batches = self.snapshot().values()
        enqueued = sum(batch.enqueued for batch in batches if batch.model == found.model)
        over = limit is not None and enqueued + self._tokens(found) > limit
        return limit if over else None

    def _execute(self, batch: Batch, unfinished_code: str) -> Future[None]:
        cut = batch.status is Status.CANCELLING or batch.fate.end is not Status.COMPLETED
        job = Job(
            batch_id=batch.id,
            number=batch.number,
            input=batch.input,
            done=batch.done if cut else batch.total,
            unfinished_code=unfinished_code,
            created=batch.created_at,
        )
        return self._worker.submit(self._run, batch, job)

    def _run(self, batch: Batch, job: Job) -> None:
        output, errors = self._files.new_path(), self._files.new_path()
        execution = Execution(job, self._settings, self._bill)
        tally = execution.run(output, errors)
        with self._lock:
            self._take_results(batch, tally, output, errors)

    def _take_results(self, batch: Batch, tally: Tally, output: Path, errors: Path) -> None:
        batch.done, batch.failed, batch.usage = tally.completed, tally.failed, tally.usage
        batch.output_file_id = self._add(batch, output, "output")
        batch.error_file_id = self._add(batch, errors, "error")

    def _add(self, batch: Batch, path: Path, what: Literal["output", "error"]) -> str | None:
        if not path.exists():
            return None
        name = f"{batch.id}_{what}.jsonl"
        file_id = self._files.add(path, name, "batch_output", batch.output_expires_in).id
        if what in self._settings.absent_files:
            self._files.delete(file_id)
        return file_id
