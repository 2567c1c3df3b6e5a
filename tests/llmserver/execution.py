"""Running a batch: from the lines of its input file to its output and error files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .bill import Bill, Body, Usage
from .errors import Json
from .inputs import read_requests
from .linefaults import (
    FILE_KINDS,
    UNBILLED,
    LineFault,
    LineKind,
    not_run,
    odd_reply,
    spoil_file,
    written,
)
from .model import respond
from .replies import Reply, response_body, to_json_bytes, usage_of
from .settings import Settings

NO_KINDS: set[LineKind] = set()


@dataclass
class Job:
    """What to run: the first `done` lines of a file, and how to name the others."""

    batch_id: str
    number: int
    input: Path
    done: int
    unfinished_code: str
    created: int


@dataclass
class Tally:
    """What a run came to."""

    completed: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)


class Execution:
    """One run of a batch, which writes `output` and `errors` and charges the bill."""

    def __init__(self, job: Job, settings: Settings, bill: Bill) -> None:
        self._job = job
        self._settings = settings
        self._bill = bill
        faults = [fault for fault in settings.line_faults if fault.is_for(job.number)]
        self._line_faults = [fault for fault in faults if fault.kind not in FILE_KINDS]
        self._file_faults = [fault for fault in faults if fault.kind in FILE_KINDS]
        self._prefix = job.batch_id.removeprefix("batch_")
        self.tally = Tally()

    def run(self, output: Path, errors: Path) -> Tally:
        """Run all lines; a file without lines is removed, as the API does not show it."""
        with output.open("wb") as good, errors.open("wb") as bad:
            for number, (custom_id, body) in enumerate(
                read_requests(self._job.input, self._settings)
            ):
                if number < self._job.done:
                    self._run_line(number, custom_id, body, good, bad)
                elif self._settings.list_unfinished:
                    line = self._line(number, custom_id, None, self._job.unfinished_code)
                    bad.write(to_json_bytes(line) + b"\n")
        self._spoil(output, errors)
        return self.tally

    def _run_line(
        self, number: int, custom_id: str, body: Body, good: IO[bytes], bad: IO[bytes]
    ) -> None:
        faults = [fault for fault in self._line_faults if fault.strikes(body, custom_id)]
        kinds = {fault.kind for fault in faults} if faults else NO_KINDS
        if LineKind.NOT_RUN in kinds:
            code = next(f.code or "batch_expired" for f in faults if f.kind is LineKind.NOT_RUN)
            self.tally.failed += 1
            self._write(bad, self._line(number, custom_id, None, code), kinds)
            return
        reply = self._reply(body, faults, kinds)
        usage = usage_of(body, reply)
        name = f"{self._prefix}{number}"
        response: Json = {
            "status_code": reply.status_code,
            "request_id": f"req_{name}",
            "body": response_body(body, reply, usage, name, self._job.created),
        }
        self._count(body, reply, usage, kinds)
        line = self._line(number, custom_id, response, None)
        self._write(good if reply.billable else bad, line, kinds)

    def _reply(self, body: Body, faults: list[LineFault], kinds: set[LineKind]) -> Reply:
        if LineKind.HTTP_ERROR in kinds:
            return next(fault.reply for fault in faults if fault.kind is LineKind.HTTP_ERROR)
        reply = respond(body, self._settings)
        return odd_reply(reply, kinds) if kinds else reply

    def _count(self, body: Body, reply: Reply, usage: Usage, kinds: set[LineKind]) -> None:
        if not reply.billable:
            self.tally.failed += 1
            return
        self.tally.completed += LineKind.MISSING not in kinds
        if not kinds & UNBILLED:
            self.tally.usage += usage
            self._bill.charge(body, usage, live=False)

    def _line(self, number: int, custom_id: str, response: Json | None, code: str | None) -> Json:
        return {
            "id": f"batch_req_{self._prefix}{number}",
            "custom_id": custom_id,
            "response": response,
            "error": not_run(code) if code else None,
        }

    def _write(self, out: IO[bytes], line: Json, kinds: set[LineKind]) -> None:
        if not kinds:
            out.write(to_json_bytes(line) + b"\n")
        elif not kinds & {LineKind.MISSING, LineKind.WITHHELD}:
            out.writelines(raw + b"\n" for raw in written(line, kinds))

    def _spoil(self, output: Path, errors: Path) -> None:
        kinds = {fault.kind for fault in self._file_faults}
        for fault in self._file_faults:
            fault.fired.append(self._job.batch_id)
        for path in (output, errors):
            if path.stat().st_size:
                spoil_file(path, kinds, self._settings.seed)
            elif path is output or LineKind.EMPTY_ERROR_FILE not in kinds:
                path.unlink()
