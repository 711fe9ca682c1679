"""The index of a folder: what an update embeds, keeps and forgets, and that it always equals a fresh one."""

import errno
import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Literal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from index_model import DIM, InlineReaders, PixelModel, draw, expected

import diptych
from diptych import __version__
from diptych.embedder import BUNDLED
from diptych.errors import IndexBusyError, IndexDirectoryError, IndexModelError, SearchIndexError
from diptych.index.catalog import catalog
from diptych.index.catalog.schema import connect
from diptych.index.local import LocalIndex, open_index
from diptych.index.update.precomputed import open_precomputed
from diptych.index.update.results import UpdateResult
from diptych.index.watching import watch
from diptych.media.reading import readers

OLD_S = 1_600_000_000  # a time of change long ago, so that it counts


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process, and SQLite does not wait for the disk."""
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    monkeypatch.setattr(catalog, "connect", connect_unsynced)


def connect_unsynced(path: Path, mode: Literal["ro", "rw", "rwc"], *, recover: bool = True) -> sqlite3.Connection:
    db = connect(path, mode, recover=recover)
    db.execute("PRAGMA synchronous = OFF")
    return db


@pytest.fixture
def model() -> PixelModel:
    return PixelModel()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures and a text of three paragraphs, with old times of change."""
    root = tmp_path / "pictures"
    for seed in range(6):
        draw(root / ("below" if seed > 3 else ".") / f"{seed}.png", seed)
    (root / "notes.md").write_text("One.\n\nTwo.\n\nThree.\n")
    for path in [*root.rglob("*.*")]:
        os.utime(path, (OLD_S, OLD_S))
    return root


def did(done: UpdateResult) -> dict[str, int]:
    """The non-zero counts of an update."""
    names = ("added", "changed", "renamed", "forgotten", "unchanged", "failed_before", "unreachable")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def vectors(index: LocalIndex) -> dict[tuple[str, str | None], np.ndarray]:
    """Every vector of an index by path and text."""
    items = index.catalog.items(index.catalog.matching("1"))
    return {(item.path, item.text): index.catalog.vectors_of([item.id])[0] for item in items}


def check(index: LocalIndex, model: PixelModel) -> None:
    """Each picture has its own vector, and the caches hold the same ids as the catalog."""
    model = PixelModel(model.fingerprint)  # which counts for itself
    for (path, text), vector in vectors(index).items():
        wanted = expected(index.root / path, model) if text is None else model.embed_texts([text])[0]
        np.testing.assert_allclose(vector, wanted, atol=1e-3)
    for modality in ("picture", "text"):
        ids = index.catalog.matching("items.modality = ?", (modality,))
        nearest = index.nearest(modality)
        assert len(nearest) == len(ids)
        for id in ids:
            found = nearest.search(index.catalog.vectors_of([id])[0].astype(np.float32), 1)
            assert found.cosines[0] == pytest.approx(1, abs=0.01)


# --- what an update does


def test_a_second_update_changes_nothing(folder: Path, model: PixelModel) -> None:
    index = open_index(folder, model=model)
    first = index.update()
    assert did(first) == {"added": 7}
    assert model.embedded == 9
    check(index, model)
    second = index.update()
    assert did(second) == {"unchanged": 7}
    assert second.is_unchanged
    assert model.embedded == 9
    assert (folder / ".diptych" / ".gitignore").read_text() == "*\n"


