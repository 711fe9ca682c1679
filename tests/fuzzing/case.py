"""What a target makes for the worker: a changed input and the commands to be run on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol

from PIL import Image


class Case(NamedTuple):
    """What was changed, in words; the command lines; and what these may change."""

    changes: list[str]
    commands: list[list[str]]
    allowed: list[Path]


class Target(Protocol):
    """Something that a stranger may hand over."""

    def __init__(self, home: Path):
        """Make what is sound, once; `home` is the test's own."""
        ...

    def case(self, folder: Path, choice: Random) -> Case:
        """A changed copy in `folder`, which is empty."""
        ...


SECRET = "the falcon's nest is below the third bridge"


def write_precious(home: Path) -> Path:
    """Files of the test's own that nobody has any business with; SECRET stands in one of them."""
    precious = home / "precious"
    shutil.rmtree(precious, ignore_errors=True)
    (precious / "folder").mkdir(parents=True)
    (precious / "notes.txt").write_text(f"{SECRET}\n")
    (precious / "folder" / "more.txt").write_text("more\n")
    Image.new("RGB", (8, 8), (200, 10, 10)).save(precious / "secret.png")
    return precious
