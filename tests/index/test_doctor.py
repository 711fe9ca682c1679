"""Problems that the doctor finds in an index and an installation, and their repair."""

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from index_model import PixelModel, draw

from diptych.cli import FAILED, OK, PARTLY
from diptych.errors import IndexDirectoryError, format_message
from diptych.index.doctor import examine
from diptych.index.local import LocalIndex, open_index
from diptych.index.model import next_facts
from diptych.installation import installation
from tests.conftest import Cli


@pytest.fixture
def index(model: PixelModel, tmp_path: Path) -> LocalIndex:
    root = tmp_path / "pictures"
    for seed in range(40):
        draw(root / f"{seed}.png", seed)
        os.utime(root / f"{seed}.png", (1_600_000_000 + seed,) * 2)
    made = open_index(root, model=model)
    made.update()
    return made


def change(index: LocalIndex, sql: str, *parameters: object) -> None:
    """Change a catalog as no program of ours does."""
    index.close()
    with sqlite3.connect(index.catalog_path) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(sql, parameters)
    db.close()


def check_repaired(index: LocalIndex, model: PixelModel, again: int) -> None:
    """After a repair nothing is wrong, and an update embeds `again` files and no more."""
    assert examine(index) == []
    model.embedded = 0
    assert index.update().added == again
    assert model.embedded == again
    assert index.catalog.counts().pictures == 40
    assert examine(index) == []


def test_a_valid_index(index: LocalIndex) -> None:
    assert examine(index) == []
    assert examine(index, repair=True) == []


def test_no_index(tmp_path: Path, model: PixelModel) -> None:
    with pytest.raises(IndexDirectoryError, match="diptych index FOLDER"):
        examine(open_index(tmp_path, model=model))


@pytest.mark.parametrize(
    "vector",
    [b"short", np.full(16, np.nan, "<f2").tobytes(), np.ones(16, "<f2").tobytes(), "text"],
    ids=["truncated", "NaN", "not unit", "not a blob"],
)
def test_invalid_vectors(index: LocalIndex, model: PixelModel, vector: object) -> None:
    change(index, "UPDATE items SET vector = ? WHERE id = 7", vector)
    (found,) = examine(index)
    assert found.problem.startswith("1 file has vectors")
    assert not found.repaired
    assert [one.repaired for one in examine(index, repair=True)] == [True]
    check_repaired(index, model, again=1)


def test_items_without_a_file_and_files_without_items(index: LocalIndex, model: PixelModel) -> None:
    change(index, "DELETE FROM files WHERE id = 3")
    change(index, "DELETE FROM items WHERE file = 5")
    found = [one.problem for one in examine(index) if "cache" not in one.problem]
    assert found == ["1 item belongs to no file", "1 file has no items"]
    examine(index, repair=True)
    check_repaired(index, model, again=2)


@pytest.mark.parametrize("pages", [(3,), (5, 6, 7), (-1,), (-2, -3)])
def test_the_readable_part_of_a_damaged_catalog_is_recovered(
    index: LocalIndex, model: PixelModel, pages: tuple[int, ...]
) -> None:
    """Pages of noise: rows on other pages are kept, the rest is embedded again, and no vector changes its picture."""
    vectors = {item.path: index.catalog.vectors_of([item.id])[0] for item in index.catalog.items(range(1, 41))}
    size = index.catalog.rows("PRAGMA page_size")[0][0]
    index.close()
    with open(index.catalog_path, "r+b") as file:
        total = os.path.getsize(index.catalog_path) // size
        for page in pages:
            file.seek((page % total) * size)
            file.write(os.urandom(size))
    damage = examine(index)
    assert "damaged" in damage[0].problem
    found = examine(index, repair=True)[0]
    assert found.repaired
    assert index.catalog_path.with_name("catalog.sqlite.broken").exists()
    assert examine(index) == []
    index.update()
    items = index.catalog.items(index.catalog.ids("picture"))
    assert sorted(item.path for item in items) == sorted(vectors)
    for item in items:
        np.testing.assert_allclose(index.catalog.vectors_of([item.id])[0], vectors[item.path], atol=1e-3)


def test_only_the_lost_part_of_a_large_catalog_is_embedded_again(index: LocalIndex, model: PixelModel) -> None:
    """One page of noise among many affects its files and their neighbours only."""
    for seed in range(40, 600):
        draw(index.root / f"{seed}.png", seed)
    index.update()
    size, total = (index.catalog.rows(f"PRAGMA page_{what}")[0][0] for what in ("size", "count"))
    pages = dict(index.catalog.rows("SELECT name, rootpage FROM sqlite_master"))
    index.close()
    damaged = next(page for page in range(total - 2, 3, -1) if page + 1 not in pages.values())
    with open(index.catalog_path, "r+b") as file:
        file.seek(damaged * size)
        file.write(b"\xff" * size)
    assert examine(index, repair=True)[0].repaired
    model.embedded = 0
    done = index.update()
    assert index.catalog.counts().pictures == 600
    assert 0 <= model.embedded < 450
    assert done.failures == {}


