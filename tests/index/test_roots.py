"""The index of a folder above serves a folder, and several folders are searched at once."""

import io
import os
import pickle
import shutil
import unicodedata
from pathlib import Path

import click
import pytest
from index_model import InlineReaders, PixelModel, draw

from diptych.cli import FAILED, NOTHING, OK, PARTLY, USAGE, auto_update
from diptych.errors import IndexDirectoryError
from diptych.index.doctor import examine
from diptych.index.filters.filters import Filters
from diptych.index.local import LocalIndex, open_index
from diptych.index.model import next_facts
from diptych.index.roots import with_names_on_disk
from diptych.index.search.near_duplicates import find_duplicates
from diptych.index.update.results import UpdateResult
from tests.conftest import Cli

HERE, BELOW = ("a.png", "b.png"), ("coco/c.png", "coco/d.png", "coco/deep/e.png")


@pytest.fixture
def model() -> PixelModel:
    return PixelModel()


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.media.reading.readers.ReaderPool", InlineReaders)


@pytest.fixture
def pics(tmp_path: Path, model: PixelModel, inline: None) -> Path:
    """A folder that is indexed."""
    for seed, name in enumerate((*HERE, *BELOW)):
        draw(tmp_path / "pics" / name, seed)
    with open_index(tmp_path / "pics", model=model) as index:
        index.update()
    return tmp_path / "pics"


def found(index: LocalIndex, **filters: str) -> set[str]:
    hits = index.search("anything", limit=99, filters=Filters(**filters) if filters else None).hits
    return {hit.path.relative_to(index.root).as_posix() for hit in hits}


def updated(folder: Path, model: PixelModel) -> UpdateResult:
    with open_index(folder, model=model) as index:
        return index.update()


def test_an_index_above_serves(pics: Path, model: PixelModel) -> None:
    with open_index(pics / "coco", model=model) as index:
        assert (index.root, index.folder, index.subfolder) == (pics, pics / "coco", "coco")
        assert found(index) == {*BELOW}
        assert found(index, path="*.png") == {*BELOW}
        assert found(index, path="/*.png") == {"coco/c.png", "coco/d.png"}  # from the folder that was named
        assert found(index, path="deep/") == {"coco/deep/e.png"}
        assert index.search("anything", limit=1).searched == 3
        assert (index.counts().files, index.catalog.counts().files) == (3, 5)
        assert "coco" in repr(index)
        assert pickle.loads(pickle.dumps(open_index(pics / "coco"))).folder == pics / "coco"
    with open_index(pics / "coco" / "deep", model=model) as index:
        assert found(index) == {"coco/deep/e.png"}
    with open_index(pics, model=model) as index:
        assert found(index) == {*HERE, *BELOW}
    assert not (pics / "coco" / ".diptych").exists()


def test_an_update_scans_only_the_folder(pics: Path, model: PixelModel) -> None:
    embedded = model.embedded
    (pics / "a.png").unlink()
    (pics / "coco" / "c.png").unlink()
    draw(pics / "f.png", 10)
    draw(pics / "coco" / "g.png", 11)
    (pics / "coco" / "broken.png").write_bytes(b"nothing")
    done = updated(pics / "coco", model)
    assert (done.added, done.forgotten, done.unchanged) == (1, 1, 2)
    assert [*done.failures] == ["coco/broken.png"]
    assert model.embedded == embedded + 1
    with open_index(pics, model=model) as index:
        assert found(index) == {"a.png", "b.png", "coco/d.png", "coco/deep/e.png", "coco/g.png"}
        done = index.update()
        assert (done.added, done.forgotten, done.failed_before) == (1, 1, 1)
        assert [*index.failures()] == ["coco/broken.png"]
        assert [*open_index(pics / "coco" / "deep").failures()] == []


