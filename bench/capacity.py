"""What do vectors of many pictures need: memory, disk, machines, and the processor time of embedding them?

    python bench/capacity.py --vectors 1e9 [--dim 512] [--machine-gb 256] [--core-hour PRICE]
                             [--gpu-rate PICTURES/S --gpu-hour PRICE] [--measure N] [--markdown] [--json]

A model on paper: every constant is in this file, with what measured it or the document whose formula it is. The tables
of docs/scale.md are its output (--markdown). Prices are yours; so is the rate of a GPU, which was not measured here.
--measure puts N vectors into a PostgreSQL server that the tests start, and prints the bytes that pgvector takes there.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from table import Row, arguments, report

QUESTION = "What many vectors need"
SIZES = (10_000_000, 100_000_000, 1_000_000_000, 5_000_000_000)
MEASURED_AT = 1_000_000  # vectors of bench/search.py

# --- constants, with their sources

ITEM_BYTES = 320  # of a picture beside its vector in the catalog, with SQLite's indexes: bench/growth.py
ROW_BYTES = 16  # of a vector's id and checksum: diptych.vectors.vector_files, and bench/growth.py
DIMENSIONS_PER_CODE_BYTE = 16  # 4 bits for 8 dimensions, as tuned for 384: bench/growth.py; half of it for 512
OWN_BYTES = 11  # memory of a vector in an open index beside its code: bench/search.py, 27 MB of a million of 512
SEARCH_MS, RECALL = 3.0, ".986"  # p50 of a million of 512 on two cores, and recall@10: bench/search.py
ADDING_US, BUILDING_US = 162, 36  # of a processor, for a vector of 384 at a million: bench/growth.py
PG_TABLE_BYTES, PG_INDEX_BYTES = 547, 342  # beside the vector, with the other indexes: --measure 20480
MILVUS_LINKS = 16  # M that Diptych tries first: diptych.index.stores.milvus.tuning
LINK_BYTES = 4  # of a neighbour; their number by Malkov and Yashunin, "Efficient and robust ...", 2018, section 4.2.3
DISK_DEGREE, SECTOR_BYTES = (
    56,
    4096,
)  # milvus.io/docs/configure_knowhere; nodes do not cross sectors (DiskANN's sources)
DISK_CODES, DISK_CACHE = 0.125, 0.1  # of the float32 vectors, in memory: milvus.io/docs/configure_knowhere
FULL = 0.8  # of a machine's memory that vectors may take; the rest is the system's: an assumption

# Core-hours of a million pictures: cores x 1e6 / (pictures a second) / 3600
EMBEDDING = {
    "bundled model, shards of JPEGs of 256 px": (1, 1000 / 6.10, "bench/shards.py, processor time"),
    "bundled model, JPEGs of 0.75 megapixels, bfloat16": (2, 204, "bench/models.py, EPYC"),
    "former bundled model, photographs of 12 megapixels, 8 bits": (2, 19.7, "bench/index.py, Xeon"),
    "ViT-B/32, decoded pictures, float32": (2, 51.4, "bench/embed.py, EPYC"),
    "ViT-B/32, decoded pictures, bfloat16": (2, 98.7, "bench/embed.py, EPYC"),
    "ViT-B/32, decoded pictures, 8 bits": (2, 181, "bench/embed.py, EPYC"),
}


@dataclass(frozen=True)
class Kind:
    """An index type: bytes of a vector of `dim` in memory and on disk, those that a search reads in any order from the
    system's cache, and whether they may be on several machines."""

    name: str
    memory: Callable[[int], float]
    cached: Callable[[int], float]
    disk: Callable[[int], float]
    is_spread: bool
    source: str


def _links() -> float:
    """Bytes of a node's neighbours: 2 M at the lowest level, and M at each of the 1 / ln M above, in the mean."""
    return (2 * MILVUS_LINKS + MILVUS_LINKS / math.log(MILVUS_LINKS)) * LINK_BYTES


