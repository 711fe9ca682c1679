"""What is asked to be forgotten is gone: from shards, tables and indexes, and later runs and models are named."""

import hashlib
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_pairs import drawn_pair

from diptych.collect.archives.found_table import FoundTable, read_found
from diptych.collect.lists.ledger import Ledger, ListedRow
from diptych.collect.output.facts import pair_of
from diptych.collect.output.forgetting import forget
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import content_of, stored_pairs
from diptych.collect.output.shard_writer import ShardWriter
from diptych.collect.output.trained_models import TrainedModel
from diptych.collect.pages.frontier import Frontier
from diptych.collect.pages.limits import CrawlLimits
from diptych.collect.pairs import Found, Pair
from diptych.data.sources.opening import open_source
from diptych.errors import ArgumentError, DataError, IndexBusyError, IndexDirectoryError
from diptych.index.catalog.stored_items import Block, StoredItem
from diptych.index.catalog.validation import Item
from diptych.index.folder import IndexFolder
from diptych.index.stores.local import LocalStore
from diptych.index.stores.opening import open_store
from diptych.index.stores.store import Store
from diptych.media.items import Details
from diptych.training.run.seen_data import note_data
from tests.postgresql import server


def hosts(number: int) -> str:
    return ("example.org", "images.example.com", "other.net")[number % 3]


def collected(out: Path, count: int = 9, per_shard: int = 4) -> list[Pair]:
    pairs = [drawn_pair(number, host=hosts(number)) for number in range(count)]
    with ShardWriter(out, pairs_per_shard=per_shard) as writer:
        for pair in pairs:
            writer.add(pair)
    return pairs


def left(out: Path) -> list[Pair]:
    """The pairs of the shards, after a look that the tables say the same."""
    pairs = []
    for tar in sorted(out.glob("*.tar")):
        found = list(stored_pairs(tar))
        rows = pq.read_table(tar.with_suffix(".parquet"))
        assert rows["key"].to_pylist() == [stored.facts["key"] for stored in found]
        assert rows["url"].to_pylist() == [stored.facts["url"] for stored in found]
        pairs += [pair_of(stored.facts, content_of(stored, tar)) for stored in found]
    return pairs


def test_a_domain_goes(tmp_path: Path) -> None:
    pairs = collected(tmp_path)
    result = forget(tmp_path, [("domain", "example.com")])
    assert (result.pairs, result.shards) == (3, ["00000.tar", "00001.tar"])
    assert left(tmp_path) == [pair for number, pair in enumerate(pairs) if number % 3 != 1]
    assert len(open_source(tmp_path)) == 6  # type: ignore[arg-type]
    forgotten = Forgotten(tmp_path)
    assert forgotten.covers(url="https://images.example.com/new.jpg")
    assert not forgotten.covers(url="https://elsewhere.net/1.jpg", sha256=pairs[1].picture.sha256)
    assert b"example.com" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_what_runs_have_noted_goes_too(tmp_path: Path) -> None:
    """Neither the ledgers of a crawl and of a list nor the table of what failed name it any more."""
    collected(tmp_path)
    gone, kept = ("https://images.example.com/a.jpg", "https://other.net/a.jpg")
    frontier = Frontier(tmp_path, CrawlLimits())
    frontier.add_pages([gone, kept, "https://other.net/page"], 0)
    page = frontier.next("other.net")
    assert page is not None
    found = [Found(f"https://cdn.net/{at}.jpg", (), page_url=url) for at, url in enumerate((gone, kept))]
    frontier.finish_page(page, digest=bytes(32), found=found)
    frontier.close()
    with Ledger(tmp_path) as ledger:
        (tmp_path / "list.csv").touch()
        ledger.add(tmp_path / "list.csv", [ListedRow(url, (f"A dog of {url}",), "", {}) for url in (gone, kept)], {})
    (tmp_path / "failed.csv").write_text(f"url,reason\n{gone},HTTP 404\n{kept},HTTP 404\n")
    forget(tmp_path, [("domain", "example.com")])
    whole = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".sqlite", ".csv"))
    assert b"example.com" not in whole
    assert whole.count(kept.encode()) >= 4


def test_an_address_goes_with_copies_of_its_file(tmp_path: Path) -> None:
    copy = replace(drawn_pair(20, host="copies.net"), picture=drawn_pair(1).picture)
    with ShardWriter(tmp_path, pairs_per_shard=2) as writer:
        for pair in (drawn_pair(0), drawn_pair(1), copy):
            writer.add(pair)
    result = forget(tmp_path, [("url", "http://example.org/1.jpg")])
    assert (result.pairs, result.shards) == (2, ["00000.tar", "00001.tar"])
    assert left(tmp_path) == [drawn_pair(0)]
    assert Forgotten(tmp_path).covers(sha256=copy.picture.sha256)
    assert not Forgotten(tmp_path).covers(url="https://copies.net/20.jpg")


