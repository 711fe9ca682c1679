"""Precomputed vectors: npy files with the paths of their rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.data.tables.parquet import cells_of, damage
from diptych.errors import DataError, SearchIndexError, Setting
from diptych.index.update.outdated_kinds import outdated_kind
from diptych.media.items import File
from diptych.untrusted.regular_files import open_file, read_file
from diptych.versions import READING

# In a Parquet file's metadata
MODEL_KEY, FINGERPRINT_KEY, READING_KEY = b"diptych.model", b"diptych.fingerprint", b"diptych.reading"
_PATH_COLUMN = "path"
_MAX_BYTES = 4 << 30  # of a text file of paths


class PrecomputedVectors:
    """Vectors by the path of their picture, relative to a folder. Made by `open_precomputed`.

    `fingerprint` and `model` identify the model that made them, None where the files do not record it. `used` are the
    paths whose vectors were requested and valid, `invalid` those whose vectors are not finite or have length 0.
    `reading` is the version that read the pictures, None where other programs made the files. `outdated` are the paths
    whose vectors were not used because that version read the pictures differently. `repeated` is the number of rows
    for a path that already had one.
    """

    def __init__(self, fingerprint: str | None, model: str | None, dim: int, reading: int | None = None):
        self.fingerprint, self.model, self.dim, self.reading = fingerprint, model, dim, reading
        self.outdated: set[str] = set()
        self.repeated = 0
        self._rows: dict[str, tuple[np.ndarray, int]] = {}
        self.used: set[str] = set()
        self.invalid: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    def add(self, paths: list[str], vectors: np.ndarray) -> None:
        """Add the rows of a file. A later row for the same path replaces the earlier one, and counts as `repeated`."""
        self.repeated += len(paths) - len(set(paths)) + len(self._rows.keys() & set(paths))
        self._rows |= {path: (vectors, row) for row, path in enumerate(paths)}

    def vector(self, path: str) -> np.ndarray | None:
        """A picture's vector, (dim,) float16 of unit length; None where there is none, or where it is invalid."""
        if path not in self._rows:
            return None
        vectors, row = self._rows[path]
        vector = vectors[row].astype(np.float32)
        length = float(np.linalg.norm(vector))
        if not 0 < length < np.inf:
            self.invalid.add(path)
            return None
        self.used.add(path)
        return (vector / length).astype(np.float16)

    def is_current(self, root: Path, file: File) -> bool:
        """Whether this version would read the file as it was read for its vector."""
        if self.reading is None or self.reading >= READING or file.path not in self._rows:
            return True
        if outdated_kind(os.path.join(root, file.path), file.kind):
            self.outdated.add(file.path)
        return file.path not in self.outdated

    @property
    def unused(self) -> set[str]:
        """The paths whose vectors were not requested: their files are indexed already, or missing."""
        return self._rows.keys() - self.used - self.invalid - self.outdated


class _Paths(NamedTuple):
    paths: list[str]
    fingerprint: str | None
    model: str | None
    reading: int | None = None


