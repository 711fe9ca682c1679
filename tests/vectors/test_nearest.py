"""Nearest neighbours: exact for exact indexes, close for approximate ones, and never wrong because of damage."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import VectorFilesError
from diptych.vectors import float16, tuning
from diptych.vectors.float16 import ThreadGroup, inner_products
from diptych.vectors.nearest import BUILD_PASSES, MAX_FILTERED_EXACT, VectorIndex
from diptych.vectors.product_quantizer import balanced_axes
from diptych.vectors.vector_files import HEADER_FILE


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def pictures(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """In a cone, with a spectrum that falls."""
    draw = np.random.default_rng(seed)
    apart = draw.standard_normal((count, dim)) * np.arange(1, dim + 1) ** -0.4
    return unit(apart + 1.5 * np.eye(dim)[0]).astype(np.float16)


def texts(count: int, dim: int, seed: int = 9) -> np.ndarray:
    """In another cone, about the same things."""
    draw = np.random.default_rng(seed)
    apart = draw.standard_normal((count, dim)) * np.arange(1, dim + 1) ** -0.4
    return unit(apart + 1.5 * np.eye(dim)[1]).astype(np.float32)


def truth(vectors: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    """Exact neighbours by float64, best first, ties by id."""
    scores = (vectors.astype(np.float64) * query).sum(axis=1).astype(np.float32)
    return ids[np.lexsort((ids, -scores))[:k]].tolist()


@given(data=st.data())
def test_inner_products_equal_numpys(data: st.DataObject) -> None:
    """Zeros, the smallest float16 numbers and the largest among them."""
    bits = data.draw(
        st.lists(st.integers(0, 0xFFFF).filter(lambda bit: bit & 0x7C00 != 0x7C00), min_size=6, max_size=60)
    )
    rows = np.array(bits[: len(bits) // 3 * 3], np.uint16).view(np.float16).reshape(-1, 3)
    query = np.array([1.0, -0.5, 0.25], np.float32)
    expected = rows.astype(np.float64) @ query
    np.testing.assert_allclose(inner_products(rows, query), expected, rtol=1e-5, atol=1e-2)
    rows_reversed = np.arange(len(rows))[::-1]
    np.testing.assert_array_equal(inner_products(rows, query, subset=rows_reversed), inner_products(rows, query)[::-1])


def test_every_float16_number_is_converted_exactly() -> None:
    """All 63,488 finite numbers, bit by bit."""
    numbers = np.arange(0x10000, dtype=np.uint16)
    numbers = numbers[numbers & 0x7C00 != 0x7C00].view(np.float16)
    np.testing.assert_array_equal(inner_products(numbers[:, None], np.ones(1, np.float32)), numbers.astype(np.float32))


def test_threads_share_only_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, query, group = pictures(300, 64), np.ones(64, np.float32), ThreadGroup(2)
    shared, run = list[int](), group.run
    monkeypatch.setattr(group, "run", lambda work, parts: shared.append(len(parts)) or run(work, parts))
    some = np.arange(0, 300, 2)
    np.testing.assert_array_equal(group.inner_products(rows, query), inner_products(rows, query))
    assert not shared
    monkeypatch.setattr(float16, "SHARED_FROM", 150 * 64)
    for subset, share in ((None, 150), (some, 75)):
        found = group.inner_products(rows, query, subset=subset)
        np.testing.assert_allclose(found, inner_products(rows, query, subset=subset), rtol=1e-5)
        assert len(found) == 2 * share
    group.inner_products(rows, query, subset=some[:-1])
    assert shared == [2, 2]


@settings(max_examples=40)
@given(data=st.data())
def test_small_sets_are_exact(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """After any additions, replacements and removals, with any filter, the result equals an exhaustive search.
    Coordinates have few values, so that many cosines are equal."""
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    dim = data.draw(st.integers(1, 9))
    held: dict[int, np.ndarray] = {}
    folder = tmp_path_factory.mktemp("cache")
    nearest = VectorIndex.build(folder, np.empty(0, np.int64), np.empty((0, dim), np.float16), stamp="0")
    for step in range(data.draw(st.integers(1, 4))):
        ids = draw.choice(50, data.draw(st.integers(0, 30)), replace=False)
        if data.draw(st.booleans()):
            vectors = draw.integers(-1, 2, (len(ids), dim)).astype(np.float16)
            nearest.add(ids, vectors, stamp=str(step))
            held |= dict(zip(ids.tolist(), vectors, strict=True))
        else:
            nearest.remove(ids, stamp=str(step))
            held = {key: value for key, value in held.items() if key not in ids}
    if data.draw(st.booleans()):
        nearest = VectorIndex.open(folder, stamp=nearest.stamp)
    ids, query = np.array(sorted(held), np.int64), draw.standard_normal(dim).astype(np.float32)
    vectors = np.array([held[key] for key in ids.tolist()], np.float16).reshape(-1, dim)
    k = data.draw(st.integers(1, 60))
    assert nearest.search(query, k).ids.tolist() == truth(vectors, ids, query, k)
    allowed_ids = draw.choice(60, 20, replace=False)
    chosen = np.isin(ids, allowed_ids)
    assert nearest.search(query, k, allowed_ids=allowed_ids).ids.tolist() == truth(
        vectors[chosen], ids[chosen], query, k
    )
    assert nearest.ids.tolist() == ids.tolist()
    assert len(nearest) == len(ids)
    np.testing.assert_array_equal(nearest.vectors(ids[::-1]), vectors[::-1].astype(np.float32))
    nearest.verify()


def test_a_second_search_gives_what_the_first_gave(tmp_path: Path) -> None:
    vectors, query = pictures(300, 24), texts(1, 24)[0]
    nearest = VectorIndex.build(tmp_path / "a", np.arange(300), vectors, stamp="1")
    answers = [nearest.search(query, 7) for _ in range(3)]
    for found in answers:
        assert found.ids.tolist() == truth(vectors, np.arange(300), query, 7)
        np.testing.assert_array_equal(found.cosines, answers[0].cosines)
    nearest.add(np.array([300]), query[None].astype(np.float16), stamp="2")
    assert nearest.search(query, 1).ids.tolist() == [300]


def test_equal_vectors_are_ordered_by_id(tmp_path: Path) -> None:
    """In any position, and even if there are more than the limit."""
    same = pictures(1, 48)
    vectors = np.concatenate([np.repeat(same, 3000, axis=0), -np.repeat(same, 3000, axis=0)])
    ids = np.random.default_rng(0).permutation(6000)
    nearest = VectorIndex.build(tmp_path, ids, vectors, stamp="a")
    found = nearest.search(same[0].astype(np.float32), 20)
    assert found.ids.tolist() == np.sort(ids[:3000])[:20].tolist()
    assert len(set(found.cosines.tolist())) == 1


DIM = 64
COUNT = 20_000


@pytest.fixture(scope="module")
def by_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An approximate index with the ids 10, 20, ..."""
    folder = tmp_path_factory.mktemp("codes")
    ids = np.arange(1, COUNT + 1) * 10
    VectorIndex.build(folder, ids, pictures(COUNT, DIM), stamp="a", queries=texts(256, DIM, 5), kind="approximate")
    return folder


