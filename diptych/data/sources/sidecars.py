"""Caption files: one for each picture, beside it or in a folder of their own."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from diptych.data.confinement import Confined
from diptych.data.samples import IMAGE_SUFFIXES, MAX_SIDECAR_BYTES, Layout, Sample, captions_of
from diptych.data.splits import visible_folders
from diptych.data.tables.locating import is_companion
from diptych.errors import DataError

ENDS = (".json", ".caption", ".txt", ".text")  # by rank: JSON may hold only other things, and a .txt only tags
SAMPLE = 40  # pictures that are looked at to see where captions lie
_MOST_BESIDE = 200  # folders

Found = dict[Path, tuple[Path, ...]]


class SidecarSource:
    """Pictures with a caption file each: `cat.jpg` with `cat.txt`, `cat.jpg.txt`, `cat.caption` or `cat.json`."""

    def __init__(self, pictures: Sequence[Path], found: Found, layout: Layout, confined: Confined):
        """What links lead to is read where `confined` holds it."""
        self.layout, self.skipped, self._confined = layout, dict[str, int](), confined
        self._pairs = [(path, found[path]) for path in pictures if path in found]
        if missing := len(pictures) - len(self._pairs):
            self.skipped["no caption"] = missing

    @property
    def form(self) -> str:
        return str(self.layout)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._confined.read(self._pairs[index][0]), self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """Those of the first file that holds any: JSON that is damaged is said to be."""
        key = self.key(index)
        for sidecar in self._pairs[index][1]:
            try:
                content = self._confined.read(sidecar, MAX_SIDECAR_BYTES)
                return captions_of(content, sidecar.suffix.lower() == ".json", key)
            except FileNotFoundError:  # it went since the folder was listed
                continue
            except DataError as error:
                if error.reason != "no caption":
                    raise
        raise DataError(f"{key} has no caption.", "no caption")

    def key(self, index: int) -> str:
        return str(self._pairs[index][0])


def inside(found: Found, confined: Confined) -> tuple[Found, list[Path]]:
    """The caption files that no link leads out of `confined`, and the others."""
    held = {path: tuple(file for file in files if confined.holds(file)) for path, files in found.items()}
    others = [file for path, files in found.items() if len(held[path]) < len(files) for file in files]
    return {path: files for path, files in held.items() if files}, [file for file in others if not confined.holds(file)]


def beside(pictures: Iterable[Path]) -> Found:
    """The caption files that lie beside pictures; endings in any case."""
    return _with_files(((path, path.parent) for path in pictures), alone=False)


def apart(pictures: Sequence[Path], top: Path, *, companions: bool = False) -> tuple[Found, str]:
    """The caption files in a folder beside that of the pictures, or beside one above it up to `top`
    (`images/dogs/1.jpg`, `captions/dogs/1.txt`), and that folder's name. Nothing where no folder has such files for
    half of some pictures; a folder that holds pictures of its own has only theirs. Of `companions` alone: right below
    `top` only folders count that are called as such."""
    sample = pictures[:: max(1, len(pictures) // SAMPLE)]
    best, name = 0, ""
    way = (0, "")
    for depth, other in _ways(sample, top, companions):
        count = len(_with_files(_moved(sample, top, depth, other)))
        if count > best:
            best, name, way = count, other, (depth, other)
    if 2 * best < len(sample) or not best:
        return {}, ""
    return _with_files(_moved(pictures, top, *way)), name


def _ways(sample: Sequence[Path], top: Path, companions: bool) -> Iterator[tuple[int, str]]:
    """(depth below `top`, the name of another folder there) for each folder that may hold what belongs to pictures."""
    seen: set[Path] = set()
    for path in sample:
        parts = path.relative_to(top).parts[:-1]
        for depth in range(len(parts)):
            here = top.joinpath(*parts[:depth])
            if here not in seen:
                seen.add(here)
                below = (each for each in visible_folders(here) if depth or not companions or is_companion(each))
                yield from ((depth, each.name) for each in islice(below, _MOST_BESIDE))


def _moved(pictures: Iterable[Path], top: Path, depth: int, other: str) -> Iterator[tuple[Path, Path]]:
    """Each picture with the folder where its caption would be."""
    for path in pictures:
        parts = list(path.relative_to(top).parts[:-1])
        if depth < len(parts) and parts[depth] != other:
            parts[depth] = other
            yield path, top.joinpath(*parts)


def _with_files(places: Iterable[tuple[Path, Path]], *, alone: bool = True) -> Found:
    """The caption files of pictures in the folders that are given for each; with `alone` these hold no pictures."""
    listed: dict[Path, dict[tuple[str, str], Path]] = {}
    found: Found = {}
    for path, folder in places:
        if folder not in listed:
            listed[folder] = _listed(folder, alone)
        names = ((stem, end) for end in ENDS for stem in (path.stem, path.name))
        if files := tuple(file for name in names if (file := listed[folder].get(name)) is not None):
            found[path] = files
    return found


def _listed(folder: Path, alone: bool) -> dict[tuple[str, str], Path]:
    """The files of a folder that may hold captions, by stem and ending in lower case."""
    found: dict[tuple[str, str], Path] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, end = os.path.splitext(entry.name)
                if alone and end.lower() in IMAGE_SUFFIXES:
                    return {}
                if end.lower() in ENDS and entry.is_file():
                    found.setdefault((stem, end.lower()), Path(folder, entry.name))
    except OSError:  # a folder that is not there has none
        return {}
    return found


def hold_captions(found: Found, confined: Confined) -> bool:
    """Whether some of these files hold a caption: a word, and not numbers alone, as labels of detectors are."""
    for path, files in list(found.items())[:SAMPLE]:
        for file in files:
            try:
                content = confined.read(file, MAX_SIDECAR_BYTES)
                captions = captions_of(content, file.suffix.lower() == ".json", str(path))
            except DataError as error:
                if error.reason == "damaged captions":  # to be said where it is read
                    return True
                continue
            except OSError:
                continue
            if any(letter.isalpha() for caption in captions for letter in caption):
                return True
    return False
