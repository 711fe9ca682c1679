"""Chooses how a collection is searched: all rows compared, or a graph whose width is tuned by measured recall, with
queries like stored vectors and queries from across the gap between texts and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diptych.index.catalog.schema import MODALITIES
from diptych.index.stores.milvus.collection import EVERYTHING, Collection
from diptych.index.stores.milvus.expressions import Expression
from diptych.index.stores.milvus.search import FILTERED_SHARE, MOST_EF, SERVER_SHARE, ranked
from diptych.index.stores.store import Progress
from diptych.media.items import Modality
from diptych.vectors.tuning import EXACT_UP_TO, LONG_LIST, RECALL_AT, TARGET_RECALL, synthetic_queries

# Prepares a sample of a modality: ids, and vectors as (rows, dim) float32
Sample = Callable[[Modality, int], tuple[np.ndarray, np.ndarray]]

GRAPHS = (16, 32)  # links per row, tried in this order
BUILD_WIDTH = 200  # efConstruction
WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
FILTERED_WIDTHS = (*WIDTHS, 4096, 8192, 16_384, 32_768)
_QUERIES, _SAMPLE = 64, 4096  # of each kind of query; rows that synthetic ones are made of
_AT_ONCE = 32  # queries
_TIMED = 7
_STEPS = 2 + 2 * len(GRAPHS)
TUNED_GROWTH = 2  # times as many rows, or as few: tune again
_WORTH = 0.8  # the share of the exact search's time that a graph may take to be worth its memory
_STEP_LIMIT_S = 24 * 3600.0  # for building an index: a server goes on anyway


def prepare(collection: Collection, sample: Sample, progress: Progress, *, exact_up_to: int = EXACT_UP_TO) -> None:
    """Seal and index what is stored, and note how it is searched. Up to `exact_up_to` numbers, all rows are compared;
    beyond, also where no graph reaches the target or is faster. What was chosen for
    half to twice as many rows stays. `progress` gets the steps that are done, and all."""
    progress(0, _STEPS)
    collection.flush(timeout_s=_STEP_LIMIT_S)
    sizes: dict[Modality, int] = {modality: collection.count(modality) for modality in MODALITIES}
    known = collection.description().settings
    if _holds(known, sizes, exact_up_to):
        progress(_STEPS, _STEPS)
        return
    if known.get("index", "FLAT") != "FLAT":
        collection.index("FLAT", {}, timeout_s=_STEP_LIMIT_S)
    settings: dict[str, Any] = {"index": "FLAT", "rows": sizes, "exact_up_to": exact_up_to}
    if max(sizes.values()) * collection.form.dim > exact_up_to:
        progress(1, _STEPS)
        trials = [_Trial(collection, modality, sample) for modality in MODALITIES if sizes[modality] > LONG_LIST]
        for step, links in enumerate(GRAPHS, 1):
            progress(2 * step, _STEPS)
            params = {"M": links, "efConstruction": BUILD_WIDTH}
            collection.set_settings({"index": "HNSW", "params": params})  # searched widely if this ends before its end
            collection.index("HNSW", params, timeout_s=_STEP_LIMIT_S)
            progress(2 * step + 1, _STEPS)
            measured = [trial.width() for trial in trials]
            if (found := [one for one in measured if one]) and len(found) == len(trials):
                settings |= _settings(params, trials, found)
                pairs = zip(trials, found, strict=True)
                settings["filtered"] = {trial.modality: trial.filtered_width(widths) for trial, (widths, _) in pairs}
                break
        if settings["index"] == "FLAT" or sum(one.graph_s for one in trials) > _WORTH * sum(
            one.exact_s for one in trials
        ):
            collection.index("FLAT", {}, timeout_s=_STEP_LIMIT_S)
            settings["index"] = "FLAT"
    collection.set_settings(settings)
    progress(_STEPS, _STEPS)


def _holds(known: Mapping[str, Any], sizes: Mapping[Modality, int], exact_up_to: int) -> bool:
    """Whether these settings were measured for about as many rows."""
    rows = known.get("rows")
    if not isinstance(rows, dict) or known.get("exact_up_to") != exact_up_to:
        return False
    before = {modality: rows[modality] if isinstance(rows.get(modality), int) else 0 for modality in MODALITIES}
    return all(
        sizes[modality] <= TUNED_GROWTH * before[modality] and before[modality] <= TUNED_GROWTH * sizes[modality]
        for modality in MODALITIES
    )


def _settings(params: Mapping[str, Any], trials: list[_Trial], measured: list[Any]) -> dict[str, Any]:
    by_modality = {trial.modality: found for trial, found in zip(trials, measured, strict=True)}
    return {
        "index": "HNSW", "params": dict(params),
        "ef": {modality: list(widths) for modality, (widths, _) in by_modality.items()},
        "recall": {modality: recall for modality, (_, recall) in by_modality.items()},
    }  # fmt: skip


class _Trial:
    """Queries of a modality with their true neighbours, found while all rows are compared."""

    def __init__(self, collection: Collection, modality: Modality, sample: Sample):
        self.collection = collection
        self.modality: Modality = modality
        _, rows = sample(modality, _SAMPLE)
        other = MODALITIES[1 - MODALITIES.index(modality)]
        _, across = sample(other, _QUERIES)
        made = synthetic_queries(rows.astype(np.float16), count=_QUERIES)
        kinds = [rows[:_QUERIES], made, across]
        self.kind = np.repeat(np.arange(len(kinds)), [len(some) for some in kinds])
        queries = np.concatenate(kinds)
        self.queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        self.truth = self._lists(LONG_LIST, None)
        self.most_ef = 1 << 62 if collection.connection.is_lite else MOST_EF
        bound = round((FILTERED_SHARE if collection.connection.is_lite else SERVER_SHARE) * 2**64) - 2**63
        self.some = Expression("drawn < {drawn}", {"drawn": bound})
        self.filtered_truth = self._lists(LONG_LIST, None, self.some)
        self.exact_s = self._seconds(RECALL_AT, None)
        self.graph_s = 0.0

    def width(self) -> tuple[tuple[int, int], float] | None:
        """The least widths at which lists of RECALL_AT and LONG_LIST reach the target, and the recall of the first;
        None if none does."""
        short = next(((ef, recall) for ef in WIDTHS if (recall := self._recall(RECALL_AT, ef)) >= TARGET_RECALL), None)
        if short is None:
            return None
        self.graph_s = self._seconds(RECALL_AT, short[0])
        wide = (ef for ef in WIDTHS if ef >= max(short[0], LONG_LIST))
        long = next((ef for ef in wide if self._recall(LONG_LIST, ef) >= TARGET_RECALL), WIDTHS[-1])
        return (short[0], long), short[1]

    def filtered_width(self, widths: tuple[int, int]) -> int:
        """The least width at which a list of RECALL_AT reaches the target where a filter lets a share of the rows pass,
        and one of LONG_LIST at a width in the same proportion as without a filter. If none does, the greatest for
        Milvus Lite, and 0 for a server."""
        short, long = widths
        for ef in FILTERED_WIDTHS:
            if ef >= short and all(
                self._recall(k, min(ef * width // short, self.most_ef), self.some) >= TARGET_RECALL
                for k, width in ((RECALL_AT, short), (LONG_LIST, long))
            ):
                return ef
        return FILTERED_WIDTHS[-1] if self.collection.connection.is_lite else 0

    def _recall(self, k: int, ef: int, expression: Expression = EVERYTHING) -> float:
        """Of the kind of query that finds least."""
        truth = self.truth if expression is EVERYTHING else self.filtered_truth
        pairs = zip(self._lists(k, ef, expression), truth, strict=True)
        shares = np.array([len(np.intersect1d(some, true[:k])) / max(1, min(k, len(true))) for some, true in pairs])
        return min(float(shares[self.kind == kind].mean()) for kind in np.unique(self.kind))

    def _lists(self, k: int, ef: int | None, expression: Expression = EVERYTHING) -> list[np.ndarray]:
        lists = []
        for start in range(0, len(self.queries), _AT_ONCE):
            some = self.queries[start : start + _AT_ONCE]
            found = zip(some, self._search(some, k, ef, expression), strict=True)
            lists += [ranked(query, *near, k)[0] for query, near in found]
        return lists

    def _search(
        self, queries: np.ndarray, k: int, ef: int | None, expression: Expression = EVERYTHING
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        params = {} if ef is None else {"ef": max(k, ef)}
        return self.collection.nearest(queries, k, self.modality, expression, params=params, timeout_s=_STEP_LIMIT_S)

    def _seconds(self, k: int, ef: int | None) -> float:
        """The median time of a search."""
        taken = []
        for query in self.queries[-_TIMED:]:
            before = time.perf_counter()
            self._search(query[None], k, ef)
            taken.append(time.perf_counter() - before)
        return float(np.median(taken))
