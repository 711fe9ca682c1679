"""Where the pictures are that a table names: beside it, in a folder below or beside, by a name with its ending or
without."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from diptych.data.confinement import Confined, all_outside
from diptych.data.splits import split_in, visible_folders
from diptych.data.tables.columns import names_a_picture
from diptych.errors import DataError, Setting

SAMPLE = 40  # names that are looked for, evenly spread: a wrong column or folder should be said before a run starts
_DEPTH, _DEPTH_BESIDE, _MOST_FOLDERS = 3, 2, 2000
_MOST_WORDS, _MOST_PARTS = 3, 16
_IN_VAIN = 1 << 19  # places that are looked at and hold nothing: a name of many parts may mean many, in each folder
_COMPANION = re.compile(r"^ann|annot|caption|text|label|meta|table|list|split|json|csv", re.I)
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class Places:
    """The folders that a table's names count from, in the order in which they are tried."""

    def __init__(self, folders: Sequence[Path], plain: bool, confined: Confined):
        self.folders = list(folders)
        self._plain = plain and len(folders) == 1  # then a name is a path, and no file need be looked for
        self._finder = Finder(confined)

    def file(self, name: str) -> Path:
        """The file that a name names; where none is there, the path at which it should be."""
        if self._plain:
            return self.folders[0] / name
        looked = (found for folder in self.folders if (found := self._finder.find(folder, name)))
        return next(looked, self.folders[0] / name)


def confined_to(table: Path, *, allow_outside: bool = False) -> Confined:
    """The folders in which a table's pictures may lie: its own, and that above where its own is for tables alone."""
    return Confined(around(table), allow_outside=allow_outside)


def around(table: Path) -> list[Path]:
    """The folders of `confined_to`."""
    here = table.absolute().parent
    return [here, *[here.parent] * is_companion(here)]


def locate(names: Sequence[str], table: Path, prefer: Path | None = None, confined: Confined | None = None) -> Places:
    """Where the pictures of these names are, which a file of that path names: counted from its folder, from folders
    below it, or from those beside it. Of two folders with the same names that counts whose own name is likest to the
    table's, then the one in `prefer`. Where they may lie is `confined`.

    DataError where none of some names is found, or nothing says which of two folders is meant.
    """
    confined = confined or confined_to(table)
    size = min(SAMPLE, len(names))
    sample = list(dict.fromkeys(names[round(at * (len(names) - 1) / max(1, size - 1))] for at in range(size)))
    best: tuple[list[Path], int] = ([], 0)
    links: list[Path] = []
    finder = Finder(confined)
    for group in _groups(table.parent, confined, links):
        hits = {folder: found for folder in group if (found := {name for name in sample if finder.find(folder, name)})}
        best = _chosen(hits, table, prefer)
        if best[1]:
            break
    if not best[1]:
        raise _not_there(table, sample, confined, links)
    top = best[0][0]
    return Places(
        best[0], all(confined.spells_inside(top / name) and (top / name).exists() for name in sample), confined
    )


def _not_there(table: Path, sample: Sequence[str], confined: Confined, links: Sequence[Path]) -> DataError:
    outside = [name for name in sample if not confined.spells_inside(table.parent / name)]
    if links or len(outside) == len(sample):
        return all_outside(table, [str(link) for link in links] or outside)
    first = str(table.parent / sample[0])
    return DataError(
        f"{table}: none of {len(sample)} pictures is there, the first at {first:.300}; paths count from the table's "
        "folder, or from one below or beside it.",
        remedy=["If that is the wrong column, set ", Setting("image_column", "NAME"), "."],
    )


def _groups(here: Path, confined: Confined, links: list[Path]) -> Iterator[list[Path]]:
    """Folders to look in, the likeliest first. Beside a folder only where it is called as one that goes with others:
    names are often numbers, and pictures of another set have them, too."""
    yield [here]
    yield _below(here, _DEPTH, confined, links)
    if is_companion(here.absolute()):
        yield [here.absolute().parent, *_below(here.absolute().parent, _DEPTH_BESIDE, confined, links)]


def is_companion(folder: Path) -> bool:
    """Whether a folder is called as one with tables or texts about the pictures beside it: in a word or three, for a
    sentence that has "text" in it is about something else."""
    return len(re.findall(r"[^\W_]+", folder.name)) <= _MOST_WORDS and bool(_COMPANION.search(folder.name))


