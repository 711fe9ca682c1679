"""Class folders: a folder of pictures for each class. All of Diptych reads them here."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from diptych.data.splits import split_folders, visible_folders
from diptych.media.scanning.image_files import find_images
from diptych.untrusted.links import RootBoundary


class ClassFolders(NamedTuple):
    """The classes of a folder: `labels[i]` is the index in `names` of the class of `paths[i]`. `merged` are groups of
    folders that form one class, `unlabelled` the pictures outside class folders, `skipped_paths` the links that were
    not followed."""

    names: tuple[str, ...]
    paths: list[Path]
    labels: list[int]
    merged: list[tuple[str, ...]]
    unlabelled: list[Path]
    skipped_paths: tuple[Path, ...] = ()

    @property
    def description(self) -> str:
        """The groups of folders that form one class, in words; "" if there are none."""
        groups = ["'" + "' and '".join(group) + "'" for group in self.merged]
        return f"folders with equivalent names are one class: {', '.join(groups)}" if groups else ""

    def only(self, keep: Callable[[Path], bool]) -> "ClassFolders":
        """The same classes with only the pictures for which `keep` is true."""
        kept = [(path, label) for path, label in zip(self.paths, self.labels, strict=True) if keep(path)]
        unlabelled = [path for path in self.unlabelled if keep(path)]
        return self._replace(
            paths=[path for path, _ in kept], labels=[answer for _, answer in kept], unlabelled=unlabelled
        )


def read_classes(
    folder: str | os.PathLike[str], *, follows: Callable[[str | os.PathLike[str]], bool] | None = None
) -> ClassFolders:
    """The classes of a folder: its immediate subfolders (as in torchvision's ImageFolder), or those of its splits
    (train/, test/, ...) if it has splits, with all pictures in them at any depth.

    A class is named like its folder, with spaces for underscores. Folders whose names differ only in case and
    underscores form one class with the name of the first. Classes are sorted by their folders' names. Links are
    followed if `follows` allows it, by default those that stay in the folder. Raises OSError for a missing folder.
    """
    inside, skipped_paths = RootBoundary(os.path.abspath(folder)), list[Path]()
    follows = follows or (lambda path: not inside.is_outside(os.path.abspath(path)))
    tops = list(split_folders(Path(folder)).values()) or [Path(folder)]
    groups: dict[str, dict[str, list[Path]]] = {}
    for name, below in sorted((each.name, each) for top in tops for each in visible_folders(top)):
        if below.is_symlink() and not follows(below):
            skipped_paths.append(below)
        elif pictures := find_images(below, follows=follows, skipped=skipped_paths):
            groups.setdefault(spelling(name), {}).setdefault(name, []).extend(pictures)
    names = tuple(class_name(next(iter(group))) for group in groups.values())
    found = [(path, at) for at, group in enumerate(groups.values()) for paths in group.values() for path in paths]
    merged = [tuple(group) for group in groups.values() if len(group) > 1]
    unlabelled = [
        path for top in tops for path in find_images(top, recursive=False, follows=follows, skipped=skipped_paths)
    ]
    return ClassFolders(
        names, [path for path, _ in found], [at for _, at in found], merged, unlabelled, tuple(skipped_paths)
    )


def class_name(folder: str) -> str:
    """The class name of a folder: "sports_car" -> "sports car"."""
    return " ".join(unicodedata.normalize("NFC", folder).replace("_", " ").split())


def spelling(name: str) -> str:
    """The normalised name of a class, equal for "Sports_Car" and "sports car"."""
    return class_name(name).casefold()


def distinct(names: Iterable[str]) -> list[str]:
    """The names without those whose spelling equals an earlier one's."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(spelling(name), name)
    return list(first.values())


def labels_from_paths(
    names: Sequence[str], paths: Iterable[str | os.PathLike[str]], tops: Sequence[str | os.PathLike[str]]
) -> list[int | None]:
    """For each picture the index in `names` of its folder's name; None if no name matches.

    Among the folders from one of the `tops` down to the picture, the outermost match is used, as in `read_classes`; the
    top itself has the lowest priority. A picture outside the `tops` is labelled by its parent folder.
    """
    numbers = {spelling(name): at for at, name in reversed(list(enumerate(names)))}
    above = [os.path.abspath(top) for top in tops]
    return [next((numbers[name] for name in _folder_spellings(path, above) if name in numbers), None) for path in paths]


def _folder_spellings(path: str | os.PathLike[str], tops: Sequence[str]) -> Iterator[str]:
    here = Path(os.path.abspath(path)).parent
    top = next((top for top in tops if here.is_relative_to(top)), None)
    below = () if top is None else here.relative_to(top).parts
    return map(spelling, (*below, here.name if top is None else Path(top).name))