def test_a_page_goes_with_its_pictures(tmp_path: Path) -> None:
    collected(tmp_path)
    assert forget(tmp_path, [("url", "https://example.org/page")]).pairs == 3
    assert {pair.found.page_url for pair in left(tmp_path)} == {
        "https://images.example.com/page",
        "https://other.net/page",
    }


@pytest.mark.parametrize("as_kept", [False, True])
def test_a_digest_goes(tmp_path: Path, as_kept: bool) -> None:
    pairs = collected(tmp_path)
    picture = pairs[5].picture
    digest = hashlib.sha256(picture.content).hexdigest() if as_kept else picture.sha256
    assert forget(tmp_path, [("sha256", digest)]).pairs == 1
    assert left(tmp_path) == pairs[:5] + pairs[6:]


def test_an_emptied_shard_leaves_its_number(tmp_path: Path) -> None:
    collected(tmp_path, count=2, per_shard=1)
    forget(tmp_path, [("domain", "example.org")])
    assert sorted(path.name for path in tmp_path.glob("0*")) == ["00000.parquet", "00001.parquet", "00001.tar"]
    assert pq.read_table(tmp_path / "00000.parquet").num_rows == 0
    with ShardWriter(tmp_path) as writer:
        assert writer.add(drawn_pair(9)).startswith("00002.tar/")


def test_a_shard_that_is_being_filled_is_looked_through(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path).__enter__()
    for number in range(3):
        writer.add(drawn_pair(number, host=hosts(number)))
    with pytest.raises(IndexBusyError, match="writing pairs"):
        forget(tmp_path, [("domain", "example.org")])
    writer.__exit__(OSError)
    assert forget(tmp_path, [("domain", "example.org")]).pairs == 1
    assert left(tmp_path) == [drawn_pair(number, host=hosts(number)) for number in (1, 2)]


