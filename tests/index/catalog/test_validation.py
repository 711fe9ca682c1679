"""A catalog may come from anyone: whatever its columns contain, an invalid row affects only itself, and no path leads
out of the folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_model import DIM, InlineReaders, PixelModel, draw

from diptych.cli import FAILED, NOTHING, OK, PARTLY, run
from diptych.errors import IndexDamagedError
from diptych.index.catalog.catalog import Catalog
from diptych.index.catalog.validation import is_valid_path
from diptych.index.doctor import examine
from diptych.index.local import open_index
from diptych.media.reading import readers
from diptych.storage import query_budget

OLD_S = 1_600_000_000
PICTURES = 5


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and a text with their index."""
    root = tmp_path_factory.mktemp("album")
    for seed in range(PICTURES):
        os.utime(draw(root / f"{seed}.png", seed), (OLD_S + seed,) * 2)
    (root / "notes.md").write_text("A dog in the snow.\n\nAnother.")
    os.utime(root / "notes.md", (OLD_S,) * 2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(readers, "ReaderPool", InlineReaders)
        with open_index(root, model=PixelModel()) as made:
            made.update()
    return root


@pytest.fixture
def folder(album: Path, model: PixelModel, tmp_path: Path) -> Path:
    return shutil.copytree(album, tmp_path / "pictures")


def changed(folder: Path, sql: str, *values: Any) -> None:
    """The catalog with a change that diptych did not make."""
    with closing(sqlite3.connect(folder / ".diptych" / "catalog.sqlite")) as db, db:
        db.execute(sql, values)


def hits(folder: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[set[str], str]:
    capsys.readouterr()
    assert run(["search", "x", str(folder), "--json", "--limit", "50", *flags]) in (OK, NOTHING, PARTLY)
    said = capsys.readouterr()
    return {os.path.relpath(hit["path"], folder) for hit in json.loads(said.out)["hits"]}, said.err


EVERYTHING = {f"{seed}.png" for seed in range(PICTURES)}


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("a.jpg", "picture", True),
        ("a/b/c.JPG", "picture", True),
        ("..a/b..c/...jpg", "picture", True),
        ("new\nline/\x1b.png", "picture", True),
        ("a\\b:c.png", "picture", os.name != "nt"),
        ("film.jpg", "video", True),  # called as a picture, and a film by its bytes
        ("notes.txt", "picture", True),
        ("a.mp4", "text", False),
        ("", "picture", False),
        ("/a.jpg", "picture", False),
        ("/etc/hosts.txt", "text", False),
        ("../a.jpg", "picture", False),
        ("a/../../b.jpg", "picture", False),
        ("a/..", "picture", False),
        ("./a.jpg", "picture", False),
        ("a//b.jpg", "picture", False),
        ("a/b.jpg/", "picture", False),
        ("a\0.jpg", "picture", False),
        ("run.desktop", "picture", False),
        ("page.html", "text", False),
        ("jpg", "picture", False),
        ("a/" * 5000 + "b.jpg", "picture", False),
        (b"a.jpg", "picture", False),
        (7, "picture", False),
        (None, "picture", False),
        ("a.jpg", b"picture", False),
        ("a.jpg", None, False),
    ],
)
def test_valid_paths(path: Any, kind: Any, expected: bool) -> None:
    assert is_valid_path(path, kind) == expected


def test_a_row_without_a_path_has_a_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(folder, "UPDATE files SET path = '' WHERE path = '3.png'")
    assert "of its folder: entry " in hits(folder, capsys)[1]


@pytest.mark.parametrize(
    "path", ["/etc/far.png", "../far.png", "a/../../far.png", "far.desktop", b"far.png", 7, "\x1b[2J/.."]
)
def test_a_path_out_of_the_folder_is_left_out_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str], path: Any
) -> None:
    shutil.copy(folder / "3.png", folder.parent / "far.png")
    changed(folder, "UPDATE files SET path = ? WHERE path = '3.png'", path)
    found, said = hits(folder, capsys, "--no-update")
    assert found == EVERYTHING - {"3.png"}
    called = path if isinstance(path, str) and path != "7" else "7" if path == 7 else "entry 4"
    assert f"left out 1 entry of the index that is not a file of its folder: {called}".replace("\x1b", "\\x1b") in said
    findings = [str(finding) for finding in examine(folder)]
    assert any("1 entry of the catalog is not a file of" in finding for finding in findings)
    assert any(finding.repaired for finding in examine(folder, repair=True))
    assert examine(folder) == []
    assert hits(folder, capsys)[0] == EVERYTHING


def test_an_update_removes_an_invalid_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(folder, "UPDATE files SET path = '../3.png' WHERE path = '3.png'")
    changed(folder, "UPDATE files SET kind = 'program' WHERE path = '4.png'")
    found, said = hits(folder, capsys)
    assert found == EVERYTHING
    assert "left out 2 entries of the index that are not files of its folder: ../3.png, " in said
    assert "left out" not in hits(folder, capsys)[1]


