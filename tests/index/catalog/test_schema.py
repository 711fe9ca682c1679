"""A catalog has the tables and triggers that diptych makes, and no others, because each is a program of its maker."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from index_model import InlineReaders, PixelModel, draw
from legacy_catalog import as_earlier

from diptych.cli import FAILED, OK
from diptych.errors import IndexDamagedError, IndexNewerError, IndexUnsafeError
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.recovery import facts_of
from diptych.index.catalog.schema import connect, known_schemas, objects
from diptych.index.local import LocalIndex, open_index
from diptych.media.reading import readers
from tests.conftest import Cli

# What somebody may have put into a catalog
MORE = (
    "CREATE TRIGGER extra AFTER UPDATE ON facts BEGIN DELETE FROM files; END",
    "CREATE TRIGGER 'two\n\x1b[2Jlines' AFTER DELETE ON files BEGIN DELETE FROM items; END",
    "CREATE VIEW extra AS SELECT * FROM files",
    "CREATE TABLE extra(a)",
    "CREATE INDEX extra ON files(abs(size))",
    "CREATE VIRTUAL TABLE extra USING fts5(a)",
    "ALTER TABLE files ADD COLUMN extra GENERATED ALWAYS AS (hex(size))",
    "ALTER TABLE items ADD COLUMN extra DEFAULT 1",
    "ANALYZE",
)
OTHER = (
    ("DROP TRIGGER item_added", "CREATE TRIGGER item_added AFTER INSERT ON items BEGIN DELETE FROM files; END"),
    ("DROP INDEX items_by_file", "CREATE INDEX items_by_file ON items(file)"),
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalIndex]:
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    model = PixelModel()
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: model)
    for seed in range(3):
        draw(tmp_path / f"{seed}.png", seed)
    with open_index(tmp_path, model=model) as made:
        made.update()
        made.close()
        yield made


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize("statements", [*((one,) for one in MORE), *OTHER], ids=lambda one: one[-1][:30])
def test_foreign_tables_and_triggers_are_refused_and_repaired(
    cli: Cli, index: LocalIndex, statements: tuple[str, ...]
) -> None:
    change(index.catalog_path, *statements)
    with pytest.raises(IndexDamagedError, match=r"diptych\.examine\(repair=True\).*reindex=True"):
        Catalog.open(index.catalog_path)
    for command in (("index",), ("search", "a star"), ("doctor",)):
        said = cli(*command, index.root)
        assert said.code == FAILED
        assert "\x1b" not in said.err + said.out
    said = cli("doctor", index.root, "--repair")
    assert said.code == OK
    assert "3 files were recovered" in said.out
    with Catalog.open(index.catalog_path) as catalog:
        assert objects(catalog._db) == known_schemas()[0]
    assert cli("index", index.root).code == OK
    assert len(index.catalog.files()) == 3


@pytest.mark.parametrize("statement", [MORE[0], MORE[2], MORE[5]])
def test_a_foreign_object_is_named(index: LocalIndex, statement: str) -> None:
    change(index.catalog_path, statement)
    with pytest.raises(IndexUnsafeError, match=r"has the (trigger|view|table) 'extra.*, which diptych did not make"):
        Catalog.open(index.catalog_path)


def test_facts_in_a_view_are_not_read(index: LocalIndex) -> None:
    """A view could return anything, at any time."""
    change(
        index.catalog_path,
        "DROP TABLE facts",
        "CREATE VIEW facts(key, value) AS SELECT 'format', 99",
    )
    assert facts_of(index.catalog_path) == {}
    with pytest.raises(IndexDamagedError, match="is not a catalog of diptych"):
        Catalog.open(index.catalog_path)


@pytest.mark.parametrize("table", ["files", "items"])
def test_rows_of_a_view_are_not_recovered(cli: Cli, index: LocalIndex, table: str) -> None:
    """The doctor reads only our tables."""
    columns = [row[1] for row in index.catalog.rows(f"PRAGMA table_info({table})")]
    index.close()
    change(
        index.catalog_path,
        f"DROP TABLE {table}",
        f"CREATE VIEW {table}({', '.join(columns)}) AS SELECT {', '.join('77' for _ in columns)}",
    )
    assert cli("doctor", index.root, "--repair").code == OK
    if index.exists:
        assert not {77, "77"} & {*index.catalog.files(), *(one.id for one in index.catalog.files().values())}
    assert cli("index", index.root).code == OK
    assert len(index.catalog.files()) == 3


def test_each_format_is_known(index: LocalIndex) -> None:
    """The current one, the earlier one, and the result of a conversion; whitespace does not matter."""
    as_earlier(index.catalog_path)
    with Catalog.open(index.catalog_path) as catalog:
        assert objects(catalog._db) == known_schemas()[1]
        catalog.upgrade()
        assert objects(catalog._db) == known_schemas()[2]
    with Catalog.open(index.catalog_path) as catalog:
        assert catalog.facts()["format"] == 2
        assert len(catalog.files()) == 3


@pytest.mark.parametrize("form", [0, 1, -1])
def test_a_format_that_is_not_that_of_its_tables(index: LocalIndex, form: int) -> None:
    change(index.catalog_path, f"UPDATE facts SET value = {form} WHERE key = 'format'")
    with pytest.raises(IndexDamagedError, match=r"tables of another format|its format is (0|-1)"):
        Catalog.open(index.catalog_path)


def test_a_later_format_may_have_other_tables(index: LocalIndex) -> None:
    change(index.catalog_path, MORE[3], "UPDATE facts SET value = 3 WHERE key = 'format'")
    with pytest.raises(IndexNewerError, match="format 3"):
        Catalog.open(index.catalog_path)


def test_what_a_connection_may_not_do(index: LocalIndex) -> None:
    with closing(connect(index.catalog_path, "rw")) as db:
        assert db.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert db.execute("PRAGMA cell_size_check").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="too many attached"):
            db.execute("ATTACH ':memory:' AS other")
        with pytest.raises(sqlite3.OperationalError, match="not authorized"):
            db.execute("SELECT load_extension('x')")
        with pytest.raises((sqlite3.DataError, sqlite3.OperationalError), match="too big"):
            db.execute("SELECT length(zeroblob(100000000))").fetchone()
    for mode in ("ro", "immutable"):
        with closing(connect(index.catalog_path, mode)) as db, pytest.raises(sqlite3.OperationalError):
            db.execute("DELETE FROM files")


def test_a_file_s_items_go_with_it_and_are_counted(index: LocalIndex) -> None:
    """Triggers are nested as deeply as ours."""
    before = index.catalog.generation
    index.catalog.forget([1, 2])
    assert index.catalog.generation == before + 2
    assert np.array_equal(index.catalog.ids("picture"), [3])