def test_only_changed_files_are_embedded(folder: Path, model: PixelModel) -> None:
    index = open_index(folder, model=model)
    index.update()
    model.embedded = 0
    draw(folder / "0.png", 100)  # changed
    draw(folder / "new.png", 101)
    os.utime(folder / "1.png", (OLD_S + 5, OLD_S + 5))  # touched
    (folder / "2.png").rename(folder / "below" / "two.png")
    shutil.copy(folder / "3.png", folder / "three.png")
    (folder / "below" / "4.png").unlink()
    (folder / "notes.md").write_text("One.\n\nA new one.\n\nThree.\n")
    ids = {item.path: item.id for item in index.catalog.items(index.catalog.matching("1"))}
    done = index.update()
    assert did(done) == {"added": 2, "changed": 2, "renamed": 1, "forgotten": 1, "unchanged": 3}
    assert model.embedded == 3  # 0.png, new.png and one paragraph
    check(index, model)
    now = {item.path: item.id for item in index.catalog.items(index.catalog.matching("1"))}
    assert now["below/two.png"] == ids["2.png"]
    assert now["1.png"] == ids["1.png"]


def test_pictures_that_swap_names(folder: Path, model: PixelModel) -> None:
    index = open_index(folder, model=model)
    index.update()
    (folder / "0.png").rename(folder / "x.png")
    (folder / "1.png").rename(folder / "0.png")
    (folder / "x.png").rename(folder / "1.png")
    os.utime(folder / "0.png", (OLD_S + 1, OLD_S + 1))
    os.utime(folder / "1.png", (OLD_S + 2, OLD_S + 2))
    index.update()
    check(index, model)


def test_a_change_within_one_tick_of_the_clock(folder: Path, model: PixelModel) -> None:
    """Size and time of change are the same, but a file this young is compared by its bytes."""
    index = open_index(folder, model=model)
    now = time.time_ns()
    os.utime(draw(folder / "0.png", 7), ns=(now, now))
    index.update()
    os.utime(draw(folder / "0.png", 8), ns=(now, now))
    assert did(index.update())["changed"] == 1
    check(index, model)


def test_unreadable_files_are_reported_and_not_tried_again(folder: Path, model: PixelModel) -> None:
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "mute.md").write_text("unspeakable\n")
    (folder / "half.md").write_text("fine\n\nunspeakable\n")
    for name in ("bad.png", "mute.md", "half.md"):
        os.utime(folder / name, (OLD_S, OLD_S))
    index = open_index(folder, model=model)
    first = index.update()
    assert {path: failure.reason for path, failure in first.failures.items()} == {
        "bad.png": "not an image",
        "mute.md": "no vector",
    }
    assert "cannot be said" in first.failures["mute.md"].message
    assert did(first) == {"added": 8}
    assert ("half.md", "fine") in vectors(index)
    second = index.update()
    assert second.is_unchanged
    assert did(second) == {"unchanged": 8, "failed_before": 2}
    assert second.failures == first.failures
    assert second.new_failures == {}
    draw(folder / "bad.png", 5)
    assert did(index.update())["changed"] == 1
    check(index, model)


