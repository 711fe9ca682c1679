"""A catalog that keeps what it read answers as one that reads everything."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.index.catalog import known_items
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.known_items import KnownItems
from diptych.index.filters.filters import Filters
from diptych.index.search.shots import copies_of
from diptych.index.stores.local import LocalStore
from diptych.media.items import CatalogEntry, Details, File, FileContents, Part
from diptych.untrusted.links import RootBoundary

DIM = 4


def entry(path: str, digest: bytes, caption: str = "") -> CatalogEntry:
    part = Part(pixels=np.zeros((1, 1, 3), np.uint8))
    vector = np.eye(DIM, dtype=np.float16)[:1]
    return CatalogEntry(FileContents(File(path, "picture", 1, 1), digest, Details(caption=caption), (part,)), vector)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "catalog.sqlite", fingerprint="f", model="m", dim=DIM) as made:
        made.put([entry(f"{name}.jpg", name.encode()) for name in "abc"])
        made.known = KnownItems()
        yield made


def store_of(catalog: Catalog) -> LocalStore:
    return LocalStore(SimpleNamespace(catalog=catalog, subfolder=""))  # type: ignore[arg-type]


def read_ids(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gathers the ids that are read from the file."""
    read, rows_by_id = list[int](), catalog.rows_by_id

    def rows(sql: str, ids: Any) -> list[Any]:
        read.extend(ids)
        return rows_by_id(sql, ids)

    monkeypatch.setattr(catalog, "rows_by_id", rows)
    return read


def test_items_are_read_once_until_the_catalog_changes(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_ids(catalog, monkeypatch)
    first, again = catalog.items([1, 2]), catalog.items([2, 3, 1, 1, 9])
    assert [item.id for item in first] == [1, 2]
    assert [item.path for item in again] == ["b.jpg", "c.jpg", "a.jpg", "a.jpg"]
    assert read == [1, 2, 3, 9]
    catalog.put([entry("a.jpg", b"a", caption="new")])
    assert catalog.items([1])[0].details.caption == "new"


def test_what_another_process_removes_is_gone(catalog: Catalog) -> None:
    catalog.items([1, 2])
    with Catalog.open(catalog.path) as other:
        other.forget([1])
    assert [item.id for item in catalog.items([1, 2])] == [2]


def test_a_copy_that_comes_later_is_listed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    items = catalog.items([1, 2, 3])
    assert (
        copies_of(store_of(catalog), items, Filters()) == copies_of(store_of(catalog), items, Filters()) == [[], [], []]
    )
    monkeypatch.setattr(catalog, "matching", lambda *_: pytest.fail("they are known to have none"))
    assert copies_of(store_of(catalog), items[1:], Filters()) == [[], []]
    monkeypatch.undo()
    catalog.put([entry("copy of a.jpg", b"a")])
    (same, _, _) = copies_of(store_of(catalog), items, Filters())
    assert [item.path for item in same] == ["copy of a.jpg"]


def test_copies_that_are_asked_for_together_are_found_alone(catalog: Catalog) -> None:
    """Neither is listed for the other, so neither is known to have none."""
    catalog.put([entry("copy of a.jpg", b"a"), entry("b.nef", b"raw")])
    items = {item.path: item for item in catalog.items(catalog.matching("1").tolist())}
    assert copies_of(store_of(catalog), list(items.values()), Filters()) == [[]] * 5
    for one, other in (("a.jpg", "copy of a.jpg"), ("copy of a.jpg", "a.jpg"), ("b.jpg", "b.nef")):
        assert [[copy.path for copy in some] for some in copies_of(store_of(catalog), [items[one]], Filters())] == [
            [other]
        ]


def test_each_condition_has_its_own_copies(catalog: Catalog) -> None:
    catalog.put([entry("b/a.jpg", b"a")])
    (item,) = catalog.items([1])
    assert copies_of(store_of(catalog), [item], Filters(path="[!b]*/**")) == [[]]
    assert len(copies_of(store_of(catalog), [item], Filters(path="b/**"))[0]) == 1


def test_links_are_looked_at_again_after_a_while(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    catalog.inside = lambda: RootBoundary(root)
    assert len(catalog.items([1])) == 1
    (root / "a.jpg").symlink_to(tmp_path)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + known_items.FRESH_S + 1)
    assert catalog.items([1]) == []
    assert catalog.refused == {1: "a.jpg"}


def test_no_more_are_kept_than_wanted(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_items, "MOST_ITEMS", 1)
    catalog.items([1, 2])
    read = read_ids(catalog, monkeypatch)
    assert [item.id for item in catalog.items([2, 3])] == [2, 3]
    assert read == [2, 3]


def test_a_steady_index_sees_changes_after_its_block(indexed: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(indexed, tmp_path / "own")
    index = diptych.open_index(folder, model=tiny_model)
    with index.on_disk.steady():
        before = index.catalog.generation
        with Catalog.open(index.catalog_path) as other:
            other.forget([1])
        assert index.catalog.generation == before
        assert len(index.search("a star", limit=9).hits) == 2
    assert index.catalog.generation > before
    with diptych.open_index(tmp_path, model=tiny_model).on_disk.steady():  # there is none
        pass
