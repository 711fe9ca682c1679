"""Class folders: pictures that lie in a folder for each class. The one reader of them that all of Diptych uses."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from diptych.data.splits import split_folders, visible_folders
from diptych.media.scanning.image_files import find_images
from diptych.untrusted.links import Inside


class ClassFolders(NamedTuple):
    """The classes of a folder: `answers[i]` is the number in `names` of the class of `paths[i]`. `one` are groups of
    folders that are one class; `loose` the pictures that lie in no folder; `left` the links that were not followed."""

    names: tuple[str, ...]
    paths: list[Path]
    answers: list[int]
    one: list[tuple[str, ...]]
    loose: list[Path]
    left: tuple[Path, ...] = ()

    @property
    def said(self) -> str:
        """Which folders are one class, in words; "" where each is its own."""
        groups = ["'" + "' and '".join(group) + "'" for group in self.one]
        return f"folders that are spelt alike are one class: {', '.join(groups)}" if groups else ""

    def only(self, holds: Callable[[Path], bool]) -> "ClassFolders":
        """The same classes with those pictures alone."""
        kept = [(path, answer) for path, answer in zip(self.paths, self.answers, strict=True) if holds(path)]
        loose = [path for path in self.loose if holds(path)]
        return self._replace(paths=[path for path, _ in kept], answers=[answer for _, answer in kept], loose=loose)


def read_classes(
    folder: str | os.PathLike[str], *, follows: Callable[[str | os.PathLike[str]], bool] | None = None
) -> ClassFolders:
    """The classes of a folder: the folders right below it (as torchvision's ImageFolder takes them), or right below its
    splits (train/, test/, ...) where it has such, with all pictures in them, however deep.

    A class is called as its folder, with spaces for underscores. Folders of one spelling but for case and underscores
    are one class, and have the name of the first. Classes are sorted by their folders' names. Links are followed for
    which `follows` holds, by default those that stay in the folder. Raises OSError where there is no such folder.
    """
    inside, left = Inside(os.path.abspath(folder)), list[Path]()
    follows = follows or (lambda path: not inside.leads_out(os.path.abspath(path)))
    tops = list(split_folders(Path(folder)).values()) or [Path(folder)]
    groups: dict[str, dict[str, list[Path]]] = {}
    for name, below in sorted((each.name, each) for top in tops for each in visible_folders(top)):
        if below.is_symlink() and not follows(below):
            left.append(below)
        elif pictures := find_images(below, follows=follows, skipped=left):
            groups.setdefault(spelling(name), {}).setdefault(name, []).extend(pictures)
    names = tuple(class_name(next(iter(group))) for group in groups.values())
    found = [(path, at) for at, group in enumerate(groups.values()) for paths in group.values() for path in paths]
    one = [tuple(group) for group in groups.values() if len(group) > 1]
    loose = [path for top in tops for path in find_images(top, recursive=False, follows=follows, skipped=left)]
    return ClassFolders(names, [path for path, _ in found], [at for _, at in found], one, loose, tuple(left))


def class_name(folder: str) -> str:
    """What a class is called in a person's words, by its folder's name: "sports_car" is "sports car"."""
    return " ".join(unicodedata.normalize("NFC", folder).replace("_", " ").split())


def spelling(name: str) -> str:
    """What two names of one class have in common: "Sports_Car" and "sports car" do."""
    return class_name(name).casefold()


def distinct(names: Iterable[str]) -> list[str]:
    """The names but for those that have the spelling of an earlier one."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(spelling(name), name)
    return list(first.values())


def answers_among(
    names: Sequence[str], paths: Iterable[str | os.PathLike[str]], tops: Sequence[str | os.PathLike[str]]
) -> list[int | None]:
    """The number in `names` of the label that each picture's folder is called by; None where no folder is called so.

    Of the folders from one of the `tops` down to the picture the outermost counts, as in `read_classes`, and after them
    the top itself. A picture in none of the tops is of the folder that it lies in.
    """
    numbers = {spelling(name): at for at, name in reversed(list(enumerate(names)))}
    above = [os.path.abspath(top) for top in tops]
    return [next((numbers[name] for name in _spelt(path, above) if name in numbers), None) for path in paths]


def _spelt(path: str | os.PathLike[str], tops: Sequence[str]) -> Iterator[str]:
    here = Path(os.path.abspath(path)).parent
    top = next((top for top in tops if here.is_relative_to(top)), None)
    below = () if top is None else here.relative_to(top).parts
    return map(spelling, (*below, here.name if top is None else Path(top).name))
