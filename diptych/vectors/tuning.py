"""How coarsely vectors may be read: chosen and measured on the user's own vectors, before it is relied upon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from diptych.extras import is_here
from diptych.vectors.float16 import cores, float_rows
from diptych.vectors.product_quantizer import AXES, GROUP, Quantiser, Scan, scans_of
from diptych.vectors.vector_files import Head, Rows

if TYPE_CHECKING:
    from jaxtyping import Float, Float16, Int64

Kind = Literal["exact", "approximate"]
Tell = Callable[[int], None]
ENCODED_AT_ONCE = 16_384
EXACT_UP_TO = 100_000 * 256  # numbers: 30 ms on one core, where importing FAISS costs a fresh process 300
FEWEST = 256  # rows that letters can be fitted to
WANTED = (
    0.99  # of the ten nearest among the candidates; 0.985 of 256 queries was 0.979 of 500 others, and 0.98 is meant
)
NEAREST = 10
FAR = 100  # and how many candidates a longer list of results takes
QUERIES = 256
TRAINING = 65_536  # rows: 4,096 to each of a place's letters
COMPARED = 32_768
MOST = 16_384  # candidates that are looked at for how many will do
SCAN_MS = 75e-9  # one letter of one vector: 4.8 ms for 64 letters of a million on a 2.5 GHz Xeon
PRODUCT_MS = 2.2e-6  # one number of a vector that is read exactly: 1.1 ms for 1,000 of 512


class Fit(NamedTuple):
    """A quantiser, how many candidates of its choosing must be read exactly for the wanted recall (infinite where no
    number does), and what a search then costs on one core."""

    quantiser: Quantiser
    candidates: float
    cost_ms: float


def choose(
    rows: Rows, queries: Float[np.ndarray, "m d"] | None, kind: Kind | None, *, tell: Tell = lambda rows: None
) -> dict[str, Any]:
    """Decide how to search, write the codes if it is by them, and say what was measured. Without FAISS, which looks
    through codes, all is read exactly."""
    exact = {"kind": "exact", "recall": 1.0, "candidates": [0, 0], "pieces": 0, "built_rows": len(rows.ids)}
    small = (rows.vectors.size <= EXACT_UP_TO or not is_here("faiss")) if kind is None else kind == "exact"
    if small or len(rows.ids) < FEWEST or not ladder(rows.head.dim):
        return exact
    asked = made_queries(rows.vectors) if queries is None or not len(queries) else queries
    asked = np.ascontiguousarray(asked[:QUERIES], np.float32)
    truth = true_nearest(rows.vectors, asked, count=FAR, tell=tell)
    found = fit(rows.vectors, asked, truth[:, :NEAREST])
    if kind is None and found.cost_ms * 2 > rows.vectors.size * PRODUCT_MS:
        return exact
    most = int(min(len(rows.ids), max(4 * found.candidates, MOST)))
    places = _encode(rows, found, asked, truth, most=most, tell=tell)
    candidates = needed(places[:, :NEAREST])
    if candidates == np.inf:
        return exact
    measured = {
        "kind": "approximate",
        "recall": float((places[:, :NEAREST] <= candidates).mean()),
        "candidates": [int(candidates), int(min(most, needed(places)))],
        "pieces": found.quantiser.pieces,
    }
    return {**exact, **measured}


def check_facts(head: Head) -> None:
    """Raises ValueError where a cache's head says what `choose` never does."""
    facts, most = head.facts, head.rows + MOST
    pair, whole = facts["candidates"], [facts["built_rows"], facts["pieces"]]
    is_exact = facts["kind"] == "exact"
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(one) is int for one in (*pair, *whole)):
        raise ValueError("it holds no numbers where they should be")
    is_told = facts["kind"] in ("exact", "approximate") and 0 <= float(facts["recall"]) <= 1
    in_reach = all(int(not is_exact) <= one <= most for one in pair) and 0 <= facts["built_rows"] < 1 << 48
    if not (is_told and in_reach and facts["pieces"] in ((0,) if is_exact else ladder(head.dim))):
        raise ValueError("its way of searching is none")


def _encode(rows: Rows, found: Fit, queries: np.ndarray, truth: np.ndarray, *, most: int, tell: Tell) -> np.ndarray:
    """Write quantiser and codes; where among the candidates each true neighbour is."""
    whole = len(rows.vectors) // GROUP * GROUP
    rows.append("quantiser", found.quantiser.to_array())
    for start, codes in zip(
        range(0, whole, ENCODED_AT_ONCE), encoded(found.quantiser, rows.vectors[:whole]), strict=True
    ):
        rows.append("codes", codes)
        tell(min(ENCODED_AT_ONCE, whole - start))
    scans = scans_of(found.quantiser, rows.content("codes"), cores())
    places = measured_places(scans, queries, truth, most=most)
    places[truth >= whole] = 1  # the last rows are read in any case
    return places


