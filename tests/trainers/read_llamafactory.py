"""Every entry of a folder's dataset_info.json as LLaMA-Factory aligns it: JSON as the last line.

Runs in .venv-trainers: read_llamafactory.py FOLDER CACHE
"""

from __future__ import annotations

import importlib.machinery
import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace

# LLaMA-Factory imports it for audio, and no wheel of it fits torch's CPU build.
torchaudio = types.ModuleType("torchaudio")
torchaudio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = torchaudio

from llamafactory.data.loader import _load_single_dataset  # noqa: E402
from llamafactory.data.parser import get_dataset_list  # noqa: E402

folder, cache = sys.argv[1:]
names = list(json.loads((Path(folder) / "dataset_info.json").read_text("utf-8")))
model = SimpleNamespace(cache_dir=cache, hf_hub_token=None)
data = SimpleNamespace(
    dataset_dir=folder,
    media_dir=folder,
    streaming=False,
    max_samples=None,
    preprocessing_num_workers=None,
    overwrite_cache=True,
)
training = SimpleNamespace(local_process_index=0)
aligned = {
    name: _load_single_dataset(attributes, model, data, training).to_list()
    for name, attributes in zip(names, get_dataset_list(names, folder), strict=True)
}
print(json.dumps(aligned))
