"""Mapping columns of a dataset to roles: instruction, input, output, reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from store import UserError

# The names tried for a role, in the guide's order.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "input", "prompt", "query", "question"),
    "input": ("input", "input_text", "context", "source"),
    "output": ("output", "content", "response", "answer", "completion", "target"),
    "reasoning": ("reasoning_content", "reasoning", "rationale", "explanation", "thinking"),
}
MAX_NAMES = 20  # in a message
CHAT = ("messages", "conversations")

# Datasets whose columns the guide maps by hand.
SPECIAL: dict[str, dict[str, str | None]] = {
    "Congliu/Chinese-DeepSeek-R1-Distill-data-110k": {
        "instruction": "input",
        "input": None,
        "output": "content",
        "reasoning": "reasoning_content",
    },
    "open-r1/SYNTHETIC-1-SFT-Data-Code_decontaminated": {
        "instruction": "prompt",
        "input": None,
        "output": "response",
        "reasoning": None,
    },
}


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """The column for each role; where chat is set, what is None comes from the chat's turns."""

    instruction: str | None
    input: str | None
    output: str | None
    reasoning: str | None
    chat: str | None = None

    def describe(self, names: Sequence[str]) -> str:
        """One line: 'instruction ← question, output ← answer; not used: id'.

        names: of all the columns there are.
        """
        roles = asdict(self)
        named = [f"{role} ← {name}" for role, name in roles.items() if name and role != "chat"]
        if self.chat:
            taken = [role for role in ("instruction", "output") if roles[role] is None]
            named.append(f"{', '.join(taken)} and system ← turns of {self.chat}")
        unused = [name for name in names if name not in self.columns()]
        return ", ".join(named) + (f"; not used: {some(unused)}" if unused else "")

    def columns(self) -> list[str]:
        """The columns that are used, each once."""
        return [name for name in dict.fromkeys(asdict(self).values()) if name is not None]

    def as_dict(self) -> dict[str, str | None]:
        """Role -> column, as the store keeps it."""
        return asdict(self)


def map_columns(
    names: Sequence[str], asked: Mapping[str, str | None], dataset: str
) -> ColumnMapping:
    """Map columns to roles.

    A column the user asked for wins where it exists; else the dataset's special mapping; else the
    first candidate that exists, by exact name before another case. A column plays one role only,
    instruction before input: the same text is never sent twice. Raises UserError where nothing can
    be the instruction.
    """
    taken: dict[str, str | None] = {
        role: name for role, name in asked.items() if name in names and name is not None
    }
    special = SPECIAL.get(dataset, {})
    if special and all(name is None or name in names for name in special.values()):
        return ColumnMapping(**{**special, **taken})

    for role, candidates in CANDIDATES.items():
        free = [name for name in names if name not in taken.values()]
        if role == "input" and "instruction" not in taken:
            break  # a chat: what else the dataset has, such as a 'source', is no input
        if role not in taken and (column := _first(candidates, free)):
            taken[role] = column
    if "instruction" in taken:
        return ColumnMapping(**{role: taken.get(role) for role in CANDIDATES})
    if chat := _first(CHAT, names):
        return ColumnMapping(**{role: taken.get(role) for role in CANDIDATES}, chat=chat)
    raise UserError(
        f"no column can be the instruction: the dataset has {some(names)}. "
        "Name one with --instruction-col"
    )


def common_columns(columns: Mapping[Path, Sequence[str]]) -> list[str]:
    """The columns of files that are one dataset: one file has all, others may lack some.

    Raises UserError where they are not.
    """
    full = max(columns, key=lambda file: len(columns[file]))
    for file, names in columns.items():
        if other := [name for name in names if name not in columns[full]]:
            raise UserError(
                f"{file} has other columns than {full}: {some(other)}; files of one dataset have "
                "the same, of which some may be missing"
            )
    return list(columns[full])


def some(names: Sequence[str]) -> str:
    """Names for a message: all of them, or the first and how many there are."""
    more = f", … ({len(names)})" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def _first(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    for candidate in candidates:
        if candidate in names:
            return candidate
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[candidate] for candidate in candidates if candidate in lowered), None)
