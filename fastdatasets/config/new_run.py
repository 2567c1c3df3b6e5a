"""Creating a Run from options and settings."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from math import inf
from typing import Any

from backends.registry import BackendInfo, default_backend, find_backend
from fastdatasets.checks.kinds import excluded_by
from fastdatasets.checks.retry import check_answers_differ
from fastdatasets.config.address import new_address
from fastdatasets.config.checks import check_options
from fastdatasets.config.export import check_output_file, check_scores, export_options
from fastdatasets.config.request_params import parse_params, read_system_prompt
from fastdatasets.config.run import RunConfig
from fastdatasets.config.selection import selection_of
from fastdatasets.config.settings import Settings
from fastdatasets.exports.formats import parse_formats
from fastdatasets.pricing.images import most_image_tokens
from fastdatasets.sources.dataset import parse_source
from fastdatasets.sources.files import expanded, local_path
from fastdatasets.sources.sampling import check_weights
from fastdatasets.stages.judge import params_of_judge
from fastdatasets.stages.modes import FINAL_STAGE
from fastdatasets.stages.prompts import answer_templates, default_templates, judge_templates
from store import UserError
from store.export_options import ExportOptions
from store.runs import CheckOptions, Judge, Mode, Reading, Run, Turns, WeightedSource
from store.work_store import utc_now

DEFAULT_MAX_TOKENS = 4096


def new_run(config: RunConfig, settings: Settings) -> Run:
    """Create a run, with a new id, from options and settings; raises UserError."""
    if config.mode is Mode.AUGMENT and config.num_aug < 1:
        raise UserError(f"--num-aug {config.num_aug}: at least 1 variant is expected")
    if config.mode is Mode.AUGMENT and config.turns is Turns.ALL:
        raise UserError("--turns all is for distill: variants are of one question, last or first")
    formats = config.formats if config.formats is not None else settings.output_formats
    backend = backend_of(config, settings)
    _check_images(config, backend)
    sources, sample_size = _sources(config), _sample_size(config, settings)
    params = _params(config, settings, backend)
    _check_samples(config, params)
    model, base_url = _model(config, settings, backend), new_address(backend, settings)
    judge = _judge(config, settings, backend, model)
    check_weights(sources, sample_size)
    checks = check_options(config)
    if config.skip_generation and checks != CheckOptions():
        raise UserError("checks are of the teacher's answers, and --skip-generation takes none")
    run = Run(
        run_id=str(uuid.uuid4()),
        created_at=utc_now(),
        mode=config.mode,
        backend=backend.name,
        base_url=base_url,
        model=model,
        sources=sources,
        config=config.config_name,
        split=config.split,
        reading=_reading(config),
        selection=selection_of(config, sources, sample_size),
        sample_size=sample_size,
        seed=config.seed,
        columns={
            "instruction": config.instruction_col,
            "input": config.input_col,
            "output": config.output_col,
            "options": config.options_col,
        },
        # A dataset's own answers need no turn after turn: the last one has all before it.
        turns=Turns.LAST if config.skip_generation and config.turns is Turns.ALL else config.turns,
        images=config.images,
        image_tokens=most_image_tokens(model) if config.images else None,
        samples=config.samples,
        params=params,
        system_prompt=_system_prompt(config, settings),
        language=config.language or settings.language,
        templates=_templates(config),
        final_stage=FINAL_STAGE,
        num_aug=config.num_aug if config.mode is Mode.AUGMENT else 0,
        skip_generation=config.skip_generation,
        checks=checks,
        judge=judge,
        export=export_options(
            config,
            ExportOptions(
                formats=parse_formats(formats),
                output_file=check_output_file(
                    config.output_file, [source.name for source in sources]
                ),
                exclude=excluded_by(checks),
            ),
        ),
    )
    check_scores(run.export, run.judge)
    return run


def backend_of(config: RunConfig, settings: Settings) -> BackendInfo:
    """The backend of the options; else live requests where the settings have a server."""
    has_server = bool(settings.llm_api_key or settings.llm_api_base)
    return find_backend(config.backend or default_backend(has_server=has_server))


def _check_images(config: RunConfig, backend: BackendInfo) -> None:
    """Raise UserError where images cannot be sent."""
    if config.images and config.mode is Mode.AUGMENT:
        raise UserError("--images is for distill: variants are made of texts alone")
    if config.images and not (backend.uses_server or config.skip_generation):
        raise UserError(
            f"--images is for servers, and {backend.name} takes texts alone: serve the model, as "
            "with 'vllm serve', and set --backend openai and LLM_API_BASE"
        )


def _sample_size(config: RunConfig, settings: Settings) -> int:
    """The option's; else the settings', but for augment all samples."""
    name, size = "--sample-size", config.sample_size
    if size is None:
        if config.mode is Mode.AUGMENT:
            return 0
        name, size = "DEFAULT_SAMPLE_SIZE", settings.default_sample_size
    if size < 0:
        raise UserError(f"{name} {size}: 0 or more is expected; 0 means all rows")
    return size


def _templates(config: RunConfig) -> dict[str, str]:
    templates = answer_templates(config.prompt_template)
    if config.mode is Mode.AUGMENT:
        templates |= default_templates("vary")
    if _has_judge(config):
        templates |= judge_templates(config.judge_template)
    return templates


def _has_judge(config: RunConfig) -> bool:
    """Whether answers are to be judged."""
    named = (config.judge_model, config.judge_backend, config.judge_template)
    return config.judge or any(value is not None for value in named)


def _judge(
    config: RunConfig,
    settings: Settings,
    teacher: BackendInfo,
    model: str,
) -> Judge | None:
    """The judge; raises UserError. model: the teacher's."""
    if not _has_judge(config):
        return None
    if config.skip_generation:
        raise UserError("--judge is for the teacher's answers, and --skip-generation takes none")
    if config.images:
        raise UserError("--judge reads texts only: leave out --images, or --judge")
    backend = teacher if config.judge_backend is None else find_backend(config.judge_backend)
    if config.judge_model is not None:
        model = _absolute(config.judge_model, backend)
    elif backend.uses_server != teacher.uses_server:
        raise UserError(f"name the judge's model for {backend.name}: --judge-model")
    params = params_of_judge(backend.name)
    return Judge(backend.name, new_address(backend, settings), model, params)


