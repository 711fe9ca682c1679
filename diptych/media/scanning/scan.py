"""Which files of a folder an index is made of: pictures, videos and texts, by the endings of their names."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from diptych.errors import PatternError, Setting
from diptych.media.items import File, Kind
from diptych.media.path_patterns import Patterns
from diptych.untrusted.links import LEADS_OUT, Inside

if TYPE_CHECKING:
    from diptych.failures import Failure

    _Entry = os.DirEntry[str]

# What LibRaw reads, by ending
RAW_ENDINGS = (
    "3fr|arw|bay|cr2|cr3|crw|dcr|dcs|dng|erf|fff|gpr|iiq|k25|kdc|mef|mos|mrw|nef|nrw|orf|pef|ptx|raf|raw|rw2|rwl|sr2|"
    "srf|srw|x3f"
)
VIDEO_ENDINGS = "mp4|m4v|mov|mkv|webm|avi|mpg|mpeg|mts|m2ts|3gp|3g2|wmv|flv|ogv"
TEXT_ENDINGS = "txt|md|markdown"
_NOTES = (".txt", ".TXT", ".xmp", ".XMP")
# Never entered, `hidden` or not. Beside images.SKIPPED_FOLDERS: what NAS systems and Windows call theirs.
_OWN_FOLDERS = frozenset(
    (".git", ".diptych", ".thumbnails", ".@__thumb", "@Recycle", "#recycle", "System Volume Information", "lost+found")
)
_OWN_ENDINGS = (".lrdata", ".lrcat-data")  # Lightroom's previews
# A photo library of Apple's: the photographs are in one of these, the rest is previews and databases.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary")
_ORIGINALS = ("originals", "Masters", "Originals")


class Scan:
    """The files under `root`, found anew by each iteration, one folder after another. Made by `scan`.

    After an iteration `failures` names what should have been readable and was not (path -> Failure with the reason
    "unreadable folder", "not a regular file" or "broken link"), and `skipped` counts by reason what the rules leave
    out: "hidden", "excluded", "of a program's own", "caption of a picture", "linked twice", "leads out of the folder"
    and "of another kind". A folder that is left out counts as one.
    """

    def __init__(self, root: str, exclude: Patterns | None, hidden: bool, follow_links: bool, under: str = ""):
        from diptych.media.images import ENDINGS, SKIPPED_FOLDERS

        self.root, self.under = root, under
        self._libraries = set[str]()  # of Apple's, that are the root itself, or that a link of another name leads to
        self._note_library("")
        self._note_library(under)
        self.failures: dict[str, Failure] = {}
        self.skipped: Counter[str] = Counter()
        self._exclude, self._hidden, self._follow_links = exclude, hidden, follow_links
        self._inside = Inside(root)
        self._own_folders = SKIPPED_FOLDERS | _OWN_FOLDERS
        endings: dict[Kind, str] = {
            "picture": f"{ENDINGS}|{RAW_ENDINGS}",
            "video": VIDEO_ENDINGS,
            "text": TEXT_ENDINGS,
        }
        self._kinds: dict[str, Kind] = {
            f".{ending}": kind for kind, names in endings.items() for ending in names.split("|")
        }

    def __iter__(self) -> Iterator[File]:
        self.failures.clear()
        self.skipped.clear()
        start = os.path.join(self.root, self.under)
        os.scandir(start).close()
        self._inside = Inside(self.root)
        if self.under and self._leads_out(self.under):
            self.skipped[LEADS_OUT] += 1
            return
        seen = _ancestors(start)
        folders, links = [f"{self.under}/" if self.under else ""], deque[str]()
        while folders or links:  # a link's folder comes last: what is in the tree anyway keeps its own path
            folder = folders.pop() if folders else links.popleft()
            entries = self._entries(folder, seen)
            found = _Found([], {}, [], [])
            for entry in entries:
                try:
                    self._sort(entry, folder, found)
                except OSError as error:  # some file systems tell what an entry is only when asked for each
                    self._fail(folder + entry.name, "unreadable folder", f"{error.strerror}; it may be a folder.")
            folders += [f"{folder}{name}/" for name in reversed(found.folders)]
            links += [f"{folder}{name}/" for name in found.links]
            yield from self._files(folder, found)

    def enters(self, folder: str) -> bool:
        """Whether a folder, relative to the root, is looked into: neither it nor one that holds it is left out by a
        rule, or is a link, of which only a whole scan can tell."""
        above = ""
        for name in folder.split("/"):
            if self._unwanted_folder(name, above) or os.path.islink(os.path.join(self.root, above, name)):
                return False
            above += f"{name}/"
        return True

    def _entries(self, folder: str, seen: set[tuple[int, int]]) -> list[_Entry]:
        """What is in a folder, by name; nothing where it was `seen` before, by device and inode."""
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
            self._fail(folder.rstrip("/"), "unreadable folder", f"{error.strerror}; what is in it is not known.")
            return []

    def _sort(self, entry: _Entry, folder: str, found: _Found) -> None:
        """Put an entry where it belongs, or count it as left out."""
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            if reason := self._unwanted_folder(name, folder):
                self.skipped[reason] += 1
            else:
                found.folders.append(name)
            return
        ending = name[name.rfind(".") :]
        kind = self._kinds.get(ending) or self._kinds.get(ending.lower())
        is_link = entry.is_symlink()
        if ending in _NOTES and not (is_link and self._leads_out(folder + name)):
            found.notes[name] = entry  # whether excluded or not: it may be a picture's
        elif (name[0] == "." or self._exclude) and (reason := self._unwanted(name, folder)):
            self.skipped[reason] += 1
        elif is_link and _is_folder(entry):
            self._sort_link(name, folder, found)
        elif is_link and (kind or ending in _NOTES) and self._leads_out(folder + name):
            self.skipped[LEADS_OUT] += 1
        elif kind is None:
            self.skipped["of another kind"] += 1
        else:
            found.files.append((entry, kind))

    def _leads_out(self, path: str) -> bool:
        return not self._follow_links and self._inside.leads_out(path)

    def _sort_link(self, name: str, folder: str, found: _Found) -> None:
        reason = self._unwanted_folder(name, folder)
        if not reason and self._leads_out(folder + name):
            reason = LEADS_OUT
        if not reason and self.under and self._is_elsewhere(folder + name):
            reason = "linked twice"
        if reason:
            self.skipped[reason] += 1
        else:
            self._note_library(folder + name)
            found.links.append(name)

    def _note_library(self, folder: str) -> None:
        """Remember a folder that is called otherwise where it lies: there a library has its ending."""
        if os.path.realpath(os.path.join(self.root, folder)).lower().endswith(_LIBRARIES):
            self._libraries.add(folder)

    def _is_elsewhere(self, link: str) -> bool:
        """Whether a link leads to a folder of the tree outside the part that is scanned: it has its own path there."""
        root, part, there = (os.path.realpath(os.path.join(self.root, path)) for path in ("", self.under, link))
        return f"{there}/".startswith(f"{root}/") and not f"{there}/".startswith(f"{part}/")

    def _unwanted(self, name: str, folder: str) -> str | None:
        """Why a file's name leaves it out, if so. AppleDouble's `._name` is no picture, whatever its ending."""
        if name[0] == "." and (not self._hidden or name.startswith("._")):
            return "hidden"
        return "excluded" if self._exclude and self._exclude.match(folder + name) else None

    def _unwanted_folder(self, name: str, folder: str) -> str | None:
        is_own = name in self._own_folders or name.endswith(_OWN_ENDINGS)
        holder = folder[:-1]
        is_library = holder.lower().endswith(_LIBRARIES) or holder in self._libraries
        if is_own or (is_library and name not in _ORIGINALS):
            return "of a program's own"
        if name[0] == "." and not self._hidden:
            return "hidden"
        return "excluded" if self._exclude and self._exclude.match(f"{folder}{name}/") else None

    def _files(self, folder: str, found: _Found) -> Iterator[File]:
        """The files of one folder, and then the texts that are no picture's caption."""
        claimed = set[str]()
        for entry, kind in found.files:
            beside = ()
            if found.notes and kind != "text":
                names = [name for name in sidecars(entry.name, kind) if name in found.notes]
                claimed.update(names)
                beside = [found.notes[name] for name in names]
            if file := self._file(entry, kind, folder, beside):
                yield file
        for name, entry in found.notes.items():
            is_text = name.endswith((".txt", ".TXT"))
            reason = "caption of a picture" if name in claimed else None if is_text else "of another kind"
            if reason := reason or self._unwanted(name, folder):
                self.skipped[reason] += 1
            elif file := self._file(entry, "text", folder, ()):
                yield file

    def _file(self, entry: _Entry, kind: Kind, folder: str, beside: Iterable[_Entry]) -> File | None:
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
        for note in beside:
            try:
                status = note.stat()
            except OSError:  # gone since, or a link to nowhere: no words
                continue
            size, mtime_ns = size + status.st_size, max(mtime_ns, status.st_mtime_ns)
        return File(path, kind, size, mtime_ns)

    def _fail(self, path: str, reason: str, detail: str) -> None:
        from diptych.failures import Failure

        self.failures[path or "."] = Failure(reason, f"{path or '.'}: {reason}. {detail}")


