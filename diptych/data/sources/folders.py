"""Folders of pictures with caption files, with a table of captions, or with class folders."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from diptych.data.column_names import names_a_class
from diptych.data.confinement import OUTSIDE, AllowedFolders, all_outside, left_out
from diptych.data.samples import Layout, Sample, Source, count
from diptych.data.sources import sidecars
from diptych.data.sources.classes import ClassFolders, read_classes
from diptych.data.sources.sidecars import SidecarSource
from diptych.data.tables.table_discovery import Tables, find_tables, tables_beside
from diptych.errors import DataError, DiptychError, MessageParts, format_message
from diptych.media.scanning.image_files import find_images

KIND = "pictures with caption files"


class ClassSource:
    """The pictures of class folders, see `read_classes`, with the class name as the caption."""

    def __init__(self, folder: Path, found: ClassFolders, allowed: AllowedFolders, unused: str = ""):
        parts = [
            f"class folders, {len(found.names)} of them: a folder's name is the caption",
            found.description,
            unused,
        ]
        self._found, self._allowed, self.skipped = found, allowed, dict[str, int]()
        self.layout = Layout("; ".join(filter(None, parts)))

    @property
    def form(self) -> str:
        return str(self.layout)

    def __len__(self) -> int:
        return len(self._found.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._allowed.read(self._found.paths[index]), self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return (self._found.names[self._found.labels[index]],)

    def key(self, index: int) -> str:
        return str(self._found.paths[index])


def open_pictures(folder: Path, *, held_out: bool = False, allowed: AllowedFolders | None = None) -> Source:
    """The pictures in a folder with their captions. Captions are looked for in this order: a file beside most
    pictures; a table in the folder or below; caption files in a sibling of the pictures' folder; a table or caption
    files above or beside the folder, for its pictures; a file beside a few pictures; class folders.

    If tables and folders have names of splits, those of the training split are used, or with `held_out` those of a
    held-out one. Files behind links are read if they are in `allowed`, by default the folder; others are left out and
    counted. Raises DataError if no captions are found or the choice is ambiguous.
    """
    allowed = allowed or AllowedFolders([folder])
    links = list[Path]()
    pictures, others = allowed.split_outside(find_images(folder, follows=allowed.contains, skipped=links))
    outside = sorted(os.path.relpath(path, folder) for path in (*others, *links))
    if outside and not pictures:
        raise all_outside(folder, outside)
    near, lost = sidecars.inside(sidecars.beside(pictures), allowed)
    try:
        source = _captioned(folder, pictures, near, held_out, allowed)
    except DataError as error:
        if not lost:
            raise
        raise all_outside(folder, [os.path.relpath(path, folder) for path in lost], "caption files") from error
    outside += [os.path.relpath(path, folder) for path in lost if isinstance(source, SidecarSource)]
    if outside:
        count(source.skipped, left_out(outside), len(outside))
    return source


def _captioned(
    folder: Path, pictures: Sequence[Path], near: sidecars.SidecarFiles, held_out: bool, allowed: AllowedFolders
) -> Source:
    near = near if sidecars.hold_captions(near, allowed) else {}
    if pictures and 2 * len(near) >= len(pictures):
        return SidecarSource(pictures, near, Layout(KIND), allowed)
    inside = find_tables(folder, allowed, held_out=held_out)
    if inside.source and not (_are_classes(folder, allowed) and _holds_classes(inside.layout)):
        return inside.source
    if found := _apart(pictures, folder, allowed):
        return found
    outside = tables_beside(folder, allowed) if pictures else Tables()
    if outside.source:
        return outside.source
    if not pictures:
        for error in inside.refused.values():
            if isinstance(error, DataError) and error.reason == OUTSIDE:  # its pictures are outside
                raise error
    if near or not pictures:
        return SidecarSource(pictures, near, Layout(KIND), allowed)
    return _in_classes(folder, pictures, [*inside.refused.values(), *outside.refused.values()], allowed)


def in_classes(folder: Path) -> bool:
    """Whether the pictures of a folder are in class folders and have no other captions."""
    try:
        return isinstance(open_pictures(folder), ClassSource)
    except DataError:
        return False


def _apart(pictures: Sequence[Path], folder: Path, allowed: AllowedFolders) -> SidecarSource | None:
    for top in (folder, folder.absolute().parent):
        reach = allowed.extended([top])
        whole = [path if top == folder else top / folder.name / path.relative_to(folder) for path in pictures]
        found, name = sidecars.apart(whole, top, companions=top != folder)
        found, _ = sidecars.inside(found, reach)
        if found and sidecars.hold_captions(found, reach):
            return SidecarSource(whole, found, Layout(f"{KIND} in {name}{os.sep}"), reach)
    return None


def _holds_classes(layout: Layout | None) -> bool:
    """Whether a table has class names instead of captions."""
    return layout is not None and layout.columns is not None and names_a_class(layout.columns[1][0])


def _are_classes(folder: Path, allowed: AllowedFolders) -> bool:
    return len(read_classes(folder, follows=allowed.contains).names) > 1


def _in_classes(
    folder: Path, pictures: Sequence[Path], refused: Iterable[Exception], allowed: AllowedFolders
) -> ClassSource:
    found, tried = read_classes(folder, follows=allowed.contains).only(allowed.contains), next(iter(refused), None)
    words: MessageParts = tried.problem if isinstance(tried, DiptychError) else str(tried)
    if (trouble := _problem_with_classes(folder, pictures, found)) is None:
        return ClassSource(folder, found, allowed, f"not used: {format_message(words)}" if tried else "")
    tail = [" ", *([words] if isinstance(words, str) else words)] if tried else []
    raise DataError([trouble, *tail], remedy=tried.remedy if isinstance(tried, DiptychError) else "")


def _problem_with_classes(folder: Path, pictures: Sequence[Path], found: ClassFolders) -> str | None:
    """Why the folders' names cannot be captions, and what is accepted instead."""
    wanted = (
        "wanted a .txt, .caption or .json of the same name beside each, a table that names them (metadata.csv, "
        "captions.txt, a COCO JSON), or a folder for each class"
    )
    if not found.paths:
        return f"{folder} contains {len(pictures)} pictures and no caption; {wanted}."
    if found.unlabelled:
        return (
            f"{folder} contains {len(found.paths)} pictures in folders, whose names would be captions, and "
            f"{len(found.unlabelled)} outside them ({found.unlabelled[0].name}); move these, or put a caption file "
            "beside each picture."
        )
    if len(found.names) > 1:
        return None
    one = found.paths[0].relative_to(folder).parts[0]
    return f"{folder} has {len(found.paths)} pictures, all in {one}, whose name would be the caption of each; {wanted}."