@pytest.fixture
def copied(by_codes: Path, tmp_path: Path) -> Path:
    shutil.copytree(by_codes, tmp_path / "copy")
    return tmp_path / "copy"


def recall(nearest: VectorIndex, vectors: np.ndarray, ids: np.ndarray, allowed_ids: np.ndarray | None = None) -> float:
    """Of ten neighbours, over fifty texts that were not used for tuning."""
    hits = 0
    for query in texts(50, DIM):
        found = nearest.search(query, 10, allowed_ids=allowed_ids)
        hits += len(set(found.ids.tolist()) & set(truth(vectors, ids, query, 10)))
        np.testing.assert_allclose(found.cosines, nearest.vectors(found.ids) @ query, atol=1e-6)
    return hits / 500


def test_codes_reach_the_measured_recall(by_codes: Path) -> None:
    nearest = VectorIndex.open(by_codes, stamp="a")
    assert nearest.kind == "approximate"
    assert nearest.recall >= 0.98
    assert 0 < nearest.candidates < COUNT / 4
    vectors, ids = pictures(COUNT, DIM), np.arange(1, COUNT + 1) * 10
    assert recall(nearest, vectors, ids) >= 0.97
    hits = [len(set(nearest.search(q, 100).ids) & set(truth(vectors, ids, q, 100))) for q in texts(20, DIM)]
    assert sum(hits) >= 0.97 * 20 * 100


