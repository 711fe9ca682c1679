"""One module opens, lists, renames and removes the files of an index, checked in the source code and at run time."""

import ast
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from index_model import InlineReaders, PixelModel, draw

from diptych.cli import NOTHING, OK
from diptych.media.reading import readers
from diptych.storage import directory
from tests.conftest import Cli

PACKAGE = Path(directory.__file__).parents[1]
# What keeps an index: rooms, and modules of others
KEEPERS = (
    "index",
    "vectors",
    "storage/lock.py",
    "storage/journals.py",
    "storage/entry_errors.py",
    "storage/query_budget.py",
)
# What reads and writes pictures, texts, what the user named or configured, and no file of an index
OTHERS = {
    "job",
    "shard_embedder",
    "shard_files",
    "shard_targets",
    "sharded_job",
    "sharded_source",
    "shards",
    "changes",
    "precomputed",
    "query",
    "outdated_kinds",
    "watching",
}
# Single functions of other modules that may, and what they do it to
ALLOWED = {
    ("compared_pictures", "existing"): "pictures",
    ("local", "open_index"): "the folder of the pictures",
    ("local", "update"): "the folder of the pictures",
    ("recovery", "_with_first_page"): "files that the directory opened",
    ("trusted_indexes", "_used_before"): "the user's cache",
    ("trusted_indexes", "installed_ns"): "this program",
    ("model", "source_of"): "a model",
    ("model", "_former_model"): "whether the index can be written, for a remedy",
    ("relevance", "_cached_array"): "bytes in memory",
    ("roots", "with_names_on_disk"): "folders of pictures",
    ("roots", "_is_ours"): "the folder of the pictures",
    ("vector_files", "_mapped"): "a file that the directory opened",
    ("schema", "_schema_of"): "a database in memory",
    ("small_greys", "_cached"): "the user's cache",
    ("small_greys", "_keep"): "the user's cache",
    ("lite", "_check"): "the folder of Milvus Lite",
    ("lite", "_started"): "the folder of Milvus Lite",
    ("lite", "_socket_folder"): "a folder of sockets that it made",
    ("lite", "__init__"): "a folder of sockets that it made",
    ("lite", "stop"): "a folder of sockets that it made",
    ("row_filter", "passing_ids"): "a database in memory",
    ("search", "_real_path"): "pictures",
    ("search", "_shot"): "pictures",
}
_OS = (
    "open", "stat", "lstat", "replace", "rename", "renames", "unlink", "remove", "removedirs", "mkdir",
    "makedirs", "rmdir", "listdir", "scandir", "link", "symlink", "readlink", "truncate", "access", "chmod",
    "utime", "walk", "mkfifo", "path.exists", "path.lexists", "path.isfile", "path.isdir", "path.islink",
    "path.getsize", "path.getmtime", "path.realpath", "path.samefile",
)  # fmt: skip
CALLS = {"open", "sqlite3.connect", "np.load", "np.save", "np.memmap", "np.fromfile", *(f"os.{name}" for name in _OS)}
METHODS = {
    "read_bytes", "read_text", "write_bytes", "write_text", "unlink", "mkdir", "stat", "lstat", "is_file",
    "is_dir", "is_symlink", "iterdir", "glob", "rglob", "touch", "rmdir", "symlink_to", "hardlink_to", "exists",
    "samefile", "chmod",
}  # fmt: skip
EVENTS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.listdir",
    "os.scandir", "os.chmod", "os.utime", "shutil.rmtree", "shutil.copyfile", "shutil.move", "sqlite3.connect",
}  # fmt: skip


def touched(path: Path) -> Iterator[tuple[str, str]]:
    """The functions of a module that touch files, each with the call."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and touches(node.func):
                    yield function.name, ast.unparse(node.func)


def touches(called: ast.expr) -> bool:
    name = ast.unparse(called)
    return name in CALLS or name.startswith("shutil.") or (isinstance(called, ast.Attribute) and called.attr in METHODS)


def test_no_other_module_contains_such_calls() -> None:
    found = {
        (path.stem, function): call
        for keeper in KEEPERS
        for path in [PACKAGE / keeper, *(PACKAGE / keeper).rglob("*.py")]
        if path.is_file() and path.stem not in OTHERS
        for function, call in touched(path)
    }
    assert {where: call for where, call in found.items() if where not in ALLOWED} == {}
    assert ALLOWED.keys() <= found.keys(), "what is allowed is done no longer: take it off the list"


@pytest.mark.parametrize(
    "line", ["open(p)", "os.path.exists(p)", "shutil.rmtree(p)", "p.unlink()", "sqlite3.connect(p)"]
)
def test_each_kind_of_call_is_detected(tmp_path: Path, line: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def f(p):\n    return {line}\n")
    assert [function for function, _ in touched(path)] == ["f"]


class Watch:
    """Who of us does something to files in an index, and what. A hook of the interpreter's cannot be taken out again,
    so there is one, which sleeps."""

    def __init__(self) -> None:
        self.is_on, self.seen = False, set[tuple[str, str]]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_on and event in EVENTS and is_inside(event, arguments):
            self.seen.add((event, who(sys._getframe(1))))

    @contextmanager
    def watching(self) -> Iterator[set[tuple[str, str]]]:
        self.seen, self.is_on = set(), True
        try:
            yield self.seen
        finally:
            self.is_on = False


def is_inside(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an argument is the path of an index file, or a name relative to a handle, which no other module has. The
    open mode implies no handle."""
    names = [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | os.PathLike)]
    by_handle = event != "open" and any(isinstance(one, int) and one > 2 for one in arguments[1:])
    is_relative = bool(names) and not any(os.path.isabs(name) for name in names)
    return any(os.sep + ".diptych" in name for name in names) or (by_handle and is_relative)


def who(frame: FrameType | None) -> str:
    """The nearest module of the package above."""
    while frame is not None and PACKAGE not in Path(frame.f_code.co_filename).parents:
        frame = frame.f_back
    return "nobody" if frame is None else Path(frame.f_code.co_filename).stem


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def test_no_other_module_touches_index_files(
    cli: Cli, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first index to a damaged one, with every file created, read, replaced and removed."""
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    model = PixelModel()
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: model)
    root = tmp_path / "pictures"
    for seed in range(12):
        draw(root / f"{seed}.png", seed)
    with watch.watching() as seen:
        for command in (
            ("index", root), ("search", "a star", root), ("index", "duplicates", root), ("doctor", root),
            ("index", root, "--reindex"), ("search", "a star", root, "--find", "both"),
        ):  # fmt: skip
            assert cli(*command).code in (OK, NOTHING), command
        (root / "0.png").unlink()
        assert cli("index", root).code == OK
        watch.is_on = False
        shutil.rmtree(root / ".diptych" / "nearest-picture")
        (root / ".diptych" / "catalog.sqlite").write_bytes(b"noise" * 9000)
        (root / ".diptych" / "catalog.sqlite-journal").mkdir()
        watch.is_on = True
        assert cli("doctor", root, "--repair").code == OK
        assert cli("index", root).code == OK
    assert {module for _, module in seen} == {"directory"}
    assert {"open", "sqlite3.connect", "os.rename", "os.remove", "os.mkdir"} <= {event for event, _ in seen}


def test_calls_of_other_modules_are_detected(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / ".diptych").mkdir()
    with watch.watching() as seen:
        (tmp_path / ".diptych" / "a").write_text("b")
    assert seen == {("open", "nobody")}
