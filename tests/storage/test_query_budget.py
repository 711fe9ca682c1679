"""Questions to a catalog end, whatever its tables are like: no table here is bad, limits are lowered instead."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from index_model import InlineReaders, PixelModel, draw

from diptych.cli import FAILED, OK
from diptych.errors import IndexDamagedError
from diptych.index.catalog import recovery
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.schema import connect
from diptych.index.local import LocalIndex, open_index
from diptych.media.reading import readers
from diptych.storage import query_budget
from diptych.storage.directory import IndexDirectory
from diptych.storage.query_budget import BudgetedConnection
from tests.conftest import Cli

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
SHORT = ENDLESS.replace("FROM n)", "FROM n WHERE i < 4000)")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalIndex]:
    """Of forty pictures."""
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: PixelModel())
    for seed in range(40):
        draw(tmp_path / "pictures" / f"{seed}.png", seed)
    with open_index(tmp_path / "pictures", open_model=lambda name: PixelModel()) as index:
        index.update()
        yield index


@pytest.fixture
def few(index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps for a few rows alone."""
    index.close()
    for name, number in (("EVERY", 50), ("_LEAST", 1000), ("_A_BYTE", 0)):
        monkeypatch.setattr(query_budget, name, number)


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[BudgetedConnection]:
    monkeypatch.setattr(query_budget, "_LEAST", 200_000)
    with closing(sqlite3.connect(":memory:", factory=BudgetedConnection)) as db:
        db.bound(lambda: 100_000)
        yield db


def test_a_question_without_end_is_given_up(db: BudgetedConnection) -> None:
    with pytest.raises(sqlite3.DatabaseError, match="more rows than a file of its size can have"):
        db.execute(ENDLESS)
    assert db.is_exhausted


def test_each_question_has_as_much(db: BudgetedConnection) -> None:
    for _ in range(20):
        with db.counted():
            assert db.execute(SHORT).fetchone() == (4000,)


def test_to_write_may_take_as_long_as_it_takes(db: BudgetedConnection) -> None:
    with db.counted():
        db.execute("CREATE TABLE numbers(n)")
    db.execute(f"INSERT INTO numbers {SHORT.replace('4000', '100000').replace('count(*)', 'i')}")


def test_a_larger_file_has_more(db: BudgetedConnection) -> None:
    longer = SHORT.replace("4000", "40000")
    with pytest.raises(sqlite3.DatabaseError):
        db.execute(longer)
    db.bound(lambda: 10**9)
    with db.counted():
        assert db.execute(longer).fetchone() == (40000,)


def test_what_interrupts_it_else_is_told_apart(db: BudgetedConnection) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    db.set_progress_handler(interrupted, 100)
    with pytest.raises(sqlite3.OperationalError):
        db.execute(ENDLESS)
    assert not db.is_exhausted


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("command", ["search", "index", "duplicates", "doctor"])
def test_a_catalog_of_too_many_rows_is_named_as_damaged(cli: Cli, index: LocalIndex, command: str) -> None:
    words = {"search": ["search", "a star"], "index": ["index"], "duplicates": ["index", "duplicates"]}
    said = cli(*words.get(command, [command]), index.root)
    assert said.code == FAILED
    assert f"{index.catalog_path} returns more rows than a file of its size can" in said.out + said.err


def test_mending_ends_with_what_it_came_to(index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    index.close()
    for name, number in (("EVERY", 20), ("_LEAST", 100), ("_A_BYTE", 0)):
        monkeypatch.setattr(query_budget, name, number)
    with closing(connect(index.catalog_path, "immutable", recover=False)) as db:
        *rows, last = recovery._readable(db, "files", ["id"])
    assert (last, rows[:2]) == (None, [(1,), (2,)])
    assert len(rows) < 40


def test_no_copy_is_made_that_the_disk_has_no_room_for(
    cli: Cli, index: LocalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.close()
    content = b"no catalog" + index.catalog_path.read_bytes()[10:]
    index.catalog_path.write_bytes(content)
    before = sorted(index.index_dir.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(IndexDirectory, "free_bytes", lambda _: len(content) - 1)
        said = cli("doctor", index.root, "--repair")
    assert (said.code, index.catalog_path.read_bytes()) == (FAILED, content)
    assert "more than the disk has free" in said.out
    assert sorted(index.index_dir.iterdir()) == before
    assert cli("doctor", index.root, "--repair").code == OK


def test_items_out_of_order_are_not_gone_through_for_ever(index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, dim = index.catalog, index.catalog.dim
    vector = np.zeros(dim, "<f2").tobytes()
    monkeypatch.setattr(Catalog, "dim", dim)
    monkeypatch.setattr(catalog, "rows", lambda *asked: [(1, vector), (2, vector), (1, vector)])
    with pytest.raises(IndexDamagedError, match="not in order"):
        list(catalog.vectors("picture"))