def _below(folder: Path, depth: int, confined: Confined, links: list[Path]) -> list[Path]:
    """The folders below, the nearest first, as many as may be looked at; to `links` go those that lead elsewhere."""
    found: list[Path] = []
    level, top = [folder], folder.resolve()
    for _ in range(depth):
        below = [each for here in level for each in _folders_in(here)]
        level = [each for each in below if not each.is_symlink() or _leads_away(each, top)]
        links += [each for each in level if not confined.holds(each)]
        level = [each for each in level if confined.holds(each)]
        found += level
        if len(found) > _MOST_FOLDERS:
            break
    return found[:_MOST_FOLDERS]


def _folders_in(folder: Path) -> list[Path]:
    try:
        return list(visible_folders(folder))
    except OSError:
        return []


def _leads_away(link: Path, top: Path) -> bool:
    """Whether a link's pictures are not met without it as well, nor all that is looked through."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return not target.is_relative_to(top) and not top.is_relative_to(target)


def _chosen(hits: dict[Path, set[str]], table: Path, prefer: Path | None) -> tuple[list[Path], int]:
    """As few folders as hold all names that were found, the fullest first; and how many names these are."""

    def rank(folder: Path) -> tuple[int, int, int, int]:
        inside = prefer is not None and folder.absolute().is_relative_to(prefer.absolute())
        return -len(hits[folder]), -_likeness(folder, table), -inside, len(folder.parts)

    chosen: list[Path] = []
    found: set[str] = set()
    order = sorted(hits, key=lambda folder: (rank(folder), folder))
    for at, folder in enumerate(order):
        if not hits[folder] - found:
            continue
        for other in order[at + 1 :]:
            if hits[other] == hits[folder] and rank(other) == rank(folder):
                raise DataError(
                    f"{table} names {min(hits[folder])}, which is in {folder} and in {other}; name the folder of the "
                    "pictures that are meant in place of the table, or move the others."
                )
        chosen.append(folder)
        found |= hits[folder]
    return chosen, len(found)


def _likeness(folder: Path, table: Path) -> int:
    """How much a folder's name has of a table's: `train2017` of `captions_train2017.json`."""
    if split_in(folder.name) and split_in(folder.name) != split_in(table.name):
        return -1
    words = [set(re.findall(r"[^\W_]+", name.casefold())) for name in (folder.name, table.stem)]
    return len(words[0] & words[1])


class Finder:
    """Looks for files by what tables call them. It gives up when it has looked at _IN_VAIN places without a file."""

    def __init__(self, confined: Confined):
        self._confined, self._left = confined, _IN_VAIN

    def find(self, folder: Path, name: str) -> Path | None:
        """The file of that name in a folder: by what a table may say in its place, too."""
        forms = [name]
        if not name.isascii():  # a folder that came from a Mac may have its letters' accents apart
            forms += sorted({unicodedata.normalize(form, name) for form in ("NFC", "NFD")} - {name})
        top, before = os.fspath(folder), self._left
        is_inside = os.name == "posix" and self._confined.spells_inside(top)
        for variant in (variant for form in forms for variant in _variants(form)):
            if self._left <= 0:
                break
            self._left -= 1
            path = os.path.join(top, variant)
            is_below = is_inside and variant[:1] != "/" and ".." not in variant
            if (is_below or self._confined.spells_inside(path)) and os.path.isfile(path):
                self._left = before  # what is found was not in vain
                return Path(path)
        return None


def _variants(name: str) -> Iterator[str]:
    """A name; with its ending in the other case, or with one; as written on Windows; and without the folders of another
    machine before it."""
    posix = name.replace("\\", "/")
    whole = [name, posix] if posix != name else [name]
    if posix.startswith("/") or re.match(r"[a-z]:/", posix, re.I):
        parts = PurePosixPath(posix).parts
        parts = ("/", *parts[1:][-_MOST_PARTS:])
        whole += ["/".join(parts[at:]) for at in range(1, len(parts))]
    for each in whole:
        yield each
        stem, ending = os.path.splitext(each)
        if names_a_picture(each):
            yield stem + (ending.upper() if ending.islower() else ending.lower())
        else:
            yield from (each + other for ending in _ENDINGS for other in (ending, ending.upper()))


def folder_names(paths: Sequence[Path], top: Path) -> str:
    """Folders in words, as they lie from `top`."""
    names = Counter(os.path.relpath(path, top) for path in paths)
    listed = [f"{name}{os.sep}" for name in names]
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
