"""The picture files in a folder, by suffix."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

from diptych.media.formats.table import PICTURE_SUFFIXES
from diptych.untrusted.links import RootBoundary, walk

SKIPPED_FOLDERS = frozenset(("node_modules", "@eaDir", "__MACOSX", "$RECYCLE.BIN"))

_NAME = re.compile(rf"[^.].*({'|'.join(map(re.escape, PICTURE_SUFFIXES))})", re.I | re.S)


def find_images(
    folder: str | os.PathLike[str],
    *,
    recursive: bool = True,
    follows: Callable[[str], bool] | None = None,
    skipped: list[Path] | None = None,
) -> list[Path]:
    """The pictures in a folder, by suffix, sorted, without hidden names, node_modules, @eaDir and the like.

    A linked folder is walked once, and only if it is not in the tree anyway. Links are followed if `follows` is true,
    by default if they stay in the folder; others are added to `skipped`. Raises OSError if `folder` is not a folder.
    """
    os.scandir(folder).close()  # `walk` ignores a missing folder
    inside = RootBoundary(os.path.abspath(folder))

    def is_taken(path: str) -> bool:
        if not os.path.islink(path) or (follows(path) if follows else not inside.is_outside(os.path.abspath(path))):
            return True
        if skipped is not None:
            skipped.append(Path(path))
        return False

    found, visited, tops = list[str](), set[tuple[int, int]](), deque([os.fspath(folder)])
    while tops:
        for here, folders, files in walk(tops.popleft()):
            status = os.stat(here)
            is_new = (identity := (status.st_dev, status.st_ino)) not in visited
            visited.add(identity)
            visible = sorted(name for name in folders if name[0] != "." and name not in SKIPPED_FOLDERS)
            visible = visible if recursive and is_new else []
            folders[:] = [name for name in visible if is_taken(os.path.join(here, name))]
            paths = (os.path.join(here, name) for name in files if is_new and _NAME.fullmatch(name))
            paths = (path for path in paths if is_taken(path))
            found += [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]  # a pipe would hang
            tops.extend(path for name in folders if os.path.islink(path := os.path.join(here, name)))
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]
