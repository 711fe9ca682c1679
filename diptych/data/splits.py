"""The splits of a data set by their usual names: the training split and the held-out ones."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from diptych.media.scanning.image_files import SKIPPED_FOLDERS, find_images

TRAIN = "train"
HELD_OUT = ("test", "val", "validation", "valid", "dev")  # by default the first of these that exists
_SPELLED = {"training": TRAIN, "testing": "test"}
# As in Hugging Face's file names: a separate word, possibly with a year (`captions_val2017.json`).
_SPLIT_WORD = re.compile(
    r"(?:^|[^a-z])(training|train|validation|valid|val|dev|testing|test)(?:imgs|images)?(?![a-z])", re.I
)
_SPLIT = r"training|train|validation|valid|val|dev|testing|test"
_QUALIFIER = r"images?|imgs?|pictures?|photos?|data|set|\d{4}"
_QUALIFIED = re.compile(rf"(?:(?:{_QUALIFIER})[\W_]*)?({_SPLIT})(?:[\W_]*(?:{_QUALIFIER}))?", re.I)
_FILES = (".tar", ".tgz", ".tar.gz", ".parquet")


def split_in(name: str) -> str | None:
    """The split in a file's or folder's name: `captions_val2017.json` -> val; None if there is none."""
    found = _SPLIT_WORD.search(name)
    word = found[1].lower() if found else None
    return _SPELLED.get(word, word) if word else None


def split_folders(folder: Path) -> dict[str, Path]:
    """The subfolders that are splits, by split, the training split first.

    A class may be called "train", too. So a folder of such a name is a split only if it has subfolders, shards or
    tables; or if it and another such folder directly contain pictures and no other folder does. In that case names
    like `train_images` and `val2017` are splits as well.
    """
    below = visible_folders(folder)
    holding = {split: each for each in below if (split := _split_called(each.name)) and _holds_a_set(each)}
    if not holding:
        shown = [each for each in below if find_images(each, follows=_leads_to_a_file)]
        named = {split: each for each in shown if (split := _split_of_folder(each.name))}
        holding = named if TRAIN in named and 1 < len(named) == len(shown) else {}
    return {split: holding[split] for split in (TRAIN, *HELD_OUT) if split in holding}


def visible_folders(folder: Path) -> list[Path]:
    """The immediate subfolders, sorted, without hidden and system folders."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names if name[0] != "." and name not in SKIPPED_FOLDERS]


def choose_split(paths: Sequence[Path], top: Path, *, held_out: bool = False) -> list[Path]:
    """Selects files in `top` by the split in their names or their folders' names: files of the training split and files
    without a split; with `held_out`, files of the first existing split of HELD_OUT. All files if there is no such
    split."""
    splits = {path: _split_of(path, top) for path in paths}
    there = set(splits.values())
    wanted = next((name for name in HELD_OUT if name in there), None) if held_out else TRAIN
    if wanted not in there:
        return list(paths)
    return [path for path in paths if splits[path] in ((wanted,) if held_out else (TRAIN, None))]


def _split_of(path: Path, top: Path) -> str | None:
    names = [path.stem, *reversed(path.relative_to(top).parts[:-1])]
    return next((split for name in names if (split := split_in(name))), None)


def _split_called(name: str) -> str | None:
    word = _SPELLED.get(name.lower(), name.lower())
    return word if word in (TRAIN, *HELD_OUT) else None


def _split_of_folder(name: str) -> str | None:
    found = _QUALIFIED.fullmatch(name)
    word = found[1].lower() if found else ""
    return _SPELLED.get(word, word) or None


def _holds_a_set(folder: Path) -> bool:
    return any(
        each.name.lower().endswith(_FILES) or (each.is_dir() and find_images(each, follows=_leads_to_a_file))
        for each in folder.iterdir()
    )


def _leads_to_a_file(path: str) -> bool:
    """Whether a path is not a folder. Links to folders are not followed, because they could lead to a whole disk."""
    return not os.path.isdir(path)
