"""Failures around an index: killed processes, full disks, directories that are not writable, damaged caches."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index_model import InlineReaders, PixelModel, draw, expected

from diptych.cli import FAILED, INTERRUPTED, OK
from diptych.embedder import BUNDLED
from diptych.errors import IndexDirectoryError
from diptych.index.catalog.catalog import Catalog
from diptych.index.local import LocalIndex, open_index
from diptych.index.update.changes import digest_of
from diptych.media.reading import readers
from tests.conftest import Cli

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits of other systems differ")
PICTURES = 150


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PixelModel:
    """The model of this process and its commands; files are read without child processes."""
    made = PixelModel()
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for seed in range(8):
        draw(root / f"{seed}.png", seed)
    return root


# --- killed


class Children:
    """`diptych index` in processes of their own, which start in no time. See index_children.py."""

    def __init__(self) -> None:
        here = Path(__file__).parents[1]
        import_paths = os.pathsep.join([str(here.parent), str(here)])
        self._server = subprocess.Popen(
            [sys.executable, here / "index_children.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": import_paths, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def start(self, folder: Path, how: str) -> int:
        """Its process id."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{how} {folder}\n".encode())
        self._server.stdin.flush()
        return int(self.line())

    def line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().decode().strip()

    def end(self) -> int:
        """Wait for the present one; its wait status."""
        while not (line := self.line()).startswith("ended"):
            assert line, "the children's parent is gone"
        return int(line.split()[1])

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()


@pytest.fixture
def children() -> Iterator[Children]:
    started = Children()
    yield started
    started.stop()


def stored(path: Path, truth: dict[bytes, np.ndarray]) -> set[tuple[str, bytes]]:
    """The contents of a catalog as (path, digest), after checking its integrity and every vector."""
    if not path.exists() or path.stat().st_size == 0:
        return set()
    with Catalog.open(path) as catalog:
        assert catalog.rows("PRAGMA integrity_check") == [("ok",)]
        assert catalog.rows("PRAGMA foreign_key_check") == []
        rows = catalog.rows("SELECT path, digest, vector FROM files LEFT JOIN items ON items.file = files.id")
    for name, digest, vector in rows:
        assert vector is not None, f"{name} was committed without its vector"
        np.testing.assert_allclose(np.frombuffer(vector, "<f2"), truth[digest], atol=1e-3)
    return {(name, digest) for name, digest, _ in rows}


def change_half(folder: Path, dice: random.Random, first_seed: int) -> None:
    """Some pictures replaced, some renamed, some deleted."""
    for at, path in enumerate(sorted(folder.glob("*.png"))):
        chance = dice.random()
        if chance < 0.4:
            draw(path, first_seed + at)
        elif chance < 0.6:
            path.rename(path.with_name(f"{first_seed}-{at}.png"))
        elif chance < 0.7:
            path.unlink()
    for at in range(PICTURES - len(list(folder.glob("*.png")))):
        draw(folder / f"more-{first_seed}-{at}.png", first_seed + 500 + at)


@POSIX
def test_fifty_kills_at_random_moments(children: Children, tmp_path: Path) -> None:
    """After each kill the catalog is valid, every vector belongs to its file, and no commit is lost; the last run
    completes. Some runs use reader processes."""
    dice, folder, model = random.Random(7), tmp_path / "pictures", PixelModel()
    catalog, truth = folder / ".diptych" / "catalog.sqlite", dict[bytes, np.ndarray]()

    def learn() -> dict[str, bytes]:
        digests = {path.name: digest_of(path) for path in folder.glob("*.png")}
        truth.update({d: expected(folder / name, model) for name, d in digests.items() if d not in truth})
        return digests

    for seed in range(PICTURES):
        draw(folder / f"{seed}.png", seed)
    now, before, killed, generation, pace_s = learn(), set[tuple[str, bytes]](), 0, 1, 0.0
    while killed < 50:
        pid, last_s = children.start(folder, "processes" if killed % 10 == 9 else "plain"), time.monotonic()
        for _ in range(dice.randrange(8)):  # batches; then at any moment of the next, however long one takes
            said, pace_s, last_s = children.line(), time.monotonic() - last_s, time.monotonic()
            if said.startswith("ended"):
                break
        else:
            time.sleep(dice.uniform(0, pace_s))
            with contextlib.suppress(ProcessLookupError):  # it has come to its end before
                os.kill(pid, signal.SIGKILL)
            killed += os.WIFSIGNALED(children.end())
        after = stored(catalog, truth)
        kept = {(name, digest) for name, digest in before if now.get(name) == digest}
        assert kept <= after
        before = after
        if after == set(now.items()):
            change_half(folder, dice, 10_000 * generation)
            generation, now = generation + 1, learn()
    children.start(folder, "plain")
    assert os.waitstatus_to_exitcode(children.end()) == OK
    assert stored(catalog, truth) == set(now.items())
    assert generation >= 2  # so that there were vectors to be taken back, too
    with open_index(folder, model=model) as index:
        assert index.nearest("picture").ids.tolist() == index.catalog.ids("picture").tolist()
        assert index.update().is_unchanged


