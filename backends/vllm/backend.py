"""The local engine as a backend: vLLM on the GPU or the CPU, in a process that may die."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Backend, BackendOptions, Outcomes, Progress
from backends.first_failures import all_failed_alike
from backends.registry import LOCAL
from backends.stopping import Stop
from backends.stream import stream
from backends.vllm.process import COMMAND, EngineProcess
from backends.vllm.protocol import Finished, Load, Refused, Stepped
from backends.vllm.quarantine import CrashQuarantine
from store import Unfinished, UserError, WorkStore
from store.errors import EngineDied
from store.requests import Request, RequestOrder
from store.results import Failure, FailureKind, Result
from store.runs import Run

RESTARTS = 3  # in a row, without an answer in between
TRIES = 2  # of an engine that has answered nothing yet: the second with a request of its own
LESS_MEMORY = 0.8  # of what the engine took before it ran out of it
# From so many tokens on the compiled model (GPU: with CUDA graphs) makes up for its longer start:
# 75 to 125 s on a CPU, for a model that is 1.14 times as fast.
COMPILED_FROM_TOKENS = 500_000
LOOK_SECONDS = 0.25
GRACE_SECONDS = 1.0  # for answers that are on their way when the work is stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the engine is. engine_args: vLLM's own; lora: an adapter's folder; log: its output."""

    model: str
    engine_args: Mapping[str, Any]
    lora: str | None
    max_attempts: int
    log: Path
    command: Sequence[str] = COMMAND


def make(run: Run, options: BackendOptions) -> VllmBackend:
    """The local engine of a run."""
    return VllmBackend(
        EngineOptions(
            model=run.model,
            engine_args=options.engine_args or {},
            lora=run.params.get("lora"),
            max_attempts=options.max_attempts,
            log=options.folder / "engine.log",
        )
    )


def check(model: str) -> None:
    """Raise UserError where vLLM is not installed, or there is no such model."""
    from backends.vllm.engine import check_installed, check_model

    check_installed()
    check_model(model)


