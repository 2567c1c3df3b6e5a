"""The documents name what exists: files, modules, links, rooms and their imports, options."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdatasets import api
from fastdatasets.cli.commands import options_of
from fastdatasets.config.options import Option

ROOT = Path(__file__).parents[1]
DOCS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "requirements").glob("*.md")),
]
DESIGN = (ROOT / "docs/design.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
PACKAGES = ("store", "backends", "fastdatasets")
FOLDERS = (*PACKAGES, "tests", "docs", "bench", "scripts", "requirements", ".ci")
SUFFIXES = (".py", ".sql", ".j2", ".md", ".lock", ".toml")

OTHERS = {"app/core/prompt.py"}  # files of the tool that the old guide describes
API = (
    *(api.distill, api.augment, api.resume, api.status, api.estimate, api.cancel, api.export),
    api.preview,
    api.push,
    api.compare,
)


def backticked(doc: Path) -> list[str]:
    """What a document has in backticks, code blocks left out."""
    text = re.sub(r"^```.*?^```", "", doc.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def files() -> Iterator[Path]:
    """The repository's files that documents may name, relative to its root."""
    for folder in FOLDERS:
        yield Path(folder)
        for path in (ROOT / folder).rglob("*"):
            if "__pycache__" not in path.parts:
                yield path.relative_to(ROOT)
    for path in ROOT.glob("*.*"):
        yield path.relative_to(ROOT)


def is_path(word: str) -> bool:
    """Whether a word looks like a file or folder of the repository."""
    if not re.fullmatch(r"[\w./-]+", word) or word in OTHERS:
        return False
    return word.endswith(SUFFIXES) or ("/" in word and word.split("/", maxsplit=1)[0] in FOLDERS)


def is_module(word: str) -> bool:
    """Whether a word looks like a module of ours, or a name in one."""
    return re.fullmatch(rf"({'|'.join(PACKAGES)}|tests)(\.\w+)+", word) is not None and not (
        word.endswith((".py", ".md"))
    )


def names_something(word: str) -> bool:
    """Whether there is such a module, or a name in it."""
    parts = word.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            break
    if length == len(parts):
        return True
    found: object = importlib.import_module(".".join(parts[:length]))
    for name in parts[length:]:
        found = getattr(found, name, None)
    return found is not None


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_files_and_modules_exist(doc: Path) -> None:
    """Every file, folder and module that a document names exists; a bare file name is one's."""
    existing = {str(path) for path in files()}
    bare = {Path(path).name for path in existing}
    words = backticked(doc)
    missing = [
        word
        for word in words
        if is_path(word) and word.rstrip("/") not in (existing if "/" in word else bare)
    ]
    missing += [word for word in words if is_module(word) and not names_something(word)]
    assert missing == []


