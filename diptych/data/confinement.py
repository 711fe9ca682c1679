"""Restricts the files that a source may refer to: only files in folders that the user named, also through links, unless
`allow_outside` is set."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.errors import DataError, FileError, MessageParts, Setting
from diptych.untrusted.links import RealPaths, own_folders
from diptych.untrusted.regular_files import MAX_BYTES, read_file

OUTSIDE = "outside"  # the failure reason


class AllowedFolders:
    """The folders whose files may be read; with `allow_outside`, all files may be read. Directories are resolved once,
    so each source creates its own instance."""

    def __init__(self, folders: Iterable[str | os.PathLike[str]], *, allow_outside: bool = False):
        self.allow_outside = allow_outside
        self._folders = list(dict.fromkeys(os.path.abspath(folder) for folder in folders))
        self._real = [real for folder in self._folders for real in own_folders(folder)]
        self._paths = RealPaths()

    def extended(self, folders: Iterable[str | os.PathLike[str]]) -> "AllowedFolders":
        """A copy with further folders."""
        return AllowedFolders([*self._folders, *folders], allow_outside=self.allow_outside)

    def is_lexically_inside(self, path: str | os.PathLike[str]) -> bool:
        """Whether the path's text is inside the folders, before links are resolved. Other paths are not even looked up,
        because that could contact another machine."""
        return self.allow_outside or _is_in(os.path.abspath(path), (*self._folders, *self._real))

    def contains(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path, existing or not, is inside the folders after links are resolved."""
        try:
            return self.allow_outside or (
                self.is_lexically_inside(path) and _is_in(self._paths.of(os.path.abspath(path)), self._real)
            )
        except (OSError, ValueError):  # not a path: nothing can be read there
            return True

    def split_outside(self, paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
        """The paths inside the folders, and the others."""
        parts: tuple[list[Path], list[Path]] = [], []
        for path in paths:
            parts[0 if self.contains(path) else 1].append(path)
        return parts

    def read(self, path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
        """A file's bytes. Raises FileError if it is outside, not a regular file or too large, and the OSErrors of
        `open`."""
        if not self.contains(path):
            raise FileError(f"{os.fspath(path)} is outside {self._named()}{_UNLESS}", OUTSIDE)
        return read_file(path, limit)

    def _named(self) -> str:
        return " and ".join(self._folders)


_UNLESS = "; only allow_outside permits reading such files."


def _is_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(os.path.join(folder, "")) for folder in folders)


def first_names(names: Sequence[str]) -> str:
    """The first three names, shortened."""
    return ", ".join(f"{name:.100}" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def left_out(names: Sequence[str]) -> str:
    """The reason under which files outside are counted."""
    return f"a file outside of the source ({first_names(names)}), which allow_outside lets in"


def all_outside(path: Path, names: Sequence[str], content: str = "pictures") -> DataError:
    """The error of a source whose files are all outside."""
    remedy: MessageParts = [
        f"Name a folder that contains it and the {content}; or, if you trust it, ",
        Setting("allow_outside", True), " reads them.",
    ]  # fmt: skip
    return DataError(
        f"{path}: its {content} are outside its folder ({first_names(names)}), so they are not read.",
        OUTSIDE, remedy=remedy,
    )  # fmt: skip
