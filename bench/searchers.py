"""Vector search libraries behind the same four calls: build on disk, open, search, append.

A searcher's `knobs` are its settings from fast to thorough; the benchmark takes the first with enough recall. Rows are
numbered from 0; appended rows follow.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
BLOCK = 20_000


def floats(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(numbers, float32 vectors) in blocks."""
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK].astype(np.float32)
        yield np.arange(start, start + len(block)), block


class Diptych:
    """`diptych.vectors.nearest.VectorIndex`."""

    needs = "diptych"
    knobs = (0,)

    def __init__(self, kind: Any = None):
        self.kind = kind

    def build(self, rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
        """With vectors of real texts to measure recall on, as for an index of pictures."""
        from diptych.vectors.nearest import VectorIndex

        VectorIndex.build(folder, np.arange(len(rows)), rows, stamp="bench", queries=queries, kind=self.kind)

    def open(self, folder: Path) -> str:
        """The opened index."""
        from diptych.vectors.nearest import VectorIndex

        self.nearest = VectorIndex.open(folder, stamp="bench")
        return f"{self.nearest.kind}, {self.nearest.candidates} rescored" if self.nearest.candidates else "exact"

    def search(self, query: np.ndarray, knob: int) -> np.ndarray:
        """Ten rows."""
        return self.nearest.search(query, 10).ids

    def append(self, rows: np.ndarray) -> None:
        """At the end, on disk too."""
        start = len(self.nearest)
        self.nearest.add(np.arange(start, start + len(rows)), rows, stamp="bench")


class Faiss:
    """An index of FAISS; `rescored` reads candidates again from float16."""

    needs = "faiss"

    def __init__(self, kind: str, knobs: tuple[int, ...] = (0,), *, rescored: int = 0):
        self.kind, self.knobs, self.rescored = kind, knobs, rescored

    def _empty(self, dim: int, count: int) -> Any:
        import faiss

        product = faiss.METRIC_INNER_PRODUCT
        if self.kind == "SQ8":
            return self._shared_out(lambda: faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, product))
        if self.kind == "RaBitQ":
            return self._shared_out(lambda: faiss.IndexRaBitQFastScan(dim, product))
        if self.kind == "IVF SQ8":
            lists = 4096 if count >= 500_000 else max(16, int(count**0.5))
            return faiss.index_factory(dim, f"IVF{lists},SQ8", product)
        return faiss.index_factory(dim, "HNSW32,SQ8", product)

    def _shared_out(self, make: Any) -> Any:
        """A scan uses one thread per query; FAISS uses more threads with one shard each."""
        return [make() for _ in range(THREADS)]

    def build(self, rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
        """Train on up to 100,000 vectors (fifty per list of an inverted file), add all, and write."""
        import faiss

        made = self._empty(rows.shape[1], len(rows))
        some = np.random.default_rng(0).choice(len(rows), min(len(rows), 200_000), replace=False)
        sample = rows[np.sort(some)].astype(np.float32)
        shards = made if isinstance(made, list) else [made]
        cuts = np.linspace(0, len(rows), len(shards) + 1).astype(int)
        for number, shard in enumerate(shards):
            shard.train(self._rotated(sample))
            for _, block in floats(rows[cuts[number] : cuts[number + 1]]):
                shard.add(self._rotated(block))
            faiss.write_index(shard, str(folder / f"{number}.faiss"))
        if self.rescored:
            np.asarray(rows).tofile(folder / "rows.f16")

    def _rotated(self, vectors: np.ndarray) -> np.ndarray:
        """RaBitQ needs a random rotation."""
        if self.kind != "RaBitQ":
            return vectors
        import faiss

        if not hasattr(self, "rotation"):
            self.rotation = faiss.RandomRotationMatrix(vectors.shape[1], vectors.shape[1])
            self.rotation.init(1)
        return self.rotation.apply(np.ascontiguousarray(vectors))

    def open(self, folder: Path) -> str:
        """Inverted files use their threads for the lists of one query."""
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self.parts = [faiss.read_index(str(path)) for path in sorted(folder.glob("*.faiss"))]
        self.index = self.parts[0]
        if len(self.parts) > 1:
            self.index = faiss.IndexShards(self.index.d, True, True)
            for part in self.parts:
                self.index.add_shard(part)
        if self.rescored:
            self.path = folder / "rows.f16"
            self.rows = np.memmap(self.path, np.float16, "r").reshape(-1, self.index.d)
        return f"{self.rescored} rescored" if self.rescored else ""

    def search(self, query: np.ndarray, knob: int) -> np.ndarray:
        """Ten rows."""
        if self.kind == "IVF SQ8":
            self.index.nprobe = knob
            self.index.parallel_mode = 1
        elif self.kind == "HNSW":
            self.index.hnsw.efSearch = knob
        found = self.index.search(self._rotated(query[None]), self.rescored or 10)[1][0]
        if not self.rescored:
            return found
        return found[np.argsort(-(self.rows[found].astype(np.float32) @ query))[:10]]

    def append(self, rows: np.ndarray) -> None:
        """In memory; saving it would rewrite everything."""
        self.parts[-1].add(self._rotated(rows.astype(np.float32)))


class Usearch:
    """usearch's graph over float16."""

    needs = "usearch"
    knobs = (16, 32, 64, 128, 256, 512, 1024)

    def build(self, rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
        """Its defaults, except for the threads."""
        index = self._empty(rows.shape[1])
        for numbers, block in floats(rows):
            index.add(numbers, block.astype(np.float16), threads=THREADS)
        index.save(str(folder / "usearch"))

    def _empty(self, dim: int) -> Any:
        from usearch.index import Index

        return Index(ndim=dim, metric="ip", dtype="f16")

    def open(self, folder: Path) -> str:
        """Into memory, because rows are appended later."""
        import usearch.index

        index = usearch.index.Index.restore(str(folder / "usearch"))
        self.index: Any = index
        return ""

    def search(self, query: np.ndarray, knob: int) -> np.ndarray:
        """Ten rows."""
        self.index.expansion_search = knob
        return self.index.search(query.astype(np.float16), 10, threads=1).keys.astype(np.int64)

    def append(self, rows: np.ndarray) -> None:
        """In memory."""
        start = len(self.index)
        self.index.add(np.arange(start, start + len(rows)), rows, threads=THREADS)


class Hnswlib:
    """hnswlib's graph over float32."""

    needs = "hnswlib"
    knobs = (16, 32, 64, 128, 256, 512, 1024)

    def build(self, rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
        """M 16 and ef 200, as in its README."""
        import hnswlib

        index = hnswlib.Index(space="ip", dim=rows.shape[1])
        index.init_index(len(rows) + 10_000, M=16, ef_construction=200)
        for numbers, block in floats(rows):
            index.add_items(block, numbers, num_threads=THREADS)
        index.save_index(str(folder / "hnswlib"))
        (folder / "dim").write_text(str(rows.shape[1]))

    def open(self, folder: Path) -> str:
        """With space for appended rows."""
        import hnswlib

        self.index: Any = hnswlib.Index(space="ip", dim=int((folder / "dim").read_text()))
        self.index.load_index(str(folder / "hnswlib"))
        self.index.resize_index(self.index.get_current_count() + 10_000)
        return ""

    def search(self, query: np.ndarray, knob: int) -> np.ndarray:
        """Ten rows."""
        self.index.set_ef(knob)
        return self.index.knn_query(query[None], 10, num_threads=1)[0][0].astype(np.int64)

    def append(self, rows: np.ndarray) -> None:
        """In memory."""
        start = self.index.get_current_count()
        self.index.add_items(rows.astype(np.float32), np.arange(start, start + len(rows)), num_threads=THREADS)


class Lance:
    """LanceDB's default vector index, IVF-PQ, with ten times as many candidates refined."""

    needs = "lancedb"
    knobs = (20, 40, 80, 160, 320)

    def _batch(self, rows: np.ndarray, start: int) -> Any:
        import pyarrow as pa

        flat = pa.array(rows.astype(np.float32).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        return pa.table({"row": np.arange(start, start + len(rows)), "vector": vectors})

    def build(self, rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
        """A table, then its index."""
        import lancedb

        database = lancedb.connect(str(folder))
        table = database.create_table("rows", self._batch(rows[:BLOCK], 0))
        for start in range(BLOCK, len(rows), BLOCK):
            table.add(self._batch(rows[start : start + BLOCK], start))
        table.create_index(metric="dot", vector_column_name="vector")

    def open(self, folder: Path) -> str:
        """The table."""
        import lancedb

        self.table: Any = lancedb.connect(str(folder)).open_table("rows")
        return "refined"

    def search(self, query: np.ndarray, knob: int) -> np.ndarray:
        """Ten rows."""
        asked = (
            self.table.search(query)
            .distance_type("dot")
            .nprobes(knob)
            .refine_factor(10)
            .select(["row", "_distance"])
            .limit(10)
        )
        return asked.to_arrow()["row"].to_numpy()

    def append(self, rows: np.ndarray) -> None:
        """On disk; scanned completely until the index is optimised."""
        self.table.add(self._batch(rows, self.table.count_rows()))


SEARCHERS: dict[str, Any] = {
    "faiss flat SQ8": Faiss("SQ8"),
    "faiss RaBitQ": Faiss("RaBitQ", rescored=200),
    "diptych": Diptych(),
    "diptych, by codes": Diptych("approximate"),
    "faiss IVF SQ8": Faiss("IVF SQ8", (16, 32, 64, 128, 256, 512, 1024)),
    "faiss HNSW32 SQ8": Faiss("HNSW", (32, 64, 128, 256, 512, 1024)),
    "usearch": Usearch(),
    "hnswlib": Hnswlib(),
    "lancedb": Lance(),
}


def installed(who: str) -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec(SEARCHERS[who].needs) is not None