def test_a_link_out_of_the_folder_is_neither_hit_nor_copy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = folder.parent / "away"
    away.mkdir()
    shutil.copy(folder / "2.png", away / "2.png")
    (folder / "sub").symlink_to(away)
    (folder / "link.png").symlink_to(away / "2.png")
    for id, path in ((101, "sub/2.png"), (102, "link.png")):
        copied = f"SELECT {id}, '{path}', kind, size, mtime_ns, digest FROM files WHERE path = '2.png'"
        changed(folder, f"INSERT INTO files(id, path, kind, size, mtime_ns, digest) {copied}")
        copied = f"SELECT {id}, modality, vector FROM items JOIN files ON files.id = file WHERE path = '2.png'"
        changed(folder, f"INSERT INTO items(file, modality, vector) {copied}")
    found, said = hits(folder, capsys, "--no-update", "--copies")
    assert found == EVERYTHING
    assert "left out 2 entries" in said
    run(["search", "x", str(folder), "--json", "--no-update"])
    assert all("copies" not in hit for hit in json.loads(capsys.readouterr().out)["hits"])
    assert run(["index", "duplicates", str(folder), "--no-update", "--json"]) == NOTHING
    assert "left out 2 entries" in capsys.readouterr().err
    assert hits(folder, capsys, "--no-update", "--copies", "--follow-links")[0] == {
        *EVERYTHING,
        "sub/2.png",
        "link.png",
    }


BAD = (7, -1, 2**63 - 1, "x", b"\xff\x00", None, 1e308, float("inf"))
COLUMNS = [
    *(("files", name) for name in (
        "path", "kind", "size", "mtime_ns", "digest", "width", "height", "taken_at", "latitude", "longitude", "camera",
        "caption", "duration_s", "reason", "message", "partial", "reading", "tokenizing",
    )),
    *(("items", name) for name in ("file", "modality", "at_s", "line", "text", "vector")),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_any_value_in_any_column_affects_its_row_alone(folder: Path, table: str, column: str) -> None:
    for values in (BAD[:4], BAD[4:]):
        for id, value in enumerate(values, start=2):
            with suppress(sqlite3.IntegrityError):  # a column that may hold no NULL
                changed(folder, f"UPDATE {table} SET {column} = ? WHERE id = ?", value, id)
        asked = ["search", "x", str(folder), "--no-update", "--json", "--find", "both", "--diverse", "0.5"]
        assert run(asked) in (OK, PARTLY)
        assert run(["index", "duplicates", str(folder), "--no-update"]) in (NOTHING, PARTLY)
        assert run(["doctor", str(folder)]) in (OK, FAILED, PARTLY)
        assert run(["index", str(folder)]) in (OK, PARTLY)
        assert run(["doctor", str(folder), "--repair"]) in (OK, PARTLY)
        assert run(["search", "x", str(folder)]) in (OK, PARTLY)


def test_an_invalid_vector_affects_its_row_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder / ".diptych" / "nearest-picture")
    for id, vector in enumerate((b"", bytes(2 * DIM), np.full(DIM, np.nan, "<f2").tobytes(), b"x" * 99), start=1):
        changed(folder, "UPDATE items SET vector = ? WHERE id = ?", vector, id)
    assert len(hits(folder, capsys, "--no-update")[0]) == PICTURES - 4
    assert run(["doctor", str(folder)]) == FAILED
    assert run(["doctor", str(folder), "--repair"]) == OK
    assert hits(folder, capsys)[0] == EVERYTHING


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "two"), ("format", -5), ("format", b"2"), ("dim", 10**9), ("dim", 0), ("dim", "16"), ("model", 7),
        ("model", b"bundled"), ("fingerprint", None), ("fingerprint", 1.5), ("generation", 2**63 - 1),
        ("generation", "x"), ("change.picture", 9), ("exclude", "[" * 100_000), ("exclude", "{}"), ("exclude", "[7]"),
        ("exclude", json.dumps(["**/a*" * 3] * 10_000)), ("exclude", '["[z-a]"]'), ("exclude", b"[]"),
        ("skipped", '{"a": "b"}'), ("skipped", "[" * 100_000), ("unscanned", "[7]"), ("root", 5), ("hidden", 1),
        ("updated_at", b"now"), ("version", 7), ("exclude", "x" * 2**21), ("model", "a\0b"),
    ],
)  # fmt: skip
def test_an_invalid_fact_is_reported_and_repaired(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    if value is None:
        changed(folder, "UPDATE facts SET value = NULL WHERE key = ?", key)
    else:
        changed(folder, "INSERT OR REPLACE INTO facts VALUES (?, ?)", key, value)
    for command in ("search", "index", "doctor"):
        capsys.readouterr()
        assert run([command, *["x"] * (command == "search"), str(folder)]) == FAILED
        said = capsys.readouterr()
        assert "--repair" in said.err + said.out
        assert len(said.err + said.out) < 2000
    assert run(["doctor", str(folder), "--repair"]) == OK
    assert hits(folder, capsys)[0] == EVERYTHING


def test_vectors_of_another_length_than_the_models_are_damage(folder: Path, model: Any) -> None:
    changed(folder, "UPDATE facts SET value = 8000 WHERE key = 'dim'")
    with (
        open_index(folder, model=model) as index,
        pytest.raises(IndexDamagedError, match="claims vectors of 8000 numbers; those of its model have 16"),
    ):
        index.search("x")
    assert run(["index", "duplicates", str(folder), "--no-update"]) == NOTHING


def test_more_facts_than_any_catalog_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 5000)"
    changed(folder, f"{numbers} INSERT INTO facts SELECT 'a' || x, zeroblob(1000) FROM c")
    with open_index(folder) as index:
        assert len(index.catalog.facts()) < 20
    assert hits(folder, capsys)[0] == EVERYTHING