def _disk_node(dim: int) -> float:
    node = 4 * dim + 4 + 4 * DISK_DEGREE
    per_sector = SECTOR_BYTES // node
    return SECTOR_BYTES / per_sector if per_sector else SECTOR_BYTES * math.ceil(node / SECTOR_BYTES)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "local, codes",
            lambda dim: dim / DIMENSIONS_PER_CODE_BYTE + OWN_BYTES,
            lambda dim: 2 * dim + ROW_BYTES,
            lambda dim: 4 * dim + ROW_BYTES + dim / DIMENSIONS_PER_CODE_BYTE + ITEM_BYTES,
            False,
            "measured: bench/growth.py, bench/search.py",
        ),
        Kind(
            "pgvector, halfvec HNSW",
            lambda dim: 2 * dim + PG_INDEX_BYTES,
            lambda dim: 0,
            lambda dim: 4 * dim + PG_INDEX_BYTES + PG_TABLE_BYTES,
            False,
            "measured: bench/capacity.py --measure",
        ),
        Kind(
            "Milvus, float16 HNSW",
            lambda dim: 2 * dim + _links() + ITEM_BYTES,
            lambda dim: 0,
            lambda dim: 4 * dim + _links() + ITEM_BYTES,
            True,
            "formula: Malkov and Yashunin, 2018, section 4.2.3",
        ),
        Kind(
            "Milvus, IVF_SQ8",
            lambda dim: dim + 8 + ITEM_BYTES,
            lambda dim: 0,
            lambda dim: 5 * dim + 8 + ITEM_BYTES,
            True,
            "formula: milvus.io/docs/ivf-sq8; Diptych does not build it",
        ),
        Kind(
            "Milvus, DISKANN",
            lambda dim: (DISK_CODES + DISK_CACHE) * 4 * dim + ITEM_BYTES,
            lambda dim: 0,
            lambda dim: 4 * dim + _disk_node(dim) + ITEM_BYTES,
            True,
            "formula: milvus.io/docs/configure_knowhere; Diptych does not build it",
        ),
    )
}


@dataclass(frozen=True)
class Need:
    """What a number of vectors needs in an index type: gigabytes (1e9 bytes), and machines with memory for them; None
    where it must be one machine and does not fit."""

    vectors: int
    kind: Kind
    memory_gb: float
    cached_gb: float
    disk_gb: float
    machines: int | None


def need(vectors: int, dim: int, kind: Kind, machine_gb: float) -> Need:
    """By the model."""
    memory, cached, disk = (vectors * of(dim) / 1e9 for of in (kind.memory, kind.cached, kind.disk))
    machines = math.ceil((memory + cached) / (FULL * machine_gb))
    return Need(vectors, kind, memory, cached, disk, machines if kind.is_spread or machines == 1 else None)


def core_hours(what: str) -> float:
    """Of a million pictures."""
    cores, rate, _ = EMBEDDING[what]
    return cores * 1e6 / rate / 3600


def search_ms(vectors: int) -> float:
    """p50 of the local index by the number of vectors: codes are scanned, so it grows with them."""
    return SEARCH_MS * vectors / MEASURED_AT


def main() -> None:
    """Print the model's tables."""
    parser = arguments(QUESTION)
    parser.add_argument("--vectors", type=float, nargs="+", help="numbers of vectors; 1e7, 1e8, 1e9 and 5e9 by default")
    parser.add_argument("--dim", type=int, default=512, help="numbers of a vector")
    parser.add_argument("--machine-gb", type=float, default=256, help="memory of a machine")
    parser.add_argument("--core-hour", type=float, help="your price of a core for an hour")
    parser.add_argument("--gpu-rate", type=float, help="pictures a second of your GPU, measured by you")
    parser.add_argument("--gpu-hour", type=float, help="your price of a GPU for an hour")
    parser.add_argument("--measure", type=int, metavar="N", help="vectors to put into PostgreSQL")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/scale.md")
    options = parser.parse_args()
    vectors = [int(each) for each in options.vectors or SIZES]
    if options.measure:
        rows = measured(options.measure, options.dim)
    elif options.markdown:
        tables = markdown(vectors, options.dim, options.machine_gb), expected_markdown(options.machine_gb)
        print("\n\n".join((*tables, embedding_markdown())))
        return
    else:
        rows = rows_of(vectors, options.dim, options.machine_gb)
        rows += prices(options.core_hour, options.gpu_rate, options.gpu_hour)
    report(f"{QUESTION} of {options.dim} numbers", rows, as_json=options.as_json, inputs={"dim": options.dim})


def rows_of(vectors: list[int], dim: int, machine_gb: float) -> list[Row]:
    """Of every index type at every size, and of embedding."""
    rows = list[Row]()
    for count in vectors:
        for kind in KINDS.values():
            needed, who = need(count, dim, kind, machine_gb), f"{count:,} in {kind.name}"
            rows += [Row(f"{who}: memory", needed.memory_gb, "GB"), Row(f"{who}: disk", needed.disk_gb, "GB")]
            rows += [Row(f"{who}: cache", needed.cached_gb, "GB")] if needed.cached_gb else []
            if needed.machines:
                rows.append(Row(f"{who}: machines of {machine_gb:g} GB", needed.machines, ""))
    return rows + [Row(f"embedding, {what}", core_hours(what), "core-hours per million") for what in EMBEDDING]


def prices(core_hour: float | None, gpu_rate: float | None, gpu_hour: float | None) -> list[Row]:
    """Of a million pictures, by the reader's prices."""
    rows = list[Row]()
    if core_hour is not None:
        rows += [Row(f"embedding, {what}", core_hour * core_hours(what), "of your money") for what in EMBEDDING]
    if gpu_rate:
        hours = 1e6 / gpu_rate / 3600
        rows.append(Row("embedding, your GPU", hours, "GPU-hours per million"))
        rows += [Row("embedding, your GPU", gpu_hour * hours, "of your money")] if gpu_hour is not None else []
    return rows


