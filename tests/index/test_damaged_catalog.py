"""Anything instead of a catalog: `doctor --repair` and `index --reindex` recover, and report what was lost."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from index_model import InlineReaders, PixelModel, draw, expected
from legacy_catalog import as_earlier

from diptych.cli import FAILED, OK
from diptych.errors import IndexDamagedError, IndexNewerError
from diptych.index.catalog.catalog import Catalog
from diptych.index.doctor import examine
from diptych.index.local import LocalIndex, open_index
from diptych.index.model import next_facts
from diptych.media.reading import readers
from tests.conftest import Cli

PICTURES = 12
OLD_S = 1_600_000_000


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with their index."""
    root = tmp_path_factory.mktemp("album")
    for seed in range(PICTURES):
        draw(root / f"{seed}.png", seed)
        os.utime(root / f"{seed}.png", (OLD_S + seed,) * 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(readers, "ReaderPool", InlineReaders)
        with open_index(root, model=PixelModel(), exclude=["*.gif"]) as made:
            made.update()
    return root


@pytest.fixture
def index(album: Path, model: PixelModel, tmp_path: Path) -> LocalIndex:
    return open_index(shutil.copytree(album, tmp_path / "pictures"))


def zeroed(path: Path) -> None:
    """The first page, where all tables begin, and the one with the model's name."""
    with open(path, "r+b") as file:
        file.write(bytes(20_000))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_to_its_first_bytes(path: Path) -> None:
    os.truncate(path, 1000)


def a_text(path: Path) -> None:
    path.write_text("Dear diary, this is not a catalog.\n" * 2000)


def noise(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("mine")


def another_programs(path: Path) -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks(id INTEGER PRIMARY KEY, files, facts)")
        db.execute("INSERT INTO bookmarks VALUES (1, 2, 3)")
    db.close()


def sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        db = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            db.execute(statement)
        db.close()

    change.__name__ = statements[-1]
    return change


# What happens to a catalog, and how many of its files are saved
DAMAGE = (
    (zeroed, PICTURES), (cut, 0), (cut_to_its_first_bytes, 0), (a_text, 0), (noise, 0), (another_programs, 0),
    (sql("DROP TABLE items"), 0), (sql("DROP TABLE files"), 0), (sql("DROP TABLE facts"), PICTURES),
    (sql("DROP TRIGGER item_added"), PICTURES), (sql("DROP INDEX items_by_file"), PICTURES),
    (sql("DELETE FROM facts WHERE key = 'dim'"), PICTURES),
    (sql("UPDATE facts SET value = 'x' WHERE key = 'dim'"), PICTURES), (emptied, 0), (a_folder, 0),
)  # fmt: skip


def check(index: LocalIndex, model: PixelModel) -> None:
    """The index works again."""
    assert examine(index) == []
    items = index.catalog.items(index.catalog.ids("picture"))
    assert len(items) == PICTURES
    for item in items:
        np.testing.assert_allclose(
            index.catalog.vectors_of([item.id])[0], expected(index.root / item.path, PixelModel()), atol=1e-3
        )


@pytest.mark.parametrize(("damage", "saved"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_the_doctor_repairs_a_damaged_catalog(
    cli: Cli, index: LocalIndex, model: PixelModel, damage: Callable[[Path], None], saved: int
) -> None:
    damage(index.catalog_path)
    said = cli("doctor", index.root, "--json")
    assert said.code == FAILED
    assert [finding["mended"] for finding in said.json["findings"]] == [False] * len(said.json["findings"])
    said = cli("doctor", index.root, "--repair")
    assert said.code == OK, said.out
    if saved:
        assert ("1 file was recovered" if saved == 1 else f"{saved} files were recovered") in said.out
    elif damage is not cut:
        assert any(words in said.out for words in ("makes a new one", "it is now", "0 files were recovered"))
    model.embedded = 0
    assert cli("index", index.root).code == OK
    if damage is not cut:
        assert model.embedded == PICTURES - saved
    check(index, model)
    assert cli("search", "a star", index.root, "--paths").code == OK


@pytest.mark.parametrize("damage", [damage for damage, _ in DAMAGE], ids=lambda damage: damage.__name__)
def test_a_reindexing_replaces_a_damaged_catalog(
    cli: Cli, index: LocalIndex, model: PixelModel, damage: Callable[[Path], None]
) -> None:
    damage(index.catalog_path)
    said = cli("index", index.root, "--reindex", "--json")
    assert said.code == OK, said.err
    assert said.json["added"] == PICTURES
    check(index, model)


def test_a_file_of_another_program_is_kept(cli: Cli, index: LocalIndex) -> None:
    a_folder(index.catalog_path)
    cli("doctor", index.root, "--repair")
    assert (index.index_dir / "catalog.sqlite.broken" / "mine.txt").read_text() == "mine"
    another_programs(index.catalog_path)
    said = cli("doctor", index.root, "--repair")
    assert "catalog.sqlite.broken-2" in said.out
    with sqlite3.connect(index.index_dir / "catalog.sqlite.broken-2") as db:
        assert db.execute("SELECT * FROM bookmarks").fetchall() == [(1, 2, 3)]
    db.close()


def test_exclude_patterns_survive(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    """If SQLite can still read them."""
    sql("DROP TRIGGER item_added")(index.catalog_path)
    cli("doctor", index.root, "--repair")
    assert index.rules.exclude == ("*.gif",)


def test_errors_of_other_commands_name_the_remedy(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    for damage in (zeroed, a_folder):
        damage(index.catalog_path)
        for command in (("index", index.root), ("search", "a star", index.root)):
            said = cli(*command)
            assert said.code == FAILED
            assert "diptych doctor FOLDER --repair" in said.err
            assert "--reindex" in said.err
            assert "Traceback" not in said.err


def test_a_first_page_is_repaired_in_an_earlier_catalog_too(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    as_earlier(index.catalog_path)
    zeroed(index.catalog_path)
    said = cli("doctor", index.root, "--repair")
    assert f"{PICTURES} files were recovered" in said.out
    assert all(one.outdated for one in index.catalog.files().values())


def test_vectors_of_another_model_are_detected(
    cli: Cli, index: LocalIndex, model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the catalog no longer records their model, its caches do; without these, nothing does."""
    zeroed(index.catalog_path)
    other = PixelModel("pixels-2")
    with monkeypatch.context() as patched:
        patched.setattr("diptych.embedder.load", lambda name, **options: other)
        said = cli("doctor", index.root, "--repair")
    assert said.code == FAILED
    assert "Name that model with --model, or embed everything again with diptych index FOLDER --reindex." in said.out
    shutil.rmtree(index.index_dir / "nearest-picture")
    said = cli("doctor", index.root, "--repair")
    assert said.code == OK
    assert "nothing could be recovered: its vectors, its model's name and its exclusions are lost" in said.out


def test_a_later_format_is_replaced_only_on_request(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    sql("UPDATE facts SET value = 99 WHERE key = 'format'")(index.catalog_path)
    before = index.catalog_path.read_bytes()
    with pytest.raises(IndexNewerError, match=r"format 99.*Update diptych.*index.update\(reindex=True\)"):
        _ = index.catalog
    said = cli("doctor", index.root, "--repair")
    assert said.code == FAILED
    assert "update diptych" in said.out
    assert index.catalog_path.read_bytes() == before
    assert cli("index", index.root).code == FAILED
    assert cli("index", index.root, "--reindex").code == OK
    check(index, model)


@pytest.mark.parametrize("name", ["catalog.sqlite-journal", "catalog-new.sqlite", "lock", "nearest-picture"])
def test_foreign_files_with_the_names_of_journals(cli: Cli, index: LocalIndex, model: PixelModel, name: str) -> None:
    path = index.index_dir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_text("x") if name == "nearest-picture" else path.mkdir()
    draw(index.root / "more.png", 77)
    (index.root / "0.png").unlink()
    cli("doctor", index.root, "--repair")
    assert cli("index", index.root).code == OK
    check(index, model)


@pytest.mark.parametrize("content", [b"", bytes(512), b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504)])
def test_stale_journals(cli: Cli, index: LocalIndex, model: PixelModel, content: bytes) -> None:
    """Empty, zeroed, or truncated after the magic number: every command works on the valid catalog."""
    (index.index_dir / "catalog.sqlite-journal").write_bytes(content)
    assert cli("index", index.root).code == OK
    check(index, model)
    (index.index_dir / "catalog.sqlite-journal").write_bytes(content)
    zeroed(index.catalog_path)
    assert cli("index", index.root, "--reindex").code == OK
    check(index, model)


def test_the_doctor_moves_a_journal_of_noise_aside(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    """SQLite would apply it; a new index replaces it, too."""
    journal, noise = index.index_dir / "catalog.sqlite-journal", b"noise" * 1000
    journal.write_bytes(noise)
    said = cli("index", index.root)
    assert said.code == FAILED
    assert f"{journal} is not an SQLite journal" in said.err
    assert journal.read_bytes() == noise
    assert cli("doctor", index.root, "--repair").code == OK
    assert journal.with_name(f"{journal.name}.broken").read_bytes() == noise
    assert cli("index", index.root).code == OK
    check(index, model)
    journal.write_bytes(noise)
    assert cli("index", index.root, "--reindex").code == OK
    check(index, model)


def test_a_damaged_unfinished_catalog_is_started_again(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    index.on_disk.create(
        next_facts(index.model, index.root, follow_links=False), index.on_disk.reindex_catalog_path
    ).close()
    zeroed(index.on_disk.reindex_catalog_path)
    assert cli("index", index.root, "--reindex").code == OK
    check(index, model)


def test_the_error_in_python(index: LocalIndex) -> None:
    zeroed(index.catalog_path)
    with pytest.raises(
        IndexDamagedError, match=r"is damaged.*diptych\.examine\(repair=True\).*index.update\(reindex=True\)"
    ):
        Catalog.open(index.catalog_path)
    assert index.damage is not None
    index.update(reindex=True)
    assert index.damage is None


@pytest.mark.parametrize("seed", range(6))
def test_bytes_that_changed_anywhere(cli: Cli, index: LocalIndex, model: PixelModel, seed: int) -> None:
    """In any bytes, the schema included: repair works, and no picture gets another's vector."""
    dice = np.random.default_rng(seed)
    content = np.fromfile(index.catalog_path, np.uint8)
    offsets = dice.integers(0, (300, 16_384, 40_000)[seed % 3], 60)
    content[offsets] = dice.integers(0, 256, 60)
    content.tofile(index.catalog_path)
    assert cli("doctor", index.root, "--repair").code == OK
    assert cli("index", index.root).code == OK
    check(index, model)


def test_a_column_that_lost_its_name(cli: Cli, index: LocalIndex, model: PixelModel) -> None:
    content = index.catalog_path.read_bytes()
    for name in (b"mtime_ns\xff", b"mtime_nx "):
        index.catalog_path.write_bytes(content.replace(b"mtime_ns ", name))
        assert "doctor FOLDER --repair" in cli("index", index.root).err
        assert f"{PICTURES} files were recovered" in cli("doctor", index.root, "--repair").out
        check(index, model)
