"""What does a vector cost in a growing index: to add one, and to find one by an exact and by an approximate search?

    python bench/growth.py [--counts 10000 30000 ...] [--dim 384] [--folder DIR] [--quick] [--json]

Made pictures (see `cones.py`) with vectors of the bundled model's width go into two indexes on disk, as they come from
a model: as pieces of shards, as `diptych index SHARDS --into` stores them, and as files of a folder, as `diptych index
FOLDER` does. At each number of vectors both catalogs are copied. Then all copies take the same further pieces in turns,
so that a slow moment of the machine affects all sizes, and the medians are compared; making the vectors does not count.
Memory is what the process has for itself, at most, above what it had before the first vector. The structures of both
searches are built of the catalog's vectors, whatever an index of that size would use, and asked in turns, too: ten
nearest of one text at a time. --quick takes small numbers: its rows are no measurements.
"""

import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from cones import Cones
from table import Row, arguments, report

import diptych
from diptych.index.bulk.items import Embedded, block_of
from diptych.index.bulk.shard_embedder import PIECE, Piece
from diptych.index.bulk.shard_files import ModelFacts
from diptych.index.bulk.shard_targets import StoreTarget
from diptych.index.folder import IndexFolder
from diptych.index.model import BUNDLED
from diptych.index.stores.local import LocalStore
from diptych.index.trust.identity import Facts
from diptych.index.update.update import _Writer
from diptych.media.items import CatalogEntry, Details, File, FileContents, Part
from diptych.vectors.nearest import VectorIndex

QUESTION = "The cost of a vector in a growing index"
COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SHARD = 10 * PIECE
SOURCE, MODEL = "shards", "0" * 16  # where the pictures are from, and the fingerprint of their model
SCANNED_NS = 2 * 10**18
TURN = 8 * PIECE  # as many as a put of the store takes at once
ROUNDS, QUERIES, EXACT_QUERIES = 5, 200, 20
KINDS = ("exact", "approximate")
Measures = dict[tuple[str, str], dict[int, float]]  # (what, unit): by the number of vectors


def main() -> None:
    """Fill both indexes, and measure the copies."""
    parser = arguments(QUESTION)
    parser.add_argument("--counts", type=int, nargs="+", help="numbers of vectors; 10,000 to 1,000,000 by default")
    parser.add_argument("--dim", type=int, help="numbers of a vector; by default the bundled model's")
    parser.add_argument("--folder", help="where the indexes are made, and removed")
    options = parser.parse_args()
    dim = options.dim or diptych.load().dim
    counts = sorted(options.counts or ((1_000, 2_000) if options.quick else COUNTS))
    with tempfile.TemporaryDirectory(prefix="growth-", dir=options.folder) as name:
        rounds, turn = (1, PIECE) if options.quick else (ROUNDS, TURN)
        measures = measured(counts, Cones(max(counts), dim=dim), dim, Path(name), rounds, turn)
    rows = [
        Row(f"{what}, {count:,}", value, unit, value / by[counts[0]] if by.get(counts[0]) else None)
        for (what, unit), by in measures.items()
        for count, value in by.items()
    ]
    report(f"{QUESTION} of {dim} numbers", rows, as_json=options.as_json, inputs={"dim": dim, "counts": counts})


def measured(counts: list[int], cones: Cones, dim: int, folder: Path, rounds: int, turn: int) -> Measures:
    """By measure and number of vectors."""
    ways = {"shards": Shards, "files": Files}
    measures = filled(counts, cones, Shards(folder / "shards", dim), Files(folder / "files", dim), folder)
    copies = {name: {n: way(folder / f"{name} {n}", dim) for n in counts} for name, way in ways.items()}
    measures |= added_in_turns(copies, cones, rounds, turn)
    stores = {count: copy.store for count, copy in copies["shards"].items()}
    return measures | searched_in_turns(stores, cones, dim, folder)


