"""A request's parameters as vLLM takes them. Importing vLLM takes seconds; no model is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from backends.vllm.sampling import check_params, sampling_params_of, template_variables
from store import UserError


def test_variables_of_chat_templates() -> None:
    """Thinking and effort are variables of the template; what the user names wins."""
    params = {
        "model": "m",
        "think": False,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"thinking": True, "date": "today"},
    }
    assert template_variables(params) == {
        "reasoning_effort": "low",
        "enable_thinking": False,
        "thinking": True,
        "date": "today",
    }


@pytest.mark.slow
def test_parameters_of_vllm() -> None:
    """All others are SamplingParams, and response_format is a structured output."""
    schema = {"type": "object"}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    params = {"model": "m", "max_tokens": 5, "top_k": 3, "stop": ["."], "response_format": form}
    sampling = sampling_params_of(params | {"think": True}, skip_special_tokens=True)
    assert sampling.structured_outputs is not None
    assert (sampling.max_tokens, sampling.top_k, sampling.stop) == (5, 3, ["."])
    assert sampling.structured_outputs.json == schema


@pytest.mark.slow
@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"service_tier": "flex"}, "Unexpected keyword argument 'service_tier'"),
        ({"min_p": 7}, "min_p must be in [0, 1], got 7"),
        ({"response_format": {"type": "yaml"}}, 'response_format: {"type": "json_schema"'),
        ({"skip_special_tokens": False}, "vllm.sampling_params.SamplingParams() got multiple"),
    ],
)
def test_parameters_that_vllm_refuses(params: dict[str, Any], reason: str) -> None:
    """They are an error of the user, before a model is loaded."""
    with pytest.raises(UserError) as raised:
        check_params({"model": "m", "max_tokens": 5, **params})
    assert str(raised.value).startswith(f"vLLM refuses the run's parameters: {reason}")