def test_a_link_out_of_the_folder_is_no_second_path(pics: Path, model: PixelModel, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere" / "h.png", 12)
    (pics / "other").mkdir()
    draw(pics / "other" / "i.png", 13)
    with open_index(pics, model=model, follow_links=True) as index:
        index.update()
    (pics / "coco" / "in").symlink_to(pics / "other")
    (pics / "coco" / "out").symlink_to(tmp_path / "elsewhere")
    done = updated(pics / "coco", model)
    assert (done.added, done.skipped) == (1, {"linked twice": 1})
    assert (updated(pics, model).added, updated(pics, model).forgotten) == (0, 0)


def test_a_folder_excluded_by_the_index_above_has_its_own(pics: Path, model: PixelModel) -> None:
    for name in ("drafts/a.png", ".hidden/a.png", "new/a.png", "x.jpg/a.png"):
        draw(pics / name, 20)
    with open_index(pics, model=model, exclude=["drafts", "*.JPG"]) as index:
        index.update()
    (pics / "late").mkdir()
    roots = {name: open_index(pics / name).root for name in ("drafts", ".hidden", "new", "x.jpg", "late", "coco")}
    assert {name for name, root in roots.items() if root == pics} == {"new", "late", "coco"}
    with pytest.raises(IndexDirectoryError, match=r"is in the index of .*pics, whose rules hold for all"):
        open_index(pics / "coco", exclude=["*.gif"])
    own = open_index(pics / "coco", index=pics / "coco" / ".diptych")
    assert (own.root, own.subfolder) == (pics / "coco", "")


def test_an_index_kept_elsewhere_serves_what_is_below(pics: Path, model: PixelModel, tmp_path: Path) -> None:
    shutil.move(pics / ".diptych", tmp_path / "kept")
    with open_index(pics / "coco", model=model, index=tmp_path / "kept") as index:
        assert found(index) == {*BELOW}
    assert open_index(pics / "coco").root == pics / "coco"


def test_a_folder_is_spelled_as_the_disk_lists_it(tmp_path: Path) -> None:
    """macOS and Windows open it by another spelling."""
    decomposed = unicodedata.normalize("NFD", "Café")
    (tmp_path / decomposed / "Übung").mkdir(parents=True)
    (tmp_path / "A").mkdir()
    (tmp_path / "a").mkdir(exist_ok=True)
    assert with_names_on_disk(tmp_path, unicodedata.normalize("NFC", "café/übung")) == f"{decomposed}/Übung"
    assert with_names_on_disk(tmp_path, "a") == "a"
    assert with_names_on_disk(tmp_path, "gone/Über") == "gone/Über"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_an_index_of_another_user_above_is_ignored(pics: Path) -> None:
    os.chown(pics / ".diptych", 12345, -1)
    assert open_index(pics / "coco").root == pics / "coco"
    os.chown(pics / "coco", 12345, -1)
    assert open_index(pics / "coco").root == pics


def test_a_suddenly_empty_folder_keeps_its_entries(pics: Path, model: PixelModel) -> None:
    shutil.rmtree(pics / "coco")
    (pics / "coco").mkdir()
    with pytest.raises(
        IndexDirectoryError,
        match=r"coco holds nothing to index.* gone for good, or should be left out, index .*pics again",
    ):
        updated(pics / "coco", model)
    assert updated(pics, model).forgotten == 3


def test_duplicates_and_doctor_of_a_folder_below(pics: Path, model: PixelModel) -> None:
    for name in ("copy.png", "coco/copy.png", "coco/deep/copy.png"):
        shutil.copy(pics / "a.png", pics / name)
    updated(pics, model)
    with open_index(pics / "coco", model=model) as index:
        groups = find_duplicates(index).groups
        assert [{copy.path.relative_to(pics).as_posix() for copy in group} for group in groups] == [
            {"coco/copy.png", "coco/deep/copy.png"}
        ]
        assert examine(index) == []


# --- the command line


@pytest.fixture
def two(pictures: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of four pictures each."""
    for at, path in enumerate(sorted(pictures.rglob("*.png"))):
        copied_to = tmp_path / ("one" if at % 2 else "other") / path.name
        copied_to.parent.mkdir(exist_ok=True)
        shutil.copy(path, copied_to)
    return tmp_path / "one", tmp_path / "other"


def test_several_folders_at_once(
    cli: Cli, tiny_model: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two[0].parent)
    assert cli("index", "one", "--model", tiny_model).code == OK
    (two[1] / "broken.png").write_bytes(b"nothing")
    said = cli("search", "a star", "one/", "other", "--json")  # the new one with the model of the old
    assert (said.code, said.json["searched"], len(said.json["hits"])) == (PARTLY, 8, 8)
    scores = [hit["score"] for hit in said.json["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert {hit["path"].split("/")[0] for hit in said.json["hits"]} == {"one", "other"}
    assert [*said.json["failures"]] == ["other/broken.png"]
    assert said.err.count("OpenVINO") + said.err.count("PyTorch") == 1  # one model, opened once
    same = cli("search", "one", "a star", "other", "one", "--paths").out.splitlines()
    assert same == [hit["path"] for hit in said.json["hits"]]
    said = cli("search", "a star", "one", "other", "--index", "x")
    assert (said.code, "--index takes one FOLDER" in said.err) == (USAGE, True)
    said = cli("search", "a star", "one", "other", "--path", "gone", "--json")
    assert (said.code, "none of the 8 pictures in the index pass the filters" in said.err) == (NOTHING, True)


def test_folders_of_two_models(cli: Cli, tiny_model: Path, two: tuple[Path, Path], tmp_path: Path) -> None:
    assert cli("index", two[0], "--model", tiny_model).code == OK
    with open_index(two[1], model=PixelModel()) as index:
        index.on_disk.create(next_facts(index.model, index.root, follow_links=False))
    said = cli("search", "a star", *two)
    assert (said.code, said.out) == (FAILED, "")
    assert "scores of two models cannot be compared" in said.err


def test_a_folder_below_on_the_command_line(
    cli: Cli, tiny_model: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    above = two[0].parent
    assert cli("index", above, "--model", tiny_model).code == OK
    monkeypatch.chdir(two[1])
    (two[1] / "broken.png").write_bytes(b"nothing")
    (two[0] / "broken.png").write_bytes(b"nothing")
    said = cli("search", "a star", "--json")
    assert (said.json["searched"], [*said.json["failures"]]) == (4, ["broken.png"])
    assert f"  {two[0]}/broken.png: not an image." in cli("search", "a star", two[0]).err
    assert all(Path(hit["path"]).exists() and "/" not in hit["path"] for hit in said.json["hits"])
    said = cli("index", ".")
    assert (said.code, f"is in the index of {above}; only . is updated" in said.err) == (PARTLY, True)
    assert f"{above}/.diptych, of {two[1]}: 4 files, 4 pictures and 0 texts" in said.out
    assert [*cli("doctor", ".", "--json").json["unread"]] == ["other/broken.png"]
    assert "name that folder with --vectors" in cli("index", ".", "--vectors", ".").err
    said = cli("index", ".", "--exclude", "x")
    assert (said.code, f"make a separate index with --index {two[1]}/.diptych" in said.err) == (FAILED, True)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("inline")
def test_a_person_is_asked_before_a_large_folder_is_indexed(
    tmp_path: Path, model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_update, "MAX_UNASKED", 3)
    for seed in range(4):
        draw(tmp_path / f"{seed}.png", seed)

    def answered(answer: str | None, *, update: bool | None = None) -> str:
        """The output after this answer, or, with None, without a terminal."""
        said = _Terminal()
        with monkeypatch.context() as patch, open_index(tmp_path, model=model) as index:
            if answer is not None:
                patch.setattr("sys.stdin", _Terminal(answer))
                patch.setattr("sys.stdout", _Terminal())
            patch.setattr("sys.stderr", said)
            auto_update.update_if_needed(index, "pics", update)
        return " ".join(said.getvalue().split())  # lines are as long as the terminal is wide

    for answer in ("n\n", "\n", ""):
        with pytest.raises(click.ClickException, match=r"nothing was indexed\. Name a smaller folder than pics"):
            answered(answer)
        assert not (tmp_path / ".diptych").exists()
    asked = f"{tmp_path} is not indexed yet. It contains 4 pictures, videos and texts. Index all of them"
    for answer, update, is_asked in (("y\n", None, True), ("", True, False), (None, None, False)):
        assert answered(answer, update=update).startswith(asked) == is_asked
        assert open_index(tmp_path).counts().files == 4
        assert "not indexed yet" not in answered("")
        shutil.rmtree(tmp_path / ".diptych")