def markdown(vectors: list[int], dim: int, machine_gb: float) -> str:
    """The table of sizes."""
    head = " | ".join(f"{count:,}" for count in vectors)
    lines = [f"| {dim} numbers; memory / disk, machines of {machine_gb:g} GB | a vector, bytes | {head} |"]
    lines.append("|---" * (2 + len(vectors)) + "|")
    for kind in KINDS.values():
        needs = [need(count, dim, kind, machine_gb) for count in vectors]
        bytes_of = f"{kind.memory(dim) + kind.cached(dim):,.0f} / {kind.disk(dim):,.0f}"
        lines.append(f"| {kind.name} | {bytes_of} | {' | '.join(map(_cell, needs))} |")
    return "\n".join(lines)


def _cell(needed: Need) -> str:
    machines = f", {needed.machines}" if needed.machines else ", too large for one"
    return f"{_size(needed.memory_gb + needed.cached_gb)} / {_size(needed.disk_gb)}{machines}"


def _size(gigabytes: float) -> str:
    return f"{gigabytes / 1000:.3g} TB" if gigabytes >= 1000 else f"{gigabytes:.3g} GB"


def expected_markdown(machine_gb: float) -> str:
    """The table of recall and p50, of 512 numbers."""

    def machines(vectors: int, kind: str) -> str:
        return f"{need(vectors, 512, KINDS[kind], machine_gb).machines} x {machine_gb:g} GB"

    ten, hundred, billion, most = SIZES
    local, pgvector, graph, disk = "local, codes", "pgvector, halfvec HNSW", "Milvus, float16 HNSW", "Milvus, DISKANN"
    tuned = "at least .99 on its own vectors when built, else all rows are compared"
    scanned = f"measured at a million (bench/search.py: {RECALL}, {SEARCH_MS} ms)"
    rows = [
        (ten, local, RECALL, f"{search_ms(ten):.0f} ms, two cores", f"{scanned}, times 10, for all codes are scanned"),
        (ten, pgvector, tuned, "not known", "a million: bench/stores.py; none beyond"),
        (hundred, local, RECALL, f"{search_ms(hundred):.0f} ms, two cores", f"{scanned}, times 100"),
        (hundred, pgvector, tuned, "not known", "as above; hops grow with the logarithm of the number [1]"),
        (billion, graph, tuned, "not known", "a million in Milvus Lite: bench/stores.py; none beyond"),
        (billion, disk, "95 % of the nearest one", "mean below 3 ms", "documented for other vectors [2]"),
        (most, graph, tuned, "not known", "none"),
        (most, disk, "not known", "not known", "none"),
    ]
    lines = ["| vectors | index | machines | recall@10 | p50 | from |", "|---|---|---|---|---|---|"]
    for count, kind, recall, p50, source in rows:
        lines.append(f"| {count:,} | {kind} | {machines(count, kind)} | {recall} | {p50} | {source} |")
    return "\n".join(lines)


def embedding_markdown() -> str:
    """The table of what a million pictures cost."""
    lines = ["| a million pictures | core-hours | from |", "|---|---|---|"]
    for what, (cores, rate, source) in EMBEDDING.items():
        lines.append(f"| {what} | {core_hours(what):.2f} | {rate:.4g} a second on {cores}: {source} |")
    return "\n".join(lines)


def measured(count: int, dim: int) -> list[Row]:
    """Bytes of pgvector's table and of its index beside each vector."""
    import numpy as np
    from cones import Cones
    from growth import PIECE, SOURCE, contents, pieces

    from diptych.index.bulk.items import Embedded, block_of
    from diptych.index.stores.postgresql.store import PostgreSQLStore
    from diptych.index.stores.uri import StoreURI

    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.postgresql import server

    uri = StoreURI.parse(server().uri())
    store, cones = PostgreSQLStore(uri), Cones(count, dim=dim)
    with store.writing():
        store.set_facts({"fingerprint": "0" * 16, "model": "bundled", "dim": dim, "root": SOURCE})
        for numbers, vectors in pieces(cones, 0, count):
            store.put(block_of(map(Embedded, contents(numbers, SOURCE), vectors), SOURCE))
        store.prepare(lambda done, total: None)
    assert len(np.unique(store.ids())) == count, PIECE
    sizes = _relation_sizes(uri.address, uri.name)
    store.close()
    return [Row(f"pgvector, {name}", size / count, "bytes a vector") for name, size in sizes.items()]


def _relation_sizes(address: str, schema: str) -> dict[str, int]:
    import psycopg

    statement = (
        "SELECT relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = %s AND relkind IN ('r', 'i')"
    )
    with psycopg.connect(address) as connection:
        return dict(connection.execute(statement, [schema]).fetchall())


if __name__ == "__main__":
    main()
