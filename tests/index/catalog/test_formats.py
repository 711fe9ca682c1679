"""A catalog of an earlier version can be opened and searched, and is converted in one step."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from index_model import InlineReaders, PixelModel, draw, expected
from legacy_catalog import as_earlier

from diptych.index.catalog import schema
from diptych.index.catalog.catalog import Catalog
from diptych.index.local import LocalIndex, open_index
from diptych.media.items import IndexCounts
from diptych.media.reading import readers
from diptych.storage.query_budget import BudgetedConnection


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PixelModel:
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    return PixelModel()


@pytest.fixture
def earlier(model: PixelModel, tmp_path: Path) -> LocalIndex:
    """An index of five pictures, a text and a broken file, as version 0.1.0 wrote it."""
    root = tmp_path / "pictures"
    for seed in range(5):
        draw(root / f"{seed}.png", seed)
    (root / "notes.md").write_text("One.\n\nTwo.\n")
    (root / "broken.jpg").write_bytes(b"no picture")
    index = open_index(root, model=model)
    index.update()
    index.close()
    as_earlier(index.catalog_path)
    return open_index(root, model=model)


def columns(path: Path) -> list[str]:
    db = sqlite3.connect(path)
    found = [row[1] for row in db.execute("PRAGMA table_info(files)")]
    db.close()
    return found


def test_an_earlier_catalog_is_searched_as_it_is(earlier: LocalIndex, model: PixelModel) -> None:
    before = earlier.catalog_path.read_bytes()
    assert earlier.catalog.counts() == IndexCounts(files=7, pictures=5, texts=2, failed=1)
    assert earlier.catalog.partial() == {}
    assert all(one.outdated for one in earlier.catalog.files().values())
    found = earlier.search(expected(earlier.root / "3.png", model))
    assert found.hits[0].path.name == "3.png"
    assert earlier.catalog_path.read_bytes() == before


def test_an_update_converts_an_earlier_catalog(earlier: LocalIndex, model: PixelModel) -> None:
    ids, model.embedded = earlier.catalog.matching("1").tolist(), 0
    done = earlier.update()
    assert earlier.catalog.facts()["format"] == schema.FORMAT
    assert columns(earlier.catalog_path)[-3:] == ["partial", "reading", "tokenizing"]
    assert earlier.catalog.rows("PRAGMA integrity_check") == [("ok",)]
    assert (done.unchanged, list(done.failures)) == (6, ["broken.jpg"])
    assert earlier.catalog.matching("1").tolist() == ids
    assert model.embedded == 0  # nothing that is read as it was
    assert earlier.update().is_unchanged


def test_a_killed_conversion_leaves_a_complete_catalog(
    earlier: LocalIndex, model: PixelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a SIGKILL between any two of its statements: the files on disk are copied and opened."""
    copies = []

    class Killed(BudgetedConnection):
        def execute(self, sql, *parameters):  # type: ignore[no-untyped-def, override]
            if sql.startswith(("ALTER", "UPDATE facts SET value = ? WHERE key = 'format'")) or sql == "COMMIT":
                super().execute("PRAGMA cache_size = 1")
                copies.append(shutil.copytree(earlier.index_dir, tmp_path / f"killed-{len(copies)}"))
            return super().execute(sql, *parameters)

    real = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", lambda *a, **k: real(*a, **k | {"factory": Killed}))
        with Catalog.open(earlier.catalog_path) as catalog:
            catalog.upgrade()
    assert len(copies) == 5
    for copy in copies:
        with Catalog.open(copy / "catalog.sqlite") as catalog:
            assert catalog.rows("PRAGMA integrity_check") == [("ok",)]
            assert catalog.facts()["format"] in (1, schema.FORMAT)
            catalog.upgrade()
            assert catalog.counts() == IndexCounts(files=7, pictures=5, texts=2, failed=1)
            assert set(catalog.files()) == {"0.png", "1.png", "2.png", "3.png", "4.png", "notes.md", "broken.jpg"}


def test_two_processes_at_once(earlier: LocalIndex) -> None:
    with Catalog.open(earlier.catalog_path) as one, Catalog.open(earlier.catalog_path) as other:
        one.upgrade()
        other.upgrade()
        assert other.facts()["format"] == schema.FORMAT
        assert len(other.files()) == 7


def test_partly_read_files_are_stored_and_reported(
    model: PixelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych.media.reading import file

    def half(content, path, spec):  # type: ignore[no-untyped-def]
        return whole(content, path, spec)._replace(partial="its last 5 % are missing" if path.endswith("1.png") else "")

    whole = file.read_photograph
    draw(tmp_path / "pictures" / "1.png", 1)
    draw(tmp_path / "pictures" / "2.png", 2)
    index = open_index(tmp_path / "pictures", model=model)
    with monkeypatch.context() as patched:
        patched.setattr(file, "read_photograph", half)
        assert index.update().partial == {"1.png": "its last 5 % are missing"}
    again = index.update()
    assert again.partial == {"1.png": "its last 5 % are missing"}
    assert again.failures == {}
    assert index.catalog.counts() == IndexCounts(2, 2, 0, 0, partial=1)
    np.testing.assert_allclose(
        index.catalog.vectors_of(index.catalog.matching("path = '1.png'"))[0],
        expected(index.root / "1.png", model), atol=1e-3,
    )  # fmt: skip
    draw(index.root / "1.png", 3)
    assert index.update().partial == {}
