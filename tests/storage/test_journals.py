"""What lies beside a catalog: a journal of a run of our own that was killed is replayed, all else SQLite never sees."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from diptych.errors import IndexUnsafeError
from diptych.index.catalog.catalog import Catalog
from diptych.index.local import LocalIndex
from diptych.media.items import CatalogEntry, Details, File, FileContents, Part
from diptych.storage.journals import MAGIC

DIM = 16
VECTORS = np.eye(DIM, dtype=np.float16)[:1]


def entry(number: int) -> CatalogEntry:
    contents = FileContents(
        File(f"{number}.png", "picture", 10, 1), number.to_bytes(16, "big"), Details(caption="x" * 3000),
        (Part(pixels=np.zeros((1, 1, 3), np.uint8)),),
    )  # fmt: skip
    return CatalogEntry(contents, VECTORS)


def create(path: Path, files: int) -> Catalog:
    catalog = Catalog.create(path, fingerprint="a", model="bundled", dim=DIM)
    catalog.put([entry(number) for number in range(files)])
    return catalog


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A catalog of thirty files as a process leaves it that is killed while it takes half of them away: pages of it are
    changed already, and its journal knows what they were."""
    with create(tmp_path / "made" / "catalog.sqlite", 30) as catalog, catalog.writing() as db:
        db.execute("PRAGMA cache_size = 1")  # so that pages are written before the transaction ends
        db.execute("DELETE FROM files WHERE id <= 15")
        shutil.copytree(catalog.path.parent, tmp_path / "killed")
    path = tmp_path / "killed" / "catalog.sqlite"
    assert Path(f"{path}-journal").read_bytes().startswith(MAGIC)
    return path


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.txt"
    path.write_text("to a friend")
    return path


def of_another_file(journal: bytes, other: Path) -> bytes:
    """A stand-in for a journal that names another file; the sum behind the name is wrong, and SQLite would pass the
    name by."""
    name = bytes(other)
    return journal + bytes(4) + name + len(name).to_bytes(4, "big") + bytes(4) + MAGIC


def test_a_killed_transaction_of_our_own_is_undone(killed: Path) -> None:
    with Catalog.open(killed) as catalog:
        assert catalog.counts().files == 30
        assert catalog.rows("PRAGMA integrity_check") == [("ok",)]
    assert not Path(f"{killed}-journal").exists()


def test_in_an_index_that_is_not_known_nothing_is_undone(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = killed.read_bytes(), Path(f"{killed}-journal").read_bytes()
    with pytest.raises(IndexUnsafeError, match=r"-journal shows that.*was not made here.*trust=True.*reindex=True"):
        Catalog.open(killed, recover=False)
    assert (killed.read_bytes(), Path(f"{killed}-journal").read_bytes()) == before
    index = LocalIndex(killed.parent.parent, index=killed.parent)
    with pytest.raises(IndexUnsafeError, match="trust=True accepts the index"):
        _ = index.catalog
    with index.locked(), pytest.raises(IndexUnsafeError):  # to write to it makes it nobody's own
        _ = index.catalog
    with monkeypatch.context() as patch:  # by an update that goes on
        patch.setattr("diptych.index.folder.is_held_elsewhere", lambda path: True)
        assert index.on_disk.recovers
    assert LocalIndex(killed.parent.parent, index=killed.parent, trust=True).catalog.counts().files == 30


def test_what_is_read_only_undoes_nothing(killed: Path) -> None:
    """SQLite itself refuses to read half a transaction."""
    before = Path(f"{killed}-journal").read_bytes()
    with pytest.raises((sqlite3.DatabaseError, ValueError)):
        Catalog.open(killed, readonly=True, recover=False)
    assert Path(f"{killed}-journal").read_bytes() == before


@pytest.mark.parametrize("beginning", ["a journal", "zeros", "nothing"])
def test_a_journal_that_names_another_file_is_not_seen_by_sqlite(killed: Path, letter: Path, beginning: str) -> None:
    """Whatever it begins with: a later transaction of ours may write over that, and end in the middle."""
    journal = Path(f"{killed}-journal")
    start = {"a journal": journal.read_bytes(), "zeros": bytes(4096), "nothing": b""}[beginning]
    journal.write_bytes(of_another_file(start, letter))
    before = killed.read_bytes(), journal.read_bytes()
    for readonly in (False, True):
        with pytest.raises(IndexUnsafeError, match=r"-journal is an SQLite journal that names another file"):
            Catalog.open(killed, readonly=readonly)
    assert (killed.read_bytes(), journal.read_bytes()) == before
    assert letter.read_text() == "to a friend"


@pytest.mark.parametrize(
    ("content", "why"), [(b"noise" * 99, "is not an SQLite journal"), (MAGIC[:4], "is not an SQLite journal")]
)
def test_what_is_no_journal(killed: Path, content: bytes, why: str) -> None:
    journal = Path(f"{killed}-journal")
    journal.write_bytes(content)
    with pytest.raises(IndexUnsafeError, match=why):
        Catalog.open(killed)
    assert journal.read_bytes() == content


def test_a_journal_that_is_longer_than_any(killed: Path) -> None:
    journal = Path(f"{killed}-journal")
    with open(journal, "r+b") as file:
        file.truncate(2**31)  # of nothing but zeros, which take no room
    with pytest.raises(IndexUnsafeError, match=r"2,147,483,648 bytes, more than"):
        Catalog.open(killed)


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_log_is_none_of_ours(tmp_path: Path, ending: str) -> None:
    create(tmp_path / "catalog.sqlite", 1).close()
    beside = tmp_path / f"catalog.sqlite{ending}"
    beside.write_bytes(b"")
    with pytest.raises(IndexUnsafeError, match="write-ahead log"):
        Catalog.open(tmp_path / "catalog.sqlite")
    assert beside.exists()


def test_a_catalog_in_write_ahead_mode(tmp_path: Path) -> None:
    """By a program for looking into databases, say."""
    create(tmp_path / "catalog.sqlite", 1).close()
    db = sqlite3.connect(tmp_path / "catalog.sqlite")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    with pytest.raises(IndexUnsafeError, match="write-ahead mode"):
        Catalog.open(tmp_path / "catalog.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.sqlite"]


@pytest.mark.parametrize("ending", ["", "-journal", "-wal"])
def test_what_a_new_catalog_is_made_beside(tmp_path: Path, letter: Path, ending: str) -> None:
    """What lies under the names that it has in the making goes, unread."""
    (tmp_path / f"catalog.sqlite.part{ending}").write_bytes(of_another_file(b"", letter))
    with create(tmp_path / "catalog.sqlite", 2) as catalog:
        assert catalog.counts().files == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog.sqlite", "letter.txt"]