class _Found(NamedTuple):
    """What one folder holds. `notes` may be words about a picture, or texts of their own."""

    files: list[tuple[_Entry, Kind]]
    notes: dict[str, _Entry]
    folders: list[str]
    links: list[str]


def scan(
    root: str | os.PathLike[str],
    *,
    exclude: Iterable[str] = (),
    hidden: bool = False,
    follow_links: bool = False,
    under: str = "",
) -> Scan:
    """The pictures, videos and texts under a folder: iterate over what comes back. Raises OSError if it is none.

    With `under`, a folder relative to `root`, those of that part alone, as a scan of all would find them.

    `exclude` holds patterns, much like those of a .gitignore (see `diptych.media.path_patterns`): `*.gif`, `drafts`
    and `cache/` anywhere, `2019/raw` and `/top.jpg` from `root`. An excluded folder is not entered.

    `hidden` takes in files and folders whose name begins with a dot. What programs keep for themselves is left out in
    any case: .git, .diptych, node_modules, @eaDir, Lightroom's previews, all but the originals of an Apple library.

    A link to a file is a file. A link to a folder is entered, unless that folder is in the tree anyway, was entered
    through another link, or holds `root` itself: each folder is walked once, so loops end. A link that leads out of
    `root` is left out: a folder that came from elsewhere may link to any file of this machine. `follow_links` takes it
    in.

    A text beside a picture (`cat.txt` or `cat.jpg.txt` beside `cat.jpg`) is the picture's caption, and no text of its
    own; so is an XMP sidecar (`cat.xmp`), of a video too. Such a picture's `size` is the sum of them all and its
    `mtime_ns` that of the latest, so that a caption that comes, changes or goes changes its picture too.
    """
    root = os.fsdecode(root)
    os.scandir(root).close()
    return Scan(root, _excluding(exclude), hidden, follow_links, under)


def sidecars(path: str, kind: Kind = "picture") -> tuple[str, ...]:
    """Where words about a picture or a video may stand: the names of files beside it, the weightiest first. A text
    beside a video may be anything, and is none."""
    stem = path[: path.rfind(".")]
    packets = (f"{stem}.xmp", f"{stem}.XMP", f"{path}.xmp")
    return packets if kind == "video" else (f"{stem}.txt", f"{stem}.TXT", f"{path}.txt", *packets)


def _is_folder(entry: _Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _ancestors(root: str) -> set[tuple[int, int]]:
    """Device and inode of the folders that hold a folder."""
    found, path = set[tuple[int, int]](), os.path.realpath(root)
    while (parent := os.path.dirname(path)) != path:
        path = parent
        status = os.stat(path)
        found.add((status.st_dev, status.st_ino))
    return found


def _excluding(patterns: Iterable[str]) -> Patterns | None:
    try:
        return Patterns(wanted) if (wanted := list(filter(str.strip, patterns))) else None
    except PatternError as error:
        raise PatternError([Setting("exclude"), f": {error}"], argument="exclude") from None
