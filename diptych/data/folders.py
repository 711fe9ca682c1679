"""Folders of pictures: with a caption file beside each, or one folder for each class."""

import os
from pathlib import Path

from diptych.data.samples import DataError, Sample, captions_of
from diptych.images import find_images


class FolderSource:
    """Pictures with a caption file of the same stem beside each (`cat.jpg`, `cat.txt` or `cat.json`).

    Where not one picture has such a file, and all lie in folders below, the name of the folder that holds a picture is
    its caption, with spaces for underscores (`golden_retriever/1.jpg`); `form` says which it is. DataError where some
    pictures would have a folder's name and some nothing.
    """

    def __init__(self, folder: Path):
        self.skipped: dict[str, int] = {}
        pictures = find_images(folder)
        sidecars = {path: sidecar for path in pictures if (sidecar := _sidecar(path))}
        self.classes = bool(pictures) and not sidecars
        if self.classes:
            self._name_classes(folder, pictures)
        else:
            self.form = "pictures with caption files"
            self._pairs: list[tuple[Path, Path | None]] = list(sidecars.items())
            if missing := len(pictures) - len(sidecars):
                self.skipped["no caption"] = missing

    def _name_classes(self, folder: Path, pictures: list[Path]) -> None:
        stray = [path for path in pictures if path.parent == Path(folder)]
        if len(stray) == len(pictures):
            raise DataError(
                f"{folder} holds {len(pictures)} pictures and not one caption; wanted a .txt or .json of the same name "
                f"beside each, or a folder for each class.{_hint(folder)}"
            )
        if stray:
            raise DataError(
                f"{folder} holds {len(pictures) - len(stray)} pictures in folders, whose names would be captions, and "
                f"{len(stray)} in none ({stray[0].name}); move these, or put a caption file beside each picture."
            )
        names = {path.parent for path in pictures}
        self.form = f"class folders, {len(names)} of them: a folder's name is the caption"
        self._pairs = [(path, None) for path in pictures]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._pairs[index][0].read_bytes(), self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        path, sidecar = self._pairs[index]
        if sidecar is None:
            return (class_name(path.parent),)
        key, text = self.key(index), sidecar.with_suffix(".txt")
        try:
            return captions_of(sidecar.read_bytes(), sidecar.suffix == ".json", key)
        except DataError as error:  # as in shards: JSON may hold only other things, and the text the caption
            if error.reason != "no caption" or sidecar == text or not text.is_file():
                raise
        return captions_of(text.read_bytes(), False, key)

    def key(self, index: int) -> str:
        return str(self._pairs[index][0])


def _sidecar(path: Path) -> Path | None:
    stem = os.fspath(path.with_suffix(""))
    return next((Path(stem + end) for end in (".json", ".txt") if os.path.isfile(stem + end)), None)


def _hint(folder: Path) -> str:
    """Where a table of captions lies beside the pictures, its name."""
    tables = sorted(p.name for p in Path(folder).iterdir() if p.suffix in (".csv", ".tsv", ".jsonl"))
    return f" Are the captions in {tables[0]}? Then name that file." if tables else ""


def class_name(folder: Path) -> str:
    """What a folder of pictures of one class is called in a person's words: "sports_car" is "sports car"."""
    return " ".join(folder.name.replace("_", " ").split())
