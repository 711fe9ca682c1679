"""The shape of the house: imports go down, files stay short, names mean something."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "diptych"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top floor down; a module may import from its own floor (a floor is a wing or one module) and from below.
FLOORS = (
    "__main__", "cli", "installation", "evaluation", "index", "training", "exporting", "embedder", "engines",
    "checkpoint", "data", "scoring", "display", "vectors", "media", "scenes", "text", "storage", "untrusted", "nets",
    "extras", "failures", "errors", "versions",
)  # fmt: skip
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}


def floor(module: str) -> str:
    """`diptych.nets.clip` -> `nets`."""
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    """Every diptych module that a file imports, deferred imports too; those for the type checker alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    here = [PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level] if node.level else []  # a dot for each folder upwards
            module = ".".join([*start, *([node.module] if node.module else [])])
            found |= {f"diptych.{alias.name}" for alias in node.names} if module == "diptych" else {module}
    return {name for name in found if name.startswith("diptych.") and name != "diptych.__version__"}


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from ..cli import run", "diptych.cli"),
        ("from .. import cli", "diptych.cli"),
        ("from .clip import CLIP", "diptych.nets.clip"),
        ("from . import clip", "diptych.nets"),
        ("from diptych import cli", "diptych.cli"),
        ("def f():\n    import diptych.cli.options", "diptych.cli.options"),
    ],
)
def test_every_way_to_import_is_seen(line: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "diptych")
    path = tmp_path / "diptych" / "nets" / "loss.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert imported(path) == {module}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if here == "__init__":
        return  # the public names, each looked up when asked for
    assert here in FLOORS, f"{here} has no floor; add it to FLOORS where it belongs"
    below = set(FLOORS[FLOORS.index(here) :])
    up = {name for name in imported(path) if floor(name) not in below}
    assert not up, f"{path.name} is on the floor of {here} and imports upwards: {up}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_named(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    assert path.stem not in NAMELESS
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stat().st_size == 0


def test_functions_fit_in_a_glance() -> None:
    """Median 10 lines, 9 in 10 under 30."""
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    )
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] < 30


def test_public_functions_have_docstrings() -> None:
    bare = [
        f"{path.name}:{node.name}"
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare


def test_nets_know_torch_alone() -> None:
    for path in (PACKAGE / "nets").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not any(f"import {name}" in text or f"from {name}" in text for name in ("PIL", "pathlib", "os", "json"))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout: nothing says what is tracked")
def test_nothing_large_or_foreign_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        assert not path.exists() or path.stat().st_size <= 25_000_000, name