def test_codes_and_filters(by_codes: Path) -> None:
    """A filter that keeps a handful, one that keeps nearly all, and one without near vectors."""
    nearest = VectorIndex.open(by_codes, stamp="a")
    vectors, ids = pictures(COUNT, DIM), np.arange(1, COUNT + 1) * 10
    assert recall(nearest, vectors[:300], ids[:300], allowed_ids=ids[:300]) == 1
    assert recall(nearest, vectors[:18_000], ids[:18_000], allowed_ids=ids[:18_000]) >= 0.97
    query = texts(1, DIM)[0]
    far = np.array(truth(vectors, ids, query, COUNT)[3000:])
    assert len(far) > MAX_FILTERED_EXACT
    at = far // 10 - 1
    assert nearest.search(query, 10, allowed_ids=far).ids.tolist() == truth(vectors[at], far, query, 10)
    assert len(nearest.search(query, 10, allowed_ids=np.array([1, 2, 3])).ids) == 0


def test_allowed_ids_may_be_in_any_order_repeated_and_unknown(by_codes: Path) -> None:
    nearest = VectorIndex.open(by_codes, stamp="a")
    for count in (200, 18_000):  # compared, and found by codes
        allowed = np.arange(1, count + 1) * 10
        mixed = np.random.default_rng(0).permutation(np.concatenate([allowed, allowed[:100], allowed + 1, [-5]]))
        for query in texts(3, DIM):
            wanted, found = (nearest.search(query, 10, allowed_ids=ids) for ids in (allowed, mixed))
            assert found.ids.tolist() == wanted.ids.tolist()
            assert len(found.ids) == 10


def test_building_reports_each_pass(tmp_path: Path) -> None:
    vectors = pictures(1056, 64)
    told: list[int] = []
    blocks = [(np.arange(start, start + 528), vectors[start : start + 528]) for start in (0, 528)]
    VectorIndex.build_blocks(tmp_path / "a", blocks, dim=64, stamp="1", kind="approximate", on_progress=told.append)
    assert sum(told) == BUILD_PASSES * 1056


def test_appending_never_retrains(copied: Path) -> None:
    nearest = VectorIndex.open(copied, stamp="a")
    quantiser = next(copied.glob("*.quantiser"))
    before = quantiser.read_bytes()
    more = pictures(1000, DIM, seed=3)
    for start in range(0, 1000, 77):  # never a whole number of FAISS's groups
        ids = np.arange(start, min(1000, start + 77)) * 10 + 1
        nearest.add(ids, more[start : start + 77], stamp=f"b{start}")
    nearest.remove(np.arange(1, 101) * 10, stamp="c")
    assert quantiser.read_bytes() == before
    vectors = np.concatenate([pictures(COUNT, DIM)[100:], more])
    ids = np.concatenate([np.arange(101, COUNT + 1) * 10, np.arange(1000) * 10 + 1])
    again = VectorIndex.open(copied, stamp="c")
    again.verify()
    for one in (nearest, again):
        assert recall(one, vectors, ids) >= 0.97
    for query in texts(5, DIM):
        assert nearest.search(query, 30).ids.tolist() == again.search(query, 30).ids.tolist()


def test_deleted_vectors_are_not_found_even_if_all_near_ones_are_deleted(copied: Path) -> None:
    nearest = VectorIndex.open(copied, stamp="a")
    vectors, ids = pictures(COUNT, DIM), np.arange(1, COUNT + 1) * 10
    query = texts(1, DIM)[0]
    order = truth(vectors, ids, query, COUNT)
    nearest.remove(np.array(order[:4000]), stamp="b")
    assert nearest.search(query, 10).ids.tolist() == order[4000:4010]


def test_a_set_that_has_doubled_needs_a_rebuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.vectors.nearest.EXACT_UP_TO", 100 * 16)
    nearest = VectorIndex.build(tmp_path, np.arange(90), pictures(90, 16), stamp="a")
    nearest.add(np.arange(90, 180), pictures(90, 16), stamp="b")
    assert not nearest.needs_rebuild
    nearest.add(np.arange(180, 181), pictures(1, 16), stamp="c")
    assert nearest.needs_rebuild


