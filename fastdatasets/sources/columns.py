"""Mapping columns of a dataset to roles: instruction, input, output, a conversation, its tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path

from store import UserError

# The names tried for a role, in the guide's order; but it takes "input" before the question.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "prompt", "query", "question"),
    "input": ("input", "input_text", "context", "source"),
    "output": ("output", "content", "response", "answer", "completion", "target"),
    "reasoning": ("reasoning_content", "reasoning", "rationale", "explanation", "thinking"),
}
ALONE = {"instruction": ("input",)}  # where nothing else is the instruction
# Likewise, of what records have beside a question and its answer.
FURTHER: dict[str, tuple[str, ...]] = {
    "system": ("system", "system_prompt", "system_message"),
    "tools": ("tools", "functions"),
    "history": ("history",),
    "options": ("options", "choices"),
    "instances": ("instances",),
}
# Of images, where these are sent.
IMAGES = ("images", "image", "image_paths", "image_path", "image_urls", "image_url")
CHAT = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns")
PREFERRED, REJECTED = "chosen", "rejected"  # of DPO: the question is used, neither answer is
JUDGED = ("prompt", "completion", "label")  # of KTO, likewise
LETTERED = ("A", "B", "C", "D")  # a column for each option
MAX_NAMES = 20  # in a message

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
    """The column for each role, or several, joined by commas.

    Where chat or preferred is set, what is None comes from turns. instances: a list of objects with
    input and output. preferred: a conversation whose last answer is not used.
    """

    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    reasoning: str | None = None
    chat: str | None = None
    preferred: str | None = None
    system: str | None = None
    tools: str | None = None
    history: str | None = None
    options: str | None = None
    instances: str | None = None
    images: str | None = None

    @property
    def turns(self) -> str | None:
        """The column of a whole conversation."""
        return self.chat or self.preferred

    def describe(self, names: Sequence[str]) -> str:
        """One line: 'instruction ← question, output ← answer; not used: id'.

        names: of all the columns there are.
        """
        parts = [f"{role} ← {name}" for role, name in self.roles().items() if name != self.turns]
        if self.turns:
            taken = [role for role in ("instruction", "output") if getattr(self, role) is None]
            if self.preferred:
                taken.remove("output")
            parts.append(f"{', '.join(taken)}, system and history ← turns of {self.turns}")
        used = self.columns(names)
        unused = [name for name in names if name not in used]
        return ", ".join(parts) + (f"; not used: {some(unused)}" if unused else "")

    def roles(self) -> dict[str, str]:
        """Role -> column, or columns, of the roles that have one."""
        return {role: name for role, name in asdict(self).items() if name is not None}

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns that are used, each once; names: of all the columns there are."""
        return list(
            dict.fromkeys(
                name for asked in self.roles().values() for name in split_columns(asked, names)
            )
        )

    def as_dict(self) -> dict[str, str | None]:
        """Role -> column, as the store keeps it."""
        return {**dict.fromkeys(CANDIDATES), **self.roles()}


def split_columns(asked: str, names: Sequence[str]) -> list[str]:
    """The columns of 'title,body', unless one of that name exists."""
    if asked in names:
        return [asked]
    return [part.strip() for part in asked.split(",")]


def map_columns(
    names: Sequence[str],
    asked: Mapping[str, str | None],
    dataset: str,
    *,
    images: bool = False,
) -> ColumnMapping:
    """Map columns to roles.

    A column that the user asked for wins; else the dataset's special mapping; else a conversation;
    else the first candidate that exists, by exact name before another case. A column plays one role
    only, instruction before input: the same text is never sent twice. images: whether a column may
    have that role. Raises UserError where a
    column that was asked for does not exist, and where nothing can be the instruction.
    """
    taken = {role: name for role, name in asked.items() if name is not None}
    for role, name in taken.items():
        for part in split_columns(name, names):
            check_exists(f"--{role}-col {name}", part, names)
    special = SPECIAL.get(dataset, {})
    if special and all(name is None or name in names for name in special.values()):
        return ColumnMapping(**{**special, **taken})

    def take(candidates: Mapping[str, Sequence[str]], *roles: str) -> None:
        for role in roles:
            used = [one for name in taken.values() for one in split_columns(name, names)]
            free = [name for name in names if name not in used]
            if role not in taken and (name := _first(candidates[role], free)):
                taken[role] = name

    if images and (column := _first(IMAGES, names)):
        taken["images"] = column
    if "instruction" not in taken and (chat := _first(CHAT, names)):
        taken["chat"] = chat
        take(CANDIDATES, "reasoning")
        take(FURTHER, "system", "tools")
        return ColumnMapping(**taken)
    take(CANDIDATES, "instruction")
    take(ALONE, "instruction")
    if "instruction" not in taken and PREFERRED in names and REJECTED in names:
        taken["preferred"] = PREFERRED
        take(FURTHER, "system", "tools")
        return ColumnMapping(**taken)
    if "instruction" not in taken:
        raise UserError(
            f"no column can be the instruction: the dataset has {some(names)}. "
            "Name one with --instruction-col"
        )
    take(CANDIDATES, "input")
    if not all(name in names for name in JUDGED):
        take(CANDIDATES, "output")
    take(CANDIDATES, "reasoning")
    take(FURTHER, "system", "tools", "history", "options")
    if "options" not in taken and all(name in names for name in LETTERED):
        taken["options"] = ",".join(LETTERED)
    if "input" not in taken and "output" not in taken:
        take(FURTHER, "instances")
    return ColumnMapping(**taken)


def check_exists(option: str, name: str, names: Sequence[str]) -> None:
    """Raise UserError where a column that an option names does not exist; option: as given."""
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(
            f"{option}: there is no column {name!r}{hint} The dataset has {some(names)}"
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