@POSIX
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_update_ended_by_a_signal_keeps_its_work(children: Children, tmp_path: Path, sent: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it with 130, and its commits are kept."""
    for seed in range(100):
        draw(tmp_path / f"{seed}.png", seed)
    pid = children.start(tmp_path, "waits")
    assert [children.line() for _ in range(5)] == 5 * ["batch"]
    os.kill(pid, sent)
    assert os.waitstatus_to_exitcode(children.end()) == INTERRUPTED
    with Catalog.open(tmp_path / ".diptych" / "catalog.sqlite") as catalog:
        done = catalog.counts().files
    assert 0 < done < 100
    children.start(tmp_path, "plain")
    assert os.waitstatus_to_exitcode(children.end()) == OK
    with Catalog.open(tmp_path / ".diptych" / "catalog.sqlite") as catalog:
        assert catalog.counts().files == 100


# --- no room, no permission


@POSIX
def test_a_full_disk(cli: Cli, model: PixelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated by a limit on file sizes, at which a write fails as on a full disk."""
    import resource

    monkeypatch.setattr("diptych.index.update.update.COMMIT_FILES", 50)
    for seed in range(1500):
        (tmp_path / f"{seed}.md").write_text(f"Some words, {seed} of them.")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        said = cli("index", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said.code == FAILED
    assert "cannot grow" in said.err
    assert "--index DIR" in said.err
    with Catalog.open(tmp_path / ".diptych" / "catalog.sqlite") as catalog:
        kept = catalog.counts().files
        assert catalog.rows("PRAGMA integrity_check") == [("ok",)]
    assert 0 < kept < 1500
    said = cli("index", tmp_path, "--json")
    assert said.code == OK
    assert (said.json["added"], said.json["unchanged"]) == (1500 - kept, kept)


def test_read_only_pictures(cli: Cli, model: PixelModel, folder: Path, tmp_path: Path, ordinary_user: None) -> None:
    folder.chmod(0o555)
    try:
        said = cli("index", folder)
        assert said.code == FAILED
        assert ".diptych cannot be written" in said.err
        assert "--index DIR" in said.err
        assert cli("index", folder, "--index", tmp_path / "index").code == OK
        index = open_index(folder, model=model, index=tmp_path / "index")
        assert len(index.nearest("picture")) == 8
    finally:
        folder.chmod(0o755)


def test_a_search_does_not_wait_for_an_update(cli: Cli, model: PixelModel, folder: Path) -> None:
    index = open_index(folder, model=model)
    index.update()
    draw(folder / "new.png", 60)
    with index.locked():
        said = cli("search", "a star", folder, "--paths")
        assert (said.code, len(said.out.splitlines())) == (OK, 8)
        assert "searching the index as it is: another thread of this process is updating" in said.err
    assert len(cli("search", "a star", folder, "--paths").out.splitlines()) == 9


def test_a_read_only_index_is_searched(cli: Cli, model: PixelModel, folder: Path, ordinary_user: None) -> None:
    """Even without its cache: one is built in a temporary folder."""
    open_index(folder, model=model).update()
    index_dir = folder / ".diptych"
    shutil.rmtree(index_dir / "nearest-picture")
    files = [path for path in index_dir.rglob("*") if path.is_file()]
    for path in (*files, index_dir, folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        index = open_index(folder, model=model)
        vector = expected(folder / "3.png", model)
        (found,) = index.catalog.items(index.nearest("picture").search(vector, 1).ids)
        assert found.path == "3.png"
        with pytest.raises(IndexDirectoryError, match=r"cannot be written.*index=DIR"):
            index.update()
        said = cli("search", "a star", folder, "--paths")
        assert (said.code, len(said.out.splitlines())) == (OK, 8)
        assert "searching the index as it is" in said.err
        assert "cannot be written (Permission denied). Keep the index elsewhere with --index DIR" in said.err
        assert cli("search", "a star", folder, "--update").code == FAILED
    finally:
        for path in (folder, index_dir):
            path.chmod(0o755)


def test_a_read_only_index_of_a_former_bundled_model(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: PixelModel, ordinary_user: None
) -> None:
    """It cannot be embedded again where it is; a new one is kept elsewhere."""
    model.source = str(BUNDLED)
    open_index(folder, model=model).update()
    index_dir, elsewhere = folder / ".diptych", tmp_path / "elsewhere"
    new = PixelModel("pixels-2", str(BUNDLED))
    monkeypatch.setattr("diptych.embedder.load", lambda name, **options: new)
    monkeypatch.setattr("diptych.index.model._bundled_fingerprint", lambda: new.fingerprint)
    index_dir.chmod(0o555)
    try:
        for command in (("search", "a star", folder), ("search", "a star", folder, "--no-update"), ("index", folder)):
            said = cli(*command)
            assert said.code == FAILED
            assert "was made with a former bundled model" in said.err
            assert "It cannot be written; --index DIR makes a new one elsewhere." in said.err
        said = cli("search", "a star", folder, "--index", elsewhere, "--paths")
        assert (said.code, len(said.out.splitlines())) == (OK, 8)
    finally:
        index_dir.chmod(0o755)
    assert "--reindex embeds everything again" in cli("index", folder).err
    assert cli("index", folder, "--reindex").code == OK
    said = cli("search", "a star", folder, "--paths")
    assert (said.code, len(said.out.splitlines())) == (OK, 8), said.err


def test_a_file_instead_of_the_index_directory(model: PixelModel, folder: Path) -> None:
    (folder / ".diptych").write_text("mine")
    with pytest.raises(IndexDirectoryError, match="is not a folder"):
        open_index(folder, model=model).update()
    assert (folder / ".diptych").read_text() == "mine"


# --- damaged caches


def ten_best(index: LocalIndex, model: PixelModel) -> list[str]:
    best = index.nearest("picture").search(expected(index.root / "3.png", model), 5).ids
    return [item.path for item in index.catalog.items(best)]


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "gone"])
def test_a_damaged_cache_is_rebuilt(model: PixelModel, folder: Path, damage: str) -> None:
    index = open_index(folder, model=model)
    index.update()
    wanted = ten_best(index, model)
    assert wanted[0] == "3.png"
    files = [path for path in (folder / ".diptych" / "nearest-picture").rglob("*") if path.is_file()]
    assert files
    for suffix in sorted({path.suffix for path in files}):  # a new one has new names
        files = [path for path in (folder / ".diptych" / "nearest-picture").rglob("*") if path.is_file()]
        path = next(path for path in files if path.suffix == suffix)
        whole = path.read_bytes()
        contents = {"cut": whole[: len(whole) // 2], "noise": os.urandom(len(whole)), "empty": b""}
        path.unlink() if damage == "gone" else path.write_bytes(contents[damage])
        with open_index(folder, model=model) as fresh:
            assert ten_best(fresh, model) == wanted, path.name
        with open_index(folder, model=model) as fresh:
            assert fresh.update().is_unchanged
            assert ten_best(fresh, model) == wanted, path.name


def test_the_cache_of_another_catalog_is_not_used(model: PixelModel, folder: Path, tmp_path: Path) -> None:
    """Its ids belong to other pictures."""
    index = open_index(folder, model=model)
    index.update()
    other = tmp_path / "other"
    for seed in range(8):
        draw(other / f"{seed}.png", 100 + seed)
    strange = open_index(other, model=model)
    strange.update()
    shutil.rmtree(folder / ".diptych" / "nearest-picture")
    shutil.copytree(other / ".diptych" / "nearest-picture", folder / ".diptych" / "nearest-picture")
    with open_index(folder, model=model) as fresh:
        assert ten_best(fresh, model)[0] == "3.png"
