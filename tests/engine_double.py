"""An engine process that speaks the real protocol and dies on demand.

    python -m tests.engine_double JOURNAL

A request whose prompt says 'poison' kills it (SIGKILL) once everything it was asked has been read;
one that says 'starve' ends it as a lack of memory does, unless it was given less than all of the
memory. One that says 'refuse CODE' is refused with that code; one that says 'interrupt' is a Ctrl-C
for the command; at 'hang' it stops reading; 'keys' has the names of its environment that tell of
keys written to the journal. Each start and each request is a line of the journal.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from backends.vllm.protocol import (
    Died,
    Finished,
    Generate,
    Load,
    Ready,
    Refused,
    Stepped,
    commands,
    send,
)


def main() -> None:
    """Answer 'Answer to <prompt>' to each request."""
    journal = Path(sys.argv[1])
    words = commands(sys.stdin.buffer)
    load = next(words)
    assert isinstance(load, Load)

    def note(line: str) -> None:
        with journal.open("a") as file:
            file.write(line + "\n")

    note(f"start {load.memory_share}")
    send(sys.stdout.buffer, [Ready(4)])
    for number, generate in enumerate(words, 1):
        assert isinstance(generate, Generate)
        prompt = generate.messages[-1]["content"]
        note(f"ask {prompt}")
        if "poison" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt == "keys":
            names = {name for name in os.environ if "KEY" in name or "TOKEN" in name}
            note(f"keys {sorted(names | {name for name in os.environ if 'OPENAI' in name})}")
        if "interrupt" in prompt:
            os.kill(os.getppid(), signal.SIGINT)
        if prompt == "hang":
            signal.pause()
        if "starve" in prompt and load.memory_share == 1:
            send(sys.stdout.buffer, [Died("CUDA out of memory", True, True)])
            os._exit(1)
        if prompt.startswith("refuse "):
            code = prompt.split()[1]
            send(sys.stdout.buffer, [Refused(generate.request_id, "No.", code)])
            continue
        text = f"Answer to {prompt}"
        finished = Finished(generate.request_id, text, None, "stop", 5, 7, 0)
        send(sys.stdout.buffer, [Stepped([finished], number, 0.0, 0.0, 0.0)])


if __name__ == "__main__":
    main()
