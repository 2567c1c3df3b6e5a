"""Estimates of requests, tokens and cost, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from math import ceil
from pathlib import Path

import msgspec

from backends.registry import find_backend
from fastdatasets.config.new_run import new_run
from fastdatasets.config.run import RunConfig
from fastdatasets.config.settings import load_settings
from fastdatasets.estimation.later import later_answers, projected
from fastdatasets.estimation.planned import planned
from fastdatasets.pricing.prices import ModelPrice, find_price
from fastdatasets.pricing.quotes import LocalQuote, Quote, Volume, local_quote, quote
from fastdatasets.pricing.tokens import TokenCounter, counter_for
from fastdatasets.runs.folders import newest_first
from fastdatasets.stages.judge import Judge, run_of_judge
from store import WorkStore
from store.answers.scores import AnswerToJudge
from store.runs import Run

MAX_COUNTED = 20_000  # prompts at most whose tokens are counted; beyond that a sample of so many
MAX_COUNTED_QUICKLY = 2_000
UNKNOWN_LENGTH = "not known"
FROM_RESULTS = "from the results so far"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Requests, tokens and costs in USD of the requests that are left; None: not known.

    base_url: the server of the prices; None: prices of the model by name. unique_requests are sent:
    equal requests are sent once. later_answers: of an augment, requested when there are variants;
    included in tokens and costs. counted_prompts: prompt_tokens is projected from
    these where they are fewer than unique_requests. tokenizer_error: the relative error of counts.
    images: of the requests that are planned; image_tokens: the most of these, which are among the
    prompt tokens, None where that is not known of the model. min_completion_tokens: one for each
    answer. completion_tokens, expected costs and hours are None where no length of an answer is
    known. judge: of its requests, in none of the other numbers.
    """

    model: str
    base_url: str | None
    records: int
    requests: int
    unique_requests: int
    later_answers: int
    prompt_tokens: int
    counted_prompts: int
    tokenizer: str
    tokenizer_error: float
    images: int
    image_tokens: int | None
    min_completion_tokens: int
    completion_tokens: int | None
    completion_basis: str
    max_completion_tokens: int
    batch: Quote
    live: Quote
    local: LocalQuote
    currency: str = "USD"
    judge: Estimate | None = None
    lines: tuple[str, ...] = field(default=(), compare=False)

    @property
    def is_exact(self) -> bool:
        """Whether prompt_tokens should equal the server's count."""
        return not (
            self.tokenizer_error
            or self.images
            or self.later_answers
            or self.counted_prompts < self.unique_requests
        )

    @property
    def is_learnt(self) -> bool:
        """Whether lengths are predicted from the run's results."""
        return self.completion_basis == FROM_RESULTS

    @property
    def volume(self) -> Volume:
        """The tokens to price."""
        return Volume(
            prompt_tokens=self.prompt_tokens,
            max_prompt_tokens=ceil(self.prompt_tokens * (1 + self.tokenizer_error)),
            min_completion_tokens=self.min_completion_tokens,
            completion_tokens=self.completion_tokens,
            max_completion_tokens=self.max_completion_tokens,
        )

    def quote(self, backend: str) -> Quote:
        """The quote of a backend with a server."""
        return self.batch if find_backend(backend).uses_batches else self.live


def estimate(
    run_config: RunConfig,
    *,
    price: ModelPrice | None = None,
    judge_price: ModelPrice | None = None,
    gpu_price: Decimal | None = None,
    output_dir: Path | None = None,
) -> Estimate:
    """Sample and plan in a temporary store, and count tokens; raises UserError as the run would.

    price, judge_price: replace the known ones, for batch and live. gpu_price: USD per hour.
    output_dir: of finished runs, for the speed of this machine.
    """
    settings = load_settings()
    run = new_run(run_config, settings)
    lines: list[str] = []
    with planned(run, lines.append) as store:
        estimated = expected(
            store, run, counter_for(run.model), price=price, judge_price=judge_price
        )
    runs = newest_first(output_dir or settings.fastdatasets_output_dir)
    local = local_quote(estimated.volume, run.model, runs, gpu_price)
    return replace(estimated, local=local, lines=tuple(lines))