def test_an_overlong_text_is_no_hit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(folder, "UPDATE items SET text = hex(zeroblob(1000000)) WHERE modality = 'text' AND line = 1")
    changed(folder, "UPDATE files SET reason = 'x', message = hex(zeroblob(1000000)) WHERE path = '0.png'")
    found, _ = hits(folder, capsys, "--no-update", "--find", "texts")
    assert found == {"notes.md"}
    capsys.readouterr()
    run(["search", "x", str(folder), "--no-update", "--json"])
    assert len(capsys.readouterr().out) < 100_000


# --- signals


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.create(tmp_path / "catalog.sqlite", fingerprint="f", model="m", dim=DIM)


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 3000000000) SELECT count(*) FROM c"


def asking(catalog: Catalog) -> object:
    return catalog.rows(ENDLESS)


def writing(catalog: Catalog) -> object:
    with catalog.writing() as db:
        return db.execute(ENDLESS)


def waiting(catalog: Catalog) -> object:
    with closing(sqlite3.connect(catalog.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        return catalog.facts()


def opening(catalog: Catalog) -> object:
    with closing(sqlite3.connect(catalog.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        return Catalog.open(catalog.path)


@pytest.mark.skipif(os.name != "posix", reason="signals between threads")
@pytest.mark.parametrize("ask", [asking, writing, waiting, opening])
def test_ctrl_c_works_while_sqlite_runs_and_waits(
    catalog: Catalog, ask: Callable[[Catalog], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_budget, "_LEAST", 10**12)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        ask(catalog)
    assert catalog.facts()["dim"] == DIM  # it goes on
    with catalog.writing() as db:
        db.execute("UPDATE facts SET value = value")


def test_an_error_of_sqlite_about_a_value_is_damage(catalog: Catalog) -> None:
    with pytest.raises(IndexDamagedError, match="contains data that diptych does not write"):
        catalog.rows("SELECT zeroblob(1000000000)")


def test_used_up_ids_are_damage_and_repaired(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / ".diptych" / "catalog.sqlite").read_bytes()
    for sql in (
        "UPDATE sqlite_sequence SET seq = 9223372036854775807", "UPDATE sqlite_sequence SET seq = 'x'",
        "UPDATE items SET id = 9223372036854775807 WHERE id = 3",
    ):  # fmt: skip
        (folder / ".diptych" / "catalog.sqlite").write_bytes(before)
        changed(folder, sql)
        changed(folder, "UPDATE sqlite_sequence SET seq = max(seq, (SELECT max(id) FROM items))")
        assert run(["search", "x", str(folder)]) == FAILED
        assert "has used all possible ids" in capsys.readouterr().err
        assert run(["doctor", str(folder), "--repair"]) == OK
        assert hits(folder, capsys)[0] == EVERYTHING


def test_a_cache_larger_than_its_catalog_allows_is_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sparse files take no disk space, but reading them takes endless time."""
    from diptych.index import caches
    from diptych.vectors import vector_files

    with open_index(folder) as index:
        wanted, directory = caches._wanted(index.catalog, "picture"), caches.directory_of(index.index_dir, "picture")
        opened = [caches._open_valid(directory, wanted.stamp, wanted)]
        real = vector_files.VectorFilesHeader.read
        for changes in ({"rows": 20_000}, {"dim": 2 * DIM}):
            claimed = replace(real(directory), **changes)
            monkeypatch.setattr(vector_files.VectorFilesHeader, "read", lambda directory, claimed=claimed: claimed)
            opened.append(caches._open_valid(directory, wanted.stamp, wanted))
    assert [one is not None for one in opened] == [True, False, False]


@pytest.mark.skipif(os.name != "posix", reason="pipes have no names")
def test_a_fifo_created_after_the_scan_does_not_block(tmp_path: Path) -> None:
    from diptych.index.update.changes import digest_of
    from diptych.index.update.outdated_kinds import has_new_metadata, outdated_kind

    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(OSError, match="a pipe"):
        digest_of(tmp_path / "a.tif")
    assert outdated_kind(str(tmp_path / "a.tif"), "picture") is None
    assert has_new_metadata(str(tmp_path / "a.tif"), is_undated=True, has_gps=False) is None
