"""What a process and its children change in the file system, as strace sees it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Calls that change what their path names, and which of their paths: the first, or the first two.
_CHANGING = {
    "creat": 1, "truncate": 1, "ftruncate": 1, "unlink": 1, "unlinkat": 1, "rmdir": 1, "mkdir": 1, "mkdirat": 1,
    "mknod": 1, "mknodat": 1, "chmod": 1, "fchmodat": 1, "fchmodat2": 1, "chown": 1, "lchown": 1, "fchownat": 1,
    "utime": 1, "utimes": 1, "utimensat": 1, "futimesat": 1, "setxattr": 1, "lsetxattr": 1, "removexattr": 1,
    "rename": 2, "renameat": 2, "renameat2": 2, "link": 2, "linkat": 2, "symlink": 2, "symlinkat": 2,
}  # fmt: skip
# Of these, the link itself is meant where the path is one.
_OF_THE_NAME = {
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "lchown",
    "lsetxattr",
}
_WRITING = ("O_WRONLY", "O_RDWR", "O_TRUNC", "O_CREAT")
_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (.*)$")
# A descriptor with what it stands for, as -y writes it, or a text; `...` behind it where strace cut it
_ARGUMENT = re.compile(r'(AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>|"((?:[^"\\]|\\.)*)"(\.\.\.)?')


class Change(NamedTuple):
    """A call, and the path that it changed, links resolved."""

    call: str
    path: str


def traced(
    line: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[int, list[Change]]:
    """Run a program under strace: its exit code, and everything that it or a child of it opened for writing, cut,
    renamed, made or removed. Calls that failed changed nothing."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "calls"
        strace = ["strace", "-ff", "-y", "-s", "4096", "-e", "trace=%file,ftruncate", "-o", str(out)]
        done = subprocess.run([*strace, *line], env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
        calls = [path.read_text(errors="replace").splitlines() for path in sorted(Path(folder).iterdir())]
    assert calls, done.stderr.decode(errors="replace")
    where = str(cwd or Path.cwd())  # nothing of ours changes it
    return done.returncode, [change for process in calls for call in process for change in changes(call, where)]


def changes(call: str, cwd: str = "/") -> Iterator[Change]:
    """What one line of strace says was changed; paths that name no folder begin at `cwd`."""
    found = _CALL.match(call)
    if found is None or found[3].startswith(("-1 ", "?")):
        return
    name, arguments, result = found.groups()
    if name in ("open", "openat", "openat2"):
        if any(flag in arguments for flag in _WRITING):
            opened = _ARGUMENT.search(result)
            yield Change(name, _unescaped(opened[2]) if opened else result)
        return
    for path in list(_paths(arguments))[: _CHANGING.get(name, 0)]:
        yield Change(name, _resolved(os.path.join(cwd, path), follows=name not in _OF_THE_NAME))


def _paths(arguments: str) -> Iterator[str]:
    """The paths of a call: a text below the folder whose descriptor stands before it, or a descriptor by itself."""
    folder: str | None = None
    for found in _ARGUMENT.finditer(arguments):
        if found[2] is not None:
            if folder is not None:
                yield folder
            folder = _unescaped(found[2])
        else:
            yield os.path.join(folder or "", _unescaped(found[3]))
            folder = None
    if folder is not None:
        yield folder


def _resolved(path: str, *, follows: bool) -> str:
    folder, name = os.path.split(path)
    return os.path.realpath(path) if follows else os.path.join(os.path.realpath(folder), name)


def _unescaped(text: str) -> str:
    return (
        text.encode("latin-1", "replace")
        .decode("unicode_escape")
        .encode("latin-1", "replace")
        .decode("utf-8", "replace")
    )


def has_strace() -> bool:
    """Whether strace is here and may trace: in some containers it may not."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-e", "trace=none", "true"], capture_output=True).returncode == 0
