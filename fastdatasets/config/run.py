"""What a user asks a new run to be, flag by flag, and the run that makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdatasets.config.address import new_address
from fastdatasets.config.execution import BACKENDS
from fastdatasets.config.settings import Settings
from fastdatasets.exports.writers import parse_formats
from fastdatasets.runs import RunSpec
from fastdatasets.sources.dataset import check_source
from fastdatasets.sources.files import expanded, local_path
from fastdatasets.stages.prompts import default_templates, own_template
from store import RunFolder, UserError
from store.folder.run_folder import atomic_write
from store.runs import ExportOptions, Language, Mode

DEFAULT_MAX_TOKENS = 4096
RUN_FILES = ("work.", "run.lock", "progress.json", "distilled", "engine.", "jobs", "spill", ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What a user asked for, flag by flag; None where the settings or defaults decide."""

    mode: Mode = Mode.DISTILL
    num_aug: int = 3
    dataset_name: str | None = None
    high_quality_file: Path | None = None
    config_name: str | None = None
    split: str = "train"
    sample_size: int | None = None
    seed: int = 42
    instruction_col: str | None = None
    input_col: str | None = None
    output_col: str | None = None
    backend: str | None = None
    model: str | None = None
    lora: Path | None = None
    max_output_tokens: int | None = None
    prompt_template: Path | None = None
    language: Language | None = None
    skip_generation: bool = False
    include_reasoning: bool = False
    formats: str | None = None
    output_file: Path | None = None
    drop_truncated: bool = False

    def spec(self, settings: Settings) -> RunSpec:
        """The run these wishes and settings make; raises UserError."""
        if self.mode is Mode.AUGMENT and self.num_aug < 1:
            raise UserError(f"--num-aug {self.num_aug}: at least 1 variant is expected")
        formats = self.formats if self.formats is not None else settings.output_formats
        backend = self.backend or default_backend(settings)
        if backend not in BACKENDS:
            raise UserError(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
        return RunSpec(
            mode=self.mode,
            backend=backend,
            base_url=new_address(backend, settings),
            model=self._model(settings, backend),
            source=self._source(),
            config=self.config_name,
            split=self.split,
            sample_size=self._sample_size(settings),
            seed=self.seed,
            columns={
                "instruction": self.instruction_col,
                "input": self.input_col,
                "output": self.output_col,
            },
            params=self._params(settings, backend),
            system_prompt=settings.system_prompt,
            language=self.language or settings.language,
            templates=self._templates(),
            num_aug=self.num_aug if self.mode is Mode.AUGMENT else 0,
            skip_generation=self.skip_generation,
            export=ExportOptions(
                formats=parse_formats(formats),
                include_reasoning=self.include_reasoning,
                output_file=writable(self.output_file, self._source()),
                drop_truncated=self.drop_truncated,
            ),
        )

    def _sample_size(self, settings: Settings) -> int:
        """As asked; else the settings', but all of the samples somebody chose to augment."""
        name, size = "--sample-size", self.sample_size
        if size is None:
            if self.mode is Mode.AUGMENT:
                return 0
            name, size = "DEFAULT_SAMPLE_SIZE", settings.default_sample_size
        if size < 0:
            raise UserError(f"{name} {size}: 0 or more is expected; 0 means all rows")
        return size

    def _templates(self) -> dict[str, str]:
        template = self.prompt_template
        answer = own_template("answer", template) if template else default_templates("answer")
        return answer | (default_templates("vary") if self.mode is Mode.AUGMENT else {})

    def _source(self) -> str:
        if (self.dataset_name is None) == (self.high_quality_file is None):
            raise UserError(
                f"name what to {self.mode} with either --dataset-name or --high-quality-file"
            )
        if self.high_quality_file is None:
            return check_source(str(self.dataset_name))
        return str(local_path(str(self.high_quality_file)))

    def _model(self, settings: Settings, backend: str) -> str:
        from backends.vllm.demo_model import DEMO_MODEL

        named = self.model or settings.llm_model
        if named is None and backend != "vllm":
            raise UserError(f"name the teacher for {backend}: --model, or LLM_MODEL")
        if named is not None and backend == "vllm" and (folder := expanded(named)).is_dir():
            return str(folder.resolve())  # the same from any folder
        return named or DEMO_MODEL

    def _params(self, settings: Settings, backend: str) -> dict[str, Any]:
        params = {
            "lora": self._lora(backend),
            "max_tokens": self.max_output_tokens or settings.llm_max_tokens or DEFAULT_MAX_TOKENS,
            "temperature": settings.llm_temperature,
            "top_p": settings.llm_top_p,
        }
        return {name: value for name, value in params.items() if value is not None}

    def _lora(self, backend: str) -> str | None:
        """The adapter's folder, which makes another model of the model."""
        if self.lora is None:
            return None
        if backend != "vllm":
            raise UserError(
                f"--lora is for --backend vllm: with {backend} the server has its adapters by "
                "names of their own, for --model"
            )
        path = expanded(self.lora).resolve()
        if not (path / "adapter_config.json").is_file():
            raise UserError(
                f"no LoRA adapter at {path}: a folder with adapter_config.json is expected"
            )
        return str(path)


def default_backend(settings: Settings) -> str:
    """Live requests where a key or an address is set, the local engine otherwise."""
    return "openai" if settings.llm_api_key or settings.llm_api_base else "vllm"


def writable(file: Path | None, source: str) -> str | None:
    """The absolute path of an --output-file; raises UserError now rather than after a night.

    A temporary file is made beside it and removed, as the export will do.
    """
    if file is None:
        return None
    data = Path(source)
    is_local = data.is_absolute() and data.exists()  # not a name of the Hub
    try:
        path = expanded(file).resolve()
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it is a folder, a device or a pipe, not a file")
        if is_local and path.exists() and path.samefile(data):
            raise UserError(f"cannot write {path}: it is the source of the run")
        if is_local and data.is_dir() and data in path.parents:
            raise UserError(
                f"cannot write {path}: it is in the source folder {data}, and the next run would "
                "read it as data. Choose a file outside of it"
            )
        for parent in path.parents:
            if (run := RunFolder(parent)).exists():
                check_not_of_run(path, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, keep=False) as temporary:
            temporary.open("ab").close()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {file}: {reason}") from None
    return str(path)


def check_not_of_run(path: Path, run: RunFolder) -> None:
    """Raise UserError where a path is one of the files that a run keeps in its folder."""
    folder = run.path.resolve()
    if folder not in path.parents:
        return
    if path.parent != folder or path.name.startswith(RUN_FILES):
        raise UserError(f"cannot write {path}: it is a file of run {run.name}")
