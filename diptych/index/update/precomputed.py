"""Vectors that were made elsewhere: npy files with the paths of their rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.data.tables.parquet import cells_of, damage
from diptych.errors import DataError, SearchIndexError
from diptych.index.update.reading_versions import kind_read_anew
from diptych.media.items import File
from diptych.untrusted.regular_files import open_file, read_file
from diptych.versions import READING

# In a Parquet file's metadata
MODEL_KEY, FINGERPRINT_KEY, READING_KEY = b"diptych.model", b"diptych.fingerprint", b"diptych.reading"
_PATH_COLUMN = "path"
_LONGEST = 4 << 30  # bytes of a text of paths


class Given:
    """Vectors by the path of their picture, relative to a folder. Made by `open_given`.

    `fingerprint` and `model` are those of the model that made them, None where the files do not say. `taken` are the
    paths whose vector was asked for and was good, `useless` those whose was not of finite numbers, or of length 0.
    `reading` is the version by which the pictures were read, None where the files are none of ours; `outdated` are the
    paths whose vector was left, for that version read them otherwise than today's. `repeated` is how many rows were for
    a path that had one already.
    """

    def __init__(self, fingerprint: str | None, model: str | None, dim: int, reading: int | None = None):
        self.fingerprint, self.model, self.dim, self.reading = fingerprint, model, dim, reading
        self.outdated: set[str] = set()
        self.repeated = 0
        self._rows: dict[str, tuple[np.ndarray, int]] = {}
        self.taken: set[str] = set()
        self.useless: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def add(self, paths: list[str], vectors: np.ndarray) -> None:
        """Take the rows of one more file; of two rows for one path the later counts, and the earlier is `repeated`."""
        self.repeated += len(paths) - len(set(paths)) + len(self._rows.keys() & set(paths))
        self._rows |= {path: (vectors, row) for row, path in enumerate(paths)}

    def vector(self, path: str) -> np.ndarray | None:
        """A picture's vector, (dim,) float16 of unit length; None where there is none, or none of numbers."""
        if path not in self._rows:
            return None
        vectors, row = self._rows[path]
        vector = vectors[row].astype(np.float32)
        length = float(np.linalg.norm(vector))
        if not 0 < length < np.inf:
            self.useless.add(path)
            return None
        self.taken.add(path)
        return (vector / length).astype(np.float16)

    def is_of_today(self, root: Path, file: File) -> bool:
        """Whether this file's pixels were, when its vector was made, what they are today."""
        if self.reading is None or self.reading >= READING or file.path not in self._rows:
            return True
        if kind_read_anew(os.path.join(root, file.path), file.kind):
            self.outdated.add(file.path)
        return file.path not in self.outdated

    @property
    def left(self) -> set[str]:
        """The paths whose vector nobody asked for: their files are indexed already, or not there."""
        return self._rows.keys() - self.taken - self.useless - self.outdated


class _Paths(NamedTuple):
    paths: list[str]
    fingerprint: str | None
    model: str | None
    reading: int | None = None


def open_given(vectors: str | os.PathLike[str], paths: str | os.PathLike[str] | None, root: Path) -> Given:
    """The vectors of an npy file, (n, dim) of floats, with the `paths` of its rows: a text file of one a line or a
    Parquet file with a column "path". Or those of a folder of npy files, each beside a Parquet file of the same name.

    Paths are absolute or relative to `root`; the vectors stay on disk until they are asked for. Raises
    SearchIndexError, which names the file and its defect.
    """
    place = Path(vectors)
    if place.is_dir():
        shards = [(npy, npy.with_suffix(".parquet")) for npy in sorted(place.glob("*.npy"))]
        if not shards:
            raise SearchIndexError(
                f"{place} holds no .npy file; wanted what `diptych embed` writes, or one .npy with --paths."
            )
    else:
        shards = [(place, Path(paths) if paths else place.with_suffix(".parquet"))]
    given: Given | None = None
    for npy, beside in shards:
        array = _array(npy)
        named = _paths(beside, npy, len(array))
        _require_one_each(npy, len(array), beside, len(named.paths))
        given = given or Given(named.fingerprint, named.model, array.shape[1], named.reading)
        if (named.fingerprint, array.shape[1]) != (given.fingerprint, given.dim):
            raise SearchIndexError(
                f"{npy} is of another model than {shards[0][0]}; give the vectors of one model at a time."
            )
        if named.reading != given.reading:
            raise SearchIndexError(
                f"{npy} was made by another version than {shards[0][0]}; give one version's at a time."
            )
        given.add([_relative(path, root) for path in named.paths], array)
    assert given is not None
    return given


def _array(path: Path) -> np.ndarray:
    open_file(path).close()  # no pipe and no device: numpy opens what it finds
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # its parser of headers is Python's own, which raises what it likes
        raise SearchIndexError(f"{path} is no .npy file of numbers ({error}).") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise SearchIndexError(f"{path} holds {what}; wanted (n, dim) floats.")
    return array


def _require_one_each(npy: Path, rows: int, beside: Path, paths: int) -> None:
    if rows != paths:
        raise SearchIndexError(f"{npy} has {rows} rows, and {beside} {paths} paths; wanted one each.")


def _paths(path: Path, npy: Path, rows: int) -> _Paths:
    """Those of the `rows` of `npy`. SearchIndexError where a file has none."""
    if not path.is_file():
        raise SearchIndexError(
            f"{path} is missing; wanted the path of each row, one a line, or in a column of Parquet: --paths."
        )
    if path.suffix.lower() != ".parquet":
        lines = read_file(path, _LONGEST).removesuffix(b"\n").split(b"\n")
        return _Paths([os.fsdecode(line.removesuffix(b"\r")) for line in lines if line], None, None)
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise SearchIndexError(f"{path} needs pyarrow to be read: pip install 'diptych[data]'.") from None
    try:
        with damage(f"{path} is no Parquet file with a column {_PATH_COLUMN!r}"):
            return _in_parquet(path, npy, rows)
    except DataError as error:
        raise SearchIndexError(str(error)) from error


def _in_parquet(path: Path, npy: Path, rows: int) -> _Paths:
    import pyarrow.parquet

    open_file(path).close()
    file = pyarrow.parquet.ParquetFile(path, read_dictionary=[_PATH_COLUMN])
    if _PATH_COLUMN not in file.schema_arrow.names:
        raise SearchIndexError(f"{path} has no column {_PATH_COLUMN!r}; wanted the path of each row.")
    _require_one_each(npy, rows, path, file.metadata.num_rows)  # before they are read: a row may take no room at all
    column = file.read(columns=[_PATH_COLUMN])[_PATH_COLUMN]
    paths = [str(cell) for chunk in column.chunks for cell in cells_of(chunk)]
    metadata = file.schema_arrow.metadata or {}
    said = {key: value.decode() for key, value in metadata.items() if key.startswith(b"diptych")}
    reading = int(said.get(READING_KEY) or 1) if FINGERPRINT_KEY in said else None  # 0.1.0 did not say
    return _Paths(paths, said.get(FINGERPRINT_KEY), said.get(MODEL_KEY), reading)


def _relative(path: str, root: Path) -> str:
    """As the index calls it: relative, with forward slashes, without dots."""
    if os.path.isabs(path):
        path = os.path.relpath(path, root)
    return os.path.normpath(path).replace(os.sep, "/")