def say(text: str) -> None:
    """On stderr, for the run takes long."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# --- two ways into an index


class Shards:
    """Pieces of shards into a store."""

    def __init__(self, folder: Path, dim: int):
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.store = LocalStore(IndexFolder(folder / "pictures"))
        self._target, self._facts = (
            StoreTarget(self.store, folder / "records", BUNDLED),
            ModelFacts(BUNDLED, "0" * 16, dim),
        )
        self._stack = ExitStack()

    def __enter__(self) -> "Shards":
        self._stack.enter_context(self._target.writing(self._facts, SOURCE))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def work(self, numbers: range, vectors: np.ndarray) -> Callable[[], None]:
        """What stores a piece, and the record of its shard at its end."""
        shard = f"{numbers.start // SHARD:05}"
        block = block_of(map(Embedded, contents(numbers, SOURCE), vectors), SOURCE)

        def add() -> None:
            self._target.take(Piece(shard, numbers.start % SHARD // PIECE, block, {}))
            if numbers.stop // SHARD > numbers.start // SHARD:
                self._target.complete(shard, {"shard": shard, "version": "", "skipped": {}}, {})

        return add

    def settle(self) -> None:
        """Store what is held."""
        self._target._put_held()


class Files:
    """Files of a folder, in the order of their paths."""

    def __init__(self, folder: Path, dim: int):
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self._index, self._dim, self._stack = IndexFolder(folder / "pictures"), dim, ExitStack()
        self.store = LocalStore(self._index)

    def __enter__(self) -> "Files":
        self._stack.enter_context(self._index.locked())
        if not self._index.exists:
            self._index.create(Facts(MODEL, BUNDLED, self._dim, str(self._index.root), False))
        self._writer = self._stack.enter_context(_Writer(self._index.catalog, SCANNED_NS, ()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fill(self, numbers: range, vectors: np.ndarray) -> None:
        """Store the files of a piece at once, which is faster and leaves the same catalog."""
        read = zip(contents(numbers, "pictures"), vectors, strict=True)
        self._index.catalog.put(CatalogEntry(each, vector) for each, vector in read)

    def work(self, numbers: range, vectors: np.ndarray) -> Callable[[], None]:
        """What stores the files of a piece; it commits every 64 of them."""
        read = contents(numbers, "pictures")

        def add() -> None:
            for each, vector in zip(read, vectors, strict=True):
                self._writer.put(each, vector)

        return add

    def settle(self) -> None:
        """Nothing is held that a piece does not fill."""


def contents(numbers: range, root: str) -> list[FileContents]:
    """Pictures as they are read, without their pixels."""
    pixels, made = np.zeros((1, 1, 3), np.uint8), []
    for number in numbers:
        path = f"{root}/{number // SHARD:05}/{number:09}.jpg"
        digest = hashlib.blake2b(path.encode(), digest_size=16).digest()
        file, details = File(path, "picture", 200_000 + number % 1000, 10**18 + number), Details(width=640, height=480)
        made.append(FileContents(file, digest, details, (Part(pixels=pixels),)))
    return made


def pieces(cones: Cones, start: int, stop: int) -> Iterator[tuple[range, np.ndarray]]:
    """The numbers of pictures, and their vectors, (n, 1, dim) float16."""
    for first in range(start, stop, PIECE):
        numbers = range(first, min(first + PIECE, stop))
        yield numbers, cones.pictures(len(numbers), seed=first)[:, None].astype(np.float16)


# --- filling


class Meter:
    """Seconds by the clock and of the processor, and the most memory after what it ran."""

    def __init__(self) -> None:
        self.clock_s = self.processor_s = self.most_mb = 0.0

    def run(self, work: Callable[[], object]) -> float:
        """Run it, and return its processor seconds."""
        clock_s, processor_s = time.perf_counter(), time.process_time()
        work()
        spent_s = time.process_time() - processor_s
        self.clock_s += time.perf_counter() - clock_s
        self.processor_s += spent_s
        self.most_mb = max(self.most_mb, own_mb())
        return spent_s


def own_mb() -> float:
    """This process's memory without pages of files."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3