def _sources(config: RunConfig) -> tuple[WeightedSource, ...]:
    named = config.dataset_name or ()
    texts = [named] if isinstance(named, str) else list(named)
    if bool(texts) == (config.high_quality_file is not None):
        raise UserError(
            f"name what to {config.mode} with either --dataset-name or --high-quality-file"
        )
    if config.high_quality_file is not None:
        return (WeightedSource(str(local_path(str(config.high_quality_file)))),)
    sources = tuple(map(parse_source, map(str, texts)))
    names = [source.name for source in sources]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"--dataset-name {name} is given twice")
    return sources


def _reading(config: RunConfig) -> Reading:
    """How files are read; raises UserError."""
    if config.encoding is not None:
        try:
            "".encode(config.encoding)
        except LookupError:
            raise UserError(
                f"--encoding {config.encoding}: unknown; utf-8, utf-16, gb18030, big5, shift_jis "
                "and cp1252 are examples of those that are known"
            ) from None
    delimiter = config.delimiter
    if delimiter in ("tab", "\\t"):
        delimiter = "\t"
    if delimiter is not None and (len(delimiter.encode()) != 1 or delimiter in '"\r\n\\'):
        raise UserError(f"--delimiter {config.delimiter}: one ASCII character, or tab, is expected")
    return Reading(config.encoding, delimiter, config.skip_bad_rows)


def _model(config: RunConfig, settings: Settings, backend: BackendInfo) -> str:
    from backends.vllm.demo_model import DEMO_MODEL

    named = config.model or settings.llm_model
    if named is None and backend.uses_server:
        raise UserError(f"name the teacher for {backend.name}: --model, or LLM_MODEL")
    return DEMO_MODEL if named is None else _absolute(named, backend)


def _absolute(model: str, backend: BackendInfo) -> str:
    """A model's name; of a local folder its path, the same from any folder."""
    if not backend.uses_server and (folder := expanded(model)).is_dir():
        return str(folder.resolve())
    return model


def _params(config: RunConfig, settings: Settings, backend: BackendInfo) -> dict[str, Any]:
    """What enters each request beside model and messages, under names of any server."""
    temperature = settings.llm_temperature if config.temperature is None else config.temperature
    top_p = settings.llm_top_p if config.top_p is None else config.top_p
    if temperature is not None and not 0 <= temperature < inf:
        raise UserError(f"--temperature {temperature}: a number from 0 is expected")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"--top-p {top_p}: a number above 0, at most 1, is expected")
    params = {
        "lora": _lora(config, backend),
        "max_tokens": config.max_output_tokens or settings.llm_max_tokens or DEFAULT_MAX_TOKENS,
        "temperature": temperature,
        "top_p": top_p,
        "think": config.think,
    }
    given = {name: value for name, value in params.items() if value is not None}
    return given | parse_params(config.param)


def _check_samples(config: RunConfig, params: Mapping[str, Any]) -> None:
    """Raise UserError where all answers to a question would be equal."""
    if config.samples < 1:
        raise UserError(f"--samples {config.samples}: at least 1 answer is expected")
    if config.samples == 1:
        return
    if config.skip_generation:
        raise UserError("--samples is for the teacher's answers, and --skip-generation takes none")
    check_answers_differ(f"--samples {config.samples}", params)


def _system_prompt(config: RunConfig, settings: Settings) -> str | None:
    """The option's; else the settings'. An empty one is none."""
    if config.system_prompt is None:
        return settings.system_prompt
    return read_system_prompt(config.system_prompt) or None


def _lora(config: RunConfig, backend: BackendInfo) -> str | None:
    """The absolute path of the LoRA adapter's folder; raises UserError."""
    if config.lora is None:
        return None
    if backend.uses_server:
        raise UserError(
            f"--lora is for --backend vllm: with {backend.name} the server has its adapters by "
            "names of their own, for --model"
        )
    path = expanded(config.lora).resolve()
    if not (path / "adapter_config.json").is_file():
        raise UserError(f"no LoRA adapter at {path}: a folder with adapter_config.json is expected")
    return str(path)
