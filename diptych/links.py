"""Links that lead out of a folder: what lies behind them is not the folder's own, and a folder may come from anyone."""

from __future__ import annotations

import os
import sys

LEADS_OUT = "leads out of the folder"  # the reason by which such links are counted


class Inside:
    """Tells what lies in a folder, by where its links lead. The folder itself may be called by a link.

    What directories are is asked once; whoever looks later makes another.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self._given, self._root = os.fspath(root), os.path.realpath(root)
        self._prefix = os.path.join(self._root, "")
        self._directories: dict[str, str] = {}

    def leads_out(self, path: str) -> bool:
        """Whether a path, relative to the folder or absolute, ends outside of it; it need not be there."""
        directory, name = os.path.split(os.path.join(self._given, path))
        real = self._directories.get(directory)
        if real is None:
            real = self._directories[directory] = os.path.realpath(directory)
        real = os.path.join(real, name)
        is_plain = name not in ("", os.curdir, os.pardir) and not os.path.islink(real)
        if not is_plain or sys.platform == "win32":  # which has more kinds of links than islink knows
            real = os.path.realpath(real)
        return real != self._root and not real.startswith(self._prefix)
