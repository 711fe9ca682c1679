"""The parts of a data set by their usual names: what is for training, and what is held out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from diptych.media.scanning.image_files import SKIPPED_FOLDERS, find_images

TRAIN = "train"
HELD_OUT = ("test", "val", "validation", "valid", "dev")  # the first of these that is there, where none is asked for
_SPELLED = {"training": TRAIN, "testing": "test"}
# As in Hugging Face's file names: the word stands alone, or has a year behind it (`captions_val2017.json`).
_WORD = re.compile(r"(?:^|[^a-z])(training|train|validation|valid|val|dev|testing|test)(?:imgs|images)?(?![a-z])", re.I)
_SPLIT = r"training|train|validation|valid|val|dev|testing|test"
_MORE = r"images?|imgs?|pictures?|photos?|data|set|\d{4}"
_WHOLE = re.compile(rf"(?:(?:{_MORE})[\W_]*)?({_SPLIT})(?:[\W_]*(?:{_MORE}))?", re.I)
_FILES = (".tar", ".tgz", ".tar.gz", ".parquet")


def split_in(name: str) -> str | None:
    """The split that a file's or folder's name tells: `captions_val2017.json` -> val; None where it tells none."""
    found = _WORD.search(name)
    word = found[1].lower() if found else None
    return _SPELLED.get(word, word) if word else None


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders below that are splits, by split, that for training first.

    A class may be called "train", too: a folder of such a name is a split where it holds folders, shards or tables; or
    where pictures lie right in it, as in another of these names beside it, and in no other folder: then it may also be
    called as `train_images` or `val2017` are.
    """
    below = visible_folders(folder)
    holding = {split: each for each in below if (split := _whole(each.name)) and _holds_a_set(each)}
    if not holding:
        shown = [each for each in below if find_images(each, follows=_leads_to_a_file)]
        named = {split: each for each in shown if (split := _called(each.name))}
        holding = named if TRAIN in named and 1 < len(named) == len(shown) else {}
    return {split: holding[split] for split in (TRAIN, *HELD_OUT) if split in holding}


def visible_folders(folder: Path) -> list[Path]:
    """The folders right below, in order, without hidden ones and what systems leave behind."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names if name[0] != "." and name not in SKIPPED_FOLDERS]


def choose_split(paths: Sequence[Path], top: Path, *, held_out: bool = False) -> list[Path]:
    """Which of some files in `top` are meant, by the splits that their names tell, or the folders that they lie in:
    where one is for training, these and those that tell none; or, for what is `held_out`, those of the first split of
    HELD_OUT that there is."""
    splits = {path: _split_of(path, top) for path in paths}
    there = set(splits.values())
    wanted = next((name for name in HELD_OUT if name in there), None) if held_out else TRAIN
    if wanted not in there:
        return list(paths)
    return [path for path in paths if splits[path] in ((wanted,) if held_out else (TRAIN, None))]


def _split_of(path: Path, top: Path) -> str | None:
    names = [path.stem, *reversed(path.relative_to(top).parts[:-1])]
    return next((split for name in names if (split := split_in(name))), None)


def _whole(name: str) -> str | None:
    word = _SPELLED.get(name.lower(), name.lower())
    return word if word in (TRAIN, *HELD_OUT) else None


def _called(name: str) -> str | None:
    found = _WHOLE.fullmatch(name)
    word = found[1].lower() if found else ""
    return _SPELLED.get(word, word) or None


def _holds_a_set(folder: Path) -> bool:
    return any(
        each.name.lower().endswith(_FILES) or (each.is_dir() and find_images(each, follows=_leads_to_a_file))
        for each in folder.iterdir()
    )


def _leads_to_a_file(path: str) -> bool:
    """Whether a link may count here, where nothing is read yet: one to a folder could lead to all of a disk."""
    return not os.path.isdir(path)
