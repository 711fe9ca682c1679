"""Folders of pictures: with captions beside them, in a folder of their own or in a table; or class folders."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.data.confinement import OUTSIDE, Confined, all_outside, left_out
from diptych.data.samples import Layout, Sample, Source, count
from diptych.data.sources import sidecars
from diptych.data.sources.classes import ClassFolders, read_classes
from diptych.data.sources.sidecars import SidecarSource
from diptych.data.tables.columns import names_a_class
from diptych.data.tables.finding import Tables, beside_of, find_tables
from diptych.errors import DataError, DiptychError, MessageParts, format_message
from diptych.media.scanning.image_files import find_images

KIND = "pictures with caption files"


class ClassSource:
    """The pictures of class folders, as `read_classes` reads them; the class's name is the caption."""

    def __init__(self, folder: Path, found: ClassFolders, confined: Confined, unused: str = ""):
        said = [f"class folders, {len(found.names)} of them: a folder's name is the caption", found.said, unused]
        self._found, self._confined, self.skipped = found, confined, dict[str, int]()
        self.layout = Layout("; ".join(filter(None, said)))

    @property
    def form(self) -> str:
        return str(self.layout)

    def __len__(self) -> int:
        return len(self._found.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._confined.read(self._found.paths[index]), self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return (self._found.names[self._found.answers[index]],)

    def key(self, index: int) -> str:
        return str(self._found.paths[index])


def open_pictures(folder: Path, *, held_out: bool = False, confined: Confined | None = None) -> Source:
    """The pictures in a folder with their captions. In this order they are looked for: a file beside most pictures; a
    table in the folder or below; files in a folder beside that of the pictures; a table or such files above the folder,
    or beside it, which name its pictures; a file beside a few; a folder for each class.

    Of tables and folders that are called as splits those for training are taken, or one of the `held_out`. What links
    lead to is read where `confined`, by default the folder, holds it, and else left out and counted. DataError where no
    caption can be found, or more than one place may hold them.
    """
    confined = confined or Confined([folder])
    links = list[Path]()
    pictures, others = confined.parted(find_images(folder, follows=confined.holds, skipped=links))
    outside = sorted(os.path.relpath(path, folder) for path in (*others, *links))
    if outside and not pictures:
        raise all_outside(folder, outside)
    near, lost = sidecars.inside(sidecars.beside(pictures), confined)
    try:
        source = _captioned(folder, pictures, near, held_out, confined)
    except DataError as error:
        if not lost:
            raise
        raise all_outside(folder, [os.path.relpath(path, folder) for path in lost], "caption files") from error
    outside += [os.path.relpath(path, folder) for path in lost if isinstance(source, SidecarSource)]
    if outside:
        count(source.skipped, left_out(outside), len(outside))
    return source


def _captioned(
    folder: Path, pictures: Sequence[Path], near: sidecars.Found, held_out: bool, confined: Confined
) -> Source:
    near = near if sidecars.hold_captions(near, confined) else {}
    if pictures and 2 * len(near) >= len(pictures):
        return SidecarSource(pictures, near, Layout(KIND), confined)
    inside = find_tables(folder, confined, held_out=held_out)
    if inside.source and not (_are_classes(folder, confined) and _holds_classes(inside.layout)):
        return inside.source
    if found := _apart(pictures, folder, confined):
        return found
    outside = beside_of(folder, confined) if pictures else Tables()
    if outside.source:
        return outside.source
    if not pictures:
        for error in inside.refused.values():
            if isinstance(error, DataError) and error.reason == OUTSIDE:  # its pictures lie elsewhere
                raise error
    if near or not pictures:
        return SidecarSource(pictures, near, Layout(KIND), confined)
    return _in_classes(folder, pictures, [*inside.refused.values(), *outside.refused.values()], confined)


def in_classes(folder: Path) -> bool:
    """Whether the pictures of a folder lie in class folders, and nothing else gives them captions."""
    try:
        return isinstance(open_pictures(folder), ClassSource)
    except DataError:
        return False


def _apart(pictures: Sequence[Path], folder: Path, confined: Confined) -> SidecarSource | None:
    for top in (folder, folder.absolute().parent):
        reach = confined.extended([top])
        whole = [path if top == folder else top / folder.name / path.relative_to(folder) for path in pictures]
        found, name = sidecars.apart(whole, top, companions=top != folder)
        found, _ = sidecars.inside(found, reach)
        if found and sidecars.hold_captions(found, reach):
            return SidecarSource(whole, found, Layout(f"{KIND} in {name}{os.sep}"), reach)
    return None


def _holds_classes(layout: Layout | None) -> bool:
    """Whether a table repeats what class folders say."""
    return layout is not None and layout.columns is not None and names_a_class(layout.columns[1][0])


def _are_classes(folder: Path, confined: Confined) -> bool:
    return len(read_classes(folder, follows=confined.holds).names) > 1


def _in_classes(
    folder: Path, pictures: Sequence[Path], refused: Iterable[Exception], confined: Confined
) -> ClassSource:
    found, tried = read_classes(folder, follows=confined.holds).only(confined.holds), next(iter(refused), None)
    words: MessageParts = tried.problem if isinstance(tried, DiptychError) else str(tried)
    if (trouble := _trouble(folder, pictures, found)) is None:
        return ClassSource(folder, found, confined, f"not used: {format_message(words)}" if tried else "")
    tail = [" ", *([words] if isinstance(words, str) else words)] if tried else []
    raise DataError([trouble, *tail], remedy=tried.remedy if isinstance(tried, DiptychError) else "")


def _trouble(folder: Path, pictures: Sequence[Path], found: ClassFolders) -> str | None:
    """Why folders' names cannot be the captions, and what could be."""
    wanted = (
        "wanted a .txt, .caption or .json of the same name beside each, a table that names them (metadata.csv, "
        "captions.txt, a COCO JSON), or a folder for each class"
    )
    if not found.paths:
        return f"{folder} holds {len(pictures)} pictures and not one caption; {wanted}."
    if found.loose:
        return (
            f"{folder} holds {len(found.paths)} pictures in folders, whose names would be captions, and "
            f"{len(found.loose)} in none ({found.loose[0].name}); move these, or put a caption file beside each "
            "picture."
        )
    if len(found.names) > 1:
        return None
    one = found.paths[0].relative_to(folder).parts[0]
    return (
        f"{folder} holds {len(found.paths)} pictures, all in {one}, whose name would be the caption of each; {wanted}."
    )
