"""Files as axolotl's prompt strategies tokenize them: of each row its text and answers, JSON.

Runs in .venv-trainers: read_axolotl.py TOKENIZER CACHE DATASETS, the last as JSON.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from typing import Any

from axolotl.prompt_strategies import load
from axolotl.prompt_tokenizers import AlpacaPromptTokenizingStrategy
from axolotl.prompters import AlpacaPrompter
from axolotl.utils.dict import DictDefault
from datasets import load_dataset
from transformers import AutoTokenizer

folder, cache, configs = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
settings = DictDefault(train_on_inputs=False, sequence_len=2048, chat_template="qwen3")


def texts(row: dict[str, Any]) -> tuple[str, list[str]]:
    """The whole text, and the parts that are trained on."""
    ids, labels = row["input_ids"], row["labels"]
    trained = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != -100)
    return tokenizer.decode(ids), [
        tokenizer.decode([token for token, _ in pairs])
        for is_trained, pairs in trained
        if is_trained
    ]


rows = []
for config in json.loads(configs):
    strategy = (
        # As the handler of this type makes it, in a module that needs much of the engine.
        AlpacaPromptTokenizingStrategy(AlpacaPrompter(None), tokenizer, False, 2048)
        if config["type"] == "alpaca"
        else load(config["type"], tokenizer, settings, DictDefault(config))
    )
    dataset = load_dataset(
        config["ds_type"], data_files=config["path"], split="train", cache_dir=cache
    )
    rows.append([texts(strategy.tokenize_prompt(row)) for row in dataset])
print(json.dumps(rows))
