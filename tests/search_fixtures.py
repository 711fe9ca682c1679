"""An index to search in tests: a real catalog, an exact search over its vectors, and a model that is a table."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.facts import ScanRules
from diptych.index.search.results import SearchResult
from diptych.index.search.search import search_all
from diptych.index.stores.local import LocalStore
from diptych.index.stores.store import Store
from diptych.index.trust.identity import Facts
from diptych.media.items import CatalogEntry, Details, File, FileContents, Part

DIM = 16


def unit(vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def noise(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)))


class TableModel:
    """Known texts and pictures have given vectors; any other text has one of its own."""

    dim = DIM
    preprocessing: Any = None

    def __init__(self, known: Mapping[Any, Any] | None = None):
        self.known = {key: unit(vector) for key, vector in (known or {}).items()}
        self.asked = 0

    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray:
        self.asked += len(texts)
        return np.stack([self._vector(text) for text in texts])

    def embed_images(self, images: Sequence[Any], *, decode: str = "fast") -> np.ndarray:
        return np.stack([self.known[image] for image in images])

    def _vector(self, text: str) -> np.ndarray:
        if text in self.known:
            return self.known[text]
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())
        return noise(1, seed)[0]


class Exact:
    """What `diptych.vectors.nearest.VectorIndex` promises, by comparing all."""

    def __init__(self, ids: np.ndarray, vectors: np.ndarray):
        self.ids, self.stored = ids, vectors.astype(np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def search(
        self, query: np.ndarray, k: int, *, allowed_ids: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(self.ids)) if allowed_ids is None else np.flatnonzero(np.isin(self.ids, allowed_ids))
        cosines = self.stored[rows] @ query
        best = np.argsort(-cosines, kind="stable")[:k]
        return self.ids[rows[best]], cosines[best]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        return self.stored[np.searchsorted(self.ids, ids)]

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.random.default_rng(0).permutation(len(self.ids))[:count]
        return self.ids[rows], self.stored[rows]


class WithModel(NamedTuple):
    store: Store
    model: Any


def search(index: Any, model: Any, query: object, **options: Any) -> SearchResult:
    """The hits of one index, by this model."""
    return search_all([WithModel(index.store, model)], query, **options)


class Searched:
    """An index of entries that a test puts in."""

    def __init__(self, place: Path, model: TableModel):
        self.index_dir, self.root, self.model = place / ".diptych", place, model
        self.subfolder, self.exists, self.rules = "", True, ScanRules()
        self.store = LocalStore(self)
        self.catalog = Catalog.create(self.index_dir / "catalog.sqlite", fingerprint="a", model="bundled", dim=DIM)

    def close(self) -> None:
        self.catalog.close()

    def locked(self) -> AbstractContextManager[None]:
        return nullcontext()

    def create(self, facts: Facts) -> Catalog:
        raise AssertionError("it is there")

    def path_of(self, path: str) -> Path:
        return self.root / path

    def nearest(self, modality: Any) -> Exact:
        blocks = list(self.catalog.vectors(modality))
        if not blocks:
            return Exact(np.empty(0, np.int64), np.empty((0, DIM)))
        return Exact(np.concatenate([ids for ids, _ in blocks]), np.concatenate([vectors for _, vectors in blocks]))

    def put(
        self, path: str, vectors: Any, *, kind: Any = "picture", parts: Sequence[Part] | None = None, size: int = 10,
        digest: bytes | None = None, **details: Any,
    ) -> None:  # fmt: skip
        """A file with a part for each vector; a picture's own part where none are given."""
        rows = np.atleast_2d(np.asarray(vectors, np.float16))
        parts = tuple(parts or (Part(pixels=np.zeros((1, 1, 3), np.uint8)),))
        digest = digest or hashlib.blake2b(os.fsencode(path), digest_size=16).digest()
        contents = FileContents(File(path, kind, size, 1), digest, Details(**details), parts)
        self.catalog.put([CatalogEntry(contents, rows)])
