"""The local engine as a backend: vLLM in this process, on the GPU or the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Outcomes, Progress
from backends.embedded import EMBEDDED_MODEL, embedded_model
from backends.reasoning import split_think
from backends.stream import stream
from backends.vllm_engine import Finished, VllmEngine, output_to
from store import RequestRefused, WorkStore
from store.models import Failure, FailureKind, Request, Result


class VllmBackend:
    """Answers requests with a vLLM engine that is loaded when the first one comes."""

    def __init__(
        self, model: str, engine_args: Mapping[str, Any], max_attempts: int, log: Path
    ) -> None:
        self._model = model
        self._engine_args = engine_args
        self._max_attempts = max_attempts
        self._log = log
        self._engine: VllmEngine | None = None

    def work(self, store: WorkStore, progress: Progress) -> None:
        """Answer all that is pending; raises UserError where the engine does not start."""
        with output_to(self._log):
            engine = self._engine = self._engine or self._load(progress)
            stream("vllm", Loop(engine), store, progress, self._max_attempts)

    def _load(self, progress: Progress) -> VllmEngine:
        progress.say(f"loading {self._model} (vLLM's own log: {self._log})")
        embedded = self._model == EMBEDDED_MODEL and not Path(self._model).exists()
        model = str(embedded_model(progress.say)) if embedded else self._model
        return VllmEngine(model, self._engine_args)


@dataclass(frozen=True, slots=True)
class Loop:
    """The engine's loop: a bounded window in flight, refilled before each step, never drained."""

    engine: VllmEngine

    def __call__(self, requests: Iterator[Request]) -> Iterator[Outcomes]:
        """Give outcomes after each step; closing it aborts what is in flight."""
        window = 2 * self.engine.max_num_seqs  # slack for prefills; more would only hold memory
        in_flight: dict[str, bool] = {}  # request id -> whether its prompt opened <think>
        try:
            while True:
                outcomes: list[Result | Failure] = []
                while len(in_flight) < window and (request := next(requests, None)) is not None:
                    try:
                        in_flight[request.request_id] = self._submit(request)
                    except RequestRefused as error:
                        outcomes.append(_failure(request.request_id, str(error)))
                if not in_flight:
                    yield outcomes
                    return
                for finished in self.engine.step():
                    opened = in_flight.pop(finished.request_id)
                    outcomes.append(_outcome(finished, opened))
                yield outcomes
        finally:
            self.engine.abort(list(in_flight))

    def _submit(self, request: Request) -> bool:
        token_ids, opened = self.engine.render(request.messages)
        params = {name: value for name, value in request.params.items() if name != "model"}
        self.engine.add(request.request_id, token_ids, params)
        return opened


def _outcome(finished: Finished, opened: bool) -> Result | Failure:
    # 'abort' and 'error' come with half a text when an engine dies: never an answer.
    if finished.finish_reason not in ("stop", "length"):
        return Failure(
            finished.request_id,
            FailureKind.SERVER,
            f"the engine gave up the request: {finished.finish_reason}",
            retryable=True,
        )
    reasoning, text = split_think(finished.text, opened_by_prompt=opened)
    return Result(
        finished.request_id,
        text,
        reasoning,
        finished.finish_reason,
        finished.prompt_tokens,
        finished.completion_tokens,
        finished.cached_tokens,
    )


def _failure(request_id: str, message: str) -> Failure:
    return Failure(request_id, FailureKind.REFUSED, message, retryable=False)