def anchors(doc: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", doc.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_links_lead_somewhere(doc: Path) -> None:
    """Every relative link of a document leads to a file, and its anchor to a heading."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", doc.read_text("utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (doc.parent / name).resolve() if name else doc
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_index_lists_every_document() -> None:
    """docs/README.md links to each document of its folder."""
    index = (ROOT / "docs/README.md").read_text("utf-8")
    names = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [name for name in names if f"]({name})" not in index] == []


def rooms() -> set[str]:
    """The packages of the repository, as paths."""
    found = set()
    for package in PACKAGES:
        for init in (ROOT / package).rglob("__init__.py"):
            found.add(str(init.parent.relative_to(ROOT)))
    return found


def test_the_design_lists_every_room() -> None:
    """The table of rooms in docs/design.md has a row for each package, and for nothing else."""
    rows = re.findall(r"^\| `([\w/]+)/` \|", DESIGN, re.MULTILINE)
    assert sorted(rows) == sorted(rooms())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_design_lists_every_module_at_the_top(package: str) -> None:
    """The row of a package names each module that is in none of its rooms."""
    (row,) = re.findall(rf"^\| `{package}/` \| (.*) \|$", DESIGN, re.MULTILINE)
    modules = {path.name for path in (ROOT / package).glob("*.py") if path.name[0] != "_"}
    assert set(re.findall(r"`(\w+\.py)`", row)) == modules


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def imports_between_rooms() -> set[tuple[str, str]]:
    """Which room imports from which other."""
    known, found = rooms(), set()
    for room in known:
        for path in (ROOT / room).glob("*.py"):
            for module in imports(path):
                parts = module.split(".")
                inside = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
                other = next((name for name in inside if name in known), room)
                if other != room:
                    found.add((room, other))
    return found


def test_no_import_points_up() -> None:
    """Store imports neither of the others, and backends not fastdatasets."""
    layers = {name: height for height, name in enumerate(PACKAGES)}
    assert [
        (room, other)
        for room, other in imports_between_rooms()
        if layers[other.split("/")[0]] > layers[room.split("/")[0]]
    ] == []


def test_the_diagram_has_the_imports_between_rooms() -> None:
    """The arrows between rooms of one package are those of the diagram in docs/design.md."""
    (diagram, *_) = re.findall(r"```mermaid\n(.*?)```", DESIGN, re.DOTALL)
    paths = dict(re.findall(r'(\w+)\["([\w/]+)', diagram))
    arrows = {
        (paths[start].rstrip("/"), paths[end].rstrip("/"))
        for start, ends in re.findall(r"^ *(\w+) --> (.+)$", diagram, re.MULTILINE)
        for end in ends.split(" & ")
        if start in paths
    }
    actual = {
        (room, other)
        for room, other in imports_between_rooms()
        if room.split("/")[0] == other.split("/")[0] and "/" in room and "/" in other
    }
    assert {arrow for arrow in arrows if all("/" in room for room in arrow)} == actual


def test_the_readme_has_every_option_with_its_default() -> None:
    """The README's table has the options of config/options.py, no others, and their defaults.

    A default is what the help says after 'Default:', else the value of the field.
    """
    rows = re.findall(r"^\| (`--[^|]*) \| [^|]* \| ?([^|]*)\|$", README, re.MULTILINE)
    listed = {flags.replace("`", "").replace(" ", ""): default.strip() for flags, default in rows}
    wrong, flags = [], {"--json"}  # of the commands that report
    for function in API:
        for field, _, option in options_of(function.__dict__["options"]):
            if option.is_argument:
                continue
            flag = option.flag or "--" + field.name.replace("_", "-")
            flags.add(flag)
            expected = default_of(field.default, option)
            if expected is not None and expected not in listed.get(flag, ""):
                wrong.append((flag, expected, listed.get(flag)))
    assert (wrong, flags) == ([], set(listed))


def test_the_python_example_is_the_same_everywhere() -> None:
    """README and both guides show the example that test_guide.py runs."""
    found = set()
    for name in ("README.md", "docs/guide.md", "docs/guide.zh.md"):
        text = (ROOT / name).read_text("utf-8")
        found.update(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert len(found) == 1


# Messages of vLLM and torch that the guide explains.
THEIRS = {"No available memory for the cache blocks", "operator torchvision::nms does not exist"}


def messages() -> list[str]:
    """The texts in our code, with … where a value is put in."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


@pytest.mark.parametrize("name", ["guide.md", "guide.zh.md"])
def test_messages_of_the_guide_are_ours(name: str) -> None:
    """Each message in the guide's table of troubles is one that the code has."""
    guide = (ROOT / "docs" / name).read_text("utf-8")
    rows = re.findall(r"^\| `([^`-][^`]*)` \|", guide.split("\n## ")[-1], re.MULTILINE)
    known = messages()
    missing = []
    for row in set(rows) - THEIRS:
        pattern = ".*".join(re.escape(part) for part in row.split("…"))
        if not any(re.search(pattern, message, re.DOTALL) for message in known):
            missing.append(row)
    assert (bool(rows), missing) == (True, [])


def default_of(value: object, option: Option) -> str | None:
    """A default as the README shows it; None where it is not a value and the help has none."""
    if (said := re.search(r"Default: (.*)\.$", option.help)) is not None:
        return said[1]
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
