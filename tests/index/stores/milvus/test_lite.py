"""Milvus Lite inside this process: one user, one process, ended for certain."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import IndexBusyError, IndexDirectoryError, StoreError
from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.stores.uri import StoreURI
from tests.stored_items import BLOCK, DIM, FACTS

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite", reason="milvus-lite has no wheel here")

from diptych.index.stores.milvus import lite, tuning
from diptych.index.stores.milvus.store import MilvusStore


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    before = dict(lite._servers)
    yield tmp_path / "items.db"
    assert lite._servers == before, "a server still runs"


def opened(file: Path, name: str = "") -> MilvusStore:
    return MilvusStore(StoreURI.parse(f"milvus://{file}" + (f"#{name}" if name else "")))


def filled(file: Path, count: int = 20) -> MilvusStore:
    store = opened(file)
    store.set_facts(FACTS)
    store.put(Block(BLOCK.items[:count], BLOCK.vectors[:count]))
    return store


def test_reading_makes_no_file(file: Path) -> None:
    store = opened(file)
    assert (store.exists, store.state(), store.newest_id()) == (False, "none", 0)
    with pytest.raises(IndexDirectoryError):
        store.facts()
    with pytest.raises(IndexDirectoryError):
        store.put(Block(BLOCK.items[:1], BLOCK.vectors[:1]))
    assert not file.exists()
    store.close()


def test_stores_of_one_file_share_a_server_that_ends_with_the_last(file: Path) -> None:
    first = filled(file)
    second = opened(file)
    assert len(second.ids()) == 20
    first.close()
    second.remove([1])
    socket = Path(lite._servers[str(file)]._folder)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    second.close()
    assert not socket.exists()
    assert len(first.ids()) == 19  # opens it again
    first.close()


OTHER_PROCESS = """
import sys
from diptych.index.stores.milvus.store import MilvusStore
from diptych.index.stores.uri import StoreURI
store = MilvusStore(StoreURI.parse(sys.argv[1]))
try:
    print(len(store.ids()))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_second_process_is_told_that_the_file_is_open(file: Path) -> None:
    """And does not leave a process behind that keeps it open, though it closes nothing."""
    command = [sys.executable, "-c", OTHER_PROCESS, f"milvus://{file}"]
    store = filled(file)
    busy = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert busy.stdout.startswith(IndexBusyError.__name__)
    assert "another process" in busy.stdout
    assert busy.stderr == ""
    store.close()
    alone = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert (alone.stdout, alone.stderr) == ("20\n", "")
    assert len(store.ids()) == 20
    store.close()


def test_what_is_no_file_of_milvus_lite_is_left_alone(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0")
    with pytest.raises(StoreError, match="no folder of Milvus Lite"):
        opened(file).set_facts(FACTS)
    assert file.read_bytes() == b"SQLite format 3\0"
    file.unlink()
    file.mkdir()
    (file / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="something else"):
        opened(file).set_facts(FACTS)
    assert os.listdir(file) == ["mine.txt"]
    with pytest.raises(StoreError, match="folder does not exist"):
        opened(file.parent / "nowhere" / "x.db").set_facts(FACTS)


def test_a_collection_of_another_program_is_left_alone(file: Path) -> None:
    from pymilvus import DataType, MilvusClient

    store = filled(file)
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    store._connection.call("create_collection", "theirs", schema=schema)
    other = opened(file, "theirs")
    assert other.exists
    for use in (other.facts, lambda: other.set_facts(FACTS), lambda: other.remove([1]), other.prepare,
                lambda: other.put(Block(BLOCK.items[:1], BLOCK.vectors[:1]))):  # fmt: skip
        with pytest.raises(StoreError, match="not made by diptych"):
            use()
    assert store._connection.call("has_collection", "theirs")
    assert [field["name"] for field in store._connection.call("describe_collection", "theirs")["fields"]] == [
        "id", "vector",
    ]  # fmt: skip
    other.close()
    store.close()


def test_two_indexes_lie_in_one_file(file: Path) -> None:
    first, second = filled(file), opened(file, "second")
    assert not second.exists
    second.set_facts(FACTS)
    second.put(Block(BLOCK.items[:3], BLOCK.vectors[:3]))
    assert (len(first.ids()), len(second.ids())) == (20, 3)
    first.close()
    second.close()


def test_a_misspelt_field_is_an_error_and_finds_not_nothing(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And is not printed by pymilvus, whose own handlers print each failure."""
    from diptych.index.stores.milvus.expressions import Expression

    store = filled(file)
    with pytest.raises(StoreError, match="widht"):
        store._collection.count("picture", Expression("widht >= {least}", {"least": 0}))
    assert capfd.readouterr().err == ""
    store.close()


def test_the_partition_alone_is_counted(file: Path) -> None:
    store = filled(file, 100)
    pictures = sum(stored.item.modality == "picture" for stored in BLOCK.items[:100])
    assert len(store.select("picture", Filters())) == pictures < 100
    assert len(store.select("text", Filters())) == 100 - pictures
    store.close()


def test_a_graph_is_as_wide_as_its_measured_recall_wants(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not sealed is compared in full, and would hide that a graph is searched too narrowly, until the file is
    opened again; filters leave few of the items that a graph visits."""
    for name, value in {"_QUERIES": 16, "WIDTHS": (32, 128, 512), "_TIMED": 1, "FILTERED_WIDTHS": (128, 2048)}.items():
        monkeypatch.setattr(tuning, name, value)
    monkeypatch.setattr(tuning, "_WORTH", 1e9)  # though comparing so few is as fast
    store = filled(file, len(BLOCK.items))
    steps = list[tuple[int, int]]()
    store.prepare(lambda done, total: steps.append((done, total)), exact_up_to=0)
    settings = store.settings
    assert settings["index"] == "HNSW"
    assert min(settings["recall"].values()) >= 0.98
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    store.close()
    found = wanted = 0
    pictures = np.flatnonzero([stored.item.modality == "picture" for stored in BLOCK.items])
    wide = [at for at in pictures if (BLOCK.items[at].item.details.width or 0) >= 4950]
    near = BLOCK.vectors[::150].astype(np.float32) + 0.1 * np.random.default_rng(1).normal(size=(10, DIM))
    for query in (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32):
        cosines = BLOCK.vectors.astype(np.float32) @ query
        ids, _ = store.select("picture", Filters()).search(query, 10)
        best = pictures[np.argsort(-cosines[pictures])[:10]] + 1
        found, wanted = found + len(np.intersect1d(ids, best)), wanted + 10
        few, _ = store.select("picture", Filters(min_width=4950)).search(query, 100)
        assert few.tolist() == [int(at) + 1 for at in sorted(wide, key=lambda at: -cosines[at])]
        assert len(store.select("picture", Filters(min_width=100)).search(query, 900)[0]) == 900
    assert found / wanted >= 0.98
    store.close()


def test_a_file_that_has_grown_is_measured_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next copy that ends; one that hardly grew is not."""
    for name, value in {"_QUERIES": 8, "WIDTHS": (512,), "_TIMED": 1, "FILTERED_WIDTHS": (2048,)}.items():
        monkeypatch.setattr(tuning, name, value)
    monkeypatch.setattr(tuning, "_WORTH", 1e9)
    store = filled(file, 200)
    measured = []
    for start, end in ((0, 200), (200, 300), (300, 700)):
        store.put(Block(BLOCK.items[start:end], BLOCK.vectors[start:end]))
        store.prepare(exact_up_to=0)
        assert store.settings["index"] == "HNSW"
        measured.append(sum(store.settings["rows"].values()))
    assert measured == [200, 200, 700]
    store.close()