def test_a_damaged_shard_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    collected(tmp_path)
    content = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(content[: len(content) // 2])
    result = forget(tmp_path, [("domain", "example.org")])
    assert list(result.unread) == ["00000.tar"]
    assert result.shards == ["00001.tar"]
    assert (tmp_path / "00000.tar").read_bytes() == content[: len(content) // 2]


def test_what_is_no_request_changes_nothing(tmp_path: Path) -> None:
    pairs = collected(tmp_path)
    with pytest.raises(ArgumentError, match="no url"):
        forget(tmp_path, [("domain", "example.org"), ("url", "example.org")])
    assert left(tmp_path) == pairs
    with pytest.raises(DataError, match="no collection"):
        forget(tmp_path / "elsewhere", [("domain", "example.org")])


def index_of(folder: Path, pairs: list[Pair], prefix: str = "", *, root: str = "") -> LocalStore:
    """An index with the pictures and captions of a collection with four pairs a shard."""
    folder.mkdir(parents=True)
    store = LocalStore(IndexFolder(folder))
    fill(store, pairs, prefix, root)
    return store


def fill(store: Store, pairs: list[Pair], prefix: str, root: str) -> None:
    items = []
    for number, pair in enumerate(pairs):
        content = pair.picture.content
        path = f"{prefix}{number // 4:05}.tar/{number // 4:05}{number % 4:06}.jpg"
        digest = hashlib.blake2b(content, digest_size=16).digest()
        for part, text in enumerate((None, pair.captions[0].text)):
            id, modality = 1 + 2 * number + part, "text" if text else "picture"
            item = Item(id, path, "picture", modality, None, None, text, len(content), digest, Details())
            items.append(StoredItem(item, None, 1, 1))
    vectors = np.eye(len(items), 32, dtype=np.float16)
    facts = {"fingerprint": "f" * 16, "model": "bundled", "dim": 32, "root": root, "source": root, "version": "1"}
    with store.writing():
        store.set_facts(facts)
        store.put(Block(items, vectors))


def test_an_index_loses_pictures_and_captions(tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    store = index_of(tmp_path / "index", collected(out), root=str(out))
    result = forget(out, [("domain", "example.org")], indexes=[str(tmp_path / "index")])
    assert list(result.indexes.values()) == [6]
    assert store.ids().tolist() == [3, 4, 5, 6, 9, 10, 11, 12, 15, 16, 17, 18]


def test_an_index_in_postgresql_loses_pictures_and_captions(tmp_path: Path) -> None:
    out, uri = tmp_path / "pairs", server().uri()
    with closing(open_store(uri)) as store:
        fill(store, collected(out), "", str(out))
    result = forget(out, [("domain", "example.org")], indexes=[uri])
    assert list(result.indexes.values()) == [6]
    assert server().password not in str(result)
    with closing(open_store(uri)) as store:
        assert store.ids().tolist() == [3, 4, 5, 6, 9, 10, 11, 12, 15, 16, 17, 18]


def test_an_index_of_a_folder_above_is_known(tmp_path: Path) -> None:
    out = tmp_path / "sets" / "pairs"
    store = index_of(tmp_path / "index", collected(out), "sets/pairs/", root=str(tmp_path))
    forget(out, [("domain", "example.org")], indexes=[str(tmp_path / "index")])
    assert len(store.ids()) == 12


def test_an_index_is_looked_through_later(tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    store = index_of(tmp_path / "index", collected(out), root=str(out))
    forget(out, [("domain", "example.org")])
    forget(out, [("sha256", drawn_pair(1).picture.sha256)])
    assert forget(out, indexes=[str(tmp_path / "index")]).indexes == {store.name: 8}
    assert len(store.ids()) == 10


def test_an_index_of_other_pictures_keeps_them(tmp_path: Path) -> None:
    """Every collection has the same names of shards and keys."""
    out = tmp_path / "pairs"
    collected(out)
    store = index_of(tmp_path / "index", [drawn_pair(100 + number) for number in range(9)], root=str(out))
    result = forget(out, [("domain", "example.org")], indexes=[str(tmp_path / "index")])
    assert (result.pairs, result.indexes) == (3, {store.name: 0})
    assert len(store.ids()) == 18


def test_an_index_that_is_none_costs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    pairs = collected(out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexDirectoryError):
        forget(out, [("domain", "example.org")], indexes=[str(tmp_path / "empty")])
    assert left(out) == pairs
    assert not Forgotten(out).covers(domain="example.org")
    assert forget(out, [("domain", "example.org")]).pairs == 3


def run_on(folder: Path, *data: Path, init: Path | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    note_data(folder, [str(each) for each in data], str(init) if init else None)
    return folder


def test_models_are_named(tmp_path: Path) -> None:
    out, runs = tmp_path / "pairs", tmp_path / "runs"
    collected(out)
    with ShardWriter(tmp_path / "others") as writer:
        writer.add(drawn_pair(50))
    copy = tmp_path / "copy.tar"
    copy.write_bytes((out / "00001.tar").read_bytes())
    one, moved = run_on(runs / "1", out), run_on(runs / "2", copy)
    tuned = run_on(runs / "3", tmp_path / "others", init=one / "model")
    run_on(runs / "4", tmp_path / "others" / "00000.tar")
    first = forget(out, [("sha256", drawn_pair(0).picture.sha256)], runs=[runs])
    assert first.models == [TrainedModel(one, "shards"), TrainedModel(tuned, "model")]
    later = run_on(runs / "5", out)
    second = forget(out, [("sha256", drawn_pair(5).picture.sha256)], runs=[runs])
    assert [model.run for model in second.models] == [one, moved, tuned, later]
    third = forget(out, [("sha256", drawn_pair(1).picture.sha256)], runs=[runs])
    assert [model.run for model in third.models] == [one, tuned, later]
    assert [model.run for model in forget(out, runs=[runs]).models] == [one, moved, tuned, later]


def test_a_collection_without_removals_names_no_model(tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    collected(out)
    run_on(tmp_path / "runs" / "1", out)
    assert forget(out, [("domain", "unknown.org")], runs=[tmp_path / "runs"]).models == []


def test_the_record_of_a_removal_has_no_address(tmp_path: Path) -> None:
    collected(tmp_path)
    forget(tmp_path, [("domain", "example.org")])
    (line, *_) = (tmp_path / "removed.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == {"shard", "marks", "pictures"}
    assert "example" not in line


def test_tables_of_archives_lose_their_rows(tmp_path: Path) -> None:
    pairs = collected(tmp_path)
    (tmp_path / "found").mkdir()
    with FoundTable(tmp_path / "found" / "a.parquet", "a.warc") as table:
        for pair in pairs:
            table.add(pair.found)
    forget(tmp_path, [("domain", "example.org")])
    assert len(list(read_found(tmp_path / "found" / "a.parquet"))) == 6
    assert b"example.org" not in (tmp_path / "found" / "a.parquet").read_bytes()