def filled(counts: list[int], cones: Cones, shards: Shards, files: Files, folder: Path) -> Measures:
    """Stream the vectors into both indexes, and copy both at each number."""
    meter, before_mb, measures = Meter(), own_mb(), Measures()
    for start, stop in zip([0, *counts], counts, strict=False):
        shards.__enter__()
        with files:
            for numbers, vectors in pieces(cones, start, stop):
                meter.run(shards.work(numbers, vectors))
                files.fill(numbers, vectors)
        meter.run(lambda: shards.__exit__())  # stores what is held
        measures.setdefault(("all so far, shards", "us a vector"), {})[stop] = 1e6 * meter.processor_s / stop
        measures.setdefault(("memory while streaming", "MB"), {})[stop] = meter.most_mb - before_mb
        for name, way in (("shards", shards), ("files", files)):
            size = way.store.folder.catalog_path.stat().st_size
            measures.setdefault((f"catalog, {name}", "bytes a vector"), {})[stop] = size / stop
            way.store.close()
            shutil.copytree(folder / name, folder / f"{name} {stop}")
        say(f"{stop:,} vectors: {[(key, by[stop]) for key, by in measures.items()]}")
    return measures


# --- adding


def added_in_turns(copies: dict[str, dict[int, Shards | Files]], cones: Cones, rounds: int, turn: int) -> Measures:
    """The same further pieces into every copy."""
    measures = Measures()
    for name, by_count in copies.items():
        clock_s: dict[int, list[float]] = {count: [] for count in by_count}
        processor_s: dict[int, list[float]] = {count: [] for count in by_count}
        first = (max(by_count) // SHARD + 1) * SHARD
        with ExitStack() as stack:
            for way in by_count.values():
                stack.enter_context(way)
            for start in range(first, first + rounds * turn, turn):
                some = list(pieces(cones, start, start + turn))
                for count, way in by_count.items():
                    meter, works = Meter(), [way.work(*piece) for piece in some]
                    meter.run(lambda: ([work() for work in works], way.settle()))  # noqa: B023
                    clock_s[count].append(meter.clock_s)
                    processor_s[count].append(meter.processor_s)
        for unit, seconds in (("us a vector, clock", clock_s), ("us a vector", processor_s)):
            of = {count: 1e6 * float(np.median(each)) / turn for count, each in seconds.items()}
            measures[f"adding, {name}", unit] = of
            say(f"adding, {name}, {unit}: {of}")
    return measures


# --- searching


def searched_in_turns(stores: dict[int, LocalStore], cones: Cones, dim: int, folder: Path) -> Measures:
    """Build both kinds of each size, and ask all of one kind one text after another."""
    texts, measures = cones.texts(QUERIES, seed=3), Measures()
    found: dict[str, dict[int, list[np.ndarray]]] = {}
    for kind in KINDS:
        made = {
            count: built(store, count, kind, dim, folder / f"{kind} {count}", measures)
            for count, store in stores.items()
        }
        meters: dict[int, list[Meter]] = {count: [] for count in made}
        found[kind] = {count: [index.search(texts[-1], 10).ids] for count, index in made.items()}  # warms up
        for text in texts[: EXACT_QUERIES if kind == "exact" else None]:
            for count, index in made.items():
                meter = Meter()
                meter.run(lambda: found[kind][count].append(index.search(text, 10).ids))  # noqa: B023
                meters[count].append(meter)
        for unit, of in (("p50 ms", lambda meter: meter.clock_s), ("cpu ms", lambda meter: meter.processor_s)):
            medians = {count: 1e3 * float(np.median([of(meter) for meter in each])) for count, each in meters.items()}
            measures[f"{kind} search", unit] = medians
            say(f"{kind}, {unit}: {medians}")
    hits = {n: [np.isin(a, b).mean() for a, b in zip(found["exact"][n], found["approximate"][n])] for n in stores}  # noqa: B905
    measures["approximate search", "recall@10"] = {count: float(np.mean(each)) for count, each in hits.items()}
    return measures


def built(store: LocalStore, number: int, kind: str, dim: int, folder: Path, measures: Measures) -> VectorIndex:
    """The search structure of a catalog, of this kind."""
    meter, made = Meter(), list[VectorIndex]()
    vectors = store.folder.catalog.vectors("picture")
    meter.run(lambda: made.append(VectorIndex.build_blocks(folder, vectors, dim=dim, stamp="bench", kind=kind)))  # type: ignore[arg-type]
    count, size = len(made[0]), sum(path.stat().st_size for path in folder.iterdir())
    measures.setdefault((f"building, {kind}", "us a vector"), {})[number] = 1e6 * meter.processor_s / count
    measures.setdefault((f"vectors, {kind}", "bytes a vector"), {})[number] = size / count
    say(f"built {kind} of {count:,}")
    return made[0]


if __name__ == "__main__":
    main()
