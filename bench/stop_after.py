"""A logits processor that ends an answer after so many tokens as its prompt says, as [012].

In the prompt, since what is sent as a parameter would tell our backend the length before it asks.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import LogitsProcessor


class StopAfter(LogitsProcessor):
    """Forbids the end of an answer until its length, then allows nothing else."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:  # noqa: ARG002
        self._eos: int = vllm_config.model_config.hf_config.eos_token_id
        self._tokenizer = AutoTokenizer.from_pretrained(vllm_config.model_config.tokenizer)
        self._rows: dict[int, tuple[int, list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """It changes which token is the likeliest."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests through the rows of the batch: removed, then added, then moved."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, _, prompt, tokens in batch_update.added:
            number = re.search(r"\[(\d{3})\]", self._tokenizer.decode(prompt))
            assert number is not None
            self._rows[row] = (int(number[1]), tokens)
        for one, other, direction in batch_update.moved:
            a, b = self._rows.pop(one, None), self._rows.pop(other, None)
            if a is not None:
                self._rows[other] = a
            if b is not None and direction.name == "SWAP":
                self._rows[one] = b

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """End what is due."""
        for row, (length, tokens) in self._rows.items():
            if len(tokens) >= length - 1:
                logits[row, :] = float("-inf")
                logits[row, self._eos] = 0.0
            else:
                logits[row, self._eos] = float("-inf")
        return logits
