"""The program of a child process that lays vectors out with UMAP (McInnes, Healy and Melville 2018), the loops of which
hold Python's lock for seconds: in the server's own process nobody would be answered meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any, cast

import numpy as np

from diptych.media.reading.reader_process import send_answer, start

NEIGHBOURS, DISTANCE = 15, 0.1  # UMAP's own defaults
SAMPLE = 30_000  # vectors that UMAP lays out at most; each other one goes where its nearest of them are
NEAREST = 5  # of them
_ROWS = 256  # compared with the sample at a time
_SEARCHED, _DRAWN = 0.2, 0.8  # shares of the work that are done after the search and after the drawing
Report = Callable[[float], None]
Layout = Callable[[np.ndarray, Report], np.ndarray]


def main() -> None:
    """Read one order and its vectors (rows, dim), float32. Answer with how far it is, {"share": 0.5}, as often as that
    changes, and at the end with the points, (rows, 2) float32."""
    if not (started := start(_prepared)):
        return
    orders, answers, layout = started
    order = json.loads(orders.readline())
    rows, dim = order["rows"], order["dim"]
    vectors = np.frombuffer(orders.read(rows * dim * 4), np.float32).reshape(rows, dim)
    threading.Thread(target=_end_with, args=(orders,), daemon=True).start()
    try:
        points = layout(vectors, lambda share: send_answer(answers, {"share": share}))
    except Exception:
        send_answer(answers, {"failure": traceback.format_exc(limit=-2)})
        return
    send_answer(answers, {"rows": rows}, [np.ascontiguousarray(points, np.float32)])


def _end_with(orders: IO[bytes]) -> None:
    """End this process when the parent is gone."""
    orders.read()
    os._exit(0)


def _prepared(settings: dict[str, Any]) -> Layout:
    os.environ["NUMBA_NUM_THREADS"] = "1"  # before it is imported; one thread gives the same map each time
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)  # requests come first
    from umap import UMAP

    def layout(vectors: np.ndarray, report: Report) -> np.ndarray:
        step = -(-len(vectors) // SAMPLE)
        sample = vectors[::step]
        neighbours, squares = nearest(sample, sample, NEIGHBOURS, lambda share: report(_SEARCHED * share))
        model = UMAP(
            n_neighbors=NEIGHBOURS, min_dist=DISTANCE, init=cast(Any, _beginning(sample)), random_state=0, n_jobs=1,
            verbose=True, precomputed_knn=(neighbours, np.sqrt(squares), None),
            tqdm_kwds={"file": _Bar(report), "bar_format": "{n_fmt} {total_fmt}", "disable": False},
        )  # fmt: skip
        drawn = np.asarray(model.fit_transform(sample))
        if step == 1:
            return drawn
        near, _ = nearest(vectors, sample, NEAREST, lambda share: report(_DRAWN + (1 - _DRAWN) * share))
        points = np.median(drawn[near], axis=1)
        points[::step] = drawn
        return points

    return layout


def _beginning(sample: np.ndarray) -> np.ndarray:
    """Where the points begin: at their two largest components, from -10 to 10 as UMAP wants it."""
    largest = sample[:, :2]
    return largest * (10 / max(float(np.abs(largest).max()), 1e-6))


def nearest(
    vectors: np.ndarray, sample: np.ndarray, count: int, report: Report = lambda share: None
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest of `sample` for each of `vectors`, the nearest first: rows (n, count) int32, and the squares
    of their distances, float32."""
    halves = (sample**2).sum(axis=1) / 2
    rows = np.empty((len(vectors), count), np.int32)
    likeness = np.empty((len(vectors), count), np.float32)
    for begin in range(0, len(vectors), _ROWS):
        some = slice(begin, begin + _ROWS)
        scores = vectors[some] @ sample.T - halves  # half the square of the distance, but for the vector's own length
        best = np.argpartition(scores, len(sample) - count, axis=1)[:, len(sample) - count :]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        rows[some] = np.take_along_axis(best, order, 1)
        likeness[some] = np.take_along_axis(scores, rows[some], 1)
        if begin // _ROWS % 20 == 0:
            report(begin / len(vectors))
    squares = (vectors**2).sum(axis=1, keepdims=True) - 2 * likeness
    return rows, np.maximum(squares, 0)


class _Bar:
    """A file to which tqdm writes how many of how many rounds are done."""

    def __init__(self, report: Report):
        self._report = report

    def write(self, text: str) -> None:
        """Report it."""
        numbers = text.split()
        if len(numbers) == 2 and numbers[0].isdigit() and numbers[1].isdigit():
            self._report(_SEARCHED + (_DRAWN - _SEARCHED) * int(numbers[0]) / max(1, int(numbers[1])))

    def flush(self) -> None:
        """Nothing waits."""
