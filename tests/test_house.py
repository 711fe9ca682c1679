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


def test_no_folder_is_crowded() -> None:
    """At most twelve modules a folder; `cli/`, a file a command, is apart."""
    counts = {path.relative_to(ROOT).as_posix(): len([*path.glob("*.py")]) for path in {file.parent for file in FILES}}
    assert {folder: count for folder, count in counts.items() if count > 12}.keys() <= {"diptych/cli"}


def imports_of_all() -> dict[str, set[str]]:
    """Each module with the modules of the package that it imports in any way: deferred imports and those for the type
    checker count."""
    modules = {module_name(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                targets |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        found = {name if name in modules else name.rpartition(".")[0] for name in targets}
        # The package itself only lists public names for the type checker; the version is all that others take from it
        graph[module] = {name for name in found if name in modules} - {module, "diptych"}
    del graph["diptych"]
    return graph


def module_name(path: Path) -> str:
    """diptych/nets/clip.py -> diptych.nets.clip, diptych/nets/__init__.py -> diptych.nets"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of nodes from each of which every other of them can be reached."""
    reached = {node: reachable(graph, node) for node in graph}
    groups = {
        frozenset({node, *(other for other in reached[node] if node in reached.get(other, ()))}) for node in graph
    }
    return sorted(sorted(group) for group in groups if len(group) > 1)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, todo = set[str](), [start]
    while todo:
        new = graph.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def between_neighbours(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Imports between two modules or folders of one folder, at every level: from the child of their nearest common
    folder that holds the one to that which holds the other."""
    found: dict[str, set[str]] = {}
    for module, targets in graph.items():
        for target in targets:
            one, other = module.split("."), target.split(".")
            depth = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if depth is not None:  # else one is the other's folder
                found.setdefault(".".join(one[: depth + 1]), set()).add(".".join(other[: depth + 1]))
    return found


@pytest.mark.xfail(reason="being untied")
def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles(imports_of_all()) == []


@pytest.mark.xfail(reason="being untied")
def test_no_folders_import_each_other_in_a_circle() -> None:
    assert circles(between_neighbours(imports_of_all())) == []


def test_circles_are_seen() -> None:
    graph = {"p.a.x": {"p.b.y"}, "p.b.y": {"p.c"}, "p.b.z": {"p.a.x"}, "p.c": set[str]()}
    assert circles(graph) == []
    assert circles(between_neighbours(graph)) == [["p.a", "p.b"]]
    assert circles({**graph, "p.c": {"p.b.y"}}) == [["p.b.y", "p.c"]]


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
