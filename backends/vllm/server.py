"""The engine process: loads vLLM, reads requests from one pipe, writes answers to another.

    python -m backends.vllm.server

A process of its own, so that the command survives a crash of the engine (a kill, a lack of memory,
a fault in a kernel) and starts it again. vLLM's engine core runs in it without a further process:
it loads in a third of the time. It ends with its command: the kernel kills it with its parent
(Linux), and elsewhere it ends when its input pipe closes.
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
    Notice,
    Ready,
    Refused,
    Reply,
    Stepped,
    commands,
    send,
)
from store.errors import EngineDied, FastDatasetsError, RequestRefused

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# A request with its token ids, and whether its prompt ends with <think>; or why it was refused.
Rendered = tuple[Generate, list[int], bool] | Refused
SendReplies = Callable[..., None]


def main() -> None:
    """Load, then answer until the command ends."""
    incoming, outgoing = _private_pipes()
    _exit_with_parent()
    messages = commands(incoming)
    load = next(messages, None)
    if not isinstance(load, Load):
        return  # the command was stopped before it sent anything

    def send_replies(*replies: Reply) -> None:
        send(outgoing, list(replies))

    started = False
    try:
        engine = VllmEngine(load, lambda line: send_replies(Notice(line)))
        inbox: queue.SimpleQueue[Rendered] = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(messages, engine, inbox), daemon=True).start()
        started = True
        send_replies(Ready(engine.max_num_seqs))
        Loop(engine, inbox, send_replies).run()
    except (FastDatasetsError, EngineDied) as error:
        out_of_memory = isinstance(error, EngineDied) and error.out_of_memory
        send_replies(Died(str(error), started, out_of_memory))
    # Not sys.exit, which waits for workers and threads of a broken engine.
    sys.stderr.flush()
    os._exit(1)


class Loop:
    """The engine's loop: a bounded window of requests, refilled before each step."""

    def __init__(
        self, engine: VllmEngine, inbox: queue.SimpleQueue[Rendered], send_replies: SendReplies
    ) -> None:
        self._engine = engine
        self._inbox = inbox
        self._send = send_replies
        self._in_engine: dict[str, bool] = {}  # request id -> whether its prompt ends with <think>
        self._steps = 0
        self._busy = self._loop = 0.0

    def run(self) -> None:
        """Run steps without end; raises EngineDied."""
        window = 2 * self._engine.max_num_seqs  # twice, for prefills; more would only take memory
        while True:
            if not self._in_engine:
                self._add(self._inbox.get())
                continue  # it may be refused
            started = time.perf_counter()
            while len(self._in_engine) < window:
                try:
                    self._add(self._inbox.get_nowait())
                except queue.Empty:
                    break
            finished = self._step()
            stepped = time.perf_counter()
            self._busy += stepped - started
            self._loop += stepped - started
            if finished:
                self._send(
                    Stepped(finished, self._steps, self._busy, self._loop, time.process_time())
                )
                self._loop += time.perf_counter() - stepped

    def _add(self, rendered: Rendered) -> None:
        if isinstance(rendered, Refused):
            self._send(rendered)
            return
        generate, token_ids, opened = rendered
        try:
            self._engine.add(generate.request_id, token_ids, generate.params)
        except RequestRefused as error:
            self._send(Refused(generate.request_id, str(error), error.code))
        else:
            self._in_engine[generate.request_id] = opened

    def _step(self) -> list[Finished]:
        self._steps += 1
        return [
            self._engine.finished(output, self._in_engine.pop(output.request_id))
            for output in self._engine.step()
        ]


def _receive(
    messages: Iterator[Command], engine: VllmEngine, inbox: queue.SimpleQueue[Rendered]
) -> None:
    """Render requests in a second thread; ends the process when the command ends."""
    try:
        for generate in messages:
            assert isinstance(generate, Generate), "the one Load comes first"
            try:
                token_ids, opened = engine.render(
                    generate.messages, generate.tools, generate.params
                )
            except RequestRefused as error:
                inbox.put(Refused(generate.request_id, str(error), error.code))
            else:
                inbox.put((generate, token_ids, opened))
    except BaseException:  # else the engine's thread would wait for ever. Rust's panics are no
        traceback.print_exc()  # Exception
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes on stdin and stdout; output of libraries, C++ included, goes to stderr instead."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return incoming, outgoing


def _exit_with_parent() -> None:
    """Have the kernel kill this process when the command ends, also by kill -9.

    Where the command ended before this call, the input pipe is closed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
