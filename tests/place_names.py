"""Where the word "place" is used. `python tests/place_names.py` prints those that are not about geography."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# File -> words around a "place" that may stay: a place on the earth, or a name that is kept for one version.
ALLOWED = {
    "CONTRIBUTING.md": ('"Place" means a place on the earth',),  # the rule itself
    "diptych/cli/renamed_flags.py": ("--place",),  # the old flags themselves
    "diptych/inference/heat_map.py": ('method="places"',),  # the old value itself
    "diptych/training/run/metrics_file.py": ("places          the region loss",),  # a key on disk
    "diptych/index/update/outdated_kinds.py": ("with a place",),  # where a photograph was taken; a key of --json
}

_WORD = re.compile(r"(?<![a-z])places?(?![a-z])")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Use(NamedTuple):
    """A use of the word: where, as what kind of text, and the text."""

    path: str
    line: int
    kind: str
    text: str


def uses_in(path: Path) -> Iterator[Use]:
    """In a Python file: the path, identifiers, comments, docstrings, other prose and flags. In a page: its lines."""
    name = path.relative_to(ROOT).as_posix()
    if _is_used(name.replace("/", " ")):
        yield Use(name, 0, "path", name)
    text = path.read_text(encoding="utf-8")
    if "place" not in text.lower():
        return
    if path.suffix == ".py":
        tree = ast.parse(text)
        found = [*_identifiers(tree), *_prose(tree), *_comments(text)]
    else:
        found = [(number, "page", line) for number, line in enumerate(text.splitlines(), 1)]
    for line, kind, words in found:
        if _is_used(words) and not any(allowed in words for allowed in ALLOWED.get(name, ())):
            yield Use(name, line, kind, words)


def _is_used(text: str) -> bool:
    return bool(_WORD.search(_HUMP.sub("_", text).lower()))


def _identifiers(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Every name in the code but those that `diptych.deprecation` keeps alive."""
    renamed = {each for node in ast.walk(tree) if _keeps_old_names(node) for each in ast.walk(node)}
    for node in ast.walk(tree):
        if node not in renamed:
            for field in ("id", "attr", "arg", "name", "asname", "module", "rest", "names", "kwd_attrs"):
                value = getattr(node, field, None)
                words = value if isinstance(value, list) else [value]
                yield from ((getattr(node, "lineno", 0), "name", word) for word in words if isinstance(word, str))


def _keeps_old_names(node: ast.AST) -> bool:
    """`old = RenamedAttribute("old", "new")`, or a call such as `renamed_arguments(old="new")`."""
    call = node.value if isinstance(node, ast.Assign) else node
    name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
    return name.lower().startswith(("renamed", "warn_renamed"))


def _prose(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Strings of several words, and flags. A single word is a key or a value: what is on disk keeps its keys."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if text.startswith("-") or len(text.split()) > 1 or re.search(r"[^\w ]", text):
                yield from ((node.lineno + index, "text", line.strip()) for index, line in enumerate(text.split("\n")))


def _comments(text: str) -> Iterator[tuple[int, str, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], "comment", token.string


def files(*folders: str) -> list[Path]:
    """The Python files below these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def pages() -> list[Path]:
    """What users and newcomers read; the log and the changelog tell of names that are gone."""
    return sorted(
        {*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")} - {ROOT / "CHANGELOG.md", ROOT / "docs" / "log.md"}
    )


if __name__ == "__main__":
    for path in [*files(*(sys.argv[1:] or ("diptych", "bench", "examples"))), *pages()]:
        for use in uses_in(path):
            print(f"{use.path}:{use.line}: {use.kind}: {use.text[:140]}")