def open_precomputed(
    vectors: str | os.PathLike[str], paths: str | os.PathLike[str] | None, root: Path
) -> PrecomputedVectors:
    """The vectors of an npy file, (n, dim) floats, with the `paths` of its rows: a text file with one path per line or
    a Parquet file with a column "path". Or the vectors of a folder of npy files, each with a Parquet file of the same
    name.

    Paths are absolute or relative to `root`. The vectors stay on disk until they are requested. Raises
    SearchIndexError, which names the file and its defect.
    """
    source = Path(vectors)
    if source.is_dir():
        shards = [(npy, npy.with_suffix(".parquet")) for npy in sorted(source.glob("*.npy"))]
        if not shards:
            raise SearchIndexError(
                f"{source} holds no .npy file.",
                remedy=["Name a folder that `diptych embed` wrote, or one .npy file with ", Setting("paths"), "."],
            )
    else:
        shards = [(source, Path(paths) if paths else source.with_suffix(".parquet"))]
    precomputed: PrecomputedVectors | None = None
    for npy, path_file in shards:
        array = _array(npy)
        table = _paths(path_file, npy, len(array))
        _require_one_each(npy, len(array), path_file, len(table.paths))
        precomputed = precomputed or PrecomputedVectors(table.fingerprint, table.model, array.shape[1], table.reading)
        if (table.fingerprint, array.shape[1]) != (precomputed.fingerprint, precomputed.dim):
            raise SearchIndexError(
                f"{npy} is of another model than {shards[0][0]}; give the vectors of one model at a time."
            )
        if table.reading != precomputed.reading:
            raise SearchIndexError(
                f"{npy} was made by another version than {shards[0][0]}; give the vectors of one version at a time."
            )
        precomputed.add([_relative(path, root) for path in table.paths], array)
    assert precomputed is not None
    return precomputed


def _array(path: Path) -> np.ndarray:
    open_file(path).close()  # refuses pipes and devices, which numpy would open
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy parses headers with Python's parser, which raises many kinds of errors
        raise SearchIndexError(f"{path} is not an .npy file of numbers ({error}).") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise SearchIndexError(f"{path} holds {what}; wanted (n, dim) floats.")
    return array


def _require_one_each(npy: Path, rows: int, path_file: Path, paths: int) -> None:
    if rows != paths:
        raise SearchIndexError(f"{npy} has {rows} rows, and {path_file} {paths} paths; wanted one path for each row.")


def _paths(path: Path, npy: Path, rows: int) -> _Paths:
    """The paths of the `rows` of `npy`. Raises SearchIndexError where the file has none."""
    if not path.is_file():
        raise SearchIndexError(
            f"{path} is missing; wanted the path of each row, one per line or in a Parquet column.",
            remedy=["Name the file with ", Setting("paths"), "."],
        )
    if path.suffix.lower() != ".parquet":
        lines = read_file(path, _MAX_BYTES).removesuffix(b"\n").split(b"\n")
        return _Paths([os.fsdecode(line.removesuffix(b"\r")) for line in lines if line], None, None)
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise SearchIndexError(f"{path} needs pyarrow to be read: pip install 'diptych[data]'.") from None
    try:
        with damage(f"{path} is not a Parquet file with a column {_PATH_COLUMN!r}"):
            return _in_parquet(path, npy, rows)
    except DataError as error:
        raise SearchIndexError(str(error)) from error


def _in_parquet(path: Path, npy: Path, rows: int) -> _Paths:
    import pyarrow.parquet

    open_file(path).close()
    file = pyarrow.parquet.ParquetFile(path, read_dictionary=[_PATH_COLUMN])
    if _PATH_COLUMN not in file.schema_arrow.names:
        raise SearchIndexError(f"{path} has no column {_PATH_COLUMN!r}; wanted the path of each row.")
    _require_one_each(npy, rows, path, file.metadata.num_rows)  # before reading: rows may take no room in the file
    column = file.read(columns=[_PATH_COLUMN])[_PATH_COLUMN]
    paths = [str(cell) for chunk in column.chunks for cell in cells_of(chunk)]
    metadata = file.schema_arrow.metadata or {}
    texts = {key: value.decode() for key, value in metadata.items() if key.startswith(b"diptych")}
    reading = int(texts.get(READING_KEY) or 1) if FINGERPRINT_KEY in texts else None  # 0.1.0 did not record it
    return _Paths(paths, texts.get(FINGERPRINT_KEY), texts.get(MODEL_KEY), reading)


def _relative(path: str, root: Path) -> str:
    """The path as the index stores it: relative, with forward slashes, without dots."""
    if os.path.isabs(path):
        path = os.path.relpath(path, root)
    return os.path.normpath(path).replace(os.sep, "/")
