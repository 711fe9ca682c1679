"""Shards into a store or into files of vectors: every readable sample once, whatever was interrupted before."""

import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

import diptych
from diptych.embedder import Embedder
from diptych.errors import DataError, IndexBusyError
from diptych.index.bulk.items import (
    ID_BITS,
    NEIGHBOUR_BITS,
    SAMPLE_BITS,
    Embedded,
    block_of,
    item_id,
    sample_path,
    with_own_ids,
)
from diptych.index.bulk.shard_embedder import PIECE, Piece, ShardEmbedder, ShardTask
from diptych.index.bulk.shard_files import ModelFacts
from diptych.index.bulk.shard_targets import StoreTarget, VectorFiles
from diptych.index.bulk.sharded_job import ShardedResult, embed_here, embed_sharded
from diptych.index.bulk.sharded_source import open_sharded
from diptych.index.catalog.stored_items import Block
from diptych.index.filters.filters import Filters
from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from diptych.media.items import File, FileContents, Part
from tests.conftest import write_tar


def picture(shade: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 40), (shade, 255 - shade, 30)).save(file, form)
    return file.getvalue()


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Two shards: one with a broken picture, one without a caption and with a name that is no path."""
    folder = tmp_path / "tars"
    folder.mkdir()
    first = {f"{at:03}.jpg": picture(9 * at) for at in range(7)} | {"bad.png": b"no picture"}
    first |= {f"{at:03}.json": json.dumps({"captions": [f"shade {at}", f"number {at}"]}).encode() for at in range(7)}
    write_tar(folder / "a.tar", first)
    odd = {"./plain.webp": picture(200, "WEBP"), "../up.jpg": picture(210), "only.txt": b"words", "x.jpg": picture(220)}
    write_tar(folder / "b.tar", odd)
    return folder


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model, precision="float32")


@pytest.fixture(scope="module")
def embedder(model: Embedder) -> Iterator[ShardEmbedder]:
    with ShardEmbedder(model, processes=1, piece=3) as made:
        yield made


@pytest.fixture
def embed(embedder: ShardEmbedder) -> Callable[[Sequence[ShardTask]], Iterator[Piece]]:
    return lambda tasks: (piece for task in tasks for piece in embedder.embed(task))


def store_in(folder: Path) -> LocalStore:
    folder.mkdir(exist_ok=True)
    return LocalStore(IndexFolder(folder))


def items_in(store: LocalStore) -> dict[int, tuple[str, str | None, bytes]]:
    """All items: id -> path, text and vector."""
    return {
        stored.item.id: (stored.item.path, stored.item.text, vector.tobytes())
        for block in store.blocks()
        for stored, vector in zip(block.items, block.vectors, strict=True)
    }


def test_shards_become_items_of_a_store(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    store = store_in(tmp_path / "index")
    target = StoreTarget(store, tmp_path / "records", str(model.source))
    done = embed_sharded(open_sharded(tars), target, embed, ModelFacts.of(model))
    assert (done.shards, done.found, done.rows, done.texts, done.lost) == (2, 0, 10, 14, {})
    assert {path: why.reason for path, why in done.failures.items()} == {
        "a.tar/bad.png": "not a picture"
    } or done.failures
    assert done.skipped == {"no picture": 1}
    items = [stored.item for block in store.blocks() for stored in block.items]
    pictures = {item.path: item for item in items if item.text is None}
    assert {path for path in pictures if path.startswith("b.tar")} == {
        "b.tar/plain.webp", "b.tar/x.jpg", "b.tar/1.jpg",
    }  # fmt: skip
    third = pictures["a.tar/003.jpg"]
    assert (third.details.width, third.details.height, third.details.caption) == (48, 40, "shade 3")
    assert third.size == len(picture(27))
    assert {item.text for item in items if item.path == third.path} == {None, "shade 3", "number 3"}
    expected = model.embed_images([picture(27)], decode="fast")[0]
    np.testing.assert_allclose(store.vectors_of([third.id])[0].astype(np.float32), expected, atol=2e-3)
    (found, *_), cosines = store.select("picture", Filters()).search(expected, 1)
    assert (found, cosines[0] > 0.99) == (third.id, True)


def test_a_finished_shard_is_not_read_again(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    asked = list[str]()

    def counting(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        asked.extend(task.shard for task in tasks)
        return embed(tasks)

    def run() -> ShardedResult:
        target = StoreTarget(store_in(tmp_path / "index"), tmp_path / "records", str(model.source))
        return embed_sharded(open_sharded(tars), target, counting, ModelFacts.of(model))

    first, before = run(), items_in(store_in(tmp_path / "index"))
    again = run()
    assert asked == ["a.tar", "b.tar"]
    assert (again.found, again.rows, again.failures) == (2, first.rows, first.failures)
    write_tar(tars / "b.tar", {"x.jpg": picture(3)})
    assert run().shards == 2
    assert asked == ["a.tar", "b.tar", "b.tar"]
    after = items_in(store_in(tmp_path / "index"))
    (changed,) = [id for id, item in after.items() if item != before[id]]
    assert after.keys() == before.keys()
    assert after[changed][0] == "b.tar/x.jpg"


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_what_was_interrupted_is_completed_without_repetition(
    tars: Path, tmp_path: Path, model: Embedder, embed, pieces: int
) -> None:
    def cut(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        for number, piece in enumerate(embed(tasks)):
            if number == pieces:
                raise KeyboardInterrupt
            yield piece

    def run(embed_shards, name: str) -> ShardedResult:
        target = StoreTarget(store_in(tmp_path / name), tmp_path / f"{name}-records", str(model.source))
        return embed_sharded(open_sharded(tars), target, embed_shards, ModelFacts.of(model))

    with pytest.raises(KeyboardInterrupt):
        run(cut, "cut")
    done, whole = run(embed, "cut"), run(embed, "whole")
    assert done.found == (pieces >= 3)
    assert (done.rows, done.texts, done.failures) == (whole.rows, whole.texts, whole.failures)
    assert items_in(store_in(tmp_path / "cut")).keys() == items_in(store_in(tmp_path / "whole")).keys()


def test_pieces_may_come_twice_and_in_any_order(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    def shuffled(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        pieces = [*embed(tasks), *embed(tasks[:1])]
        yield from (pieces[at] for at in np.random.default_rng(3).permutation(len(pieces)))

    def run(embed_shards, out: str) -> np.ndarray:
        done = embed_sharded(open_sharded(tars), VectorFiles(tmp_path / out), embed_shards, ModelFacts.of(model))
        assert (done.rows, done.texts, len(done.failures)) == (10, 14, 1)
        return np.concatenate([np.load(path) for path in sorted((tmp_path / out).glob("*.npy"))])

    np.testing.assert_allclose(
        run(shuffled, "shuffled").astype(np.float32), run(embed, "in order").astype(np.float32), atol=2e-3
    )


def test_a_lost_shard_is_named_and_done_by_the_next_run(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    def losing(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        yield from (piece for piece in embed(tasks) if piece.shard != "a.tar" or piece.number != 1)

    source = open_sharded(str(tars / "*.tar"))
    lost = embed_sharded(source, VectorFiles(tmp_path / "out"), losing, ModelFacts.of(model))
    assert (lost.shards, lost.rows, [*lost.lost]) == (1, 3, ["a.tar"])
    (tars / "b.tar").unlink()
    gone = source._replace(shards=("a.tar", "b.tar", "c.tar"), locations=(*source.locations, str(tars / "c.tar")))
    done = embed_sharded(gone, VectorFiles(tmp_path / "out"), embed, ModelFacts.of(model))
    assert (done.shards, done.found, done.rows) == (2, 1, 10)
    assert {shard: why.reason for shard, why in done.lost.items()} == {"c.tar": "FileNotFoundError"}


def test_vectors_are_files_that_an_index_takes(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    out = tmp_path / "out"
    embed_sharded(open_sharded(tars), VectorFiles(out, "float32"), embed, ModelFacts.of(model))
    tables = {path.stem[0]: pyarrow.parquet.read_table(path) for path in out.glob("*.parquet")}
    rows = dict(zip(tables["a"]["path"].to_pylist(), tables["a"]["caption"].to_pylist(), strict=True))
    assert rows == {f"a.tar/{at:03}.jpg": f"shade {at}" for at in range(7)}
    assert tables["b"]["width"].to_pylist() == [48] * 3
    (vectors,) = [np.load(path) for path in out.glob("a-*.npy")]
    expected = model.embed_images([picture(9 * at) for at in range(7)], decode="fast")
    np.testing.assert_allclose(vectors.astype(np.float32), expected, atol=2e-3)
    texts = pyarrow.parquet.read_table(next((out / "texts").glob("a-*.parquet")))["text"].to_pylist()
    assert texts[:2] == ["shade 0", "number 0"]
    with pytest.raises(DataError, match="its source differ"):
        embed_sharded(open_sharded(tars / "a.tar")._replace(root="/b"), VectorFiles(out, "float32"), embed,
                      ModelFacts.of(model))  # fmt: skip
    running = VectorFiles(out, "float32").writing(ModelFacts.of(model), str(tars))
    with running, pytest.raises(IndexBusyError, match="is writing to"):
        embed_sharded(open_sharded(tars), VectorFiles(out, "float32"), embed, ModelFacts.of(model))


def test_parquet_files_need_no_captions(tmp_path: Path, model: Embedder, embed) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    table = pyarrow.table({"image": [picture(10), b"", picture(30)], "license": ["a", "b", "c"]})
    pyarrow.parquet.write_table(table, folder / "part.parquet")
    store = store_in(tmp_path / "index")
    target = StoreTarget(store, tmp_path / "records", str(model.source))
    done = embed_sharded(open_sharded(folder), target, embed, ModelFacts.of(model))
    assert (done.rows, done.texts, done.skipped) == (2, 0, {"no picture": 1})
    assert {item[0] for item in items_in(store).values()} == {"part.parquet/0-0.jpg", "part.parquet/0-2.jpg"}


def test_records_of_a_store_that_is_gone_are_forgotten(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    for name in ("one", "other"):
        target = StoreTarget(store_in(tmp_path / name), tmp_path / "records", str(model.source))
        assert embed_sharded(open_sharded(tars), target, embed, ModelFacts.of(model)).found == 0
    assert items_in(store_in(tmp_path / "one")).keys() == items_in(store_in(tmp_path / "other")).keys()


@pytest.mark.parametrize(
    ("spec", "root", "shards"),
    [
        ("{}", "{}", ["a.tar", "below/c.tar"]),
        ("{}/*.tar", "{}", ["a.tar"]),
        ("https://host/{{a,a}}.tar", "", None),
        ("{}/a.tar", "{}", ["a.tar"]),
        ("file://{}/a.tar", "file://{}", ["a.tar"]),
        ("file://{}", "file://{}", ["a.tar"]),
        ("https://user:secret@host/set/{{00..02}}.tar?key=secret", "https://host/set", ["00.tar", "01.tar", "02.tar"]),
    ],
)
def test_shards_are_named_below_what_was_given(tmp_path: Path, spec: str, root: str, shards: list[str] | None) -> None:
    (tmp_path / "below").mkdir()
    for name in ("a.tar", "a.parquet", "below/c.tar", "readme.md"):
        (tmp_path / name).write_bytes(b"")
    if shards is None:
        with pytest.raises(DataError, match="names a shard twice"):
            open_sharded(spec.format(tmp_path))
        return
    found = open_sharded(spec.format(tmp_path))
    assert (found.root, list(found.shards)) == (root.format(tmp_path), shards)
    assert "secret" not in f"{found.root}{found.shards}"


def test_ids_are_of_the_path_alone_and_fit_javascript() -> None:
    ids = {item_id("s3://b", f"a.tar/{at}.jpg", position) for at in range(1000) for position in range(3)}
    assert len(ids) == 3000
    assert max(ids) < 1 << ID_BITS < 1 << 53
    assert item_id("s3://b", "a.tar/7.jpg", 1) in ids
    assert item_id("s3://c", "a.tar/7.jpg", 1) not in ids


def test_ids_of_neighbours_are_near_each_other_and_those_of_shards_apart() -> None:
    neighbours = [item_id("s3://b", f"a.tar/{at:09}.jpg", 0) for at in range(5000, 6000)]
    assert max(neighbours) - min(neighbours) < 1 << SAMPLE_BITS
    assert len(set(neighbours)) == 1000
    shards = {item_id("s3://b", f"{at:05}.tar/0.jpg", 0) >> (NEIGHBOUR_BITS + SAMPLE_BITS) for at in range(300)}
    assert len(shards) > 250
    named = {item_id("s3://b", f"a.tar/{at * 0x9E3779B97F4A7C15 % 2**64:016x}.jpg", 0) for at in range(5000)}
    assert len(named) == 5000


def made_piece(shard: str, numbers: range, dim: int) -> Piece:
    vectors = np.eye(dim, dtype=np.float16)[np.array(numbers) % dim][:, None]
    parts = (Part(pixels=np.zeros((1, 1, 3), np.uint8)),)
    paths = (f"{shard}/{number:09}.jpg" for number in numbers)
    samples = [FileContents(File(path, "picture", 9, 1), os.urandom(16), parts=parts) for path in paths]
    return Piece(shard, 0, block_of(map(Embedded, samples, vectors), "s3://b"), {}, True)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the kernel counts no bytes")
def test_little_more_is_written_than_stored(tmp_path: Path) -> None:
    """With ids in any order each item changed two pages of 16 KB, and what undoes a statement went through a file."""
    store, dim, count = LocalStore(IndexFolder(tmp_path)), 384, 8 * PIECE
    before = bytes_written()
    with store.writing():
        store.set_facts({"fingerprint": "f" * 16, "model": "bundled", "dim": dim, "root": "s3://b"})
        for start in range(0, count, PIECE):
            store.put(made_piece(f"{start // PIECE % 3}.tar", range(start, start + PIECE), dim).block)
    assert len(store.ids()) == count
    assert bytes_written() - before < 6_000 * count  # 1,100 are stored of each


class CountedStore(LocalStore):
    """Counts calls of `put`, which fail from one on."""

    puts, fails_from = 0, 10**9

    def put(self, block: Block) -> None:
        self.puts += 1
        if self.puts >= self.fails_from:
            raise OSError(28, "no space left on device")
        super().put(block)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_small_shards_are_put_together_and_recorded_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    store = CountedStore(IndexFolder(tmp_path))
    target, shards = StoreTarget(store, tmp_path / "records", "bundled"), [f"{at}.tar" for at in range(10)]
    monkeypatch.setattr("diptych.index.bulk.shard_targets._HELD_S", 1000.0)

    def take_all() -> None:
        with target.writing(ModelFacts("bundled", "0" * 16, 8), "s3://b"):
            for shard in shards:
                target.take(made_piece(shard, range(3), 8))
                target.complete(shard, {"shard": shard, "version": "1", "skipped": {}}, {})
                assert (target.records.version(shard) == "1") == (len(store.ids()) > 0)
            if is_interrupted:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if is_interrupted else nullcontext():
        take_all()
    assert (store.puts, len(store.ids())) == (1, 30)
    assert [target.records.version(shard) for shard in shards] == ["1"] * 10


def test_a_shard_whose_pieces_could_not_be_put_has_no_record(tmp_path: Path) -> None:
    store = CountedStore(IndexFolder(tmp_path))
    store.fails_from = 1
    target = StoreTarget(store, tmp_path / "records", "bundled")
    writing = target.writing(ModelFacts("bundled", "0" * 16, 8), "s3://b")
    writing.__enter__()
    target.take(made_piece("a.tar", range(3), 8))
    target.complete("a.tar", {"shard": "a.tar", "version": "1", "skipped": {}}, {})
    with pytest.raises(OSError, match="no space"):
        writing.__exit__(None, None, None)
    assert target.records.version("a.tar") is None
    assert store.puts == 1


def test_pieces_are_put_when_they_are_enough_or_wait_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CountedStore(IndexFolder(tmp_path))
    monkeypatch.setattr("diptych.index.bulk.shard_targets._HELD_S", 1000.0)
    target = StoreTarget(store, tmp_path / "records", "bundled")
    with target.writing(ModelFacts("bundled", "0" * 16, 8), "s3://b"):
        target.take(made_piece("a.tar", range(3), 8))
        assert store.puts == 0
        monkeypatch.setattr("diptych.index.bulk.shard_targets._HELD_S", -1.0)
        target.complete("a.tar", {"shard": "a.tar", "version": "1", "skipped": {}}, {})
        assert (store.puts, target.records.version("a.tar")) == (1, "1")
        monkeypatch.setattr("diptych.index.bulk.shard_targets._HELD_S", 1000.0)
        target.take(made_piece("b.tar", range(store.items_per_put), 8))
        assert store.puts == 2


def bytes_written() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def test_an_id_that_another_sample_has_is_left_to_it(tars: Path, tmp_path: Path, model: Embedder, embed) -> None:
    store = store_in(tmp_path / "index")
    target = StoreTarget(store, tmp_path / "records", str(model.source))
    embed_sharded(open_sharded(tars / "a.tar"), target, embed, ModelFacts.of(model))
    (block,) = store.blocks()
    stolen = [stored._replace(item=stored.item._replace(path="other.tar/x.jpg")) for stored in block.items[:2]]
    moved = with_own_ids(Block(stolen, block.vectors[:2]), store)
    store.put(moved)
    assert not {stored.item.id for stored in moved.items} & {stored.item.id for stored in block.items}
    assert with_own_ids(Block(stolen, block.vectors[:2]), store).items == moved.items
    assert with_own_ids(block, store).items == block.items


@pytest.mark.parametrize("key", ["../up", "/etc/passwd", "a/../b", "x" * 100_000, "nul\0", "a//b", ""])
def test_a_key_that_is_no_path_gives_way_to_its_position(key: str) -> None:
    assert sample_path("s.tar", key, 7, ".jpg") == "s.tar/7.jpg"


def test_no_samples_are_a_block_of_nothing() -> None:
    assert block_of(list[Embedded](), "root").items == []


def test_a_job_in_this_process(tars: Path, tmp_path: Path, model: Embedder) -> None:
    steps = list[tuple[int, int]]()
    done = embed_sharded(
        open_sharded(tars), VectorFiles(tmp_path / "out"), embed_here(model, processes=1), ModelFacts.of(model),
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert done.rows == 10
    assert steps == [(0, 2), (1, 2), (2, 2)]