def expected(
    store: WorkStore,
    run: Run,
    counter: TokenCounter,
    *,
    max_attempts: int = 3,
    prompts: int = MAX_COUNTED,
    price: ModelPrice | None = None,
    judge_price: ModelPrice | None = None,
) -> Estimate:
    """Estimate what is left of a run whose next stage is planned, from at most so many prompts.

    price, judge_price: replace the known ones, for batch and live; judge_price is of a judge whose
    model is another.
    """
    backlog = store.requests.backlog(max_attempts)
    counts = [
        counter.count(messages, tools)
        for messages, tools in store.requests.sample_prompts(max_attempts, prompts)
    ]
    image_tokens = None if run.images and run.image_tokens is None else backlog.image_tokens
    prompt_tokens = projected(sum(counts), len(counts), backlog.requests) + (image_tokens or 0)
    later = later_answers(store, run, counter, backlog, prompts, prompt_tokens)
    answers = backlog.requests + later.answers
    most = backlog.max_completion_tokens + later.max_completion_tokens
    basis = _basis(backlog.learnt, backlog.with_old + later.with_old, answers, most)
    estimated = Estimate(
        model=run.model,
        base_url=run.base_url,
        records=store.records.count(),
        requests=backlog.row_requests,
        unique_requests=backlog.requests,
        later_answers=later.answers,
        prompt_tokens=prompt_tokens + later.prompt_tokens,
        counted_prompts=len(counts),
        tokenizer=counter.name,
        tokenizer_error=counter.error,
        images=backlog.images,
        image_tokens=image_tokens,
        min_completion_tokens=answers,
        completion_tokens=None
        if basis == UNKNOWN_LENGTH
        else backlog.completion_tokens + later.completion_tokens,
        completion_basis=basis,
        max_completion_tokens=most,
        batch=Quote(),
        live=Quote(),
        local=LocalQuote(),
    )
    longest = max(counts, default=0) if estimated.is_exact else None
    batch, live = (
        price or find_price(run.model, run.base_url, batch=batch, longest_prompt=longest)
        for batch in (True, False)
    )
    return replace(
        estimated,
        batch=quote(estimated.volume, batch),
        live=quote(estimated.volume, live),
        judge=None
        if run.judge is None
        else _judge(store, run, estimated, price if run.judge.model == run.model else judge_price),
    )


SCORE_TOKENS = 80  # of a reason in two sentences and a score; assumed


def _judge(store: WorkStore, run: Run, teacher: Estimate, price: ModelPrice | None) -> Estimate:
    """The judge's requests, one for each answer; price: replaces the known ones of its model."""
    judge, limit = run_of_judge(run), int(run.params["max_tokens"])
    counter = counter_for(judge.model, quick=True)
    empty = AnswerToJudge(0, 0, 0, "", 0, "-", "", "", "-", None, None, None, None)
    request = Judge(run).request(empty)
    rubric = counter.count(msgspec.json.decode(request.messages), None)
    requests = run.samples * store.records.count() * (1 + run.num_aug)
    asked = max(1, teacher.unique_requests + teacher.later_answers)
    question = teacher.prompt_tokens / asked
    known = teacher.completion_tokens
    answer = limit / 2 if known is None else known / asked
    longest = rubric + question * (1 + teacher.tokenizer_error) + limit
    expected_prompt = rubric + question + answer
    estimated = Estimate(
        model=judge.model,
        base_url=judge.base_url,
        records=teacher.records,
        requests=requests,
        unique_requests=requests,
        later_answers=0,
        prompt_tokens=ceil(requests * expected_prompt),
        counted_prompts=0,
        tokenizer=counter.name,
        tokenizer_error=longest / expected_prompt - 1,
        images=0,
        image_tokens=0,
        min_completion_tokens=requests,
        completion_tokens=min(SCORE_TOKENS, limit) * requests,
        completion_basis=f"{SCORE_TOKENS} a score are assumed",
        max_completion_tokens=limit * requests,
        batch=Quote(),
        live=Quote(),
        local=LocalQuote(),
    )
    batch, live = (
        price or find_price(judge.model, judge.base_url, batch=batch) for batch in (True, False)
    )
    return replace(
        estimated, batch=quote(estimated.volume, batch), live=quote(estimated.volume, live)
    )


def _basis(learnt: int, with_old: int, answers: int, max_completion_tokens: int) -> str:
    """The basis of the expected completion tokens, for a person."""
    if learnt:
        return FROM_RESULTS
    if max_completion_tokens == answers:
        return "the limit"
    if not with_old:
        return UNKNOWN_LENGTH
    if with_old == answers:
        return "a third of the old output's bytes"
    return f"a third of the old output's bytes for {with_old} of them, else half of the limit"
