"""The shape of the house: imports go down, files stay short, names mean something."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from house import PACKAGE, between_neighbours, circles, imports_of, report

ROOT = Path(__file__).parent.parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top down. A package or module imports from itself and from those after it. `python tests/house.py` prints the
# order inside each package.
LAYERS = (
    "__main__", "cli", "serve", "installation", "collect", "evaluation", "generation", "index", "training", "exporting",
    "embedder", "inference", "engines", "checkpoint", "data", "scoring", "display", "vectors", "media", "scenes",
    "text", "storage", "untrusted", "nets", "extras", "failures", "errors", "deprecation", "versions",
)  # fmt: skip
# Packages that know arrays or tensors alone, with all that they import from elsewhere.
OUTSIDE = {"nets": {"torch", "jaxtyping"}, "vectors": {"numpy", "faiss", "jaxtyping"}}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
GRAPH = imports_of(PACKAGE)


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from ..cli import run", "diptych.cli"),
        ("from .. import cli", "diptych.cli"),
        ("from .clip import CLIP", "diptych.nets.clip"),
        ("from . import clip", "diptych.nets.clip"),
        ("from . import presets", "diptych.nets"),
        ("from diptych import cli", "diptych.cli"),
        ("import diptych.cli as commands", "diptych.cli"),
        ("def f():\n    import diptych.cli.options", "diptych.cli.options"),
        ("if TYPE_CHECKING:\n    from diptych.nets.clip import CLIP", "diptych.nets.clip"),
        ("COMMANDS = {'search': 'diptych.cli'}", "diptych.cli"),
    ],
)
def test_every_way_to_import_is_seen(line: str, module: str, tmp_path: Path) -> None:
    package = tmp_path / "diptych"
    for name in ("__init__", "cli/__init__", "cli/options", "nets/__init__", "nets/clip", "nets/loss"):
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line if name == "nets/loss" else "")
    assert imports_of(package)["diptych.nets.loss"] == {module}


def test_every_layer_exists() -> None:
    assert {name.split(".")[1] for name in GRAPH} == {*LAYERS}, "add what is new to LAYERS; remove what is gone"


@pytest.mark.parametrize("module", GRAPH)
def test_imports_go_down(module: str) -> None:
    here = module.split(".")[1]
    up = {name for name in GRAPH[module] if LAYERS.index(name.split(".")[1]) < LAYERS.index(here)}
    assert not up, f"{module} is in the layer {here} and imports from a layer above: {up}"


def test_the_package_gives_its_modules_its_version_alone() -> None:
    """Its public names are for users: a module that took one from it would hide which module it needs."""
    names = {
        alias.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "diptych"
        for alias in node.names
    }
    assert {name for name in names if f"diptych.{name}" not in GRAPH} == {"__version__"}


def test_no_command_imports_the_group_that_opens_it() -> None:
    """`diptych.cli` imports each command by its name, when it is called."""
    assert [name for name, targets in GRAPH.items() if "diptych.cli" in targets] == ["diptych.__main__"]


@pytest.mark.parametrize("package", OUTSIDE)
def test_packages_of_arrays_import_nothing_else(package: str) -> None:
    names = set[str]()
    for path in (PACKAGE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {str(node.module)} if isinstance(node, ast.ImportFrom) else set()
    tops = {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names}
    assert tops <= {*OUTSIDE[package], "diptych"}


def test_no_folder_is_crowded() -> None:
    """At most twelve modules a folder; `cli/`, a file a command, is apart."""
    counts = {path.relative_to(ROOT).as_posix(): len([*path.glob("*.py")]) for path in {file.parent for file in FILES}}
    assert {folder: count for folder, count in counts.items() if count > 12}.keys() <= {"diptych/cli"}


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles(GRAPH) == []


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert circles(between_neighbours(GRAPH)) == []


def test_circles_are_seen() -> None:
    graph = {"p.a.x": {"p.b.y"}, "p.b.y": {"p.c"}, "p.b.z": {"p.a.x"}, "p.c": set[str]()}
    assert circles(graph) == []
    assert circles(between_neighbours(graph)) == [["p.a", "p.b", "p.a"]]
    assert circles({**graph, "p.c": {"p.b.y"}}) == [["p.b.y", "p.c", "p.b.y"]]
    assert report(graph).splitlines() == [
        "p:", "  a, b", "  c", "p.a:", "  x", "p.b:", "  y, z", "circle: p.a -> p.b -> p.a",
        "0 circles among 4 modules, 1 among 3 folders",
    ]  # fmt: skip


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


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout: nothing says what is tracked")
def test_nothing_large_or_foreign_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        assert not path.exists() or path.stat().st_size <= 25_000_000, name
