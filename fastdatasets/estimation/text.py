"""An estimate for people, and as JSON."""

from __future__ import annotations

import msgspec

from fastdatasets.estimation.estimate import Estimate
from fastdatasets.pricing.prices import JUDGE_PRICE, PRICE


def one_line(estimate: Estimate, backend: str, judge: str | None = None) -> str:
    """An estimate for the start of a run with a server; judge: the backend of a paid one."""
    later = f", later {estimate.later_answers} answers" if estimate.later_answers else ""
    costs = estimate.quote(backend).costs(estimate.model, estimate.base_url)
    if judge is not None and estimate.judge is not None:
        options = PRICE if estimate.judge.model == estimate.model else JUDGE_PRICE
        of_judge = estimate.judge.quote(judge).costs(
            estimate.judge.model, estimate.judge.base_url, options
        )
        costs += f"; then {estimate.judge.requests} scores by the judge: {of_judge}"
    return (
        f"{estimate.unique_requests} requests left{later}: {_prompt_tokens(estimate)} prompt "
        f"tokens{_images(estimate)}, {_completion_tokens(estimate)}; {costs}"
    )


def to_text(estimate: Estimate) -> str:
    """An estimate as lines for a person."""
    counted = f"counted with {estimate.tokenizer}"
    if estimate.counted_prompts < estimate.unique_requests:
        counted += f" in a sample of {estimate.counted_prompts} prompts"
    counted += _images(estimate)
    completion = f"completion tokens: {_range(estimate)}, as no length of an answer is known"
    if estimate.completion_tokens is not None:
        share = estimate.completion_tokens / (estimate.max_completion_tokens or 1)
        completion = (
            f"completion tokens: {estimate.completion_tokens} expected, {share:.1%} of the limit "
            f"({estimate.completion_basis}), at most {estimate.max_completion_tokens}"
        )
    lines = [
        *estimate.lines,
        f"records: {estimate.records}",
        f"requests: {estimate.requests}, unique: {estimate.unique_requests}",
        f"prompt tokens: {_prompt_tokens(estimate)}, {counted}",
        completion,
        f"batch: {estimate.batch.describe(estimate.model, estimate.base_url)}",
        f"live: {estimate.live.describe(estimate.model, estimate.base_url)}",
        f"local: {estimate.local.describe(estimate.model)}",
    ]
    if estimate.later_answers:
        lines[len(estimate.lines) + 2 : len(estimate.lines) + 2] = [
            f"then: {estimate.later_answers} answers, assumed: no variant is missing, and its "
            "prompt and answer are as long as its record's own"
        ]
    if (judge := estimate.judge) is not None:
        options = PRICE if judge.model == estimate.model else JUDGE_PRICE
        lines += [
            f"judge: {judge.requests} requests, about {judge.prompt_tokens} prompt tokens, "
            f"{judge.completion_tokens} completion tokens ({judge.completion_basis})",
            f"judge, batch: {judge.batch.describe(judge.model, judge.base_url, options)}",
            f"judge, live: {judge.live.describe(judge.model, judge.base_url, options)}",
        ]
    return "\n".join(lines)


def to_json(estimate: Estimate) -> str:
    """An estimate as one JSON object, its amounts as numbers."""
    return msgspec.json.Encoder(decimal_format="number").encode(estimate).decode()


def _prompt_tokens(estimate: Estimate) -> str:
    return f"{'' if estimate.is_exact else 'about '}{estimate.prompt_tokens}"


def _images(estimate: Estimate) -> str:
    if not estimate.images:
        return ""
    if estimate.image_tokens is None:
        return f", without {estimate.images} images, whose tokens are not known of {estimate.model}"
    return f", {estimate.image_tokens} of them at most for {estimate.images} images"


def _completion_tokens(estimate: Estimate) -> str:
    if estimate.completion_tokens is None:
        return f"{_range(estimate)} completion tokens, as no length of an answer is known"
    return f"{estimate.completion_tokens} completion tokens expected"


def _range(estimate: Estimate) -> str:
    return f"from {estimate.min_completion_tokens} to {estimate.max_completion_tokens}"