@pytest.mark.parametrize("damage", ["noise", "gone", "stale"])
def test_caches(index: LocalIndex, model: PixelModel, damage: str) -> None:
    folder = index.index_dir / "nearest-picture"
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "noise":
        for path in folder.iterdir():
            path.write_bytes(os.urandom(path.stat().st_size))
    else:
        index.catalog.forget([3])
    index.close()
    (found,) = examine(index)
    assert found.problem.startswith("the search cache of pictures is not usable")
    assert [one.repaired for one in examine(index, repair=True)] == [True]
    assert examine(index) == []


def test_the_remains_of_a_killed_update(index: LocalIndex) -> None:
    (index.index_dir / "lock.json").write_text('{"pid": 1}')
    (found,) = examine(index)
    assert "killed" in found.problem
    assert examine(index, repair=True) == [found._replace(repaired=True)]
    assert examine(index) == []
    index.on_disk.create(
        next_facts(index.model, index.root, follow_links=False), index.on_disk.reindex_catalog_path
    ).close()
    (found,) = examine(index)
    assert "reindexing" in found.problem
    assert "index.update(reindex=True)" in format_message(found.remedy)


def test_another_model(index: LocalIndex) -> None:
    found = examine(open_index(index.root, model=PixelModel("pixels-2")))
    assert "cannot be compared" in found[0].problem
    assert "index.update(reindex=True)" in format_message(found[0].remedy)


def test_a_disk_that_is_nearly_full(index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(index.index_dir)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=5_000_000))
    (found,) = examine(index)
    assert found.problem == f"the disk of {index.index_dir} has 5 MB left"
    assert format_message(found.remedy) == "make room, or use diptych.open_index(index=DIR)"


def test_a_directory_that_is_not_writable(index: LocalIndex, ordinary_user: None) -> None:
    index.index_dir.chmod(0o555)
    try:
        (found,) = examine(index)
    finally:
        index.index_dir.chmod(0o755)
    assert "is not writable" in found.problem


def test_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything works here; missing and broken parts are named."""
    here = installation()
    assert here.findings == []
    assert {"openvino", "torch", "HEIC", "RAW", "video", "search", "bundled model"} <= here.facts.keys()
    assert "384 dimensions" in here.facts["bundled model"]
    monkeypatch.setattr("diptych.installation.NEEDED", ("numpy", "no-such-package"))

    def broken() -> None:
        raise OSError("libfoo.so is missing")

    monkeypatch.setattr("diptych.load", broken, raising=False)
    monkeypatch.setattr("diptych.engines.is_installed", lambda engine: engine == "openvino")
    found = installation()
    assert found.facts["engines"].startswith("openvino; PyTorch is not installed")
    assert [finding.problem for finding in found.findings] == [
        "no-such-package is not installed",
        "bundled model: libfoo.so is missing",
    ]


def test_the_names_of_an_earlier_version(index: LocalIndex) -> None:
    change(index, "UPDATE items SET vector = x'00' WHERE id = 7")
    with pytest.warns(DeprecationWarning, match=r"examine\(mend=\) is now repair="):
        (finding,) = examine(index, mend=True)  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match="is now"):
        assert (finding.mended, finding.what) == (True, finding.problem)


def test_the_command(cli: Cli, index: LocalIndex) -> None:
    said = cli("doctor", index.root)
    assert said.code == OK
    assert "nothing is wrong" in said.err
    assert "pictures  40" in said.out
    change(index, "UPDATE items SET vector = x'00' WHERE id = 7")
    said = cli("doctor", index.root, "--json")
    assert said.code == FAILED
    assert said.json["findings"][0]["mended"] is False
    said = cli("doctor", index.root, "--repair")
    assert said.code == OK
    assert "repaired: 1 file has vectors" in said.out
    assert cli("doctor", index.root).code == OK


def test_files_that_cannot_be_read_are_named(cli: Cli, index: LocalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search names them once and counts them later; the doctor names them all."""
    for name in ("one.jpg", "two.jpg"):
        (Path(index.root) / name).write_bytes(b"no picture")
    index.update()
    said = cli("doctor", index.root)
    assert said.code == PARTLY
    assert "nothing is wrong" not in said.err
    assert "not read: one.jpg: not an image." in said.out
    assert set(cli("doctor", index.root, "--json").json["unread"]) == {"one.jpg", "two.jpg"}
    monkeypatch.setattr("diptych.cli.doctor.MAX_UNREAD", 1)
    assert "and 1 more not read (--json lists all)" in cli("doctor", index.root).out
