"""How often does an update of an index cross from one module into another, and return?

    python bench/crossings.py [--trace] [--quick] [--json]

It draws a folder of small pictures, indexes it with a trivial model, changes the folder (one picture new, one renamed,
one deleted) and records one update with sys.setprofile. Each step of that update handles one file, so the counts do not
depend on the size of the folder.

The *handle* is the object that `diptych.open_index` returns. Its parts are the objects of the package that it holds, at
any depth, and that hold further objects of the package: a catalog that holds a connection is a part, the connection is
not. A function receives the handle if an argument, including `self`, is a part, holds one as an attribute, is a method
of one, or is a function that closes over one.

- A *crossing* is a call from one module of the package into another; an edge is a crossing counted once.
- A *stay* is a maximal run of control in functions of one module that receive the handle. Functions that run in between
  without it, such as those that read pictures, belong to no stay.
- A *return* is a stay in a module that had one before: returns = stays - modules.

The script names no module of the package, so PYTHONPATH can point it to another version for a comparison. --trace
prints the stays in order.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, MethodType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from table import Row, arguments, report

import diptych

QUESTION = "Crossings between modules in one update of an index"
PACKAGE = diptych.__name__
ROOT = str(Path(diptych.__file__).parent) + os.sep
OLD_S = 1_600_000_000  # a time of change that is settled
_VARIADIC = 0x04, 0x08  # CO_VARARGS, CO_VARKEYWORDS


class Crossings(NamedTuple):
    """The counts of one run: the modules of the `stays` in order, and the `edges`, pairs of modules (caller, called),
    with the number of calls."""

    stays: list[str]
    edges: dict[tuple[str, str], int]

    @property
    def returns(self) -> int:
        """Stays in a module that had one before."""
        return len(self.stays) - len(set(self.stays))

    @property
    def modules(self) -> set[str]:
        """The modules that ran, with the handle or without."""
        return {module for edge in self.edges for module in edge}

    @property
    def both_ways(self) -> int:
        """Pairs of modules that call each other."""
        return sum(caller < called and (called, caller) in self.edges for caller, called in self.edges)


class _Call(NamedTuple):
    module: str
    values: list[Any]


def crossings(run: Callable[[], object], handle: object) -> Crossings:
    """Run a function in this thread and count. The parts of the handle are determined at the end, when all are open."""
    events: list[_Call | None] = []  # a call; None is the end of one

    def note(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "return") and frame.f_code.co_filename.startswith(ROOT):
            events.append(_Call(_module(frame.f_code), _given(frame)) if event == "call" else None)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    parts = _parts(handle)
    stack: list[tuple[str, bool]] = []
    stays: list[str] = []
    edges: dict[tuple[str, str], int] = {}
    for call in events:
        if call is None:
            if not stack:  # the end of a call that began before the recording
                continue
            stack.pop()
        else:
            if stack and stack[-1][0] != call.module:
                edge = stack[-1][0], call.module
                edges[edge] = edges.get(edge, 0) + 1
            stack.append((call.module, any(_gives(value, parts) for value in call.values)))
        if stack and stack[-1][1] and stays[-1:] != [stack[-1][0]]:
            stays.append(stack[-1][0])
    return Crossings(stays, edges)


def _module(code: CodeType) -> str:
    return code.co_filename.removeprefix(ROOT).removesuffix(".py")


def _given(frame: FrameType) -> list[Any]:
    """The arguments of a call, and the variables that the function closes over."""
    code, local = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount + sum(bool(code.co_flags & flag) for flag in _VARIADIC)
    return [local.get(name) for name in (*code.co_varnames[:count], *code.co_freevars)]


def _parts(handle: object) -> set[type]:
    """The classes of the handle's parts: a part may be opened several times, as several objects."""
    return {type(handle)} | {type(part) for part in _held(handle) if any(_held(part))}


def _held(holder: object) -> Iterator[object]:
    """The objects of the package that this one holds at any depth. Tuples are plain values."""
    seen, waiting = {id(holder)}, _inside(holder)
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if _is_ours(each):
            yield each
        waiting += _inside(each)


def _inside(value: object) -> list[Any]:
    if isinstance(value, tuple | list | set | frozenset):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    return list(vars(value).values()) if _is_ours(value) else []


def _is_ours(value: object) -> bool:
    module = type(value).__module__
    return (module == PACKAGE or module.startswith(f"{PACKAGE}.")) and hasattr(value, "__dict__")


def _gives(value: object, parts: set[type]) -> bool:
    if isinstance(value, partial):
        return any(_gives(each, parts) for each in (value.func, *value.args, *value.keywords.values()))
    if isinstance(value, MethodType):
        value = value.__self__
    held = vars(value).values() if _is_ours(value) else _cells(value)
    return type(value) in parts or any(type(each) in parts for each in held)


def _cells(function: object) -> Iterator[object]:
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


class Model:
    """A model whose 16 numbers are the first ones of the pixels."""

    preprocessing = diptych.Preprocess(size_px=8)
    dim = 16
    notes: tuple[str, ...] = ()
    fingerprint, source = "drawn-1", "bench/drawn"
    engine = SimpleNamespace(describe=lambda: "in the benchmark")

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """(n, 16) of unit length."""
        vectors = pixels.reshape(len(pixels), -1)[:, : self.dim].astype(np.float32) - 127.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw(path: Path, seed: int) -> None:
    """A small picture of noise with an old time of change."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
    os.utime(path, (OLD_S, OLD_S))


def change(folder: Path) -> None:
    """One picture new, one renamed, one deleted."""
    draw(folder / "new.png", 100)
    (folder / "0.png").rename(folder / "renamed.png")
    (folder / "1.png").unlink()


def counted() -> dict[str, Crossings]:
    """Updates of a changed and of an unchanged folder, each with a newly opened index."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "pictures"
        folder.mkdir()
        for seed in range(4):
            draw(folder / f"{seed}.png", seed)
        with diptych.open_index(folder, model=Model()) as index:  # type: ignore[arg-type]
            index.update(processes=1)
        change(folder)
        found: dict[str, Crossings] = {}
        for what in ("a changed folder", "an unchanged one"):
            with diptych.open_index(folder, model=Model()) as index:  # type: ignore[arg-type]
                found[what] = crossings(lambda index=index: index.update(processes=1), index)
        return found


def rows(what: str, found: Crossings) -> list[Row]:
    """The rows of one update."""
    return [
        Row(f"update of {what}: stays of the handle", len(found.stays), "stays"),
        Row(f"update of {what}: modules that it stays in", len(set(found.stays)), "modules"),
        Row(f"update of {what}: returns", found.returns, "returns"),
        Row(f"update of {what}: modules that control visits", len(found.modules), "modules"),
        Row(f"update of {what}: distinct crossings", len(found.edges), "edges"),
        Row(f"update of {what}: modules that call each other", found.both_ways, "pairs"),
        Row(f"update of {what}: crossings in all", sum(found.edges.values()), "crossings"),
    ]


def main() -> None:
    """Count and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--trace", action="store_true", help="print the stays in their order, on stderr")
    options = parser.parse_args()
    found = counted()
    if options.trace:
        for what, one in found.items():
            print(f"{what}: {' > '.join(one.stays)}\n", file=sys.stderr)
    report(QUESTION, [row for what, one in found.items() for row in rows(what, one)], as_json=options.as_json)


if __name__ == "__main__":
    main()