def fit(rows: Float16[np.ndarray, "n d"], queries: Float[np.ndarray, "m d"], truth: Int64[np.ndarray, "m k"]) -> Fit:
    """The cheapest number of letters.

    Estimated on a sample: a true neighbour's place among all by its place among some thousands.
    """
    generator = np.random.default_rng(0)
    chosen = np.sort(generator.choice(len(rows), min(len(rows), TRAINING), replace=False))
    sample = float_rows(rows, chosen)
    fits = [_estimated(sample, rows, queries, truth, pieces) for pieces in ladder(rows.shape[1])]
    return min(fits, key=lambda fit: fit.cost_ms)


def ladder(dim: int) -> list[int]:
    """Numbers of letters to try: one to 16, 8 and 4 numbers of a vector, even as FAISS wants them."""
    tried = {dim // share // 2 * 2 for share in (4 * AXES, 2 * AXES, AXES)}
    return sorted(pieces for pieces in tried if pieces >= 2)


def _estimated(sample: np.ndarray, rows: np.ndarray, queries: np.ndarray, truth: np.ndarray, pieces: int) -> Fit:
    quantiser = Quantiser.train(sample, pieces=pieces)
    among = np.sort(quantiser.scores(queries, sample[:: max(1, len(sample) // COMPARED)]), axis=1)
    neighbours, which = np.unique(truth, return_inverse=True)
    scores = quantiser.scores(queries, float_rows(rows, neighbours))
    own = np.take_along_axis(scores, which.reshape(truth.shape), axis=1)
    better = [len(row) - np.searchsorted(row, mine, side="right") for row, mine in zip(among, own, strict=True)]
    places = (np.stack(better) + 1) * len(rows) / among.shape[1]
    candidates = needed(places)
    cost_ms = pieces * len(rows) * SCAN_MS + candidates * rows.shape[1] * PRODUCT_MS
    return Fit(quantiser, candidates, cost_ms)


def needed(places: Float[np.ndarray, "m k"]) -> float:
    """How many candidates hold `WANTED` of the neighbours, by each one's place (from 1) among them."""
    return float(np.ceil(np.quantile(places, WANTED, method="inverted_cdf")))


def measured_places(
    scans: Sequence[Scan], queries: Float[np.ndarray, "m d"], truth: Int64[np.ndarray, "m k"], *, most: int
) -> Float[np.ndarray, "m k"]:
    """The number of candidates at which each true neighbour is among them; infinite where `most` do not suffice.

    `most` is shared out among the scans, and so a place within one counts as many times as there are scans.
    """
    places = np.full(truth.shape, np.inf)
    turned = np.ascontiguousarray(queries @ scans[0].quantiser.axes)
    for at, query in enumerate(turned):
        start = 0
        for scan in scans:
            found = scan.best(query, -(-most // len(scans))) + start
            _, here, there = np.intersect1d(truth[at], found, return_indices=True)
            places[at, here] = (there + 1) * len(scans)
            start += scan.count
    return places


def true_nearest(
    rows: Float16[np.ndarray, "n d"],
    queries: Float[np.ndarray, "m d"],
    *,
    count: int = NEAREST,
    tell: Tell = lambda rows: None,
) -> Int64[np.ndarray, "m k"]:
    """Each query's nearest rows, best first, by looking at all of them."""
    scores = np.empty((len(queries), 0), np.float32)
    places = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), 8192):
        block = rows[start : start + 8192].astype(np.float32)
        new = queries @ block.T
        top = np.argpartition(-new, min(count, len(block)) - 1, axis=1)[:, :count]
        scores = np.hstack([scores, np.take_along_axis(new, top, 1)])
        places = np.hstack([places, top + start])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        tell(len(block))
    return places


def made_queries(rows: Float16[np.ndarray, "n d"], *, count: int = QUERIES) -> Float[np.ndarray, "m d"]:
    """Queries for want of real ones: half of each is what sets a picture apart from the mean, half is noise.

    The other modality's vectors lie in a cone of their own, so most of a text's vector says nothing that pictures
    differ in. Pictures themselves would be too easy as queries: all of a picture lies where the letters are spent.
    The direction of a cone is the same for all pictures' scores but for noise, and so is left out.
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


def encoded(quantiser: Quantiser, rows: Float16[np.ndarray, "n d"]) -> Iterator[np.ndarray]:
    """Codes of rows, whose number is a multiple of 32, in pieces."""
    for start in range(0, len(rows), ENCODED_AT_ONCE):
        yield quantiser.packed(rows[start : start + ENCODED_AT_ONCE].astype(np.float32))
