"""Searches that read the nearest cells alone: as good as measured, with filters, additions and damage."""

import errno
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import VectorFilesError
from diptych.vectors import tuning
from diptych.vectors.cells import Cells, cell_count, is_cell_count
from diptych.vectors.code_search import GATHERING
from diptych.vectors.effort import DEPTHS, Effort, by_depth, depth_of
from diptych.vectors.nearest import MIN_FILTERED_CODES, VectorIndex
from diptych.vectors.product_quantizer import ProductQuantiser, packed
from diptych.vectors.vector_files import HEADER_FILE

COUNT, DIM, THINGS = 20_000, 64, 200
IDS = np.arange(1, COUNT + 1) * 10


def drawn(count: int, axis: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors about things, in the cone of an axis, and which things."""
    things = np.random.default_rng(0).standard_normal((THINGS, DIM))
    draw = np.random.default_rng([seed, axis])
    which = draw.integers(THINGS, size=count)
    apart = things[which] + 0.5 * draw.standard_normal((count, DIM))
    vectors = apart / np.sqrt(DIM) + np.eye(DIM)[axis]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), which


PICTURES, THINGS_OF_PICTURES = drawn(COUNT, 0, 1)
TEXTS = drawn(30, 1, 2)[0].astype(np.float32)  # across the gap


def truth(vectors: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    """By float64, best first."""
    scores = (vectors.astype(np.float64) * query).sum(axis=1).astype(np.float32)
    return ids[np.lexsort((ids, -scores))[:k]].tolist()


def recall(
    nearest: VectorIndex,
    k: int,
    chosen: np.ndarray | None = None,
    vectors: np.ndarray = PICTURES,
    ids: np.ndarray = IDS,
) -> float:
    """Over all texts, with a filter of the positions `chosen`; each cosine is exact, and the limit is filled."""
    texts = TEXTS if k < 1_000 else TEXTS[:2]
    hits, allowed = 0, None if chosen is None else ids[chosen]
    vectors, ids = (vectors, ids) if chosen is None else (vectors[chosen], ids[chosen])
    for query in texts:
        found = nearest.search(query, k, allowed_ids=allowed)
        assert len(found.ids) == min(k, len(ids))
        np.testing.assert_allclose(found.cosines, nearest.vectors(found.ids) @ query, atol=1e-6)
        hits += len(set(found.ids.tolist()) & set(truth(vectors, ids, query, k)))
    return hits / (len(texts) * min(k, len(ids)))


@pytest.fixture(scope="module")
def celled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Comparing the codes of all rows is said to be slow, so that cells pay for so few."""
    folder = tmp_path_factory.mktemp("celled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "SCAN_MS", 1e-6)
        patch.setattr(tuning, "PRODUCT_MS", 1e-4)
        queries = drawn(256, 1, 7)[0].astype(np.float32)
        VectorIndex.build(folder, IDS, PICTURES, stamp="a", kind="approximate", queries=queries)
    return folder


@pytest.fixture
def copied(celled: Path, tmp_path: Path) -> Path:
    shutil.copytree(celled, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows of cells each search reads."""
    counts, rows = list[int](), Cells.rows

    def counted(cells: Cells, which: np.ndarray) -> np.ndarray:
        found = rows(cells, which)
        counts.append(len(found))
        return found

    monkeypatch.setattr(Cells, "rows", counted)
    return counts


def test_few_rows_are_read_with_the_measured_recall(celled: Path, read: list[int]) -> None:
    nearest = VectorIndex.open(celled, stamp="a")
    nearest.verify()
    assert nearest.recall >= 0.99
    assert 0 < nearest.candidates < 1000
    assert recall(nearest, 10) >= 0.97
    assert len(read) == len(TEXTS)
    assert max(read) < COUNT / 5
    assert recall(nearest, 100) >= 0.97
    for k in (5_000, COUNT + 10):
        assert recall(nearest, k) >= 0.97


def test_filters(celled: Path, read: list[int]) -> None:
    """Rows drawn at random: compared, found by their own codes, and in cells; and things that are alike."""
    nearest, draw = VectorIndex.open(celled, stamp="a"), np.random.default_rng(3)
    assert recall(nearest, 10, draw.choice(COUNT, MIN_FILTERED_CODES, replace=False)) == 1
    assert recall(nearest, 10, np.flatnonzero(THINGS_OF_PICTURES < 40)) == 1
    for rows in (np.sort(draw.choice(COUNT, 1_200, replace=False)), np.flatnonzero(THINGS_OF_PICTURES < 12)):
        assert MIN_FILTERED_CODES < len(rows) < COUNT / GATHERING
        assert recall(nearest, 10, rows) >= 0.95
    assert not read
    for k in (10, 200):
        assert recall(nearest, k, np.flatnonzero(draw.random(COUNT) < 0.9)) >= 0.97
    assert read


def test_what_is_added_is_in_a_cell_and_what_is_removed_is_not_found(copied: Path) -> None:
    nearest = VectorIndex.open(copied, stamp="a")
    recall(nearest, 10)
    kept = {ending: next(copied.glob(f"*.{ending}")).read_bytes() for ending in ("centroids", "means", "quantiser")}
    more = drawn(1_000, 0, 5)[0]
    for start in range(0, 1_000, 77):
        nearest.add(np.arange(start, min(1_000, start + 77)) * 10 + 1, more[start : start + 77], stamp=f"b{start}")
    nearest.remove(IDS[:2_000], stamp="c")
    vectors, ids = np.concatenate([PICTURES[2_000:], more]), np.concatenate([IDS[2_000:], np.arange(1_000) * 10 + 1])
    again = VectorIndex.open(copied, stamp="c")
    again.verify()
    for one in (nearest, again):
        assert recall(one, 10, None, vectors, ids) >= 0.97
        assert one.search(more[5].astype(np.float32), 1).ids.tolist() == [51]
    assert [again.search(query, 30).ids.tolist() for query in TEXTS] == [
        nearest.search(query, 30).ids.tolist() for query in TEXTS
    ]
    assert kept == {ending: next(copied.glob(f"*.{ending}")).read_bytes() for ending in kept}


def test_removed_rows_leave_their_cells_empty(copied: Path) -> None:
    """All near ones are gone: more cells are read, then all codes."""
    nearest, query = VectorIndex.open(copied, stamp="a"), TEXTS[0]
    order = truth(PICTURES, IDS, query, COUNT)
    for count in (500, 4_000):
        nearest.remove(np.array(order[:count]), stamp="b")
        assert len(set(nearest.search(query, 10).ids.tolist()) & set(order[count : count + 10])) >= 8


def test_an_add_that_fails_changes_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearest, more = VectorIndex.open(copied, stamp="a"), drawn(50, 0, 6)[0]
    before = nearest.search(TEXTS[0], 20)

    def full(*_: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("diptych.storage.directory.os.replace", full)
        with pytest.raises(OSError, match="no space"):
            nearest.add(np.arange(50) * 10 + 1, more, stamp="b")
    for one in (nearest, VectorIndex.open(copied, stamp="a")):
        assert one.search(TEXTS[0], 20).ids.tolist() == before.ids.tolist()
    nearest.add(np.arange(50) * 10 + 1, more, stamp="c")
    again = VectorIndex.open(copied, stamp="c")
    again.verify()
    assert again.search(more[7].astype(np.float32), 1).ids.tolist() == [71]


@pytest.mark.parametrize("ending", ["cells", "means", "centroids", "codes"])
def test_damage_is_an_error_when_opening(ending: str, copied: Path) -> None:
    path = next(copied.glob(f"*.{ending}"))
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 16
    for content in (b"", whole[: len(whole) // 2], whole[:-1], bytes(changed), bytes(len(whole))):
        path.write_bytes(content)
        with pytest.raises(VectorFilesError):
            VectorIndex.open(copied, stamp="a").verify()
    path.unlink()
    with pytest.raises(VectorFilesError):
        VectorIndex.open(copied, stamp="a")


def lied(folder: Path, change: dict[str, Any], contents: dict[str, bytes]) -> None:
    """Files of a stranger who knows how the sums are made."""
    said = json.loads(json.loads((folder / HEADER_FILE).read_bytes())["head"])
    for ending, content in contents.items():
        next(folder.glob(f"*.{ending}")).write_bytes(content)
        said["sums"][ending] = [len(content), zlib.crc32(content)]
    said["facts"] |= change
    head = json.dumps(said)
    (folder / HEADER_FILE).write_text(json.dumps({"head": head, "crc": zlib.crc32(head.encode())}))


@pytest.mark.parametrize(
    "change",
    [
        {"cells": 64}, {"cells": 1 << 16}, {"cells": -32}, {"cells": "64"}, {"cells": None}, {"cells": 33},
        {"probes": [0, 1, 1]}, {"probes": [1, 1]}, {"probes": [1, -1, 1]}, {"probes": 3}, {"probes": [1.5, 1, 1]},
        {"cell_candidates": [0, 0, 0]}, {"cell_candidates": {}}, {"candidates": [1, 1, 0]}, {"pieces": 2},
    ],
    ids=str,
)  # fmt: skip
def test_lies_about_cells_are_errors(change: dict[str, Any], copied: Path) -> None:
    lied(copied, change, {})
    with pytest.raises(VectorFilesError):
        VectorIndex.open(copied, stamp="a")


def test_contents_with_the_right_sums_are_checked(copied: Path) -> None:
    whole = {ending: next(copied.glob(f"*.{ending}")).read_bytes() for ending in ("cells", "means", "centroids")}
    bad = {
        "cells": [np.full(COUNT, 65_535, np.uint16).tobytes(), whole["cells"] + b"\0\0", b""],
        "means": [whole["means"][:-1], whole["means"] * 2, b""],
        "centroids": [np.full(len(whole["centroids"]) // 4, np.nan, np.float32).tobytes(), whole["centroids"][:-4]],
    }
    for ending, contents in bad.items():
        for content in contents:
            lied(copied, {}, {ending: content})
            with pytest.raises(VectorFilesError):
                VectorIndex.open(copied, stamp="a")
        lied(copied, {}, {ending: whole[ending]})
    VectorIndex.open(copied, stamp="a").verify()


def test_extreme_efforts_of_a_stranger_cost_no_more_than_reading_all(copied: Path) -> None:
    most = (1 << 48) - 1
    lied(copied, {"probes": [1, most, most], "cell_candidates": [most] * 3, "candidates": [most] * 3}, {})
    nearest = VectorIndex.open(copied, stamp="a")
    for k in (10, 1000):
        assert nearest.search(TEXTS[0], k).ids.tolist() == truth(PICTURES, IDS, TEXTS[0], k) or k == 10
        assert len(nearest.search(TEXTS[0], k, allowed_ids=IDS[: COUNT // 2]).ids) == k


@given(rows=st.integers(0, 10**9))
def test_cells_are_as_many_as_an_index_may_have(rows: int) -> None:
    count = cell_count(rows)
    assert is_cell_count(count) or (count == 0 and rows < 64 * 64)


def test_packed_codes_are_in_faiss_order() -> None:
    vectors = PICTURES[:1_000].astype(np.float32)
    quantiser = ProductQuantiser.train(vectors, subvectors=16)
    codes = quantiser.encode(vectors)
    index = faiss.IndexPQFastScan(64, 16, 4, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(quantiser.centroids.ravel()), index.pq.centroids)
    index.is_trained = True
    for rows in (np.arange(992), np.arange(991, -1, -1), np.repeat(np.arange(31), 32)):
        index.reset()
        index.add(np.ascontiguousarray((vectors[rows] - quantiser.mean) @ quantiser.rotation))
        expected = faiss.AlignedTable_to_array(index.codes)[: len(rows) * 8]
        assert (packed(codes, rows) == expected).all()
    assert len(packed(codes, np.arange(33))) == 64 * 8


def test_effort_by_depth_goes_through_what_was_measured() -> None:
    measured = (20, 300, 9_000)
    assert [by_depth(measured, depth) for depth in DEPTHS] == list(measured)
    assert by_depth(measured, 1) == 20
    assert by_depth(measured, 10_000) == 270_000  # thirty times as many for ten times the depth
    values = [by_depth(measured, depth) for depth in np.geomspace(1, 1e6, 50)]
    assert values == sorted(values)
    assert depth_of(10, 1) == 10
    assert depth_of(10, 0.1) == 100 * 2 == depth_of(100, 1) * 2 == depth_of(1_000, 1) / 10
    effort = Effort(measured, measured, measured)
    assert effort.filtered_candidates(10, 0.1) == 900
    assert effort.filtered_candidates(10, 0.01) > 90
    assert effort.filtered_candidates(200, 1e-4) >= 400
