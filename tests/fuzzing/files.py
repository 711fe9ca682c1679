"""Changes to the files of a folder: missing, cut, of noise, of another kind, or links to what is not theirs."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from random import Random

from .values import damaged


def files_below(folder: Path) -> list[Path]:
    """Everything below that is no folder, in an order that stays."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def file_changed(path: Path, precious: Path, choice: Random) -> str:
    """Change what lies at a path, which is a file: what was done, in words."""
    way = choice.choice((_lost, _linked, _linked, _replaced, _damaged, _damaged, _damaged, _doubled))
    return f"{path.name} {way(path, precious, choice)}"


def _lost(path: Path, precious: Path, choice: Random) -> str:
    _remove(path)
    return "is gone"


def _linked(path: Path, precious: Path, choice: Random) -> str:
    """A link to a file of the test's own, which holds what the path held or something else, or to nothing."""
    target = precious / choice.choice(
        ("notes.txt", "secret.png", "copy", "folder", "nothing-yet", "folder/nothing-yet")
    )
    if target.name == "copy" and path.is_file():
        target = precious / f"copy-{path.name}"
        target.write_bytes(path.read_bytes())
    _remove(path)
    if choice.random() < 0.2 and target.is_file():
        os.link(target, path)
        return f"is a hard link of {target.name}"
    path.symlink_to(target)
    return f"is a link to {target.name}"


def _replaced(path: Path, precious: Path, choice: Random) -> str:
    _remove(path)
    kind = choice.choice(("a pipe", "a folder", "a full folder", "a socket", "a loop", "a device"))
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        _socket_at(path)
    elif kind in ("a loop", "a device"):
        path.symlink_to(path.name if kind == "a loop" else choice.choice(("/dev/zero", "/dev/null", "/dev/stdin")))
    else:
        path.mkdir()
        if kind == "a full folder":
            (path / "in it").write_bytes(b"something")
    return f"is {kind}"


def _socket_at(path: Path) -> None:
    """A socket's name may have 107 bytes, so it is named from where it is."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)
        os.close(here)


def _damaged(path: Path, precious: Path, choice: Random) -> str:
    before = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    content = damaged(before, choice)
    _remove(path)
    path.write_bytes(content)
    return "has other bytes"


def _doubled(path: Path, precious: Path, choice: Random) -> str:
    """The content of one file under the name of another beside it."""
    others = [other for other in sorted(path.parent.iterdir()) if other.is_file() and not other.is_symlink()]
    if not others:
        return "is as it was"
    other = choice.choice(others)
    content = other.read_bytes()
    _remove(path)
    path.write_bytes(content)
    return f"is a copy of {other.name}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
