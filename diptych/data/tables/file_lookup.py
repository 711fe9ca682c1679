"""Finds the pictures that a table names: in its folder, below or beside it, by names with or without an ending."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from diptych.data.confinement import AllowedFolders, all_outside
from diptych.data.splits import split_in, visible_folders
from diptych.data.tables.columns import names_a_picture
from diptych.errors import DataError, Setting

SAMPLE = 40  # names that are looked up first, evenly spread: a wrong column or folder is reported before a run
_MAX_DEPTH, _SIBLING_DEPTH, _MAX_FOLDERS = 3, 2, 2000
_MAX_NAME_WORDS, _MAX_PARTS = 3, 16
_MAX_MISSES = 1 << 19  # failed lookups in total: a long path has many variants in each folder
_COMPANION = re.compile(r"^ann|annot|caption|text|label|meta|table|list|split|json|csv", re.I)
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class NameRoots:
    """The folders that a table's names are relative to, in the order in which they are tried."""

    def __init__(self, folders: Sequence[Path], are_paths: bool, allowed: AllowedFolders):
        self.folders = list(folders)
        self._are_paths = are_paths and len(folders) == 1  # then each name is a path and needs no lookup
        self._finder = FileFinder(allowed)

    def file(self, name: str) -> Path:
        """The file of a name; if there is none, the path where it should be."""
        if self._are_paths:
            return self.folders[0] / name
        looked = (found for folder in self.folders if (found := self._finder.find(folder, name)))
        return next(looked, self.folders[0] / name)


def allowed_for_table(table: Path, *, allow_outside: bool = False) -> AllowedFolders:
    """The folders that may contain a table's pictures: its own, and the parent if its own is for tables alone."""
    return AllowedFolders(allowed_roots(table), allow_outside=allow_outside)


def allowed_roots(table: Path) -> list[Path]:
    """The folders of `allowed_for_table`."""
    here = table.absolute().parent
    return [here, *[here.parent] * is_companion(here)]


def locate(
    names: Sequence[str], table: Path, prefer: Path | None = None, allowed: AllowedFolders | None = None
) -> NameRoots:
    """The folders that the picture names of a table are relative to: its own folder, folders below it, or sibling
    folders. If two folders have the same names, the one whose own name is more similar to the table's is used, then the
    one in `prefer`. The pictures must be in `allowed`.

    Raises DataError if none of a sample of names is found, or if two folders are equally likely.
    """
    allowed = allowed or allowed_for_table(table)
    size = min(SAMPLE, len(names))
    sample = list(dict.fromkeys(names[round(at * (len(names) - 1) / max(1, size - 1))] for at in range(size)))
    best: tuple[list[Path], int] = ([], 0)
    links: list[Path] = []
    finder = FileFinder(allowed)
    for group in _groups(table.parent, allowed, links):
        matches = {
            folder: found for folder in group if (found := {name for name in sample if finder.find(folder, name)})
        }
        best = _chosen(matches, table, prefer)
        if best[1]:
            break
    if not best[1]:
        raise _none_found(table, sample, allowed, links)
    top = best[0][0]
    return NameRoots(
        best[0], all(allowed.is_lexically_inside(top / name) and (top / name).exists() for name in sample), allowed
    )


def _none_found(table: Path, sample: Sequence[str], allowed: AllowedFolders, links: Sequence[Path]) -> DataError:
    outside = [name for name in sample if not allowed.is_lexically_inside(table.parent / name)]
    if links or len(outside) == len(sample):
        return all_outside(table, [str(link) for link in links] or outside)
    first = str(table.parent / sample[0])
    return DataError(
        f"{table}: none of {len(sample)} pictures exists, the first at {first:.300}; paths are relative to the table's "
        "folder, or to one below or beside it.",
        remedy=["If that is the wrong column, set ", Setting("image_column", "NAME"), "."],
    )


def _groups(here: Path, allowed: AllowedFolders, links: list[Path]) -> Iterator[list[Path]]:
    """Groups of folders to search, the likeliest first. Sibling folders are searched only for a companion folder:
    names are often numbers, which pictures of other data sets have as well."""
    yield [here]
    yield _below(here, _MAX_DEPTH, allowed, links)
    if is_companion(here.absolute()):
        yield [here.absolute().parent, *_below(here.absolute().parent, _SIBLING_DEPTH, allowed, links)]


def is_companion(folder: Path) -> bool:
    """Whether a folder's name, of at most three words, suggests tables or texts about pictures in other folders."""
    return len(re.findall(r"[^\W_]+", folder.name)) <= _MAX_NAME_WORDS and bool(_COMPANION.search(folder.name))


