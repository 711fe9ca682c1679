"""Chooses how an index is searched, and measures the choice on the user's own vectors before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from diptych.extras import is_importable
from diptych.vectors.float16 import core_count, float_rows
from diptych.vectors.product_quantizer import FAISS_BLOCK, SUBVECTOR_DIM, PackedCodes, ProductQuantiser, split_codes
from diptych.vectors.vector_files import VectorFiles, VectorFilesHeader

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

SearchKind = Literal["exact", "approximate"]
Progress = Callable[[int], None]
ENCODE_BLOCK = 16_384
EXACT_UP_TO = 100_000 * 256  # numbers: 30 ms on one core; importing FAISS takes 300
MIN_ROWS = 256  # fewer rows cannot train centroids
# The share of the ten nearest among the candidates. The aim is 0.98 for other queries: 0.985 on 256 was 0.979 on 500.
TARGET_RECALL = 0.99
RECALL_AT = 10
LONG_LIST = 100  # the other list length that candidates are measured for
QUERIES = 256
TRAINING_ROWS = 65_536  # rows: 4,096 per centroid
SAMPLE_ROWS = 32_768
MAX_CANDIDATES = 16_384  # examined to find how many suffice
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
    exact = {"kind": "exact", "recall": 1.0, "candidates": [0, 0], "pieces": 0, "built_rows": len(rows.ids)}
    small = (rows.vectors.size <= EXACT_UP_TO or not is_importable("faiss")) if kind is None else kind == "exact"
    if small or len(rows.ids) < MIN_ROWS or not subvector_counts(rows.header.dim):
        return exact
    asked = synthetic_queries(rows.vectors) if queries is None or not len(queries) else queries
    asked = np.ascontiguousarray(asked[:QUERIES], np.float32)
    truth = exact_neighbours(rows.vectors, asked, count=LONG_LIST, on_progress=on_progress)
    tuned = tune_quantiser(rows.vectors, asked, truth[:, :RECALL_AT])
    if kind is None and tuned.cost_ms * 2 > rows.vectors.size * PRODUCT_MS:
        return exact
    max_candidates = int(min(len(rows.ids), max(4 * tuned.candidates, MAX_CANDIDATES)))
    candidate_ranks = _encode(rows, tuned, asked, truth, max_candidates=max_candidates, on_progress=on_progress)
    candidates = candidates_needed(candidate_ranks[:, :RECALL_AT])
    if candidates == np.inf:
        return exact
    measured = {
        "kind": "approximate",
        "recall": float((candidate_ranks[:, :RECALL_AT] <= candidates).mean()),
        "candidates": [int(candidates), int(min(max_candidates, candidates_needed(candidate_ranks)))],
        "pieces": tuned.quantiser.subvectors,
    }
    return {**exact, **measured}


def check_facts(header: VectorFilesHeader) -> None:
    """Raises ValueError if the facts of a header do not have the form that `tune` returns."""
    facts, max_candidates = header.facts, header.rows + MAX_CANDIDATES
    pair, others = facts["candidates"], [facts["built_rows"], facts["pieces"]]
    is_exact = facts["kind"] == "exact"
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(one) is int for one in (*pair, *others)):
        raise ValueError("a field is not a number")
    is_kind = facts["kind"] in ("exact", "approximate") and 0 <= float(facts["recall"]) <= 1
    in_range = all(int(not is_exact) <= one <= max_candidates for one in pair) and 0 <= facts["built_rows"] < 1 << 48
    if not (is_kind and in_range and facts["pieces"] in ((0,) if is_exact else subvector_counts(header.dim))):
        raise ValueError("its search parameters are invalid")


def _encode(
    rows: VectorFiles,
    tuned: TunedQuantiser,
    queries: np.ndarray,
    truth: np.ndarray,
    *,
    max_candidates: int,
    on_progress: Progress,
) -> np.ndarray:
    """Write quantiser and codes; return the rank of each exact neighbour among the candidates."""
    coded_rows = len(rows.vectors) // FAISS_BLOCK * FAISS_BLOCK
    rows.append("quantiser", tuned.quantiser.to_array())
    for start, codes in zip(
        range(0, coded_rows, ENCODE_BLOCK), encoded_blocks(tuned.quantiser, rows.vectors[:coded_rows]), strict=True
    ):
        rows.append("codes", codes)
        on_progress(min(ENCODE_BLOCK, coded_rows - start))
    code_blocks = split_codes(tuned.quantiser, rows.content("codes"), core_count())
    candidate_ranks = measure_candidate_ranks(code_blocks, queries, truth, max_candidates=max_candidates)
    candidate_ranks[truth >= coded_rows] = 1  # the last rows are always compared
    return candidate_ranks


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
    candidates = candidates_needed(candidate_ranks)
    cost_ms = subvectors * len(rows) * SCAN_MS + candidates * rows.shape[1] * PRODUCT_MS
    return TunedQuantiser(quantiser, candidates, cost_ms)


def candidates_needed(candidate_ranks: Float[np.ndarray, "m k"]) -> float:
    """How many candidates contain `TARGET_RECALL` of the neighbours, given the rank (from 1) of each among the
    candidates."""
    return float(np.ceil(np.quantile(candidate_ranks, TARGET_RECALL, method="inverted_cdf")))


def measure_candidate_ranks(
    code_blocks: Sequence[PackedCodes],
    queries: Float[np.ndarray, "m d"],
    truth: Int64[np.ndarray, "m k"],
    *,
    max_candidates: int,
) -> Float[np.ndarray, "m k"]:
    """The number of candidates from which on each exact neighbour is among them; infinite if `max_candidates` do not
    suffice.

    Every block of codes supplies the same share of the candidates, so a rank within a block counts times the number of
    blocks.
    """
    candidate_ranks = np.full(truth.shape, np.inf)
    rotated = np.ascontiguousarray(queries @ code_blocks[0].quantiser.rotation)
    for at, query in enumerate(rotated):
        start = 0
        for codes in code_blocks:
            tuned = codes.search(query, -(-max_candidates // len(code_blocks))) + start
            _, here, there = np.intersect1d(truth[at], tuned, return_indices=True)
            candidate_ranks[at, here] = (there + 1) * len(code_blocks)
            start += codes.count
    return candidate_ranks


def exact_neighbours(
    rows: Float16[np.ndarray, "n d"],
    queries: Float[np.ndarray, "m d"],
    *,
    count: int = RECALL_AT,
    on_progress: Progress = lambda rows: None,
) -> Int64[np.ndarray, "m k"]:
    """Each query's nearest rows, best first, by comparing all rows."""
    scores = np.empty((len(queries), 0), np.float32)
    candidate_ranks = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), 8192):
        block = rows[start : start + 8192].astype(np.float32)
        new = queries @ block.T
        top = np.argpartition(-new, min(count, len(block)) - 1, axis=1)[:, :count]
        scores = np.hstack([scores, np.take_along_axis(new, top, 1)])
        candidate_ranks = np.hstack([candidate_ranks, top + start])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores, candidate_ranks = np.take_along_axis(scores, order, 1), np.take_along_axis(candidate_ranks, order, 1)
        on_progress(len(block))
    return candidate_ranks


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


def encoded_blocks(quantiser: ProductQuantiser, rows: Float16[np.ndarray, "n d"]) -> Iterator[np.ndarray]:
    """Codes of rows, block by block; the number of rows is a multiple of 32."""
    for start in range(0, len(rows), ENCODE_BLOCK):
        yield quantiser.encode(rows[start : start + ENCODE_BLOCK].astype(np.float32))
