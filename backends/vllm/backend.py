"""The local engine as a backend: vLLM on the GPU or the CPU, in a process that may crash."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.base import Backend, BackendOptions, Outcomes, Progress
from backends.first_failures import all_failed_alike
from backends.registry import LOCAL
from backends.stopping import Stop
from backends.stream import stream
from backends.tool_calls import split_tool_calls
from backends.vllm.process import COMMAND, EngineProcess
from backends.vllm.protocol import Finished, Load, Refused, Stepped
from backends.vllm.quarantine import CrashQuarantine
from store import Unfinished, UserError, WorkStore
from store.errors import EngineDied
from store.planning import canonical
from store.requests import Request, RequestOrder
from store.results import Failure, FailureKind, Result
from store.runs import Run

MAX_RESTARTS = 3  # in a row, without an answer in between
MAX_STARTS = 2  # before the first answer; the second with another request
MEMORY_FACTOR = 0.8  # of the engine's memory, after it ran out of memory
# From so many tokens on, compiling the model (GPU: with CUDA graphs) saves time: it takes 75 to
# 125 s on a CPU, and the model is 1.14 times as fast.
COMPILED_FROM_TOKENS = 500_000
POLL_SECONDS = 0.25
GRACE_SECONDS = 1.0  # for answers that are about to come when the command is stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of the engine. engine_args: vLLM's; lora: an adapter's folder; log: its output.

    params: of the run's requests.
    """

    model: str
    engine_args: Mapping[str, Any]
    lora: str | None
    params: Mapping[str, Any] = field(default_factory=dict)
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
            params=run.params,
            max_attempts=options.max_attempts,
            log=options.folder / "engine.log",
        )
    )


def check(model: str) -> None:
    """Raise UserError where vLLM is not installed, or the model does not exist."""
    from backends.vllm.installed import check_installed, check_model

    check_installed()
    check_model(model)


class VllmBackend(Backend):
    """Answers requests with a vLLM engine, which is loaded for the first request."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._engine: EngineProcess | None = None
        self._quarantine = CrashQuarantine()
        self._memory_share = 1.0
        self._crashes_in_a_row = 0
        self._compiled = False
        self._answered = 0
        self._crashes_before_answer = 0
        self.timings: list[Stepped] = []  # the last one of each engine

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all pending requests; raises UserError where the engine does not start."""
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
            stop_reason=lambda: all_failed_alike(
                store, self._options.max_attempts, f"the model {self._options.model}"
            ),
        )
        steps = sum(timing.steps for timing in self.timings)
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
                    with stop.at_once():  # loading takes a minute
                        engine = self._engine = self._engine or self._load(progress)
                    yield from self._exchange(engine, requests, stop, in_flight)
                    done = not in_flight
                except EngineDied as crash:
                    self.close()
                    set_aside = self._quarantine.record_crash(in_flight.values(), str(crash))
                    in_flight.clear()
                    yield set_aside
                    self._crashes_in_a_row = 0 if set_aside else self._crashes_in_a_row + 1
                    self._before_restart(crash, progress)
        finally:
            if not done:  # stopped: requests in flight would be answered by later steps
                self.close()

    def _load(self, progress: Progress) -> EngineProcess:
        options = self._options
        if "enforce_eager" in options.engine_args:
            how = f"enforce_eager={options.engine_args['enforce_eager']}, as given"
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
            dict(options.params),
        )
        try:
            engine = EngineProcess(load, options.log, progress.say, options.command)
        except UserError as error:
            if not self.timings:  # it never ran: an error of the user
                raise
            raise EngineDied(str(error), out_of_memory=False) from None
        self.timings.append(Stepped([], 0, 0.0, 0.0, 0.0))
        return engine

    def _exchange(
        self,
        engine: EngineProcess,
        requests: Iterator[Request],
        stop: Stop,
        in_flight: dict[str, Request],
    ) -> Iterator[Outcomes]:
        """Send requests to the engine and yield the outcomes, until there are no more."""
        # Twice what the engine process holds: it is kept busy while answers are stored.
        window = 4 * engine.max_num_seqs
        ends_at: float | None = None
        while True:
            batch = []
            while (request := self._next(requests, in_flight, window)) is not None:
                in_flight[request.request_id] = request
                batch.append(request)
            if batch:
                # Writing to the full pipe of an engine that hangs would block.
                with suppress(KeyboardInterrupt), stop.at_once():
                    engine.generate(batch)
            if stop.soon and ends_at is None:
                ends_at = time.monotonic() + GRACE_SECONDS
            if not in_flight:
                return
            outcomes: list[Result | Failure] = []
            replies = engine.replies(POLL_SECONDS)
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
                    self.timings[-1] = reply
                    outcomes += (_outcome(one, in_flight[one.request_id]) for one in reply.finished)
                    self._answered += len(reply.finished)
            for outcome in outcomes:
                del in_flight[outcome.request_id]
                self._crashes_in_a_row = 0
            yield outcomes
            if ends_at is not None and (not replies or time.monotonic() >= ends_at):
                return

    def _next(
        self, requests: Iterator[Request], in_flight: dict[str, Request], window: int
    ) -> Request | None:
        if self._answered or not self._crashes_before_answer:
            return self._quarantine.next(requests, in_flight, window)
        return None if in_flight else self._quarantine.next_to_test(requests)

    def _before_restart(self, crash: EngineDied, progress: Progress) -> None:
        """Report a crash; raises Unfinished where restarts have not helped."""
        if not (self._answered or crash.out_of_memory):
            self._crashes_before_answer += 1
            if self._crashes_before_answer == MAX_STARTS:
                raise Unfinished(
                    f"the engine died {MAX_STARTS} times before it answered anything ({crash}; see "
                    f"{self._options.log}). Nothing is set aside: check model, tokenizer, --lora "
                    "and --engine-arg, then resume"
                )
        if self._crashes_in_a_row > MAX_RESTARTS:
            raise Unfinished(
                f"the engine died {self._crashes_in_a_row} times in a row ({crash}; see "
                f"{self._options.log}). What it had answered is stored: resume"
            )
        if crash.out_of_memory:
            self._memory_share *= MEMORY_FACTOR
        progress.say(f"the engine died: {crash}. Starting it again")


def _outcome(finished: Finished, request: Request) -> Result | Failure:
    # 'abort' and 'error' come with part of a text when an engine crashes: not an answer.
    if finished.finish_reason not in ("stop", "length"):
        return Failure(
            finished.request_id,
            FailureKind.SERVER,
            f"the engine gave up the request: {finished.finish_reason}",
            retryable=True,
        )
    calls, text = split_tool_calls(finished.text) if request.tools else ([], finished.text)
    for number, call in enumerate(calls, start=1):
        call["id"] = f"call_{number}"
    return Result(
        finished.request_id,
        text,
        finished.reasoning,
        finished.finish_reason,
        finished.prompt_tokens,
        finished.completion_tokens,
        finished.cached_tokens,
        canonical(calls) if calls else None,
    )
