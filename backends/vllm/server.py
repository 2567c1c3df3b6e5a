"""The engine process: loads vLLM, takes requests from one pipe, gives answers on another.

    python -m backends.vllm.server

A process of its own, so that the engine may die (a kill, a lack of memory, a fault in a kernel)
without its command, which then starts another. In it vLLM's engine core runs without a further
process: it loads in a third of the time. It lives no longer than its command: the kernel kills it
with its parent (Linux), and elsewhere the end of the pipe of requests does.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import IO

from backends.vllm.engine import VllmEngine
from backends.vllm.protocol import (
    Command,
    Died,
    Finished,
    Generate,
    Load,
    Ready,
    Refused,
    Reply,
    Said,
    Stepped,
    commands,
    send,
)
from store.errors import EngineDied, FastDatasetsError, RequestRefused

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# A request with its token ids, and whether its prompt has opened <think>; or why it has none.
Rendered = tuple[Generate, list[int], bool] | Refused
Tell = Callable[..., None]


def main() -> None:
    """Load, then answer until the command is gone."""
    incoming, outgoing = _private_pipes()
    _die_with_parent()
    words = commands(incoming)
    load = next(words, None)
    if not isinstance(load, Load):
        return  # the command was stopped before it could say anything

    def tell(*replies: Reply) -> None:
        send(outgoing, list(replies))

    started = False
    try:
        engine = VllmEngine(load, lambda line: tell(Said(line)))
        inbox: queue.SimpleQueue[Rendered] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(words, engine, inbox), daemon=True).start()
        started = True
        tell(Ready(engine.max_num_seqs))
        Loop(engine, inbox, tell).run()
    except (FastDatasetsError, EngineDied) as error:
        lacking = isinstance(error, EngineDied) and error.out_of_memory
        tell(Died(str(error), started, lacking))
    # Not sys.exit: workers and threads of a broken engine would be waited for.
    sys.stderr.flush()
    os._exit(1)


class Loop:
    """The engine's loop: a bounded window in it, refilled before each step, never drained."""

    def __init__(self, engine: VllmEngine, inbox: queue.SimpleQueue[Rendered], tell: Tell) -> None:
        self._engine = engine
        self._inbox = inbox
        self._tell = tell
        self._in_engine: dict[str, bool] = {}  # request id -> whether its prompt opened <think>
        self._steps = 0
        self._busy = self._loop = 0.0

    def run(self) -> None:
        """Step for ever; raises EngineDied."""
        window = 2 * self._engine.max_num_seqs  # slack for prefills; more would only hold memory
        while True:
            if not self._in_engine:
                self._take(self._inbox.get())
                continue  # it may have been refused
            looped = time.perf_counter()
            while len(self._in_engine) < window:
                try:
                    self._take(self._inbox.get_nowait())
                except queue.Empty:
                    break
            finished = self._step()
            stepped = time.perf_counter()
            self._busy += stepped - looped
            self._loop += stepped - looped
            if finished:
                self._tell(
                    Stepped(finished, self._steps, self._busy, self._loop, time.process_time())
                )
                self._loop += time.perf_counter() - stepped

    def _take(self, rendered: Rendered) -> None:
        if isinstance(rendered, Refused):
            self._tell(rendered)
            return
        generate, token_ids, opened = rendered
        try:
            self._engine.add(generate.request_id, token_ids, generate.params)
        except RequestRefused as error:
            self._tell(Refused(generate.request_id, str(error), error.code))
        else:
            self._in_engine[generate.request_id] = opened

    def _step(self) -> list[Finished]:
        self._steps += 1
        return [
            self._engine.finished(output, self._in_engine.pop(output.request_id))
            for output in self._engine.step()
        ]


def _receive(
    words: Iterator[Command], engine: VllmEngine, inbox: queue.SimpleQueue[Rendered]
) -> None:
    """Render requests beside the engine's thread; ends the process when the command is gone."""
    try:
        for generate in words:
            assert isinstance(generate, Generate), "the one Load comes first"
            try:
                token_ids, opened = engine.render(generate.messages)
            except RequestRefused as error:
                inbox.put(Refused(generate.request_id, str(error), error.code))
            else:
                inbox.put((generate, token_ids, opened))
    except BaseException:  # else the engine's thread would wait for ever; Rust's panics are none
        traceback.print_exc()  # of Exception's
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Stdin and stdout for us alone: what libraries print, C++ included, goes where stderr goes."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return incoming, outgoing


def _die_with_parent() -> None:
    """Have the kernel kill this process when the command dies, a kill -9 included.

    Where it died before this call, the pipe of requests has ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
