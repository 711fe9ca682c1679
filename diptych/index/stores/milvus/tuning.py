"""Chooses how a collection is searched: all rows compared, or a graph whose width is tuned by measured recall, with
queries like stored vectors and queries from across the gap between texts and pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.index.stores.milvus.search import ranked
from diptych.index.stores.store import MODALITIES, Progress
from diptych.media.items import Modality
from diptych.vectors.tuning import EXACT_UP_TO, LONG_LIST, RECALL_AT, TARGET_RECALL, synthetic_queries

if TYPE_CHECKING:
    from diptych.index.stores.milvus.collection import Collection

# Prepares a sample of a modality: ids, and vectors as (rows, dim) float32
Sample = Callable[[Modality, int], tuple[np.ndarray, np.ndarray]]

GRAPHS = (16, 32)  # links per row, tried in this order
BUILD_WIDTH = 200  # efConstruction
WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
_QUERIES, _SAMPLE = 64, 4096  # of each kind of query; rows that synthetic ones are made of
_AT_ONCE = 32  # queries
_TIMED = 7
_STEPS = 2 + 2 * len(GRAPHS)
_WORTH = 0.8  # the share of the exact search's time that a graph may take to be worth its memory
_STEP_LIMIT_S = 24 * 3600.0  # for building an index: a server goes on anyway


def prepare(collection: Collection, sample: Sample, progress: Progress, *, exact_up_to: int = EXACT_UP_TO) -> None:
    """Seal and index what is stored, and note how it is searched. Up to `exact_up_to` numbers, all rows are compared;
    beyond, also where no graph reaches the target or is faster. `progress` gets the steps that are done, and all."""
    progress(0, _STEPS)
    collection.flush(timeout_s=_STEP_LIMIT_S)
    sizes = {modality: collection.count(modality) for modality in MODALITIES}
    if collection.description().settings.get("index", "FLAT") != "FLAT":
        collection.index("FLAT", {}, timeout_s=_STEP_LIMIT_S)
    settings: dict[str, Any] = {"index": "FLAT", "rows": sizes}
    if max(sizes.values()) * collection.form.dim > exact_up_to:
        progress(1, _STEPS)
        trials = [_Trial(collection, modality, sample) for modality in MODALITIES if sizes[modality] > LONG_LIST]
        for step, links in enumerate(GRAPHS, 1):
            progress(2 * step, _STEPS)
            params = {"M": links, "efConstruction": BUILD_WIDTH}
            collection.set_settings({"index": "HNSW", "params": params})  # searched widely if this ends before its end
            collection.index("HNSW", params, timeout_s=_STEP_LIMIT_S)
            progress(2 * step + 1, _STEPS)
            if (measured := [trial.width() for trial in trials]) and all(measured):
                settings |= _settings(params, trials, measured)
                break
        if settings["index"] == "FLAT" or sum(one.graph_s for one in trials) > _WORTH * sum(
            one.exact_s for one in trials
        ):
            collection.index("FLAT", {}, timeout_s=_STEP_LIMIT_S)
            settings["index"] = "FLAT"
    collection.set_settings(settings)
    progress(_STEPS, _STEPS)


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
        queries = np.concatenate([rows[:_QUERIES], made, across])
        self.queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        self.truth = self._lists(LONG_LIST, None)
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

    def _recall(self, k: int, ef: int) -> float:
        found = self._lists(k, ef)
        shares = [
            len(np.intersect1d(some, true[:k])) / max(1, min(k, len(true)))
            for some, true in zip(found, self.truth, strict=True)
        ]
        return float(np.mean(shares))

    def _lists(self, k: int, ef: int | None) -> list[np.ndarray]:
        lists = []
        for start in range(0, len(self.queries), _AT_ONCE):
            some = self.queries[start : start + _AT_ONCE]
            lists += [ranked(query, *found, k)[0] for query, found in zip(some, self._search(some, k, ef), strict=True)]
        return lists

    def _search(self, queries: np.ndarray, k: int, ef: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
        params = {} if ef is None else {"ef": max(k, ef)}
        return self.collection.nearest(queries, k, self.modality, params=params, timeout_s=_STEP_LIMIT_S)

    def _seconds(self, k: int, ef: int | None) -> float:
        """The median time of a search."""
        taken = []
        for query in self.queries[-_TIMED:]:
            before = time.perf_counter()
            self._search(query[None], k, ef)
            taken.append(time.perf_counter() - before)
        return float(np.median(taken))
