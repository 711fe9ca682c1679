"""Points in two dimensions for vectors: by principal components, or by UMAP, where likeness counts among neighbours."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from diptych.errors import ReaderProcessError, SearchIndexError
from diptych.extras import is_importable, require
from diptych.media.reading.child_process import ChildProcess
from diptych.serve.library.jobs import Progress
from diptych.storage.atomic import atomic_write

Method = Literal["umap", "pca"]
FEWEST = 60  # vectors that UMAP is for; fewer have no neighbourhoods
COMPONENTS = 50  # principal ones, between which neighbours are looked for
MEMORY_BYTES = 8 * 2**30  # of addresses, most of which are reserved and never used, for UMAP's process
LONGEST_S = 1800.0
KEPT = 8  # layouts on disk
_PROGRAM = "diptych.serve.library.overview.umap_process"
_MAKER = 1  # changes when maps are drawn otherwise
# Percent of the points at either side that may be strays, and the share of the map in which those are squeezed.
_STRAYS: dict[Method, float] = {"pca": 1.0, "umap": 0.1}
_EDGE = 0.05
_SAME = 1e-6  # a difference that is rounding alone


def methods() -> list[Method]:
    """The methods that are installed, the best first."""
    return [method for method in get_args(Method) if method != "umap" or is_importable("umap")]


class Layouts:
    """Lays vectors out. UMAP's points are kept in `folder`, under a name that the vectors have. `close` ends what is
    under way."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._turn, self._lock = threading.Lock(), threading.Lock()  # one process at a time
        self._process: ChildProcess | None = None
        self._is_closed = False

    def points(self, vectors: np.ndarray, method: Method, progress: Progress = lambda done, total: None) -> np.ndarray:
        """A point from 0 to 1 for each vector, (n, 2) float32. Raises SearchIndexError where UMAP's process fails or
        takes LONGEST_S, and MissingExtraError."""
        # Of vectors that are all alike UMAP's points are no numbers.
        if method == "pca" or len(vectors) < FEWEST or (vectors == vectors[0]).all():
            return spread(principal_components(vectors, 2), _STRAYS["pca"])
        require("This map", "umap")
        path = self._folder / f"{_name(vectors)}.npy"
        points = _kept(path, len(vectors))
        if points is None:
            with self._turn:
                points = self._neighbour_points(principal_components(vectors, COMPONENTS), progress)
            self._keep(path, points)
        return spread(points, _STRAYS[method])

    def close(self) -> None:
        """End the process that runs, and begin no other."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()

    def _neighbour_points(self, components: np.ndarray, progress: Progress) -> np.ndarray:
        with self._lock:
            if self._is_closed:
                raise SearchIndexError("the server stops, so the map is not made.")
            process = self._process = ChildProcess({"memory_bytes": MEMORY_BYTES}, _PROGRAM)
        limit = threading.Timer(LONGEST_S, process.kill)
        limit.daemon = True
        limit.start()
        try:
            process.wait_until_ready()
            return _answer(process, components, progress)
        except SearchIndexError:
            raise
        except ReaderProcessError as error:
            raise SearchIndexError(f"the process that makes the map does not start: {_reason(error)}") from error
        except (OSError, EOFError, ValueError) as error:
            raise SearchIndexError(f"the process that makes the map has ended ({process.end()}).") from error
        finally:
            limit.cancel()
            process.end()
            self._process = None

    def _keep(self, path: Path, points: np.ndarray) -> None:
        """Write the points, where the folder can be written, and delete the oldest files above KEPT."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, durable=False) as part, part.open("wb") as file:
                np.save(file, points)
            by_age = sorted(self._folder.glob("*.npy"), key=lambda each: each.stat().st_mtime)
            for old in by_age[:-KEPT]:
                old.unlink()


def _answer(process: ChildProcess, components: np.ndarray, progress: Progress) -> np.ndarray:
    rows, dim = components.shape
    process.send({"rows": rows, "dim": dim}, components.tobytes())
    while True:
        answer, content = process.receive(LONGEST_S)
        if "failure" in answer:
            raise SearchIndexError(f"UMAP failed: {answer['failure'].strip().splitlines()[-1]}")
        if "share" not in answer:
            points = np.frombuffer(content, np.float32).reshape(rows, 2)
            if not np.isfinite(points).all():
                raise SearchIndexError("UMAP placed pictures at no numbers; draw the map by principal components.")
            return points
        progress(round(100 * answer["share"]), 100)


def _reason(error: ReaderProcessError) -> str:
    """The last line of a traceback, which says what is broken; how a process has ended is known from the log."""
    lines = str(error).strip().splitlines()
    return lines[-1] if len(lines) > 1 else "it ended at once; the log of the server says more."


def _name(vectors: np.ndarray) -> str:
    stamp = f"{_MAKER} {vectors.dtype} {vectors.shape}".encode()
    return hashlib.blake2b(vectors.tobytes(), key=stamp, digest_size=16).hexdigest()


def _kept(path: Path, rows: int) -> np.ndarray | None:
    """The points of a file, if it is whole."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        points = np.load(path, allow_pickle=False)
        if points.shape == (rows, 2) and points.dtype == np.float32 and np.isfinite(points).all():
            return points
    return None


def principal_components(vectors: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest principal components of vectors (n, dim), n of 1 or more, or all where there are fewer,
    (n, count) float32, the largest first."""
    centred = vectors.astype(np.float32)
    centred -= centred.mean(axis=0)
    axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, ::-1][:, :count].astype(np.float32)
    # Either sign is a solution; this one stays.
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    return centred @ axes


def spread(points: np.ndarray, strays: float) -> np.ndarray:
    """Points (n, 2), n of 1 or more, over 0 to 1 in each direction; where all are the same, in the middle. Those far
    out, `strays` percent at either side, are squeezed into the edges in their order, so that they squeeze no others."""
    low, high = np.percentile(points, [strays, 100 - strays], axis=0)
    inner = (points - low) / np.maximum(high - low, _SAME)
    inner[:, high - low < _SAME] += 0.5
    below, above = np.minimum(inner, 0), np.maximum(inner - 1, 0)
    beyond = np.expm1(4 * below) + -np.expm1(-4 * above)  # from -1 to 1, nearly even at first
    return (_EDGE + (1 - 2 * _EDGE) * np.clip(inner, 0, 1) + _EDGE * beyond).astype(np.float32)
