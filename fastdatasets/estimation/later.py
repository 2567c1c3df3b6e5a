"""Answers of later stages, whose requests are not planned yet: their number and their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice

import msgspec

from fastdatasets.pricing.tokens import TokenCounter
from fastdatasets.stages.answer import Answer
from store import WorkStore
from store.requests import Backlog
from store.runs import Mode, Run, Turns


@dataclass(frozen=True, slots=True)
class Later:
    """Answers that are requested when there are variants; their tokens are assumed."""

    answers: int = 0
    with_old: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    max_completion_tokens: int = 0


def later_answers(
    store: WorkStore,
    run: Run,
    counter: TokenCounter,
    backlog: Backlog,
    prompts: int,
    prompt_tokens: int,
) -> Later:
    """Requests of later stages.

    The stage answer of an augment: variants are assumed to be as long as their records. Of
    conversations that are answered turn by turn the later turns, assumed to be as long as the
    first, with the turns before them.
    """
    if run.turns is Turns.ALL:
        return _later_turns(store, run, backlog, prompt_tokens)
    if run.mode is not Mode.AUGMENT or run.skip_generation or backlog.final_row_requests:
        return Later()
    stage, limit = Answer(run), int(run.params["max_tokens"])
    rows = list(
        islice(chain.from_iterable(store.planning.rows_without_request(stage.name)), prompts)
    )
    counted = sum(
        counter.count(
            msgspec.json.decode(request.messages), msgspec.json.decode(request.tools or "null")
        )
        for request in map(stage.request, rows)
    )
    with_old, completion_tokens = store.records.expected_answers(limit)
    per_record = run.samples * (1 + run.num_aug)
    answers = store.records.count() * per_record
    return Later(
        answers,
        with_old * per_record,
        projected(counted, len(rows), answers),
        completion_tokens * per_record,
        answers * limit,
    )


def _later_turns(store: WorkStore, run: Run, backlog: Backlog, prompt_tokens: int) -> Later:
    limit, requests = int(run.params["max_tokens"]), backlog.requests
    later, repeated = (run.samples * count for count in store.records.followups())
    if backlog.final_row_requests or not requests:
        return Later()
    completion_tokens = backlog.completion_tokens / requests
    turn_tokens = prompt_tokens / requests + completion_tokens
    return Later(
        later,
        round(later * backlog.with_old / requests),
        round(later * prompt_tokens / requests + repeated * turn_tokens),
        round(later * completion_tokens),
        later * limit,
    )


def projected(total: int, of: int, onto: int) -> int:
    """A total of some requests, for another number of them."""
    return round(total * onto / of) if of else 0
