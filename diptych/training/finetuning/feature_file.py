"""OUT/frozen-features: what a frozen tower made of every picture of a run. Three files:

about.json    what the features were made by and of; see `FeatureFile.claim`
features.bin  (pictures, views, ...) float16 or float32, little-endian
rows.bin      a record for each picture: whether its features are complete, the seconds that they took, a hash of its
              bytes, and whether each view is mirrored

A picture's record is written when its features are on the disk, so a run that was killed goes on after the last ones.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from diptych.data.loading.stored import StoredFeatures
from diptych.data.spooling import DISK_FULL
from diptych.storage.atomic import atomic_write_text
from diptych.storage.output_files import refuse_link, subfolder
from diptych.untrusted.json import parse_json

FOLDER = "frozen-features"
ABOUT, FEATURES, ROWS = "about.json", "features.bin", "rows.bin"


@dataclass(frozen=True)
class FeatureFile:
    """The files of a run. Each picture has `views` arrays of `shape` and `dtype`."""

    folder: Path
    pictures: int
    views: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """The bytes of all features and records."""
        return self.pictures * (self._row_size + self._record.itemsize)

    @property
    def _row_size(self) -> int:
        return self.views * int(np.prod(self.shape)) * self.dtype.itemsize

    @cached_property
    def _record(self) -> np.dtype:
        return np.dtype(
            [("made", "u1"), ("seconds", "<f4"), ("id", "<i8"), ("mirrored", "u1", (self.views,))]  # type: ignore[list-item]
        )

    def difference(self, about: dict[str, Any]) -> str | None:
        """The first entry of `about` in which the files that are there differ; "" if they are complete in size and
        were made by the same; None if there are none, or they are damaged."""
        for name in (ABOUT, FEATURES, ROWS):
            refuse_link(self.folder / name)
        try:
            found = parse_json((self.folder / ABOUT).read_text(encoding="utf-8"))
            sizes = [(self.folder / name).stat().st_size for name in (FEATURES, ROWS)]
        except (OSError, ValueError):
            return None
        about = parse_json(json.dumps(about))  # a list for a tuple, as in the file
        if different := [name for name in about if not isinstance(found, dict) or found.get(name) != about[name]]:
            return different[0]
        return "" if sizes == [self.pictures * self._row_size, self.pictures * self._record.itemsize] else None

    def claim(self, about: dict[str, Any]) -> None:
        """Make the files without any feature, in the room that they will take; `about` is a JSON object that says by
        what and of what. Raises OSError if the disk is full."""
        self.remove()
        subfolder(self.folder)
        for name, row_size in ((FEATURES, self._row_size), (ROWS, self._record.itemsize)):
            with open(self.folder / name, "xb") as file:
                _allocate(file, self.pictures * row_size)
        atomic_write_text(self.folder / ABOUT, json.dumps(about, indent=2) + "\n")  # last: the files are complete

    def missing(self) -> np.ndarray:
        """The rows of the pictures without features, ascending."""
        return np.flatnonzero(self._records()["made"] == 0)

    def seconds_per_picture(self) -> float:
        """The median time that a picture took, with all its views; NaN without any."""
        records = self._records()
        made = records["seconds"][records["made"] == 1]
        return float(np.median(made)) if len(made) else float("nan")

    def write(
        self, rows: np.ndarray, features: np.ndarray, ids: np.ndarray, mirrored: np.ndarray, seconds: float
    ) -> None:
        """Write the features of some pictures, (pictures, views, ...), each of which took `seconds`. Raises OSError if
        the disk is full."""
        records = np.zeros(len(rows), self._record)
        records["made"], records["seconds"], records["id"], records["mirrored"] = 1, seconds, ids, mirrored
        for name, values in ((FEATURES, np.ascontiguousarray(features, self.dtype)), (ROWS, records)):
            with open(self.folder / name, "r+b") as file:
                for row, value in zip(rows, values, strict=True):
                    file.seek(int(row) * value.nbytes)
                    file.write(value.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def open(self, first_rows: Sequence[int]) -> StoredFeatures:
        """The features, mapped into memory; `first_rows` are those of the mixture's sources."""
        records, shape = self._records(), (self.pictures, self.views, *self.shape)
        features = np.memmap(self.folder / FEATURES, self.dtype, "r", shape=shape)
        mirrored, usable = records["mirrored"].astype(bool), records["made"] == 1
        return StoredFeatures(features, mirrored, records["id"].copy(), usable, tuple(first_rows))

    def remove(self) -> None:
        """Remove the files, if there are any, and the folder, if nothing else is in it."""
        refuse_link(self.folder)
        for path in (*(self.folder / name for name in (ABOUT, FEATURES, ROWS)), *self.folder.glob(f".{ABOUT}.*.part")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _records(self) -> np.ndarray:
        return np.fromfile(self.folder / ROWS, self._record, self.pictures)


def _allocate(file: BinaryIO, size: int) -> None:
    """Give a new file `size` bytes of zeros, on the disk where the system can: a file that is mapped must not meet a
    full disk later."""
    file.truncate(size)
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            with contextlib.suppress(OSError):  # a file system that cannot reserve
                file.truncate(size)
