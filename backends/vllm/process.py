"""The command's side of an engine process: starting it, messages, and detecting a crash."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from backends.vllm.protocol import (
    Died,
    Generate,
    Load,
    Notice,
    Ready,
    Refused,
    Reply,
    Stepped,
    replies,
    send,
)
from store import UserError
from store.errors import EngineDied
from store.folder.private_files import users_umask
from store.requests import Request

# -P: folders named store or backends in the working directory must not be imported.
COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "backends.vllm.server")
ROOT = Path(__file__).parents[2]


class EngineProcess:
    """A loaded engine in a process, and process group, of its own."""

    def __init__(
        self, load: Load, log: Path, say: Callable[[str], None], command: Sequence[str] = COMMAND
    ) -> None:
        """Start it and wait until it is loaded, up to a minute; log: the file of its output.

        Raises UserError with the reason where it does not load, EngineDied where there is none.
        """
        self._oom_kills = oom_kills()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**_environment_without_keys(), "PYTHONPATH": path},
                umask=users_umask(),  # for files in caches
                start_new_session=True,  # a Ctrl-C goes to the command only
            )
        self._inbox: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._died: Died | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._send([load])
            while not isinstance(reply := self._next(), Ready):
                if isinstance(reply, Notice):
                    say(reply.line)
                elif isinstance(reply, Died):
                    raise UserError(reply.message)
        except BaseException:
            self.close()
            raise
        self.max_num_seqs = reply.max_num_seqs

    def generate(self, requests: Sequence[Request]) -> None:
        """Send requests; raises EngineDied."""
        self._send(
            [
                Generate(
                    request.request_id,
                    request.messages,
                    {name: value for name, value in request.params.items() if name != "model"},
                    request.tools,
                )
                for request in requests
            ]
        )

    def replies(self, timeout_seconds: float) -> list[Refused | Stepped]:
        """The replies so far, after at most that time; raises EngineDied when there are no more."""
        came: list[Refused | Stepped] = []
        with suppress(queue.Empty):
            while True:
                reply = self._inbox.get(timeout=0 if came else timeout_seconds)
                if isinstance(reply, Refused | Stepped):
                    came.append(reply)
                elif came:
                    self._inbox.put(reply)  # that it died, for the next call
                    return came
                else:
                    raise self._died_error()
        return came

    def close(self) -> None:
        """Kill it with its workers; requests in flight have no answer."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    def _send(self, messages: Sequence[Load | Generate]) -> None:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, list(messages))
        except OSError:
            raise self._died_error() from None

    def _next(self) -> Reply:
        reply = self._inbox.get()
        if reply is None:
            raise self._died_error()
        return reply

    def _read(self) -> None:
        """Read replies as they come, so that the engine never waits for the disk."""
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):  # closed
            for reply in replies(self._process.stdout):
                if isinstance(reply, Died):
                    self._died = reply  # also where a write fails first
                self._inbox.put(reply)
        self._inbox.put(None)

    def _died_error(self) -> EngineDied:
        if self._died is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # its pipe has ended
            self._reader.join(5)
        if (died := self._died) is not None:
            return EngineDied(died.message, out_of_memory=died.out_of_memory)
        code = self._process.returncode
        if code is None or code >= 0:
            return EngineDied("it ended without a message", out_of_memory=False)
        oom_killed = code == -signal.SIGKILL and oom_kills() > self._oom_kills
        why = ", by the kernel, for lack of memory" if oom_killed else ""
        return EngineDied(f"killed by {signal.Signals(-code).name}{why}", out_of_memory=oom_killed)


def _environment_without_keys() -> dict[str, str]:
    """The environment without API keys, since a model may contain code.

    HF_TOKEN stays: gated models need it.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name != "LLM_API_KEY" and not name.startswith("OPENAI_")
    }


def oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory (Linux; else 0)."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, value = line.split()
            if name == "oom_kill":
                return int(value)
    return 0
