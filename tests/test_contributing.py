"""CONTRIBUTING.md: every folder is in the diagram of the house, every import in it is real, every file exists."""

import re
from itertools import product
from pathlib import Path

from house import PACKAGE, between_neighbours, imports_of

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOUSE = PAGE.partition("## The house")[2].partition("\n## ")[0]
NEIGHBOURS = between_neighbours(imports_of())


def arrows() -> set[tuple[str, str]]:
    """(importer, imported) of each arrow of the diagram."""
    rows = [line.split(" --> ") for line in HOUSE.splitlines() if " --> " in line]
    pairs = [product(left.strip().split(" & "), right.split(" & ")) for left, right in rows]
    return {pair for some in pairs for pair in some}


def test_every_package_and_folder_is_named() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert {folder.name for folder in folders if f"`{folder.name}/`" not in HOUSE} == set()
    assert {path.name for path in PACKAGE.glob("*.py") if f"`{path.name}`" not in HOUSE} <= {
        "__init__.py", "__main__.py", "embedder.py",
    }  # fmt: skip
    assert {name for pair in arrows() for name in pair} >= {
        folder.name for folder in folders if folder.parent == PACKAGE
    }


def test_every_arrow_is_an_import_and_none_is_missing() -> None:
    drawn = {f"diptych.{left}": set[str]() for left, _ in arrows()}
    for left, right in arrows():
        assert f"diptych.{right}" in NEIGHBOURS[f"diptych.{left}"], f"{left} does not import {right}"
        drawn[f"diptych.{left}"].add(f"diptych.{right}")
    reached = {name: _below(drawn, name) for name in drawn}
    tops = {name: targets for name, targets in NEIGHBOURS.items() if name.count(".") == 1}
    hidden = {name: targets - reached.get(name, set()) - {"diptych.versions"} for name, targets in tops.items()}
    assert {name: targets for name, targets in hidden.items() if targets} == {}


def _below(graph: dict[str, set[str]], start: str) -> set[str]:
    below = graph.get(start, set())
    return below.union(*(_below(graph, name) for name in below))


def test_every_file_exists() -> None:
    named = re.findall(r"(?<![\w./])((?:[\w]+/)+[\w.]*)", re.sub(r"https?://\S+", "", PAGE))
    tops = {path.name for path in PACKAGE.iterdir()} | {"tests", "docs"}
    paths = {name for name in named if name.partition("/")[0] in tops}
    assert len(paths) > 50
    assert {path for path in paths if not (PACKAGE / path).exists() and not (ROOT / path).exists()} == {"cli/NAME.py"}
