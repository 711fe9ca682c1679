"""Which module imports which. `python tests/house.py` prints the order inside each folder, and all circles."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "diptych"

Graph = dict[str, set[str]]


def modules_of(package: Path = PACKAGE) -> dict[str, Path]:
    """diptych.nets.clip -> diptych/nets/clip.py, diptych.nets -> diptych/nets/__init__.py"""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


def imports_of(package: Path = PACKAGE) -> Graph:
    """Each module with the modules of the package that it imports in any way: at the top, deferred, only for the type
    checker, relative, or by its full name in a string. The package itself is left out: it lists the public names."""
    modules = modules_of(package)
    graph = {name: _imported(name, path, modules.keys()) for name, path in modules.items()}
    return {name: targets - {name, package.name} for name, targets in graph.items() if name != package.name}


def _imported(name: str, path: Path, modules: Iterable[str]) -> set[str]:
    known = set(modules)
    here = [*name.split("."), *(["__init__"] if path.name == "__init__.py" else [])]
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level] if node.level else []  # one folder up for each dot
            source = ".".join([*start, *([node.module] if node.module else [])])
            children = {f"{source}.{alias.name}" for alias in node.names}
            found |= children & known or {source}
            found |= {source} if children - known else set()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found & known


def between_neighbours(graph: Graph) -> Graph:
    """The imports between the modules and folders of one folder, at every level: `p.a.x -> p.b.y` becomes
    `p.a -> p.b`."""
    found: Graph = {name: set() for module in graph for name in _with_folders(module)}
    for module, targets in graph.items():
        for target in targets:
            pairs = zip(_with_folders(module), _with_folders(target), strict=False)
            left, right = next((pair for pair in pairs if pair[0] != pair[1]), (target, target))
            if left != right:  # otherwise one is the folder of the other
                found[left].add(right)
    return found


def _with_folders(module: str) -> list[str]:
    """p.a.x -> p.a, p.a.x"""
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(2, len(parts) + 1)]


def circles(graph: Graph) -> list[list[str]]:
    """For each set of nodes that all reach one another: a shortest circle through the first of them."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in graph}
    return [_circle(graph, min(group)) for group in sorted(groups, key=sorted) if group]


def _reachable(graph: Graph, start: str) -> set[str]:
    seen, todo = set[str](), [start]
    while todo:
        new = graph.get(todo.pop(), set()) - seen
        seen |= new
        todo += new
    return seen


def _circle(graph: Graph, start: str) -> list[str]:
    paths, seen = [[start]], set[str]()
    for path in paths:
        for target in sorted(graph.get(path[-1], set()) - seen):
            if target == start:
                return [*path, start]
            seen.add(target)
            paths.append([*path, target])
    raise AssertionError(f"{start} is in no circle")


def rows_of(neighbours: Graph, folder: str) -> list[list[str]]:
    """The modules and folders in a folder. Each row imports only from the rows below it; a circle is in the top row."""
    names = {name for name in neighbours if name.rpartition(".")[0] == folder}
    rows = list[list[str]]()
    while names:
        lowest = {name for name in names if not neighbours[name] & names} or names
        rows.insert(0, sorted(name.rpartition(".")[2] for name in lowest))
        names = names - lowest
    return rows


def report(graph: Graph) -> str:
    """The order in each folder from the top down, the circles, and how many there are."""
    neighbours = between_neighbours(graph)
    folders = sorted({name.rpartition(".")[0] for name in neighbours})
    lines = [f"{folder}:\n  " + "\n  ".join(map(", ".join, rows_of(neighbours, folder))) for folder in folders]
    modules, between = circles(graph), circles(neighbours)
    lines += [f"circle: {' -> '.join(circle)}" for circle in [*modules, *between]]
    count = f"{len(modules)} circles among {len(graph)} modules, {len(between)} among {len(folders)} folders"
    return "\n".join([*lines, count])


if __name__ == "__main__":
    print(report(imports_of()))
