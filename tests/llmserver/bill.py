"""The bill: how often each distinct body was executed with a billable result."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .errors import Json

Body = dict[str, Any]

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical(body: Body) -> str:
    """One text for a body, whatever the order of its keys and the spaces in it."""
    return _canonical(body)


def digest(body: Body) -> str:
    """A short name for a body: the first 16 hex digits of its canonical form's SHA-256."""
    return hashlib.sha256(canonical(body).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class Usage:
    """Tokens of one request, or of many added up."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def of_completion(self) -> Json:
        """The `usage` of a chat completion."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }

    def of_batch(self) -> Json:
        """The `usage` of a batch object, which names the same numbers otherwise."""
        return {
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.total_tokens,
        }


class Bill:
    """What was executed and would have to be paid for, by batches and by live calls.

    Bodies are told apart by their canonical JSON; with `digests` by its hash, which a bench of
    a million requests uses to save memory.
    """

    def __init__(self, *, digests: bool = False) -> None:
        self._key = digest if digests else canonical
        self._lock = threading.Lock()
        self._executions: Counter[str] = Counter()
        self._tokens = Usage()
        self._batch = self._live = 0

    def charge(self, body: Body, usage: Usage, *, live: bool) -> None:
        """Put one execution of a body on the bill."""
        key = self._key(body)
        with self._lock:
            self._executions[key] += 1
            self._tokens += usage
            if live:
                self._live += 1
            else:
                self._batch += 1

    @property
    def executions(self) -> Counter[str]:
        """How often each body was executed, by its canonical JSON."""
        with self._lock:
            return self._executions.copy()

    @property
    def tokens(self) -> Usage:
        """All tokens that were billed."""
        return self._tokens

    @property
    def batch(self) -> int:
        """Executions in batches."""
        return self._batch

    @property
    def live(self) -> int:
        """Executions of live calls."""
        return self._live

    @property
    def total(self) -> int:
        """Executions in batches and live."""
        return self._batch + self._live

    def times(self, body: Body) -> int:
        """How often this body was executed."""
        return self._executions[self._key(body)]

    def twice(self) -> list[str]:
        """The bodies that were executed more than once: what no client should cause."""
        return [key for key, times in self.executions.items() if times > 1]