def test_size_decides_the_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = pictures(5000, 64)
    assert VectorIndex.build(tmp_path / "small", np.arange(5000), vectors, stamp="a").kind == "exact"
    monkeypatch.setattr(tuning, "EXACT_UP_TO", 1000)
    assert VectorIndex.build(tmp_path / "large", np.arange(5000), vectors, stamp="a").kind == "approximate"
    alike = np.repeat(vectors[:500], 10, axis=0)  # fewer directions than a code has letters
    found = VectorIndex.build(tmp_path / "alike", np.arange(5000), alike, stamp="a").search(texts(1, 64)[0], 10)
    assert len(found.ids) == 10
    monkeypatch.setattr(tuning, "PRODUCT_MS", 1e-9)  # were reading everything so cheap, codes would not pay
    assert VectorIndex.build(tmp_path / "cheap", np.arange(5000), vectors, stamp="a").kind == "exact"


def test_axes_are_balanced() -> None:
    hands = np.array(balanced_axes(np.arange(1, 33) ** -1.0, 8)).reshape(8, 4)
    assert sorted(hands.ravel()) == list(range(32))
    logs = np.log(np.arange(1, 33) ** -1.0)[hands].sum(axis=1)
    assert np.ptp(logs) < 2


def test_the_sample_hardly_changes_with_the_set(copied: Path) -> None:
    nearest = VectorIndex.open(copied, stamp="a")
    ids, vectors = nearest.sample(500)
    np.testing.assert_array_equal(vectors, nearest.vectors(ids))
    assert nearest.sample(500)[0].tolist() == ids.tolist()
    assert nearest.sample(500, seed=1)[0].tolist() != ids.tolist()
    assert abs(np.median(ids) / (10 * COUNT) - 0.5) < 0.1
    nearest.add(np.arange(200) * 10 + 1, pictures(200, DIM), stamp="b")
    assert len(set(nearest.sample(500)[0].tolist()) & set(ids.tolist())) > 470


def test_bad_input_is_named_and_changes_nothing(tmp_path: Path) -> None:
    nearest = VectorIndex.build(tmp_path, np.arange(5), pictures(5, 8), stamp="a")
    bad = pictures(2, 8)
    bad[1, 3] = np.nan
    with pytest.raises(ValueError, match="id 71 is not finite"):
        nearest.add(np.array([70, 71]), bad, stamp="b")
    with pytest.raises(ValueError, match=r"wanted \(2, 8\)"):
        nearest.add(np.array([70, 71]), pictures(2, 9), stamp="b")
    with pytest.raises(ValueError, match="repeated"):
        nearest.add(np.array([70, 70]), pictures(2, 8), stamp="b")
    with pytest.raises(ValueError, match="repeated"):
        VectorIndex.build(tmp_path, np.array([1, 1]), pictures(2, 8), stamp="b")
    with pytest.raises(ValueError, match="8 finite numbers"):
        nearest.search(np.zeros(9, np.float32), 3)
    with pytest.raises(KeyError, match="id 99"):
        nearest.vectors(np.array([1, 99]))
    assert VectorIndex.open(tmp_path, stamp="a").ids.tolist() == [0, 1, 2, 3, 4]


def test_a_stamp_identifies_a_stale_cache(tmp_path: Path) -> None:
    with pytest.raises(VectorFilesError, match="contains no cache"):
        VectorIndex.open(tmp_path / "none", stamp="a")
    VectorIndex.build(tmp_path, np.arange(5), pictures(5, 8), stamp="a")
    with pytest.raises(VectorFilesError, match="has the stamp 'a', wanted 'b'"):
        VectorIndex.open(tmp_path, stamp="b")
    assert VectorIndex.open(tmp_path, stamp=None).stamp == "a"


FILES = ("json", "vectors", "rows", "codes", "quantiser", "gone")


