"""What links lead out of a folder to is not the folder's own: it is left out, unless it is asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest
from index_model import SPEC, InlineReaders, PixelModel, draw

from diptych.cli import OK, run
from diptych.cli.options import report_links
from diptych.data.confinement import AllowedFolders
from diptych.data.sources.classes import read_classes
from diptych.errors import IndexDirectoryError
from diptych.index.bulk import job as bulk
from diptych.index.local import open_index
from diptych.inference.picture_files import find_pictures
from diptych.media.items import File
from diptych.media.reading.file import UnreadableFileError, read_file
from diptych.media.reading.readers import ReaderPool
from diptych.untrusted.links import RootBoundary

SECRET = "what nobody wants to have copied into a catalog"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of one's own, and links to a picture, words, a caption and a folder elsewhere."""
    away, root = tmp_path / "away", tmp_path / "root"
    draw(away / "far.png", 1)
    draw(away / "deep" / "deeper.png", 2)
    for name in ("notes.txt", "own.txt"):
        (away / name).write_text(SECRET)
    draw(root / "own.png", 3)
    draw(root / "sub" / "plain.png", 4)
    for name in ("far.png", "notes.txt", "own.txt", "deep"):
        (root / name).symlink_to(away / name)
    (root / "again.png").symlink_to("sub/plain.png")
    return root


def known(folder: Path) -> list[str]:
    with open_index(folder) as index:
        return sorted(index.catalog.files())


def test_a_path_is_told_by_where_its_links_lead(folder: Path) -> None:
    (folder / "typed").symlink_to(folder)
    for root in (folder, folder / "typed"):
        inside = RootBoundary(root)
        out = {name for name in ("far.png", "deep", "deep/deeper.png", "..", "../away", "missing/../../x")
               if inside.is_outside(str(root / name))}  # fmt: skip
        assert out == {"far.png", "deep", "deep/deeper.png", "..", "../away", "missing/../../x"}
        assert not any(inside.is_outside(str(root / name)) for name in ("own.png", "again.png", "missing/x", "."))
    assert not RootBoundary("/").is_outside("/etc/hosts")


def test_nothing_of_elsewhere_comes_into_the_catalog(folder: Path, model: PixelModel) -> None:
    with open_index(folder, model=model) as index:
        done = index.update()
        assert sorted(index.catalog.files()) == ["again.png", "own.png", "sub/plain.png"]
        assert index.counts().texts == 0
    assert done.skipped["leads out of the folder"] == 4
    assert SECRET.encode() not in (folder / ".diptych" / "catalog.sqlite").read_bytes()


def test_links_are_followed_where_that_is_asked_for_and_it_is_remembered(folder: Path, model: PixelModel) -> None:
    everything = ["again.png", "deep/deeper.png", "far.png", "notes.txt", "own.png", "sub/plain.png"]
    with open_index(folder, model=model, follow_links=True) as index:
        index.update()
    assert known(folder) == everything
    with open_index(folder, model=model) as index:
        assert index.rules.follow_links
        done = index.update()
        assert (done.added, done.forgotten, done.skipped) == (0, 0, {"caption of a picture": 1})
        assert index.counts().texts == 2
    with open_index(folder, model=model, follow_links=False) as index:
        done = index.update()
    assert (done.forgotten, done.skipped["leads out of the folder"]) == (3, 4)
    assert known(folder) == ["again.png", "own.png", "sub/plain.png"]
    assert not open_index(folder).rules.follow_links


def test_an_index_from_before_drops_what_it_had_followed_and_says_so(
    folder: Path, model: PixelModel, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_index(folder, model=model, follow_links=True) as index:
        index.update()
        index.catalog.set_facts({"follow_links": None})
    assert run(["index", str(folder)]) == OK
    said = capsys.readouterr()
    assert "3 forgotten" in said.out
    assert "4 links lead out of the folder and were not followed; --follow-links follows them" in said.err
    assert run(["index", str(folder), "--follow-links"]) == OK
    assert "3 added" in capsys.readouterr().out
    assert run(["search", "x", str(folder), "--find", "texts", "--no-follow-links"]) == 4
    assert "4 links lead out of the folder" in capsys.readouterr().err


def test_a_folder_of_links_alone_is_not_forgotten_in_silence(tmp_path: Path, model: PixelModel) -> None:
    draw(tmp_path / "away" / "a.png", 1)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "away")
    with open_index(tmp_path / "root", model=model, follow_links=True) as index:
        index.update()
    with (
        open_index(tmp_path / "root", model=model, follow_links=False) as index,
        pytest.raises(IndexDirectoryError) as said,
    ):
        index.update()
    assert "1 link leads out of it. If you trust where they lead, diptych.open_index(follow_links=True)" in str(
        said.value
    )


def test_a_link_that_came_after_the_scan_is_not_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="leads out of the folder"):
        read_file(str(folder), "far.png", "picture", SPEC)
    with pytest.raises(UnreadableFileError, match="leads out of the folder"):
        read_file(str(folder), "../away/far.png", "picture", SPEC)
    assert read_file(str(folder), "far.png", "picture", SPEC, follow_links=True).parts
    own = read_file(str(folder), "own.png", "picture", SPEC)
    assert own.details.caption is None
    assert read_file(str(folder), "own.png", "picture", SPEC, follow_links=True).details.caption == SECRET
    with ReaderPool(folder, SPEC, processes=1) as reading:
        found = list(reading.read([File("far.png", "picture", 1, 1), File("own.png", "picture", 1, 1)]))
    assert [one.failure and one.failure.reason for one in found] == ["leads out of the folder", None]
    assert [one.details.caption for one in found] == [None, None]