class VllmBackend(Backend):
    """Answers requests with a vLLM engine that is loaded when the first one comes."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._engine: EngineProcess | None = None
        self._quarantine = CrashQuarantine()
        self._memory_share = 1.0
        self._deaths_in_a_row = 0
        self._compiled = False
        self._answered = 0
        self._died_unproven = 0
        self.clocks: list[Stepped] = []  # the last word of each engine that there was

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all that is pending; raises UserError where the engine does not start."""
        if self._engine is None:
            self._compiled = store.requests.expected_tokens() >= COMPILED_FROM_TOKENS

        def answers(requests: Iterator[Request], stop: Stop) -> Iterator[Outcomes]:
            return self._answers(requests, stop, progress)

        stream(
            LOCAL.name,
            answers,
            store,
            progress,
            self._options.max_attempts,
            order=RequestOrder.LONGEST_FIRST,
            why_end=lambda: all_failed_alike(
                store, self._options.max_attempts, f"the model {self._options.model}"
            ),
        )
        steps = sum(clock.steps for clock in self.clocks)
        progress.say(f"the engine answered {self._answered} requests in {steps} steps")

    def close(self) -> None:
        """End the engine, if there is one."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _answers(
        self, requests: Iterator[Request], stop: Stop, progress: Progress
    ) -> Iterator[Outcomes]:
        in_flight: dict[str, Request] = {}
        done = False
        try:
            while not (done or stop.soon):
                try:
                    with stop.at_once():  # it takes a minute
                        engine = self._engine = self._engine or self._load(progress)
                    yield from self._converse(engine, requests, stop, in_flight)
                    done = not in_flight
                except EngineDied as death:
                    self.close()
                    set_aside = self._quarantine.engine_died(in_flight.values(), str(death))
                    in_flight.clear()
                    yield set_aside
                    self._deaths_in_a_row = 0 if set_aside else self._deaths_in_a_row + 1
                    self._before_restart(death, progress)
        finally:
            if not done:  # stopped: what is in flight would come out of a later step
                self.close()

    def _load(self, progress: Progress) -> EngineProcess:
        options = self._options
        if "enforce_eager" in options.engine_args:
            how = f"enforce_eager={options.engine_args['enforce_eager']}, as asked"
        elif self._compiled:
            how = "compiled, since there is much to do"
        else:
            how = "eager, since there is little to do"
        progress.say(f"loading {options.model}: {how} (vLLM's own log: {options.log})")
        if options.engine_args.get("trust_remote_code"):
            progress.say(f"trust_remote_code: Python code that comes with {options.model} is run")
        load = Load(
            options.model,
            dict(options.engine_args),
            options.lora,
            self._compiled,
            self._memory_share,
        )
        try:
            engine = EngineProcess(load, options.log, progress.say, options.command)
        except UserError as error:
            if not self.clocks:  # it never ran: something for the user to mend
                raise
            raise EngineDied(str(error), out_of_memory=False) from None
        self.clocks.append(Stepped([], 0, 0.0, 0.0, 0.0))
        return engine

    def _converse(
        self,
        engine: EngineProcess,
        requests: Iterator[Request],
        stop: Stop,
        in_flight: dict[str, Request],
    ) -> Iterator[Outcomes]:
        """Keep the engine in requests and give what comes back, until there are no more."""
        # Twice what the engine itself holds: it does not run dry while answers are being stored.
        window = 4 * engine.max_num_seqs
        ends_at: float | None = None
        while True:
            asked = []
            while (request := self._next(requests, in_flight, window)) is not None:
                in_flight[request.request_id] = request
                asked.append(request)
            if asked:
                # A pipe that is full, of an engine that hangs, takes nothing more.
                with suppress(KeyboardInterrupt), stop.at_once():
                    engine.generate(asked)
            if stop.soon and ends_at is None:
                ends_at = time.monotonic() + GRACE_SECONDS
            if not in_flight:
                return
            outcomes: list[Result | Failure] = []
            replies = engine.replies(LOOK_SECONDS)
            for reply in replies:
                if isinstance(reply, Refused):
                    outcomes.append(
                        Failure(
                            reply.request_id,
                            FailureKind.REFUSED,
                            reply.message,
                            retryable=False,
                            code=reply.code,
                        )
                    )
                else:
                    self.clocks[-1] = reply
                    outcomes += map(_outcome, reply.finished)
                    self._answered += len(reply.finished)
            for outcome in outcomes:
                del in_flight[outcome.request_id]
                self._deaths_in_a_row = 0
            yield outcomes
            if ends_at is not None and (not replies or time.monotonic() >= ends_at):
                return

    def _next(
        self, requests: Iterator[Request], in_flight: dict[str, Request], window: int
    ) -> Request | None:
        if self._answered or not self._died_unproven:
            return self._quarantine.next(requests, in_flight, window)
        return None if in_flight else self._quarantine.next_to_prove(requests)

    def _before_restart(self, death: EngineDied, progress: Progress) -> None:
        """Say what happened; raises Unfinished where starting again has been of no use."""
        if not (self._answered or death.out_of_memory):
            self._died_unproven += 1
            if self._died_unproven == TRIES:
                raise Unfinished(
                    f"the engine died {TRIES} times before it answered anything ({death}; see "
                    f"{self._options.log}). Nothing is set aside: check model, tokenizer, --lora "
                    "and --engine-arg, then resume"
                )
        if self._deaths_in_a_row > RESTARTS:
            raise Unfinished(
                f"the engine died {self._deaths_in_a_row} times in a row ({death}; see "
                f"{self._options.log}). What it had answered is stored: resume"
            )
        if death.out_of_memory:
            self._memory_share *= LESS_MEMORY
        progress.say(f"the engine died: {death}. Starting it again")


def _outcome(finished: Finished) -> Result | Failure:
    # 'abort' and 'error' come with half a text when an engine dies: never an answer.
    if finished.finish_reason not in ("stop", "length"):
        return Failure(
            finished.request_id,
            FailureKind.SERVER,
            f"the engine gave up the request: {finished.finish_reason}",
            retryable=True,
        )
    return Result(
        finished.request_id,
        finished.text,
        finished.reasoning,
        finished.finish_reason,
        finished.prompt_tokens,
        finished.completion_tokens,
        finished.cached_tokens,
    )