@pytest.mark.parametrize("ending", FILES)
def test_a_truncated_file_or_one_of_noise_is_an_error(ending: str, copied: Path) -> None:
    """At every length that matters: nothing that was opened crashes later."""
    VectorIndex.open(copied, stamp="a").remove(np.array([10, 20]), stamp="a")
    path = next(copied.glob(f"*{ending}"))
    whole = path.read_bytes()
    for size in {0, 1, 7, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(VectorFilesError):
            VectorIndex.open(copied, stamp="a")
    draw = np.random.default_rng(0)
    for noise in (draw.bytes(len(whole)), bytes(len(whole)), draw.bytes(len(whole)) + b"more"):
        path.write_bytes(noise)
        with pytest.raises(VectorFilesError):
            VectorIndex.open(copied, stamp="a")
    path.unlink()
    with pytest.raises(VectorFilesError):
        VectorIndex.open(copied, stamp="a")
    path.write_bytes(whole)
    VectorIndex.open(copied, stamp="a").verify()


@pytest.mark.parametrize("ending", FILES)
def test_one_changed_byte_is_found_by_verify_or_before(ending: str, copied: Path) -> None:
    VectorIndex.open(copied, stamp="a").remove(np.array([10, 20]), stamp="a")
    path = next(copied.glob(f"*{ending}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)
    with pytest.raises(VectorFilesError):
        VectorIndex.open(copied, stamp="a").verify()


def test_a_damaged_vector_is_never_a_result(copied: Path) -> None:
    """Noise where opening does not look: the row that ranks first by it is detected."""
    vectors = next(copied.glob("*.vectors"))
    with open(vectors, "r+b") as file:
        file.seek(2 * DIM * 5)
        file.write(np.full(DIM, 60_000, np.float16).tobytes())
    nearest = VectorIndex.open(copied, stamp="a")
    with pytest.raises(VectorFilesError, match="1 rows are damaged, the first is 5"):
        nearest.search(unit(np.ones(DIM, np.float32)), 10, allowed_ids=np.arange(1, 100) * 10)


def test_a_header_of_odd_values_is_an_error(tmp_path: Path) -> None:
    for content in ("[]", "{}", "null", '{"head": 3, "crc": 3}', "[" * 5000):
        (tmp_path / "rows.json").write_text(content)
        with pytest.raises(VectorFilesError):
            VectorIndex.open(tmp_path, stamp="a")


CHANGES = """
import sys, numpy as np
from diptych.vectors.nearest import VectorIndex
folder = sys.argv[1]
vectors = np.load(sys.argv[2])
print("ready", flush=True)
for turn in range(1000):
    nearest = VectorIndex.open(folder, stamp=None)
    if turn % 7 == 6:
        nearest = VectorIndex.build(folder, np.arange(300), vectors[:300], stamp="300")
    start = len(nearest)
    nearest.add(np.arange(start, start + 50), vectors[start : start + 50], stamp=str(start + 50))
    print("changed", flush=True)
"""


def test_a_process_killed_during_a_change_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    """The stamp is the number of rows: at any moment it agrees with the rows that are found."""
    vectors = pictures(2000, 32)
    np.save(tmp_path / "vectors.npy", vectors)
    folder = tmp_path / "cache"
    VectorIndex.build(folder, np.arange(300), vectors[:300], stamp="300", kind="approximate")
    draw, seen = np.random.default_rng(0), set()
    for _ in range(8):
        command = [sys.executable, "-c", CHANGES, str(folder), str(tmp_path / "vectors.npy")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
            assert process.stdout is not None
            process.stdout.readline()
            before_s = time.monotonic()
            for _ in range(draw.integers(1, 4)):  # then within the next change, however long one takes
                process.stdout.readline()
                pace_s, before_s = time.monotonic() - before_s, time.monotonic()
            time.sleep(draw.uniform(0, pace_s))
            process.send_signal(signal.SIGKILL)
        nearest = VectorIndex.open(folder, stamp=None)
        nearest.verify()
        assert nearest.ids.tolist() == list(range(int(nearest.stamp)))
        seen.add(nearest.stamp)
    assert len(seen) > 1
    nearest.add(np.arange(5000, 5010), vectors[:10], stamp="after")
    assert len(VectorIndex.open(folder, stamp="after")) == len(nearest)
    assert len(list(folder.glob("*.vectors"))) == 1


def test_a_build_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    VectorIndex.build(tmp_path, np.arange(50), pictures(50, 8), stamp="a")

    def blocks():
        yield np.arange(10), pictures(10, 8)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        VectorIndex.build_blocks(tmp_path, blocks(), dim=8, stamp="b")
    assert len(VectorIndex.open(tmp_path, stamp="a")) == 50
    assert len(list(tmp_path.iterdir())) == len({"rows.json", "vectors", "rows"})


def test_a_failed_add_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearest = VectorIndex.build(tmp_path, np.arange(50), pictures(50, 8), stamp="a")
    query = texts(1, 8)[0]
    before = nearest.search(query, 60)

    def full(*_: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("diptych.storage.directory.os.replace", full)
        with pytest.raises(OSError, match="no space"):
            nearest.add(np.arange(100, 110), pictures(10, 8), stamp="b")
    for one in (nearest, VectorIndex.open(tmp_path, stamp="a")):
        assert one.search(query, 60).ids.tolist() == before.ids.tolist()
    nearest.add(np.arange(200, 203), pictures(3, 8), stamp="c")
    assert len(VectorIndex.open(tmp_path, stamp="c")) == 53


def test_readers_keep_the_state_that_they_opened(copied: Path) -> None:
    reader, writer = VectorIndex.open(copied, stamp="a"), VectorIndex.open(copied, stamp="a")
    query = texts(1, DIM)[0]
    before = reader.search(query, 10)
    writer.add(before.ids[:5], pictures(5, DIM, seed=4), stamp="b")
    VectorIndex.build(copied, np.arange(10), pictures(10, DIM), stamp="c")
    assert reader.search(query, 10).ids.tolist() == before.ids.tolist()


def test_a_small_search_imports_no_faiss(tmp_path: Path) -> None:
    """Importing FAISS takes 0.3 s, half of what a search from the terminal may take."""
    VectorIndex.build(tmp_path, np.arange(500), pictures(500, 16), stamp="a")
    code = (
        "import sys, json, numpy as np; from diptych.vectors.nearest import VectorIndex\n"
        f"found = VectorIndex.open({str(tmp_path)!r}, stamp='a').search(np.ones(16, 'f4') / 4, 3)\n"
        "print(json.dumps([found.ids.tolist(), [m for m in ('faiss', 'torch', 'jaxtyping') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ids, imported = json.loads(done.stdout)
    assert len(ids) == 3
    assert imported == []


# What a head may say with the right CRC, which anybody can work out
LIES = (
    {"dim": 0}, {"dim": -8}, {"dim": "8"}, {"dim": 1 << 60}, {"rows": -1}, {"rows": 1 << 60}, {"rows": None},
    {"rows": True}, {"sums": []}, {"sums": {"vectors": []}}, {"sums": {"vectors": [1]}}, {"sums": {"vectors": [-1, 0]}},
    {"sums": {"../vectors": [0, 0]}}, {"sums": None}, {"stamp": 5}, {"generation": 5}, {"generation": "../a"},
    {"generation": ""}, {"facts": []}, {"facts": {}}, {"facts": {"kind": "approximate"}}, {"facts": {"kind": []}},
    {"facts": {"recall": "x"}}, {"facts": {"recall": 5}}, {"facts": {"candidates": 5}}, {"facts": {"candidates": [0]}},
    {"facts": {"candidates": [10**30, 1]}}, {"facts": {"pieces": 10**9}}, {"facts": {"pieces": None}},
    {"facts": {"built_rows": -1}}, {"facts": {"built_rows": "x"}}, {"more": 1},
)  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_header_with_invalid_fields_is_an_error(tmp_path: Path, lie: dict[str, Any]) -> None:
    VectorIndex.build(tmp_path, np.arange(20), pictures(20, 8), stamp="a")
    said = json.loads(json.loads((tmp_path / HEADER_FILE).read_bytes())["head"])
    if lie.get("facts"):
        lie = {"facts": {**said["facts"], **lie["facts"]}}
    said = json.dumps({**said, **lie})
    (tmp_path / HEADER_FILE).write_text(json.dumps({"head": said, "crc": zlib.crc32(said.encode())}))
    with pytest.raises(VectorFilesError):
        VectorIndex.open(tmp_path, stamp=None)
