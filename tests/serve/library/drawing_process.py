"""The program of a process that lays vectors out, with less to import and to compute than UMAP: a point is its vector's
first two numbers. One whose first number is huge makes it die, one that is not a number makes it fail, and one that is
above 100 makes it draw what is not a number."""

import os

import numpy as np

from diptych.serve.library.overview import umap_process
from diptych.serve.library.overview.umap_process import Report


def main() -> None:
    umap_process._prepared = lambda settings: drawn
    umap_process.main()


def drawn(vectors: np.ndarray, report: Report) -> np.ndarray:
    if np.abs(vectors).max() > 1000:
        os._exit(7)
    if np.isnan(vectors).any():
        raise ValueError("not a number")
    report(0.5)
    return vectors[:, :2] if vectors.max() < 100 else np.full((len(vectors), 2), np.nan, np.float32)
