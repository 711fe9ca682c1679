"""Caption files: one for each picture, in the same folder or in a folder for captions."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from diptych.data.confinement import AllowedFolders
from diptych.data.samples import IMAGE_SUFFIXES, MAX_SIDECAR_BYTES, Layout, Sample, captions_of
from diptych.data.splits import visible_folders
from diptych.data.tables.file_lookup import is_companion
from diptych.errors import DataError

ENDS = (".json", ".caption", ".txt", ".text")  # by rank: JSON may have no captions, and a .txt only tags
MAX_CHECKED = 40  # pictures by which the folder of captions is found
_MAX_SIBLINGS = 200  # folders

SidecarFiles = dict[Path, tuple[Path, ...]]  # picture -> its caption files, by rank


class SidecarSource:
    """Pictures with a caption file each: `cat.jpg` with `cat.txt`, `cat.jpg.txt`, `cat.caption` or `cat.json`."""

    def __init__(self, pictures: Sequence[Path], found: SidecarFiles, layout: Layout, allowed: AllowedFolders):
        """Files behind links are read if they are in `allowed`."""
        self.layout, self.skipped, self._allowed = layout, dict[str, int](), allowed
        self._pairs = [(path, found[path]) for path in pictures if path in found]
        if missing := len(pictures) - len(self._pairs):
            self.skipped["no caption"] = missing

    @property
    def form(self) -> str:
        return str(self.layout)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._allowed.read(self._pairs[index][0]), self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of the first file that has any. Raises DataError for damaged JSON."""
        key = self.key(index)
        for sidecar in self._pairs[index][1]:
            try:
                content = self._allowed.read(sidecar, MAX_SIDECAR_BYTES)
                return captions_of(content, sidecar.suffix.lower() == ".json", key)
            except FileNotFoundError:  # deleted since the folder was listed
                continue
            except DataError as error:
                if error.reason != "no caption":
                    raise
        raise DataError(f"{key} has no caption.", "no caption")

    def key(self, index: int) -> str:
        return str(self._pairs[index][0])


def inside(found: SidecarFiles, allowed: AllowedFolders) -> tuple[SidecarFiles, list[Path]]:
    """The caption files inside `allowed` after links are resolved, and the others."""
    held = {path: tuple(file for file in files if allowed.contains(file)) for path, files in found.items()}
    others = [file for path, files in found.items() if len(held[path]) < len(files) for file in files]
    return {path: files for path, files in held.items() if files}, [
        file for file in others if not allowed.contains(file)
    ]


def beside(pictures: Iterable[Path]) -> SidecarFiles:
    """The caption files in the pictures' own folders; endings in any case."""
    return _with_files(((path, path.parent) for path in pictures), alone=False)


def apart(pictures: Sequence[Path], top: Path, *, companions: bool = False) -> tuple[SidecarFiles, str]:
    """The caption files in a sibling of the pictures' folder, or of one above it up to `top` (`images/dogs/1.jpg`,
    `captions/dogs/1.txt`), and that folder's name; nothing if no folder has such files for half of a sample of
    pictures. Folders that contain pictures are excluded. With `companions`, only folders below `top` with a companion's
    name are searched, see `is_companion`."""
    sample = pictures[:: max(1, len(pictures) // MAX_CHECKED)]
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
    """(depth below `top`, name of another folder there) for each folder that may contain the captions of pictures."""
    seen: set[Path] = set()
    for path in sample:
        parts = path.relative_to(top).parts[:-1]
        for depth in range(len(parts)):
            here = top.joinpath(*parts[:depth])
            if here not in seen:
                seen.add(here)
                below = (each for each in visible_folders(here) if depth or not companions or is_companion(each))
                yield from ((depth, each.name) for each in islice(below, _MAX_SIBLINGS))


def _moved(pictures: Iterable[Path], top: Path, depth: int, other: str) -> Iterator[tuple[Path, Path]]:
    """Each picture with the folder of its caption."""
    for path in pictures:
        parts = list(path.relative_to(top).parts[:-1])
        if depth < len(parts) and parts[depth] != other:
            parts[depth] = other
            yield path, top.joinpath(*parts)


def _with_files(folders: Iterable[tuple[Path, Path]], *, alone: bool = True) -> SidecarFiles:
    """The caption files of pictures in the given folders; with `alone`, only in folders without pictures."""
    listed: dict[Path, dict[tuple[str, str], Path]] = {}
    found: SidecarFiles = {}
    for path, folder in folders:
        if folder not in listed:
            listed[folder] = _listed(folder, alone)
        names = ((stem, end) for end in ENDS for stem in (path.stem, path.name))
        if files := tuple(file for name in names if (file := listed[folder].get(name)) is not None):
            found[path] = files
    return found


def _listed(folder: Path, alone: bool) -> dict[tuple[str, str], Path]:
    """The caption files of a folder, by stem and lower-case ending."""
    found: dict[tuple[str, str], Path] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, end = os.path.splitext(entry.name)
                if alone and end.lower() in IMAGE_SUFFIXES:
                    return {}
                if end.lower() in ENDS and entry.is_file():
                    found.setdefault((stem, end.lower()), Path(folder, entry.name))
    except OSError:  # a missing folder has none
        return {}
    return found


def hold_captions(found: SidecarFiles, allowed: AllowedFolders) -> bool:
    """Whether some of these files have a caption with letters, unlike the numeric labels of detectors."""
    for path, files in list(found.items())[:MAX_CHECKED]:
        for file in files:
            try:
                content = allowed.read(file, MAX_SIDECAR_BYTES)
                captions = captions_of(content, file.suffix.lower() == ".json", str(path))
            except DataError as error:
                if error.reason == "damaged captions":  # reported when it is read
                    return True
                continue
            except OSError:
                continue
            if any(letter.isalpha() for caption in captions for letter in caption):
                return True
    return False
