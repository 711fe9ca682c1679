"""The model of docs/scale.md: its tables are its output, its constants those of the benchmarks."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from diptych.index.bulk.items import Embedded, block_of
from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from diptych.media.items import Details, File, FileContents, Part
from diptych.vectors.nearest import VectorIndex
from tests.test_bench import BENCH, imported


@pytest.fixture
def capacity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("capacity.py", monkeypatch)


def test_the_tables_of_the_page_are_the_output(capacity: ModuleType) -> None:
    page = (BENCH.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    assert capacity.markdown(list(capacity.SIZES), 512, 256) in page
    assert capacity.expected_markdown(256) in page
    assert capacity.embedding_markdown() in page


def test_rates_of_embedding_are_those_of_the_benchmarks(capacity: ModuleType) -> None:
    sections = re.split(r"^## ", (BENCH.parent / "BENCHMARKS.md").read_text(encoding="utf-8"), flags=re.M)
    for _, rate, source in capacity.EMBEDDING.values():
        script = re.match(r"bench/\w+\.py", source)
        assert script
        (section,) = (each for each in sections if each.startswith(f"`{script[0]}`"))
        assert f"{rate:.4g}" in section or f"{1000 / rate:.2f}" in section


@pytest.mark.parametrize(("dim", "expected"), [(384, 2048), (512, 4096), (100, 4096 / 6), (1100, 8192)])
def test_nodes_on_a_disk_do_not_cross_sectors(capacity: ModuleType, dim: int, expected: float) -> None:
    """1,764 bytes twice in 4,096; 2,276 once; 628 six times; 4,628 in two."""
    assert capacity._disk_node(dim) == pytest.approx(expected)


def test_needs_grow_with_the_vectors_and_machines_hold_them(capacity: ModuleType) -> None:
    for kind in capacity.KINDS.values():
        one, two = (capacity.need(count, 768, kind, 64) for count in (10**8, 2 * 10**8))
        assert (two.memory_gb, two.disk_gb) == (2 * one.memory_gb, 2 * one.disk_gb)
        if kind.is_spread:
            held_gb = two.memory_gb + two.cached_gb
            assert (two.machines - 1) * 64 * 0.8 < held_gb <= two.machines * 64 * 0.8
        else:
            assert two.machines is None, "150 GB are not held by 64"


def test_links_of_a_graph(capacity: ModuleType) -> None:
    """32 at the lowest level and 5.77 above, four bytes each."""
    assert capacity._links() == pytest.approx(151.08, abs=0.01)


def test_core_hours(capacity: ModuleType) -> None:
    """A million at 181 a second on two cores: 5,525 s."""
    assert capacity.core_hours("ViT-B/32, decoded pictures, 8 bits") == pytest.approx(2 * 5525 / 3600, rel=1e-3)


def test_prices_are_the_readers(
    capacity: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*options: str) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", ["capacity.py", "--json", "--vectors", "1e9", *options])
        capsys.readouterr()
        capacity.main()
        return {f"{row['who']}, {row['unit']}": row["value"] for row in json.loads(capsys.readouterr().out)["rows"]}

    assert not [who for who in said() if "GPU" in who or "money" in who]
    priced = said("--core-hour", "0.04", "--gpu-rate", "1000", "--gpu-hour", "3.6")
    assert priced["embedding, your GPU, of your money"] == pytest.approx(1.0)
    hours = capacity.core_hours("ViT-B/32, decoded pictures, float32")
    assert priced["embedding, ViT-B/32, decoded pictures, float32, of your money"] == pytest.approx(0.04 * hours)


def test_bytes_of_a_vector_are_those_of_an_index(capacity: ModuleType, tmp_path: Path) -> None:
    """The catalog's depend on the lengths of paths; these are like those of bench/growth.py."""
    count, dim = 4096, 384
    vectors = np.eye(dim, dtype=np.float16)[np.arange(count) % dim]
    store = LocalStore(IndexFolder(tmp_path / "pictures"))
    (tmp_path / "pictures").mkdir()
    with store.writing():
        store.set_facts({"fingerprint": "f" * 16, "model": "bundled", "dim": dim, "root": "shards"})
        for start in range(0, count, 1024):
            store.put(block_of((sample(at, vectors) for at in range(start, start + 1024)), "shards"))
    catalog = store.folder.catalog_path.stat().st_size / count
    assert catalog == pytest.approx(2 * dim + capacity.ITEM_BYTES, rel=0.1)
    VectorIndex.build(tmp_path / "exact", np.arange(count), vectors, stamp="", kind="exact")
    files = sum(path.stat().st_size for path in (tmp_path / "exact").glob("*.*") if path.name != "rows.json")
    assert files / count == 2 * dim + capacity.ROW_BYTES


def sample(at: int, vectors: np.ndarray) -> Embedded:
    file = File(f"shards/00000/{at:09}.jpg", "picture", 200_000, 10**18 + at)
    parts, details = (Part(pixels=np.zeros((1, 1, 3), np.uint8)),), Details(width=640, height=480)
    return Embedded(FileContents(file, np.random.default_rng(at).bytes(16), details, parts), vectors[at : at + 1])
