"""The catalog stores and returns files in complete transactions, with names of any bytes."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import IndexBusyError, IndexDamagedError, IndexDirectoryError
from diptych.failures import Failure
from diptych.index.catalog import catalog as module
from diptych.index.catalog.catalog import Catalog
from diptych.media.items import CatalogEntry, Details, File, FileContents, IndexCounts, Part

DIM = 4


def entry(path: str, *vectors: int, digest: bytes | None = None, texts: int = 0, **details: object) -> CatalogEntry:
    """A file with one picture for each number (which is the position of the 1 in its vector), and some texts."""
    parts = [Part(pixels=np.zeros((1, 1, 3), np.uint8), at_s=float(at) if len(vectors) > 1 else None)
             for at in range(len(vectors))]  # fmt: skip
    parts += [Part(text=f"text {at} of {path}", line=at + 1) for at in range(texts)]
    matrix = np.eye(DIM, dtype=np.float16)[[*vectors, *[3] * texts]].reshape(-1, DIM)
    file = File(path, "picture" if not texts else "text", 100, 1)
    return CatalogEntry(FileContents(file, digest or path.encode()[:16], Details(**details), tuple(parts)), matrix)  # type: ignore[arg-type]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "catalog.sqlite", fingerprint="f", model="m", dim=DIM) as made:
        yield made


def test_stored_files_are_returned(catalog: Catalog) -> None:
    details = Details(4000, 3000, "2024-05-01T12:30:00", 52.5, -13.25, "Maker Model", "a dog", None)
    catalog.put([entry("a/b.jpg", 0, **vars(details)), entry("film.mp4", 1, 2, duration_s=2.5), entry("n.md", texts=2)])
    ids = catalog.matching("1")
    picture, first, second, text, other = catalog.items(ids)
    assert (picture.path, picture.modality, picture.details, picture.size) == ("a/b.jpg", "picture", details, 100)
    assert (first.at_s, second.at_s, first.details.duration_s) == (0.0, 1.0, 2.5)
    assert (text.text, text.line, text.modality) == ("text 0 of n.md", 1, "text")
    assert other.line == 2
    assert catalog.counts() == IndexCounts(files=3, pictures=3, texts=2, failed=0)
    np.testing.assert_array_equal(catalog.vectors_of(ids), np.eye(DIM)[[0, 1, 2, 3, 3]])
    assert [item.id for item in catalog.items(ids[::-1])] == ids[::-1].tolist()


def test_conditions_choose_items(catalog: Catalog) -> None:
    catalog.put([entry("2023/a.jpg", 0, width=10), entry("2024/b.jpg", 1, width=20), entry("2024/c.md", texts=1)])

    def paths(*asked: object) -> list[str]:
        return [item.path for item in catalog.items(catalog.matching(*asked))]  # type: ignore[arg-type]

    assert paths("path GLOB ?", ("2024/*",)) == ["2024/b.jpg", "2024/c.md"]
    assert paths("width >= :least AND items.modality = 'picture'", {"least": 20}) == ["2024/b.jpg"]
    assert paths("width > 100") == []
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        catalog.matching("colour = 'red'")


def test_vectors_are_read_by_block_and_modality(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 3)
    catalog.put([entry(f"{at}.jpg", at % DIM) for at in range(8)] + [entry("t.md", texts=1)])
    blocks = list(catalog.vectors("picture"))
    assert [len(ids) for ids, _ in blocks] == [3, 3, 2]
    ids = np.concatenate([ids for ids, _ in blocks])
    assert (ids[:-1] < ids[1:]).all()
    np.testing.assert_array_equal(np.concatenate([vectors for _, vectors in blocks]), np.eye(DIM)[np.arange(8) % DIM])
    assert blocks[0][1].dtype == np.float16
    assert [len(ids) for ids, _ in catalog.vectors("picture", after=int(ids[5]))] == [2]
    assert [len(ids) for ids, _ in catalog.vectors("text")] == [1]


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 47} & set(name)))
def test_names_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, name: bytes) -> None:
    path = os.fsdecode(name) + ".jpg"
    catalog_path = tmp_path_factory.mktemp("catalog") / "c?#%.sqlite"  # characters that have a meaning in a URI
    with Catalog.create(catalog_path, fingerprint="f", model="m", dim=DIM) as catalog:
        catalog.put([entry(path, 0, digest=b"d", caption="caf\udce9")])
        assert list(catalog.files()) == [path]
        (item,) = catalog.items(catalog.matching("1"))
        assert (item.path, item.details.caption) == (path, "caf?")
        catalog.put([entry(path, 1, digest=b"e")])  # the same file, not another
        assert catalog.counts().files == 1
        catalog.restamp([(catalog.files()[path].id, File(path + "2", "picture", 1, 2), True)])
        assert list(catalog.files()) == [path + "2"]


def test_a_put_replaces_all_that_was_known(catalog: Catalog) -> None:
    catalog.put([entry("a.jpg", 0, 1, caption="old", digest=b"1")])
    before = set(catalog.matching("1").tolist())
    catalog.put([entry("a.jpg", 2, digest=b"2")])
    (item,) = catalog.items(catalog.matching("1"))
    assert item.details.caption is None
    assert item.id not in before
    assert catalog.ids("picture").tolist() == [item.id]


def test_items_that_stay_the_same_keep_their_ids(catalog: Catalog) -> None:
    catalog.put([entry("a.jpg", 0, caption="old")])
    ids, stamp, generation = catalog.matching("1"), catalog.stamp("picture"), catalog.generation
    catalog.put([entry("a.jpg", 0, caption="new")])
    assert catalog.matching("1").tolist() == ids.tolist()
    assert catalog.items(ids)[0].details.caption == "new"
    assert catalog.stamp("picture") == stamp
    assert catalog.generation > generation, "what is known of the file has changed"


def test_stamps_change_with_their_modality(catalog: Catalog) -> None:
    picture, text, generation = catalog.stamp("picture"), catalog.stamp("text"), catalog.generation
    catalog.put([entry("a.jpg", 0)])
    assert catalog.stamp("picture") != picture
    assert catalog.stamp("text") == text
    assert catalog.generation > generation
    picture = catalog.stamp("picture")
    catalog.forget([catalog.files()["a.jpg"].id])
    assert catalog.stamp("picture") != picture
    assert catalog.counts() == IndexCounts(0, 0, 0, 0)  # items go with their file


def test_copies_that_go_different_ways_have_different_stamps(catalog: Catalog, tmp_path: Path) -> None:
    """A cache written beside one copy must not be used with the other."""
    catalog.put([entry("a.jpg", 0)])
    (tmp_path / "copy.sqlite").write_bytes(catalog.path.read_bytes())
    with Catalog.open(tmp_path / "copy.sqlite") as copy:
        assert copy.stamp("picture") == catalog.stamp("picture")
        copy.put([entry("b.jpg", 1)])
        catalog.put([entry("c.jpg", 2)])
        assert copy.generation == catalog.generation
        assert copy.stamp("picture") != catalog.stamp("picture")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_put_is_stored_completely_or_not_at_all(catalog: Catalog, error: type[BaseException]) -> None:
    catalog.put([entry("a.jpg", 0)])

    def interrupted() -> Iterator[CatalogEntry]:
        yield entry("a.jpg", 1, digest=b"2")
        yield entry("b.jpg", 1)
        raise error

    with pytest.raises(error):
        catalog.put(interrupted())
    assert list(catalog.files()) == ["a.jpg"]
    np.testing.assert_array_equal(catalog.vectors_of(catalog.matching("1")), np.eye(DIM)[[0]])
    catalog.put([entry("b.jpg", 1)])  # and no transaction is left open
    assert catalog.counts().files == 2


def test_files_may_swap_names(catalog: Catalog) -> None:
    catalog.put([entry("a.jpg", 0), entry("b.jpg", 1)])
    known = catalog.files()
    swapped = [(known["a.jpg"].id, File("b.jpg", "picture", 7, 8), True),
               (known["b.jpg"].id, File("a.jpg", "picture", 9, 9), False)]  # fmt: skip
    catalog.restamp(swapped)
    found = {item.path: catalog.vectors_of([item.id])[0].argmax() for item in catalog.items(catalog.matching("1"))}
    assert found == {"b.jpg": 0, "a.jpg": 1}
    assert catalog.files()["b.jpg"][1:] == ("picture", 7, 8, 0, 0)
    assert catalog.files()["a.jpg"].mtime_ns is None  # not settled: to be looked at again


def test_failures_are_remembered(catalog: Catalog) -> None:
    file = File("a.jpg", "picture", 3, 4)
    failed = FileContents(file, b"d", failure=Failure("damaged", "a.jpg: damaged. It ..."))
    catalog.put([CatalogEntry(failed, np.empty((0, DIM), np.float16))])
    assert catalog.failures() == {"a.jpg": ("damaged", "a.jpg: damaged. It ...")}
    assert catalog.files()["a.jpg"].failed
    catalog.put([entry("a.jpg", 0)])
    assert catalog.failures() == {}


def test_parts_in_common(catalog: Catalog) -> None:
    catalog.put([entry("a.jpg", 2, digest=b"same"), entry("t.md", texts=2)])
    (copied,) = catalog.parts_of(entry("b.jpg", 0, digest=b"same").contents)
    assert copied[:3] == ("picture", None, None)
    assert copied[3].argmax() == 2
    texts = catalog.parts_of(entry("t.md", digest=b"other").contents)
    assert [text for _, _, text, _ in texts] == ["text 0 of t.md", "text 1 of t.md"]
    assert catalog.parts_of(entry("a.jpg", 0, digest=b"other").contents) == []


def test_a_catalog_whose_making_was_killed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a SIGKILL in the first commit, when pages are written and their journal still counts."""
    make, path = partial(Catalog.create, fingerprint="a", model="b", dim=DIM), tmp_path / "here" / "catalog.sqlite"

    def killed(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA cache_size = 1")
        db.execute("CREATE TABLE much(x)")
        db.execute("INSERT INTO much VALUES (randomblob(1000000))")
        shutil.copytree(path.parent, tmp_path / "left")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("diptych.index.catalog.catalog.create_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            make(path)
    left = tmp_path / "left" / "catalog.sqlite"
    assert sum(file.stat().st_size for file in left.parent.iterdir()) > 10**6
    assert not left.exists()
    make(left).close()
    assert [file.name for file in left.parent.iterdir()] == ["catalog.sqlite"]


def test_an_item_deleted_during_a_search(catalog: Catalog) -> None:
    assert catalog.items([10**6]) == []
    with pytest.raises(IndexBusyError, match="another process is updating it"):
        catalog.vectors_of([10**6])


def test_vectors_of_the_wrong_shape_are_refused(catalog: Catalog) -> None:
    wrong = entry("a.jpg", 0)._replace(vectors=np.zeros((2, DIM), np.float16))
    with pytest.raises(ValueError, match=r"\(2, 4\) vectors for 1 parts.*wanted \(1, 4\)"):
        catalog.put([entry("b.jpg", 0), wrong])
    assert catalog.counts().files == 0


def test_a_full_disk_is_an_error_and_loses_no_commit(catalog: Catalog) -> None:
    catalog.put([entry("a.jpg", 0)])
    (pages,) = catalog.rows("PRAGMA page_count")[0]
    catalog.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(IndexDirectoryError, match="index=DIR"):
        catalog.put([entry(f"{at}.jpg", 0, caption="long" * 100) for at in range(200)])
    assert list(catalog.files()) == ["a.jpg"]
    assert catalog.rows("PRAGMA integrity_check") == [("ok",)]


def test_files_that_are_not_a_catalog(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with pytest.raises(IndexDirectoryError, match="no index"):
        Catalog.open(path)
    path.touch()
    with pytest.raises(IndexDirectoryError, match="no index"):
        Catalog.open(path)
    path.write_bytes(b"noise" * 5000)
    with pytest.raises(IndexDamagedError, match="examine"):
        Catalog.open(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE files(id)")
    with pytest.raises(IndexDamagedError, match="not a catalog of diptych"):
        Catalog.open(path)


def test_a_later_format_is_not_read(catalog: Catalog) -> None:
    catalog.set_facts({"format": 99})
    with pytest.raises(IndexDamagedError, match=r"format 99.*Update diptych"):
        Catalog.open(catalog.path)


def test_readers_and_a_writer_at_once(catalog: Catalog) -> None:
    """A second connection reads between commits, and sees each commit at once."""
    with Catalog.open(catalog.path) as reader:
        for at in range(5):
            catalog.put([entry(f"{at}.jpg", 0)])
            assert reader.counts().files == at + 1
        blocks = reader.vectors("picture")
        next(blocks)
        catalog.put([entry("late.jpg", 0)])  # a search half-way holds nobody up