def test_files_are_tried_again_after_a_transient_failure(
    folder: Path, model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    index = open_index(folder, model=model)
    with monkeypatch.context() as patched:
        patched.setattr("diptych.media.reading.file.open_regular", failing)
        assert {failure.reason for failure in index.update().failures.values()} == {"unreadable"}
    assert did(index.update()) == {"changed": 7}
    check(index, model)


def test_a_failure_is_new_once(folder: Path, model: PixelModel, ordinary_user: None) -> None:
    """Also of files that are tried at each update, and of those that the scan cannot read."""
    (folder / "link.png").symlink_to("gone.png")
    (folder / "0.png").chmod(0)
    index = open_index(folder, model=model)
    for new in ({"link.png", "0.png"}, set[str]()):
        done = index.update()
        assert done.new_failures.keys() == new
        assert {path: failure.reason for path, failure in done.failures.items()} == {
            "link.png": "broken link",
            "0.png": "no permission",
        }
    assert done.is_unchanged
    (folder / "1.png").write_text("no picture")
    assert index.update().new_failures.keys() == {"1.png"}
    (folder / "1.png").write_text("still no picture")
    assert index.update().new_failures.keys() == {"1.png"}  # which was read again


def test_a_thousand_broken_links_fit_into_the_facts(folder: Path, model: PixelModel) -> None:
    for number in range(1_000):
        (folder / f"{number:0>200}.png").symlink_to("gone.png")
    index = open_index(folder, model=model)
    assert len(index.update().new_failures) == 1_000
    assert 0 < len(index.update().new_failures) < 1_000
    assert open_index(folder, model=model).damage is None


def test_captions_belong_to_their_picture(folder: Path, model: PixelModel) -> None:
    (folder / "0.txt").write_text("A dog in the snow.")
    index = open_index(folder, model=model)
    index.update()
    embedded = model.embedded
    (folder / "0.txt").write_text("A cat on a chair.")  # of the same length
    assert did(index.update())["changed"] == 1
    items = index.catalog.items(index.catalog.matching("path = '0.png'"))
    assert [item.text for item in items if item.modality == "text"] == ["A cat on a chair."]
    assert items[0].details.caption == "A cat on a chair."
    assert model.embedded == embedded + 1  # the picture's vector stays
    check(index, model)


def test_exclusions_and_hidden_files(folder: Path, model: PixelModel) -> None:
    draw(folder / ".hidden.png", 50)
    index = open_index(folder, model=model, exclude=["below/"], hidden=True)
    done = index.update()
    assert {path for path, _ in vectors(index)} == {"0.png", "1.png", "2.png", "3.png", ".hidden.png", "notes.md"}
    assert done.skipped == {"excluded": 1}
    assert did(open_index(folder, model=model).update()) == {"unchanged": 6}  # as it was written down
    assert did(open_index(folder, model=model).update(reindex=True)) == {"added": 6}
    assert open_index(folder).rules == (("below/",), True, False)
    assert did(open_index(folder, model=model, hidden=False).update()) == {"forgotten": 1, "unchanged": 5}
    assert did(open_index(folder, model=model, exclude=()).update()) == {"added": 2, "unchanged": 5}


def test_an_id_is_not_given_twice_by_a_reindexing(folder: Path, model: PixelModel) -> None:
    """What keeps an id, such as a page that is open, finds nothing by it rather than another picture."""
    index = open_index(folder, model=model)
    index.update()
    before = set(index.catalog.matching("1").tolist())
    for _ in range(2):
        index.update(reindex=True)
        after = set(open_index(folder).catalog.matching("1").tolist())
        assert len(after) == len(before)
        assert min(after) > max(before)
        before = after


def test_reindexing_a_damaged_index_loses_its_rules_and_keeps_given_ones(folder: Path, model: PixelModel) -> None:
    open_index(folder, model=model, exclude=["notes.md"]).update()
    catalog_path = folder / ".diptych" / "catalog.sqlite"
    catalog_path.write_bytes(b"noise" * 1000)
    assert did(open_index(folder, model=model, exclude=["below/"]).update(reindex=True)) == {"added": 5}
    catalog_path.write_bytes(b"noise" * 1000)
    assert did(open_index(folder, model=model).update(reindex=True)) == {"added": 7}


def test_progress_counts_files_to_read(folder: Path, model: PixelModel) -> None:
    told: list[tuple[int, int]] = []
    open_index(folder, model=model).update(progress=lambda done, total: told.append((done, total)))
    assert told == [(at, 7) for at in range(1, 8)]


def test_comparing_a_copied_library_shows_progress_and_survives_an_interrupt(
    folder: Path, model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All times of change differ, so all bytes are read; an interrupted comparison continues."""
    index = open_index(folder, model=model)
    index.update()
    for path in [*folder.glob("*.png"), folder / "notes.md"]:
        os.utime(path, (OLD_S + 9, OLD_S + 9))
    (folder / "below").rename(folder / "other")
    told: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        told.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.update(progress=interrupt)
    done = index.update(progress=lambda done, total: told.append((done, total)))
    assert did(done) == {"renamed": 2, "unchanged": 5}
    assert told == [(1, 5), (2, 5), (3, 5), (1, 2), (2, 2), (1, 2), (2, 2)]
    check(index, model)


@pytest.mark.skipif(os.name != "posix" or sys.platform == "darwin", reason="names of any bytes")
def test_names_that_are_not_utf8(folder: Path, model: PixelModel) -> None:
    shutil.copy(os.fsencode(folder / "0.png"), os.fsencode(folder) + b"/caf\xe9\n.png")
    index = open_index(folder, model=model)
    index.update()
    check(index, model)
    (folder / "caf\udce9\n.png").rename(folder / "n\udce9.png")
    assert did(index.update()) == {"renamed": 1, "unchanged": 7}
    assert ("n\udce9.png", None) in vectors(index)


# --- an interrupted update


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_update_keeps_its_work(
    folder: Path, model: PixelModel, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    class Interrupted(InlineReaders):
        def read(self, files):  # type: ignore[no-untyped-def]
            for at, contents in enumerate(super().read(files)):
                if at == 200:
                    raise error
                yield contents

    for seed in range(300):
        draw(folder / f"many-{seed}.png", 1000 + seed)
    monkeypatch.setattr(readers, "ReaderPool", Interrupted)
    index = open_index(folder, model=model)
    with pytest.raises(error):
        index.update()
    kept = index.catalog.counts().files
    assert kept >= 200 - 32 * 3  # all but the batches on their way
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    done = index.update()
    assert done.added == 307 - kept
    check(index, model)


# --- index directories


def test_an_index_moves_with_its_folder(folder: Path, model: PixelModel, tmp_path: Path) -> None:
    open_index(folder, model=model).update()
    embedded = model.embedded
    shutil.copytree(folder, tmp_path / "elsewhere")  # copytree keeps the times
    moved = open_index(tmp_path / "elsewhere", model=model)
    assert did(moved.update()) == {"unchanged": 7}
    assert model.embedded == embedded
    check(moved, model)


def test_an_index_in_another_directory(folder: Path, model: PixelModel, tmp_path: Path) -> None:
    index = open_index(folder, model=model, index=tmp_path / "index")
    index.update()
    assert not (folder / ".diptych").exists()
    check(index, model)
    other = tmp_path / "other"
    draw(other / "unknown.png", 77)
    for reindex in (False, True):
        with pytest.raises(IndexDirectoryError, match=r"is the index of .*pictures.*index=DIR"):
            open_index(other, model=model, index=tmp_path / "index").update(reindex=reindex)
    folder.rename(tmp_path / "moved")
    assert did(open_index(tmp_path / "moved", model=model, index=tmp_path / "index").update()) == {"unchanged": 7}


def test_an_unmounted_disk_is_not_taken_for_an_empty_folder(folder: Path, model: PixelModel, tmp_path: Path) -> None:
    index = open_index(folder, model=model, index=tmp_path / "index")
    index.update()
    folder.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        index.update()
    folder.mkdir()
    for reindex in (False, True):
        with pytest.raises(IndexDirectoryError, match=r"its index has 7 files.*mounted"):
            index.update(reindex=reindex)
    assert index.catalog.counts().files == 7
    assert not index.on_disk.reindex_catalog_path.exists()


def test_files_of_an_unreadable_folder_are_kept(folder: Path, model: PixelModel, ordinary_user: None) -> None:
    index = open_index(folder, model=model, index=folder.parent / "index")
    index.update()
    (folder / "below").chmod(0)
    try:
        done = index.update()
        assert done.failures["below"].reason == "unreadable folder"
        assert did(done) == {"unchanged": 5, "unreachable": 2}
    finally:
        (folder / "below").chmod(0o755)
    assert did(index.update()) == {"unchanged": 7}


def test_files_of_an_unmounted_linked_disk_are_kept(folder: Path, model: PixelModel, tmp_path: Path) -> None:
    draw(tmp_path / "disk" / "deep" / "far.png", 70)
    (folder / "link").symlink_to(tmp_path / "disk")
    index = open_index(folder, model=model, follow_links=True)
    assert did(index.update()) == {"added": 8}
    (tmp_path / "disk").rename(tmp_path / "away")
    assert did(index.update()) == {"unchanged": 7, "unreachable": 1}
    (folder / "link").unlink()
    assert did(index.update()) == {"unchanged": 7, "forgotten": 1}


def test_no_index_yet(folder: Path, model: PixelModel) -> None:
    index = open_index(folder, model=model)
    assert not index.exists
    with pytest.raises(IndexDirectoryError, match="diptych index FOLDER"):
        _ = index.catalog
    assert not (folder / ".diptych").exists()
    with pytest.raises(FileNotFoundError):
        open_index(folder / "missing")


def test_an_index_that_was_removed_while_open(folder: Path, model: PixelModel) -> None:
    index = open_index(folder, model=model)
    index.update()
    shutil.rmtree(folder / ".diptych")
    assert did(index.update()) == {"added": 7}
    check(index, model)


# --- models


def test_another_model_is_refused(folder: Path, model: PixelModel) -> None:
    open_index(folder, model=model).update()
    other = PixelModel("pixels-2", "tests/other")
    index = open_index(folder, model=other)
    for use in (index.update, lambda: index.model):
        with pytest.raises(IndexModelError, match=r"tests/pixels.*tests/other.*reindex=True"):
            use()
    assert other.embedded == 0
    done = index.update(reindex=True)
    assert did(done) == {"added": 7}
    check(index, other)
    assert open_index(folder, open_model=lambda name: PixelModel("pixels-2", name or "")).model.source == "tests/other"
    with pytest.raises(IndexModelError):
        open_index(folder, model=model).update()


def test_an_index_of_an_earlier_bundled_model_names_its_version(folder: Path) -> None:
    """The catalog stores the version that made it; an older catalog does not."""
    index = open_index(folder, model=PixelModel(source=str(BUNDLED)))
    index.update()
    other = PixelModel("pixels-2", source=str(BUNDLED))
    for noted, said in (
        ("0.0.9", f"was made with the bundled model of 0.0.9, which this Diptych, {__version__}, has replaced"),
        (
            None,
            f"was made with the bundled model of an earlier version, which this Diptych, {__version__}, has replaced",
        ),
        (__version__, f"was made with a former bundled model, which this Diptych, {__version__}, has replaced"),
    ):
        index.catalog.set_facts({"version": noted})
        with pytest.raises(IndexModelError, match=said) as caught:
            open_index(folder, model=other).update()
        assert "index.update(reindex=True) embeds everything again" in str(caught.value)


def test_a_former_bundled_model_is_noticed_where_no_file_changed(folder: Path) -> None:
    """Nothing is written, not even the version, and no engine is opened; what there is serves until it is replaced."""
    former = PixelModel(source=str(BUNDLED))
    open_index(folder, model=former).update()
    open_index(folder, model=former).catalog.set_facts({"version": "0.0.9"})
    unopened = open_index(folder, open_model=lambda name: pytest.fail("an engine was opened"))
    with pytest.raises(IndexModelError, match=r"of 0\.0\.9, which this Diptych.* has replaced"):
        unopened.update()
    assert unopened.catalog.facts()["version"] == "0.0.9"
    check(open_index(folder, model=former), former)
    new = PixelModel("pixels-2", source=str(BUNDLED))
    open_index(folder, model=new).update(reindex=True)
    check(open_index(folder, model=new), new)


def test_a_reindexing_that_is_interrupted(folder: Path, model: PixelModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old vectors serve until the new ones are complete, and no new vector is made twice."""
    index = open_index(folder, model=model)
    index.update()

    class Interrupted(InlineReaders):
        def read(self, files):  # type: ignore[no-untyped-def]
            yield from list(super().read(files))[:4]
            raise KeyboardInterrupt

    other = PixelModel("pixels-2")
    monkeypatch.setattr("diptych.index.update.batched_embedder.BATCH", 1)
    monkeypatch.setattr(readers, "ReaderPool", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_index(folder, model=other).update(reindex=True)
    check(index, model)
    assert did(index.update()) == {"unchanged": 7}
    monkeypatch.setattr(readers, "ReaderPool", InlineReaders)
    before, other.embedded = other.embedded, 0
    open_index(folder, model=other).update(reindex=True)
    assert before > 0
    assert other.embedded < 9
    check(index, other)  # an open index follows


def test_a_model_that_was_removed(folder: Path, model: PixelModel) -> None:
    open_index(folder, model=model).update()

    def missing(name: str | None) -> PixelModel:
        raise FileNotFoundError(f"{name} is not here")

    index = open_index(folder, open_model=missing)
    assert did(index.update()) == {"unchanged": 7}  # needs none
    with pytest.raises(IndexModelError, match=r"made with .tests/pixels., which cannot be opened.*with model"):
        _ = index.model


# --- several at once


def test_a_second_update_names_the_process_that_holds_the_lock(folder: Path, model: PixelModel) -> None:
    index = open_index(folder, model=model)
    index.update()
    script = (
        "import sys; from pathlib import Path; from diptych.storage.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, folder / ".diptych" / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        draw(folder / "late.png", 60)
        with pytest.raises(IndexBusyError, match=f"process {holder.pid} on .* is updating this index.*--wait"):
            index.update()
        assert len(index.nearest("picture")) == 6  # a search goes on
        told: list[str] = []

        def let_go(line: str) -> None:
            told.append(line)
            holder.stdin.close()  # type: ignore[union-attr]

        assert did(index.update(wait_s=3600, on_wait=let_go)) == {"added": 1, "unchanged": 7}
        assert [f"process {holder.pid} " in line for line in told] == [True]
    finally:
        holder.kill()
        holder.wait()


def test_a_lock_whose_process_was_killed_blocks_nobody(folder: Path, model: PixelModel) -> None:
    (folder / ".diptych").mkdir()
    (folder / ".diptych" / "lock").write_text('{"pid": 1, "host": "here", "since": "yesterday"}')
    assert did(open_index(folder, model=model).update()) == {"added": 7}


def test_two_threads_of_one_process(folder: Path, model: PixelModel) -> None:
    with open_index(folder, model=model).locked(), pytest.raises(IndexBusyError, match="another thread"):
        open_index(folder, model=model).update()
    results: list[UpdateResult] = []
    threads = [
        threading.Thread(target=lambda: results.append(open_index(folder, model=model).update(wait_s=60)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done.added for done in results) == [0, 0, 7]
    check(open_index(folder, model=model), model)


# --- vectors made elsewhere


@pytest.mark.parametrize("form", ["text", "parquet", "shards"])
def test_precomputed_vectors_are_used(folder: Path, model: PixelModel, tmp_path: Path, form: str) -> None:
    names = ["0.png", "below/5.png", "missing.png", str(folder / "1.png")]
    made = np.eye(DIM, dtype=np.float32)[:4] * 3
    npy, paths = tmp_path / "v.npy", None
    if form == "text":
        np.save(npy, made)
        paths = tmp_path / "paths.txt"
        paths.write_text("\n".join(names) + "\n")
    else:
        import pyarrow
        import pyarrow.parquet

        said = {"diptych.model": "tests/pixels", "diptych.fingerprint": "pixels-1"}
        parts = [slice(0, 4)] if form == "parquet" else [slice(0, 2), slice(2, 4)]
        for at, part in enumerate(parts):
            npy = tmp_path / "shards" / f"{at}.npy"
            npy.parent.mkdir(exist_ok=True)
            np.save(npy, made[part])
            table = pyarrow.table({"path": names[part]}).replace_schema_metadata(said)
            pyarrow.parquet.write_table(table, npy.with_suffix(".parquet"))
        npy = npy if form == "parquet" else npy.parent
    index = open_index(folder, model=model)
    done = index.update(precomputed=open_precomputed(npy, paths, folder))
    assert did(done) == {"added": 7}
    assert model.embedded == 9 - 3
    found = vectors(index)
    assert [found[path, None].argmax() for path in ("0.png", "below/5.png", "1.png")] == [0, 1, 3]
    assert found["0.png", None].max() == 1
    assert did(index.update()) == {"unchanged": 7}


def test_precomputed_vectors_that_do_not_fit_are_refused(folder: Path, model: PixelModel, tmp_path: Path) -> None:
    paths = tmp_path / "paths.txt"
    paths.write_text("0.png\n1.png\n")

    def given(array: np.ndarray) -> object:
        np.save(tmp_path / "v.npy", array)
        return open_precomputed(tmp_path / "v.npy", paths, folder)

    with pytest.raises(IndexModelError, match=r"8 dimensions.*16 dimensions.*with model"):
        open_index(folder, model=model).update(precomputed=given(np.ones((2, 8), np.float32)))  # type: ignore[arg-type]
    with pytest.raises(SearchIndexError, match=r"3 rows.*2 paths"):
        given(np.ones((3, DIM), np.float32))
    with pytest.raises(SearchIndexError, match=r"int64 \(2, 16\); wanted \(n, dim\) floats"):
        given(np.ones((2, DIM), np.int64))
    (tmp_path / "v.npy").write_bytes(b"nothing")
    with pytest.raises(SearchIndexError, match=r"not an \.npy file"):
        open_precomputed(tmp_path / "v.npy", paths, folder)
    np.save(tmp_path / "v.npy", np.ones((2, DIM)))
    with pytest.raises(SearchIndexError, match="missing"):
        open_precomputed(tmp_path / "v.npy", tmp_path / "none.txt", folder)
    broken = given(np.array([[np.nan] * DIM, [0] * DIM], np.float32))
    index = open_index(folder, model=model)
    index.update(precomputed=broken)  # type: ignore[arg-type]
    check(index, model)  # embedded as if they had not been given


# --- following a folder


def test_watching(folder: Path, model: PixelModel) -> None:
    told: list[UpdateResult] = []
    stop = threading.Event()
    index = open_index(folder, model=model)
    thread = threading.Thread(target=watch, args=(index, told.append), kwargs={"stop": stop})
    thread.start()

    def wait_for(number: int) -> None:
        while len(told) < number:
            assert thread.is_alive()
            time.sleep(0.02)

    try:
        wait_for(1)
        assert did(told[0]) == {"added": 7}
        draw(folder / "new.png", 70)
        (folder / "notes.log").write_text("of no interest")
        wait_for(2)
        assert told[1].added == 1
        (folder / "below").rename(folder / "beneath")
        wait_for(3)
        assert told[2].renamed == 2
        shutil.rmtree(index.index_dir)  # as somebody does who wants it made anew
        wait_for(4)
        assert did(told[3]) == {"added": 8}
    finally:
        stop.set()
        thread.join()
    check(index, model)


# --- any history leads to what a fresh index holds


class Histories(RuleBasedStateMachine):
    """Files are added, changed, touched, renamed, copied and deleted, with updates in between."""

    names = Bundle("names")

    def __init__(self) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp())
        self.root = self.parent / "root"
        draw(self.root / "always.png", 999)
        self.model = PixelModel()
        self.index = open_index(self.root, model=self.model)
        self.seed = 0
        self.is_current = False

    def _write(self, name: str, old: bool) -> None:
        self.seed += 1
        path = self.root / name
        if name.endswith(".md"):
            path.write_text(f"Paragraph {self.seed % 3}.\n\nParagraph {self.seed}.\n")
        else:
            draw(path, self.seed)
        if old:
            os.utime(path, (OLD_S + self.seed, OLD_S + self.seed))
        self.is_current = False

    @rule(target=names, name=st.from_regex(r"[a-d]{1,2}\.(png|md)", fullmatch=True), old=st.booleans())
    def create(self, name: str, old: bool) -> str:
        self._write(name, old)
        return name

    @rule(name=names, old=st.booleans())
    def change(self, name: str, old: bool) -> None:
        self._write(name, old)

    @rule(name=names)
    def touch(self, name: str) -> None:
        self.seed += 1
        if (self.root / name).exists():
            os.utime(self.root / name, (OLD_S + self.seed, OLD_S + self.seed))
            self.is_current = False

    @rule(target=names, name=consumes(names), to=st.from_regex(r"[a-d]{1,2}", fullmatch=True))
    def rename(self, name: str, to: str) -> str:
        to += Path(name).suffix
        if (self.root / name).exists():
            (self.root / name).replace(self.root / to)
            self.is_current = False
        return to

    @rule(target=names, name=names, to=st.from_regex(r"[a-d]{1,2}", fullmatch=True))
    def copy(self, name: str, to: str) -> str:
        to += Path(name).suffix
        if (self.root / name).exists() and to != name:
            shutil.copy2(self.root / name, self.root / to)
            self.is_current = False
        return to

    @rule(name=consumes(names))
    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        self.is_current = False

    @rule()
    def update(self) -> None:
        self.index.update()
        self.is_current = True
        assert self.index.update().is_unchanged

    @invariant()
    def equals_a_fresh_one(self) -> None:
        if not self.is_current:
            return
        with open_index(self.root, model=PixelModel(), index=self.parent / f"fresh-{self.seed}") as fresh:
            fresh.update()
            wanted = vectors(fresh)
        shutil.rmtree(self.parent / f"fresh-{self.seed}")
        found = vectors(self.index)
        assert found.keys() == wanted.keys()
        for key, vector in found.items():
            np.testing.assert_allclose(vector, wanted[key], atol=1e-3)
        self.is_current = False  # compared once is enough

    def teardown(self) -> None:
        check(self.index, self.model) if self.index.exists and self.is_current else None
        self.index.close()
        shutil.rmtree(self.parent)


class TestHistories(Histories.TestCase):
    settings = settings(
        max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )

    @pytest.fixture(autouse=True)
    def _also_quick(self, _quick: None) -> None:
        """The fixture, for this class too."""


def test_old_names_work_and_warn(folder: Path, model: PixelModel) -> None:
    with open_index(folder, model=model) as index:
        with pytest.warns(DeprecationWarning, match="precomputed=|on_build="):
            done = index.update(given=None, arranging=lambda *_: None)  # type: ignore[call-arg]
        found = index.search("a star", relevant=True)
        for owner, old, new in (
            (done, "is_same", "is_unchanged"), (index, "place", "index_dir"), (index, "under", "subfolder"),
            (found, "standing", "relevance_z"), (found, "cut", "threshold"),
            (diptych, "Found", "SearchResult"), (diptych, "Updated", "UpdateResult"),
        ):  # fmt: skip
            with pytest.warns(DeprecationWarning, match=new):
                assert getattr(owner, old) == getattr(owner, new)


def test_a_search_in_one_index_has_the_options_of_all(folder: Path, model: PixelModel) -> None:
    """They are declared once, for `search_all`."""
    with open_index(folder, model=model) as index:
        options = dict(inspect.signature(diptych.search_all).parameters)
        del options["indexes"]
        assert inspect.signature(index.search).parameters == options
        with pytest.raises(TypeError, match="limits"):
            index.search("a star", limits=3)  # type: ignore[call-arg]
