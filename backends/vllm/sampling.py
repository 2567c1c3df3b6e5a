"""A request's parameters as vLLM takes them: SamplingParams, and variables of the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backends.reasoning import TEMPLATE_SWITCHES
from store import UserError

if TYPE_CHECKING:
    from vllm import SamplingParams

# Parameters of a request that are not vLLM's SamplingParams: of the engine, of the chat template,
# and those that become structured_outputs.
NOT_SAMPLING = {
    "model",
    "lora",
    "think",
    "chat_template_kwargs",
    "reasoning_effort",
    "json_schema",
    "response_format",
}


def template_variables(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request that its chat template reads, as in vLLM's server."""
    variables = {name: params[name] for name in ("reasoning_effort",) if name in params}
    if "think" in params:
        variables |= dict.fromkeys(TEMPLATE_SWITCHES, params["think"])
    variables |= params.get("chat_template_kwargs", {})
    return variables


def sampling_params_of(params: Mapping[str, Any], *, skip_special_tokens: bool) -> SamplingParams:
    """A request's parameters as vLLM's; raises ValueError, TypeError, VLLMClientError."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = {name: value for name, value in params.items() if name not in NOT_SAMPLING}
    if structure := _structure(params):
        sampling["structured_outputs"] = StructuredOutputsParams(**structure)
    return SamplingParams(
        **sampling,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_special_tokens=skip_special_tokens,
    )


def _structure(params: Mapping[str, Any]) -> dict[str, Any]:
    """What forces the form of an answer: a stage's schema, else the user's response_format."""
    if schema := params.get("json_schema"):
        return {"json": schema}
    form = params.get("response_format") or {"type": "text"}
    if form.get("type") == "json_object":
        return {"json_object": True}
    schema = form.get("json_schema")
    if form.get("type") == "json_schema" and isinstance(schema, dict) and "schema" in schema:
        return {"json": schema["schema"]}
    if form.get("type") != "text":
        raise ValueError(
            'response_format: {"type": "json_schema", "json_schema": {"schema": …}}, '
            '{"type": "json_object"} or {"type": "text"} is expected'
        )
    return {}


def check_params(params: Mapping[str, Any]) -> None:
    """Raise UserError for parameters that vLLM refuses."""
    from vllm.exceptions import VLLMClientError

    try:
        sampling_params_of(params, skip_special_tokens=True)
    except (ValueError, TypeError, VLLMClientError) as error:
        raise UserError(
            f"vLLM refuses the run's parameters: {last_line(error)}. The keys of --param are the "
            "names of vllm.SamplingParams, chat_template_kwargs, reasoning_effort, response_format"
        ) from None


def last_line(error: Exception) -> str:
    """The line of an error's message that has the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # pydantic's first line only counts its errors
    if "validation error" in lines[0] and len(lines) > 1:
        return lines[1].split(" [type=")[0]
    return lines[0]
