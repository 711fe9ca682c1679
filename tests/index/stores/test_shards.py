"""Shards go into any store, and what was interrupted is there once when it is done."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from diptych.index.bulk.items import Embedded, block_of
from diptych.index.bulk.shard_embedder import Piece, ShardTask
from diptych.index.bulk.shard_files import ModelFacts
from diptych.index.bulk.shard_targets import StoreTarget
from diptych.index.bulk.sharded_job import EmbedShards, ShardedResult, embed_sharded
from diptych.index.bulk.sharded_source import ShardedSource
from diptych.index.filters.filters import Filters
from diptych.media.items import Details, File, FileContents, Part
from tests.stores import DIM, MAKERS, MadeStore

SOURCE = ShardedSource("s3://bucket/it's 100%", ("a.tar", "b.tar"), ("https://host/a.tar", "https://host/b.tar"))
MODEL = ModelFacts("bundled", "f" * 16, DIM)
SAMPLES = 6  # of a shard, in two pieces


def sample(shard: str, at: int) -> Embedded:
    file = File(f"{shard}/{at:03}.jpg", "picture", 100 + at, 0)
    caption = f"number {at} of {shard}"
    contents = FileContents(
        file, bytes([at]) * 16, Details(width=40, height=30, caption=caption), (Part(), Part(text=caption))
    )
    vectors = np.random.default_rng([at, len(shard), ord(shard[0])]).standard_normal((2, DIM))
    return Embedded(contents, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16))


def pieces(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
    for task in tasks:
        for number in (0, 1):
            samples = [sample(task.shard, at) for at in range(3 * number, 3 * number + 3)]
            yield Piece(task.shard, number, block_of(samples, task.root), {}, number == 1)


def cut_after(count: int) -> EmbedShards:
    def embed(tasks: Sequence[ShardTask]) -> Iterator[Piece]:
        for number, piece in enumerate(pieces(tasks)):
            if number == count:
                raise KeyboardInterrupt
            yield piece

    return embed


@pytest.fixture(params=["local", "postgresql", "milvus-lite"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MadeStore]:
    with MAKERS[request.param](tmp_path) as made:
        yield made


def test_shards_are_in_a_store_once(made: MadeStore, tmp_path: Path) -> None:
    def run(embed: EmbedShards) -> ShardedResult:
        return embed_sharded(SOURCE, StoreTarget(made.again(), tmp_path / "records", "bundled"), embed, MODEL)

    with pytest.raises(KeyboardInterrupt):
        run(cut_after(3))
    done = run(pieces)
    assert (done.shards, done.found, done.rows, done.texts, done.lost) == (2, 1, 2 * SAMPLES, 2 * SAMPLES, {})
    store = made.again()
    assert store.facts()["source"] == SOURCE.root
    assert len(store.ids()) == 4 * SAMPLES
    wanted = sample("b.tar", 4)
    (id, *_), (cosine, *_) = store.select("text", Filters()).search(wanted.vectors[1].astype(np.float32), 1)
    (item,) = store.items([id])
    assert (item.path, item.text, item.details.width) == ("b.tar/004.jpg", "number 4 of b.tar", 40)
    assert cosine == pytest.approx(1, abs=2e-3)
    assert run(pieces).found == 2
