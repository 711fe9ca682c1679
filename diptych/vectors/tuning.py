"""Chooses how an index is searched, and measures the choice on the user's own vectors before it is used."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from diptych.extras import is_importable
from diptych.vectors.cells import CellCentroids, CellMeans, Cells, cell_count, is_cell_count
from diptych.vectors.effort import Effort
from diptych.vectors.float16 import core_count, float_rows
from diptych.vectors.product_quantizer import SUBVECTOR_DIM, ProductQuantiser, split_codes
from diptych.vectors.trial import RECALL_AT, Progress, Trial, needed
from diptych.vectors.vector_files import VectorFiles, VectorFilesHeader

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

SearchKind = Literal["exact", "approximate"]
ENCODE_BLOCK = 16_384
EXACT_UP_TO = 100_000 * 256  # numbers: 30 ms on one core; importing FAISS takes 300
MIN_ROWS = 256  # fewer rows cannot train centroids
QUERIES = 256
TRAINING_ROWS = 65_536  # rows: 4,096 per centroid
SAMPLE_ROWS = 32_768
MAX_CANDIDATES = 16_384  # examined to find how many suffice
CELL_CODE_MS = 1.2e-6  # a 4-bit code of one vector in a cell: of 4,096 x 64, 30 us to fetch, 240 to pack, 25 to compare
USUAL_READ = 2048  # rows of cells that a search reads
SCAN_MS = 75e-9  # one 4-bit code of one vector: 4.8 ms for 64 of a million on a 2.5 GHz Xeon
PRODUCT_MS = 2.2e-6  # one dimension of an exact comparison: 1.1 ms for 1,000 of 512


class TunedQuantiser(NamedTuple):
    """A quantiser, how many of its candidates must be compared exactly for the target recall (infinite if no number
    suffices), and the cost of a search on one core."""

    quantiser: ProductQuantiser
    candidates: float
    cost_ms: float


def tune(
    rows: VectorFiles,
    queries: Float[np.ndarray, "m d"] | None,
    kind: SearchKind | None,
    *,
    on_progress: Progress = lambda rows: None,
) -> dict[str, Any]:
    """Decide how to search, write the codes of an approximate index, and return the facts that were measured. Without
    FAISS, which searches the codes, the index is exact."""
    unread = {name: [0, 0, 0] for name in Effort._fields}
    exact = {"kind": "exact", "recall": 1.0, "pieces": 0, "cells": 0, "built_rows": len(rows.ids), **unread}
    small = (rows.vectors.size <= EXACT_UP_TO or not is_importable("faiss")) if kind is None else kind == "exact"
    if small or len(rows.ids) < MIN_ROWS or not subvector_counts(rows.header.dim):
        return exact
    asked = synthetic_queries(rows.vectors) if queries is None or not len(queries) else queries
    trial = Trial.of(rows.vectors, np.ascontiguousarray(asked[:QUERIES], np.float32), on_progress=on_progress)
    tuned = tune_quantiser(rows.vectors, trial.queries, trial.truth[:, :RECALL_AT])
    if kind is None and tuned.cost_ms * 2 > rows.vectors.size * PRODUCT_MS:
        return exact
    rows.append("quantiser", tuned.quantiser.to_array())
    inverted = _encode(rows, tuned.quantiser, on_progress)
    return {**exact, **_measured(rows, tuned, trial, inverted)}


class _InvertedFile(NamedTuple):
    """The parts of an inverted file, before it is known whether it pays."""

    centroids: CellCentroids
    means: np.ndarray
    of_rows: np.ndarray


def _encode(rows: VectorFiles, quantiser: ProductQuantiser, on_progress: Progress) -> _InvertedFile | None:
    """Write the codes of all rows, and assign them to cells if they are many enough."""
    count = cell_count(len(rows.vectors))
    centroids = CellCentroids.train(rows.vectors, count) if count else None
    means, of_rows = CellMeans(quantiser, count), np.empty(len(rows.vectors), "<u2")
    for start in range(0, len(rows.vectors), ENCODE_BLOCK):
        block = rows.vectors[start : start + ENCODE_BLOCK].astype(np.float32)
        rotated = (block - quantiser.mean) @ quantiser.rotation
        rows.append("codes", quantiser.encode_rotated(rotated))
        if centroids:
            of_rows[start : start + len(block)] = cells = centroids.assign(block)
            means.add(rotated, cells)
        on_progress(len(block))
    return _InvertedFile(centroids, means.codes(), of_rows) if centroids else None


def _measured(rows: VectorFiles, tuned: TunedQuantiser, trial: Trial, inverted: _InvertedFile | None) -> dict[str, Any]:
    """How much a search must read, of cells if that pays; these are written then. Empty if no number of candidates
    suffices."""
    quantiser, total, dim = tuned.quantiser, len(rows.vectors), rows.header.dim
    codes = rows.content("codes").reshape(total, -1)
    most = int(min(total, max(4 * tuned.candidates, MAX_CANDIDATES)))
    candidates, recall = trial.candidates(quantiser, split_codes(quantiser, codes, core_count()), codes, most)
    if candidates[0] == np.inf:
        return {}
    facts = {
        "kind": "approximate",
        "recall": recall,
        "candidates": [int(min(one, total)) for one in candidates],
        "pieces": quantiser.subvectors,
    }
    if not inverted:
        return facts
    count, width = len(inverted.means), quantiser.subvectors

    def cost_ms(read: float, compared: float) -> float:
        return width * (count * SCAN_MS + read * CELL_CODE_MS) + compared * dim * PRODUCT_MS

    cells = Cells(quantiser, inverted.means, inverted.of_rows)
    ten, hundred, thousand = trial.probes(quantiser, cells, codes, cost_ms)
    if ten.cost_ms > width * total * SCAN_MS + candidates[0] * dim * PRODUCT_MS:
        return facts
    rows.append("centroids", inverted.centroids.to_array())
    rows.append("means", inverted.means)
    rows.append("cells", inverted.of_rows)
    found = [ten.candidates, min(hundred.candidates, candidates[1]), candidates[2]]
    return {
        **facts,
        "recall": ten.recall,
        "cells": count,
        "probes": [ten.probes, hundred.probes, max(thousand, hundred.probes)],
        "cell_candidates": [int(min(one, total)) for one in found],
    }


def check_facts(header: VectorFilesHeader) -> None:
    """Raises ValueError if the facts of a header do not have the form that `tune` returns."""
    facts, is_exact = header.facts, header.facts["kind"] == "exact"
    others = [facts["built_rows"], facts["pieces"], facts["cells"]]
    efforts = [facts[name] for name in Effort._fields]
    if not all(isinstance(one, list) and len(one) == 3 for one in efforts):
        raise ValueError("a field is not a list of three")
    if not all(type(one) is int and 0 <= one < 1 << 48 for one in (*chain(*efforts), *others)):
        raise ValueError("a field is not a number")
    is_kind = facts["kind"] in ("exact", "approximate") and 0 <= float(facts["recall"]) <= 1
    are_counts = facts["pieces"] in ((0,) if is_exact else subvector_counts(header.dim))
    has_effort = is_exact or min(facts["candidates"]) > 0
    has_cells = is_cell_count(facts["cells"]) and min(facts["probes"] + facts["cell_candidates"]) > 0
    if not (is_kind and are_counts and has_effort and (has_cells or facts["cells"] == 0)):
        raise ValueError("its search parameters are invalid")


def tune_quantiser(
    rows: Float16[np.ndarray, "n d"], queries: Float[np.ndarray, "m d"], truth: Int64[np.ndarray, "m k"]
) -> TunedQuantiser:
    """The number of subvectors that makes a search cheapest.

    The rank of an exact neighbour among all rows is estimated from its rank among a sample.
    """
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(len(rows), min(len(rows), TRAINING_ROWS), replace=False))
    sample = float_rows(rows, chosen)
    fits = [_estimated(sample, rows, queries, truth, subvectors) for subvectors in subvector_counts(rows.shape[1])]
    return min(fits, key=lambda tuned: tuned.cost_ms)


def subvector_counts(dim: int) -> list[int]:
    """Numbers of subvectors to try: one for 16, 8 and 4 dimensions each, even as FAISS requires."""
    tried = {dim // share // 2 * 2 for share in (4 * SUBVECTOR_DIM, 2 * SUBVECTOR_DIM, SUBVECTOR_DIM)}
    return sorted(subvectors for subvectors in tried if subvectors >= 2)


def _estimated(
    sample: np.ndarray, rows: np.ndarray, queries: np.ndarray, truth: np.ndarray, subvectors: int
) -> TunedQuantiser:
    quantiser = ProductQuantiser.train(sample, subvectors=subvectors)
    sample_scores = np.sort(quantiser.scores(queries, sample[:: max(1, len(sample) // SAMPLE_ROWS)]), axis=1)
    neighbours, which = np.unique(truth, return_inverse=True)
    scores = quantiser.scores(queries, float_rows(rows, neighbours))
    true_scores = np.take_along_axis(scores, which.reshape(truth.shape), axis=1)
    better = [
        len(row) - np.searchsorted(row, mine, side="right")
        for row, mine in zip(sample_scores, true_scores, strict=True)
    ]
    candidate_ranks = (np.stack(better) + 1) * len(rows) / sample_scores.shape[1]
    candidates = needed(candidate_ranks)
    scanned_ms = subvectors * len(rows) * SCAN_MS
    if count := cell_count(len(rows)):  # then all codes are read of some searches alone
        scanned_ms = scanned_ms / 4 + subvectors * (count * SCAN_MS + USUAL_READ * CELL_CODE_MS)
    cost_ms = scanned_ms + candidates * rows.shape[1] * PRODUCT_MS
    return TunedQuantiser(quantiser, candidates, cost_ms)


def synthetic_queries(rows: Float16[np.ndarray, "n d"], *, count: int = QUERIES) -> Float[np.ndarray, "m d"]:
    """Queries for an index without real ones: the sum of a picture's difference from the mean and of noise of the same
    length.

    Text embeddings form a cone of their own, so most of a text embedding does not distinguish pictures. Pictures
    themselves would be too easy as queries, because the codes are trained on them. The mean of the texts' cone changes
    all scores alike, so it is left out.
    """
    generator = np.random.default_rng(1)
    chosen = float_rows(rows, generator.choice(len(rows), min(len(rows), 4096), replace=False))
    apart = chosen - chosen.mean(axis=0)
    pictures = apart[generator.integers(len(apart), size=count)]
    noise = generator.standard_normal((count, rows.shape[1])).astype(np.float32)
    mixed = _unit(pictures) + _unit(noise)
    return _unit(mixed)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
