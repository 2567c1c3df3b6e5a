"""The command's end of an engine process: starting it, speaking with it, noticing its death."""

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
    Ready,
    Refused,
    Reply,
    Said,
    Stepped,
    replies,
    send,
)
from store import UserError
from store.errors import EngineDied
from store.folder.private_files import users_umask
from store.requests import Request

# -P: a folder of the user's named store or backends must not come before ours.
COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "backends.vllm.server")
HOME = Path(__file__).parents[2]


class EngineProcess:
    """A loaded engine in a process, and process group, of its own."""

    def __init__(
        self, load: Load, log: Path, say: Callable[[str], None], command: Sequence[str] = COMMAND
    ) -> None:
        """Start it and wait until it is loaded, which takes most of a minute; its output: log.

        Raises UserError with its reason where it does not load, EngineDied where it gives none.
        """
        self._oom_kills = oom_kills()
        path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**_without_our_keys(), "PYTHONPATH": path},
                umask=users_umask(),  # of what it puts into caches
                start_new_session=True,  # a Ctrl-C is the command's to handle
            )
        self._inbox: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._last_word: Died | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._send([load])
            while not isinstance(reply := self._next(), Ready):
                if isinstance(reply, Said):
                    say(reply.line)
                elif isinstance(reply, Died):
                    raise UserError(reply.message)
        except BaseException:
            self.close()
            raise
        self.max_num_seqs = reply.max_num_seqs

    def generate(self, requests: Sequence[Request]) -> None:
        """Hand over requests; raises EngineDied."""
        self._send(
            [
                Generate(
                    request.request_id,
                    request.messages,
                    {name: value for name, value in request.params.items() if name != "model"},
                )
                for request in requests
            ]
        )

    def replies(self, timeout_seconds: float) -> list[Refused | Stepped]:
        """What came, after that time at the latest; raises EngineDied once all is told."""
        came: list[Refused | Stepped] = []
        with suppress(queue.Empty):
            while True:
                reply = self._inbox.get(timeout=0 if came else timeout_seconds)
                if isinstance(reply, Refused | Stepped):
                    came.append(reply)
                elif came:
                    self._inbox.put(reply)  # its death, for the next call
                    return came
                else:
                    raise self._death()
        return came

    def close(self) -> None:
        """End it at once, its workers too; what it had in flight has no answer."""
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
            raise self._death() from None

    def _next(self) -> Reply:
        reply = self._inbox.get()
        if reply is None:
            raise self._death()
        return reply

    def _listen(self) -> None:
        """Take replies off the pipe as they come, so that the engine never waits for the disk."""
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):  # closed
            for reply in replies(self._process.stdout):
                if isinstance(reply, Died):
                    self._last_word = reply  # whoever sees the end of a pipe first
                self._inbox.put(reply)
        self._inbox.put(None)

    def _death(self) -> EngineDied:
        if self._last_word is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)  # a pipe of it has ended
            self._listener.join(5)
        if (word := self._last_word) is not None:
            return EngineDied(word.message, out_of_memory=word.out_of_memory)
        code = self._process.returncode
        if code is None or code >= 0:
            return EngineDied("it ended without a word", out_of_memory=False)
        starved = code == -signal.SIGKILL and oom_kills() > self._oom_kills
        why = ", as the kernel does where memory runs out" if starved else ""
        return EngineDied(f"killed by {signal.Signals(-code).name}{why}", out_of_memory=starved)


def _without_our_keys() -> dict[str, str]:
    """The environment without keys of servers, since a model may bring code.

    HF_TOKEN stays: gated models need it.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name != "LLM_API_KEY" and not name.startswith("OPENAI_")
    }


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory (Linux; else 0)."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, value = line.split()
            if name == "oom_kill":
                return int(value)
    return 0