def _below(folder: Path, depth: int, allowed: AllowedFolders, links: list[Path]) -> list[Path]:
    """The folders below, the nearest first, up to a limit; links that lead out of `allowed` are added to `links`."""
    found: list[Path] = []
    level, top = [folder], folder.resolve()
    for _ in range(depth):
        below = [each for here in level for each in _folders_in(here)]
        level = [each for each in below if not each.is_symlink() or _adds_pictures(each, top)]
        links += [each for each in level if not allowed.contains(each)]
        level = [each for each in level if allowed.contains(each)]
        found += level
        if len(found) > _MAX_FOLDERS:
            break
    return found[:_MAX_FOLDERS]


def _folders_in(folder: Path) -> list[Path]:
    try:
        return list(visible_folders(folder))
    except OSError:
        return []


def _adds_pictures(link: Path, top: Path) -> bool:
    """Whether a link leads to folders that are neither searched anyway nor contain the whole search."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return not target.is_relative_to(top) and not top.is_relative_to(target)


def _chosen(matches: dict[Path, set[str]], table: Path, prefer: Path | None) -> tuple[list[Path], int]:
    """The fewest folders that contain all names that were found, fullest first; and the number of names."""

    def rank(folder: Path) -> tuple[int, int, int, int]:
        inside = prefer is not None and folder.absolute().is_relative_to(prefer.absolute())
        return -len(matches[folder]), -_similarity(folder, table), -inside, len(folder.parts)

    chosen: list[Path] = []
    found: set[str] = set()
    order = sorted(matches, key=lambda folder: (rank(folder), folder))
    for at, folder in enumerate(order):
        if not matches[folder] - found:
            continue
        for other in order[at + 1 :]:
            if matches[other] == matches[folder] and rank(other) == rank(folder):
                raise DataError(
                    f"{table} names {min(matches[folder])}, which is in {folder} and in {other}; name the folder of "
                    "the right pictures instead of the table, or move the others."
                )
        chosen.append(folder)
        found |= matches[folder]
    return chosen, len(found)


def _similarity(folder: Path, table: Path) -> int:
    """The number of words that a folder's and a table's name share: `train2017` and `captions_train2017.json`."""
    if split_in(folder.name) and split_in(folder.name) != split_in(table.name):
        return -1
    words = [set(re.findall(r"[^\W_]+", name.casefold())) for name in (folder.name, table.stem)]
    return len(words[0] & words[1])


class FileFinder:
    """Finds files by the names in tables. It gives up after _MAX_MISSES failed lookups."""

    def __init__(self, allowed: AllowedFolders):
        self._allowed, self._remaining = allowed, _MAX_MISSES

    def find(self, folder: Path, name: str) -> Path | None:
        """The file of a name in a folder, or of one of its variants."""
        forms = [name]
        if not name.isascii():  # names from a Mac may be in NFD
            forms += sorted({unicodedata.normalize(form, name) for form in ("NFC", "NFD")} - {name})
        top, before = os.fspath(folder), self._remaining
        is_inside = os.name == "posix" and self._allowed.is_lexically_inside(top)
        for variant in (variant for form in forms for variant in _variants(form)):
            if self._remaining <= 0:
                break
            self._remaining -= 1
            path = os.path.join(top, variant)
            is_below = is_inside and variant[:1] != "/" and ".." not in variant
            if (is_below or self._allowed.is_lexically_inside(path)) and os.path.isfile(path):
                self._remaining = before  # only failed lookups count
                return Path(path)
        return None


def _variants(name: str) -> Iterator[str]:
    """Variants of a name: with the ending in the other case or an added ending, with slashes for backslashes, and
    without the leading folders of another machine."""
    posix = name.replace("\\", "/")
    whole = [name, posix] if posix != name else [name]
    if posix.startswith("/") or re.match(r"[a-z]:/", posix, re.I):
        parts = PurePosixPath(posix).parts
        parts = ("/", *parts[1:][-_MAX_PARTS:])
        whole += ["/".join(parts[at:]) for at in range(1, len(parts))]
    for each in whole:
        yield each
        stem, ending = os.path.splitext(each)
        if names_a_picture(each):
            yield stem + (ending.upper() if ending.islower() else ending.lower())
        else:
            yield from (each + other for ending in _ENDINGS for other in (ending, ending.upper()))


def folder_names(paths: Sequence[Path], top: Path) -> str:
    """The folders in words, relative to `top`."""
    names = Counter(os.path.relpath(path, top) for path in paths)
    listed = [f"{name}{os.sep}" for name in names]
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