def test_a_folder_behind_a_link_has_an_index_of_its_own(folder: Path, model: PixelModel, tmp_path: Path) -> None:
    with open_index(folder, model=model) as index:
        index.update()
    assert open_index(folder / "sub").root == folder
    assert open_index(folder / "deep").root == folder / "deep"
    with open_index(folder, model=model, follow_links=True) as index:
        index.update()
    assert open_index(folder / "deep").root == folder


def test_a_strangers_index_cannot_ask_for_links_to_be_followed(
    folder: Path, model: PixelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_index(folder, model=model, follow_links=True) as index:
        index.update()
    assert open_index(folder).rules.follow_links
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user"))
    with open_index(folder, model=model) as index:
        assert not index.rules.follow_links
        done = index.update()
        assert (done.forgotten, done.skipped["leads out of the folder"]) == (3, 4)
    monkeypatch.undo()


def test_that_links_are_followed_once_in_a_strangers_index_is_said(
    folder: Path,
    model: PixelModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("diptych.cli.index.open_model", lambda *_, **__: model)
    with open_index(folder, model=model) as index:
        index.update()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user"))
    command = ["index", str(folder), "--model", "pixels", "--follow-links"]
    for also, is_said in (((), True), (("--trust",), False), ((), False)):
        assert run([*command, *also]) == OK
        assert ("links are followed this time only" in capsys.readouterr().err) == is_said


def test_a_catalog_that_was_altered_to_follow_links_does_not(folder: Path, model: PixelModel) -> None:
    with open_index(folder, model=model) as index:
        index.update()
        index.catalog.set_facts({"follow_links": "yes"})
    with open_index(folder, model=model) as index:
        assert not index.rules.follow_links
        assert index.update().added == 0


def test_embedding_in_bulk(folder: Path, model: PixelModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "ReaderPool", InlineReaders)
    shutil.rmtree(folder / "sub")
    for follow_links, names in ((False, ["own.png"]), (True, ["deep/deeper.png", "far.png", "own.png"])):
        done = bulk.embed_in_bulk(model, folder, tmp_path / str(follow_links), follow_links=follow_links)
        assert (done.rows, done.links) == (len(names), 0 if follow_links else 4)
        table = pyarrow.parquet.read_table(tmp_path / str(follow_links) / "00000.parquet")
        assert table["path"].to_pylist() == names


def test_the_pictures_of_a_folder_that_a_command_looks_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_pictures((str(folder), "other.png"))
    report_links(found.links)
    assert [Path(path).name for path in found.pictures] == ["again.png", "own.png", "plain.png", "other.png"]
    assert "2 links lead out of the folder and were not followed" in capsys.readouterr().err
    found = find_pictures((str(folder),), follow_links=True)
    report_links(found.links)
    assert len(found.pictures) == 5
    assert not capsys.readouterr().err


def test_class_folders(folder: Path) -> None:
    (folder / "cats").mkdir()
    (folder / "cats" / "1.png").symlink_to("../own.png")
    (folder / "cats" / "2.png").symlink_to(folder.parent / "away" / "far.png")
    found = read_classes(folder)
    assert (found.names, [path.name for path in found.paths]) == (("cats", "sub"), ["1.png", "plain.png"])
    assert sorted(path.name for path in found.skipped_paths) == ["2.png", "deep", "far.png"]
    assert read_classes(folder, follows=lambda path: True).names == ("cats", "deep", "sub")


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A state of a repository as the hub's client keeps it: links to its blobs; and one of each kind that is none."""
    repository = tmp_path / "hub" / "datasets--owner--name"
    state = repository / "snapshots" / "0123"
    (state / "sub").mkdir(parents=True)
    for at, name in enumerate(("a.png", "sub/b.png")):
        draw(repository / "blobs" / f"{at}.png", at)
        (repository / "blobs" / f"{at}.png").rename(repository / "blobs" / f"{at:064x}")
        (state / name).symlink_to(repository / "blobs" / f"{at:064x}")
    draw(tmp_path / "far.png", 9)
    (repository / "blobs" / "9").symlink_to(tmp_path / "far.png")
    (state / "far.png").symlink_to(tmp_path / "far.png")
    (state / "farther.png").symlink_to("../../blobs/9")
    return state


def test_what_was_fetched_of_the_hub_is_links_to_files_of_its_own(fetched: Path, model: PixelModel) -> None:
    with open_index(fetched, model=model) as index:
        done = index.update()
        assert sorted(index.catalog.files()) == ["a.png", "sub/b.png"]
    assert done.skipped["leads out of the folder"] == 2
    assert AllowedFolders([fetched]).contains(fetched / "a.png")
    assert AllowedFolders([fetched / "sub"]).contains(fetched / "sub" / "b.png")
    assert not any(AllowedFolders([fetched]).contains(fetched / name) for name in ("far.png", "farther.png"))


def test_what_only_looks_like_a_cache_of_the_hub_leads_nowhere(fetched: Path, tmp_path: Path) -> None:
    blobs = fetched.parents[1] / "blobs"
    blobs.rename(tmp_path / "private")
    blobs.symlink_to(tmp_path / "private")
    assert RootBoundary(fetched).is_outside("a.png")
    assert not AllowedFolders([fetched]).contains(fetched / "a.png")
    blobs.unlink()
    (tmp_path / "private").rename(blobs)
    assert not RootBoundary(fetched).is_outside("a.png")
    renamed = fetched.parents[1].rename(tmp_path / "hub" / "photographs")
    assert RootBoundary(renamed / "snapshots" / "0123").is_outside(os.path.join("..", "..", "blobs", f"{0:064x}"))
