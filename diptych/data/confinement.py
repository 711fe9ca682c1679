"""Which files a source may name: those in folders that the user named, wherever links lead; others where that is asked
for."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.errors import DataError, FileError, MessageParts, Setting
from diptych.untrusted.links import RealPaths, own_folders
from diptych.untrusted.regular_files import MAX_BYTES, read_file

OUTSIDE = "outside"  # the reason of a sample whose file is


class Confined:
    """The folders whose files may be read; with `allow_outside` all may.

    What directories are is asked once: a source that is opened later makes another.
    """

    def __init__(self, folders: Iterable[str | os.PathLike[str]], *, allow_outside: bool = False):
        self.allow_outside = allow_outside
        self._folders = list(dict.fromkeys(os.path.abspath(folder) for folder in folders))
        self._real = [real for folder in self._folders for real in own_folders(folder)]
        self._paths = RealPaths()

    def extended(self, folders: Iterable[str | os.PathLike[str]]) -> "Confined":
        """The same, with these folders, too."""
        return Confined([*self._folders, *folders], allow_outside=self.allow_outside)

    def spells_inside(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path is one in the folders by its words alone. No other is even looked for: that could wake a
        share on another machine."""
        return self.allow_outside or _is_in(os.path.abspath(path), (*self._folders, *self._real))

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path, which need not be there, is one in the folders, wherever links lead."""
        try:
            return self.allow_outside or (
                self.spells_inside(path) and _is_in(self._paths.of(os.path.abspath(path)), self._real)
            )
        except (OSError, ValueError):  # no path at all: nothing is read there
            return True

    def parted(self, paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
        """Those that lie inside, and the others."""
        parts: tuple[list[Path], list[Path]] = [], []
        for path in paths:
            parts[0 if self.holds(path) else 1].append(path)
        return parts

    def read(self, path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
        """A file's bytes. FileError where it lies outside, is no plain file or too large; OSError as `open`'s."""
        if not self.holds(path):
            raise FileError(f"{os.fspath(path)} lies outside of {self._named()}{_UNLESS}", OUTSIDE)
        return read_file(path, limit)

    def _named(self) -> str:
        return " and ".join(self._folders)


_UNLESS = "; what does is read with allow_outside alone."


def _is_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(os.path.join(folder, "")) for folder in folders)


def first_names(names: Sequence[str]) -> str:
    """The first three of some names, shortened."""
    return ", ".join(f"{name:.100}" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def left_out(names: Sequence[str]) -> str:
    """The reason by which those that lie outside are counted."""
    return f"a file outside of the source ({first_names(names)}), which allow_outside lets in"


def all_outside(path: Path, names: Sequence[str], what: str = "pictures") -> DataError:
    """The error of a source of which nothing lies inside."""
    remedy: MessageParts = [
        f"Name a folder that holds it and the {what}; or, if you know where it came from, ",
        Setting("allow_outside", True), " reads them.",
    ]  # fmt: skip
    return DataError(
        f"{path}: its {what} lie outside of its folder ({first_names(names)}), and so they are not read.",
        OUTSIDE, remedy=remedy,
    )  # fmt: skip
