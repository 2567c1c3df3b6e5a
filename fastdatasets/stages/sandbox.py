"""The sandbox of templates: Jinja2's, with limits of time and size.

A template may come from somebody else. Without limits two loops in one another, a macro that calls
itself twice, or a product with a large number hold a run for ever or take all memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

RENDER_SECONDS = 0.5  # of this thread's CPU time, for one prompt, which takes a thousandth
MAX_CHARACTERS = 20_000_000  # of a prompt; a larger one is in no model's context
MAX_REPEATS = 1_000_000  # of a text or a list by *, and the width that a text is filled up to
MAX_BITS = 100_000  # of a power

_WIDTH = re.compile(r"[%{][^%{}]*\d{7}")  # in a format


class LimitExceeded(Exception):
    """A template exceeds its limit of time or size."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """A sandbox for untrusted templates: each loop and each call checks the time since `start`."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined)
        del self.globals["lipsum"]  # texts by the megabyte, in one call
        self.filters["_each"] = self._each
        for name in ("center", "indent", "format"):
            self.filters[name] = _narrow(self.filters[name])
        self._ends_at: float | None = None

    def start(self) -> None:
        """Reset the time limit before rendering; it starts at the first loop or call."""
        self._ends_at = None

    def check(self) -> None:
        """Raise LimitExceeded where the time limit has passed."""
        now = time.thread_time()
        if self._ends_at is None:
            self._ends_at = now + RENDER_SECONDS
        if now > self._ends_at:
            raise LimitExceeded(f"it takes longer than {RENDER_SECONDS} s")

    def joined(self, parts: Iterable[str]) -> str:
        """The text of a rendering; raises LimitExceeded where it is too long or takes too long."""
        texts: list[str] = []
        size = 0
        for part in parts:
            size += len(part)
            if size > MAX_CHARACTERS:
                raise LimitExceeded(f"it makes more than {MAX_CHARACTERS} characters")
            texts.append(part)
        return "".join(texts)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or macro for a template."""
        self.check()
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        if isinstance(text := getattr(method, "__self__", None), str):  # center, ljust, format
            _check_width(text, *args, *kwargs.values())
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute *, ** or % for a template; raises LimitExceeded where the outcome may be huge."""
        numbers = (int, float)
        if operator == "*" and not (isinstance(left, numbers) and isinstance(right, numbers)):
            times = right if isinstance(right, int) else left
            text = left if times is right else right
            if isinstance(times, int) and times * len(text) > MAX_REPEATS:
                raise LimitExceeded(f"a product is longer than {MAX_REPEATS}")
        if operator == "%" and isinstance(left, str):
            _check_width(left, *(right if isinstance(right, tuple) else (right,)))
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and whole and left.bit_length() * right > MAX_BITS:
            raise LimitExceeded(f"a power has more than {MAX_BITS} bits")
        return super().call_binop(context, operator, left, right)

    def _each(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.check()
            yield item

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        for loop in template.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_each", [], [], None, None)
        template.set_environment(self)
        return template


def _check_width(text: str, *arguments: object) -> None:
    """Raise LimitExceeded where a text is to be filled up to more than any prompt's length."""
    wide = any(isinstance(value, int) and value > MAX_REPEATS for value in arguments)
    if wide or _WIDTH.search(text):
        raise LimitExceeded(f"a text is filled up to more than {MAX_REPEATS} characters")


def _narrow(fill: Callable[..., str]) -> Callable[..., str]:
    """A filter that fills up texts, within bounds."""

    @wraps(fill)
    def filled(text: str, *args: Any, **kwargs: Any) -> str:
        _check_width("", *args, *kwargs.values())
        return fill(text, *args, **kwargs)

    return filled
