"""The pictures, videos and texts in a folder, by the suffixes of their names."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from diptych.errors import PatternError, Setting
from diptych.media.items import File, FileKind
from diptych.media.scanning.image_files import SKIPPED_FOLDERS
from diptych.media.scanning.path_patterns import Patterns
from diptych.media.scanning.suffixes import KIND_OF_SUFFIX
from diptych.untrusted.links import LEADS_OUT, RootBoundary

if TYPE_CHECKING:
    from diptych.failures import Failure

    _Entry = os.DirEntry[str]

_SIDECARS = (".txt", ".TXT", ".xmp", ".XMP")
# Folders of programs, NAS systems and Windows: never entered, even with `hidden`
_PROGRAM_FOLDERS = SKIPPED_FOLDERS | {
    ".git", ".diptych", ".thumbnails", ".@__thumb", "@Recycle", "#recycle", "System Volume Information", "lost+found",
}  # fmt: skip
_PROGRAM_SUFFIXES = (".lrdata", ".lrcat-data")  # Lightroom's previews
# Apple's photo libraries: the photographs are in one of _ORIGINALS; the rest is previews and databases.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary")
_ORIGINALS = ("originals", "Masters", "Originals")


class FolderScan:
    """The files under `root`, one folder after another. Each iteration scans again. Made by `scan`.

    After an iteration, `failures` holds unreadable files and folders (path -> Failure with the reason "unreadable
    folder", "not a regular file" or "broken link"). `skipped` counts what the rules leave out, by reason: "hidden",
    "excluded", "of a program's own", "caption of a picture", "linked twice", "leads out of the folder" and "of another
    kind". A skipped folder counts once.
    """

    def __init__(self, root: str, exclude: Patterns | None, hidden: bool, follow_links: bool, under: str = ""):
        self.root, self.under = root, under
        self._libraries = set[str]()  # Apple libraries that are the root itself or reached by a link of another name
        self._note_library("")
        self._note_library(under)
        self.failures: dict[str, Failure] = {}
        self.skipped: Counter[str] = Counter()
        self._exclude, self._hidden, self._follow_links = exclude, hidden, follow_links
        self._inside = RootBoundary(root)

    def __iter__(self) -> Iterator[File]:
        self.failures.clear()
        self.skipped.clear()
        start = os.path.join(self.root, self.under)
        os.scandir(start).close()
        self._inside = RootBoundary(self.root)
        if self.under and self._is_outside(self.under):
            self.skipped[LEADS_OUT] += 1
            return
        seen = _ancestors(start)
        folders, links = [f"{self.under}/" if self.under else ""], deque[str]()
        while folders or links:  # linked folders last, so that files also in the tree keep their own paths
            folder = folders.pop() if folders else links.popleft()
            entries = self._entries(folder, seen)
            listing = _DirectoryListing([], {}, [], [])
            for entry in entries:
                try:
                    self._sort(entry, folder, listing)
                except OSError as error:  # some file systems need a system call for an entry's type
                    self._fail(folder + entry.name, "unreadable folder", f"{error.strerror}; it may be a folder.")
            folders += [f"{folder}{name}/" for name in reversed(listing.folders)]
            links += [f"{folder}{name}/" for name in listing.links]
            yield from self._files(folder, listing)

    def enters(self, folder: str) -> bool:
        """Whether a scan enters a folder, given relative to the root: no rule skips it or a folder above it, and none
        of them is a link. Scans may enter links, depending on the whole tree."""
        above = ""
        for name in folder.split("/"):
            if self._unwanted_folder(name, above) or os.path.islink(os.path.join(self.root, above, name)):
                return False
            above += f"{name}/"
        return True

    def _entries(self, folder: str, seen: set[tuple[int, int]]) -> list[_Entry]:
        """The entries of a folder by name; none if it was `seen` before, by device and inode."""
        path = os.path.join(self.root, folder)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                self.skipped["linked twice"] += 1
                return []
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return sorted(entries, key=attrgetter("name"))
        except OSError as error:
            self._fail(folder.rstrip("/"), "unreadable folder", f"{error.strerror}; its content is unknown.")
            return []

    def _sort(self, entry: _Entry, folder: str, listing: _DirectoryListing) -> None:
        """Add an entry to the listing, or count it as skipped."""
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            if reason := self._unwanted_folder(name, folder):
                self.skipped[reason] += 1
            else:
                listing.folders.append(name)
            return
        suffix = name[name.rfind(".") :]
        kind = KIND_OF_SUFFIX.get(suffix) or KIND_OF_SUFFIX.get(suffix.lower())
        is_link = entry.is_symlink()
        if suffix in _SIDECARS and not (is_link and self._is_outside(folder + name)):
            listing.sidecars[name] = entry  # even if excluded: it may be a picture's caption
        elif (name[0] == "." or self._exclude) and (reason := self._unwanted(name, folder)):
            self.skipped[reason] += 1
        elif is_link and _is_folder(entry):
            self._sort_link(name, folder, listing)
        elif is_link and (kind or suffix in _SIDECARS) and self._is_outside(folder + name):
            self.skipped[LEADS_OUT] += 1
        elif kind is None:
            self.skipped["of another kind"] += 1
        else:
            listing.files.append((entry, kind))

    def _is_outside(self, path: str) -> bool:
        return not self._follow_links and self._inside.is_outside(path)

    def _sort_link(self, name: str, folder: str, listing: _DirectoryListing) -> None:
        reason = self._unwanted_folder(name, folder)
        if not reason and self._is_outside(folder + name):
            reason = LEADS_OUT
        if not reason and self.under and self._leads_elsewhere_in_root(folder + name):
            reason = "linked twice"
        if reason:
            self.skipped[reason] += 1
        else:
            self._note_library(folder + name)
            listing.links.append(name)

    def _note_library(self, folder: str) -> None:
        """Note a library that a link of another name leads to."""
        if os.path.realpath(os.path.join(self.root, folder)).lower().endswith(_LIBRARIES):
            self._libraries.add(folder)

    def _leads_elsewhere_in_root(self, link: str) -> bool:
        """Whether a link leads to a folder of the tree outside the scanned subfolder, where it has its own path."""
        root, subfolder, target = (os.path.realpath(os.path.join(self.root, path)) for path in ("", self.under, link))
        return f"{target}/".startswith(f"{root}/") and not f"{target}/".startswith(f"{subfolder}/")

    def _unwanted(self, name: str, folder: str) -> str | None:
        """The reason to skip a file by its name, if any. AppleDouble's `._name` is never a picture."""
        if name[0] == "." and (not self._hidden or name.startswith("._")):
            return "hidden"
        return "excluded" if self._exclude and self._exclude.match(folder + name) else None

    def _unwanted_folder(self, name: str, folder: str) -> str | None:
        is_program = name in _PROGRAM_FOLDERS or name.endswith(_PROGRAM_SUFFIXES)
        parent = folder[:-1]
        is_library = parent.lower().endswith(_LIBRARIES) or parent in self._libraries
        if is_program or (is_library and name not in _ORIGINALS):
            return "of a program's own"
        if name[0] == "." and not self._hidden:
            return "hidden"
        return "excluded" if self._exclude and self._exclude.match(f"{folder}{name}/") else None

    def _files(self, folder: str, listing: _DirectoryListing) -> Iterator[File]:
        """The files of one folder, then the texts that are not captions of pictures."""
        claimed = set[str]()
        for entry, kind in listing.files:
            own_sidecars = ()
            if listing.sidecars and kind != "text":
                names = [name for name in sidecars(entry.name, kind) if name in listing.sidecars]
                claimed.update(names)
                own_sidecars = [listing.sidecars[name] for name in names]
            if file := self._file(entry, kind, folder, own_sidecars):
                yield file
        for name, entry in listing.sidecars.items():
            is_text = name.endswith((".txt", ".TXT"))
            reason = "caption of a picture" if name in claimed else None if is_text else "of another kind"
            if reason := reason or self._unwanted(name, folder):
                self.skipped[reason] += 1
            elif file := self._file(entry, "text", folder, ()):
                yield file

    def _file(self, entry: _Entry, kind: FileKind, folder: str, own_sidecars: Iterable[_Entry]) -> File | None:
        path = folder + entry.name
        try:
            status = entry.stat()
        except OSError as error:
            self._fail(path, "broken link" if entry.is_symlink() else "missing", f"{error.strerror}.")
            return None
        if not stat.S_ISREG(status.st_mode):
            self._fail(path, "not a regular file", "It is a pipe, a socket or a device, and is not opened.")
            return None
        size, mtime_ns = status.st_size, status.st_mtime_ns
        for sidecar in own_sidecars:
            try:
                status = sidecar.stat()
            except OSError:  # removed since, or a broken link
                continue
            size, mtime_ns = size + status.st_size, max(mtime_ns, status.st_mtime_ns)
        return File(path, kind, size, mtime_ns)

    def _fail(self, path: str, reason: str, detail: str) -> None:
        from diptych.failures import Failure

        self.failures[path or "."] = Failure(reason, f"{path or '.'}: {reason}. {detail}")


class _DirectoryListing(NamedTuple):
    """The entries of one folder. `sidecars` may be captions of pictures, or texts of their own."""

    files: list[tuple[_Entry, FileKind]]
    sidecars: dict[str, _Entry]
    folders: list[str]
    links: list[str]


def scan(
    root: str | os.PathLike[str],
    *,
    exclude: Iterable[str] = (),
    hidden: bool = False,
    follow_links: bool = False,
    under: str = "",
) -> FolderScan:
    """An iterable over the pictures, videos and texts under a folder. Raises OSError if `root` is not a folder.

    `under`, a folder relative to `root`, restricts the scan to its files, the same as in a full scan.

    `exclude` holds patterns like those of a .gitignore (see `diptych.media.scanning.path_patterns`): `*.gif`, `drafts`
    and `cache/` at any depth, `2019/raw` and `/top.jpg` from `root`. Excluded folders are not entered.

    `hidden` includes files and folders whose name begins with a dot. Folders of programs are always skipped: .git,
    .diptych, node_modules, @eaDir, Lightroom's previews, and all of an Apple library but its originals.

    A link to a file counts as a file. A link to a folder is entered unless that folder is in the tree anyway, was
    entered through another link, or contains `root`: each folder is scanned once, so loops end. A link that leads out
    of `root` is skipped unless `follow_links` is set, because an untrusted folder may link to any file of the machine.

    A text next to a picture (`cat.txt` or `cat.jpg.txt` for `cat.jpg`) is the picture's caption, not a separate text.
    An XMP sidecar (`cat.xmp`) belongs to its picture or video in the same way. The picture's `size` is the sum of all
    sizes and its `mtime_ns` the latest, so that adding, changing or removing a caption changes the picture too.
    """
    root = os.fsdecode(root)
    os.scandir(root).close()
    return FolderScan(root, _excluding(exclude), hidden, follow_links, under)


def sidecars(path: str, kind: FileKind = "picture") -> tuple[str, ...]:
    """The paths of the sidecars that a picture or a video may have, by precedence. A text next to a video is not a
    sidecar, because it may be anything."""
    stem = path[: path.rfind(".")]
    packets = (f"{stem}.xmp", f"{stem}.XMP", f"{path}.xmp")
    return packets if kind == "video" else (f"{stem}.txt", f"{stem}.TXT", f"{path}.txt", *packets)


def _is_folder(entry: _Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _ancestors(root: str) -> set[tuple[int, int]]:
    """The device and inode of each folder above a folder."""
    found, path = set[tuple[int, int]](), os.path.realpath(root)
    while (parent := os.path.dirname(path)) != path:
        path = parent
        status = os.stat(path)
        found.add((status.st_dev, status.st_ino))
    return found


def _excluding(patterns: Iterable[str]) -> Patterns | None:
    try:
        return Patterns(kept) if (kept := list(filter(str.strip, patterns))) else None
    except PatternError as error:
        raise PatternError([Setting("exclude"), f": {error}"], argument="exclude") from None
