"""Data sets for evaluation: what is read from where, and what is said of what cannot be."""

from pathlib import Path

import numpy as np
import pytest

from diptych.errors import DataError
from diptych.evaluation.sets.dataset import CaptionedDataset, LabelledDataset
from diptych.evaluation.sets.opening import open_set, splits, training_set
from diptych.scenes.scene import Scenes


def fill(folder: Path, count: int, start: int = 0) -> Path:
    """So many drawn pictures."""
    folder.mkdir(parents=True)
    for index, scene in enumerate(Scenes(count, size_px=48, seed=start)):
        scene.image.save(folder / f"{index}.png")
    return folder


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two pictures of a sports car, three of a cup."""
    fill(tmp_path / "set" / "sports_car", 2)
    fill(tmp_path / "set" / "cup", 3, 9)
    return tmp_path / "set"


def test_class_folders(classes: Path) -> None:
    found = open_set(classes)
    assert isinstance(found, LabelledDataset)
    assert found.classes == ("cup", "sports car")
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.pictures.keys[0] == str(Path("cup", "0.png"))
    assert found.pictures.read(4) == classes / "sports_car" / "1.png"
    assert found.pictures.split == "all"
    assert splits(classes) == ()
    assert training_set(classes) is None


def test_splits_below_and_a_class_called_train(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name, count in (("train", 2), ("bus", 1)):
            fill(tmp_path / "set" / split / name, count)
    assert splits(tmp_path / "set") == ("train", "val")
    found = open_set(tmp_path / "set")
    assert isinstance(found, LabelledDataset)
    assert (found.classes, found.pictures.split) == (("bus", "train"), "val")
    train = training_set(tmp_path / "set")
    assert train is not None
    assert train.pictures.split == "train"
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        open_set(tmp_path / "set", split="test")
    assert splits(tmp_path / "set" / "val") == ()  # of its class "train" the pictures lie right below


def test_identity_follows_the_files_and_not_the_place(classes: Path, tmp_path: Path) -> None:
    before = open_set(classes).pictures.identity
    moved = classes.rename(tmp_path / "moved")
    assert open_set(moved).pictures.identity == before
    (moved / "cup" / "0.png").unlink()
    assert open_set(moved).pictures.identity != before


def test_pairs_as_training_reads_them(shards: Path, tmp_path: Path) -> None:
    found = open_set(shards)
    assert isinstance(found, CaptionedDataset)
    assert len(found.pictures) == 96
    assert len(found.captions(0)) >= 1
    assert isinstance(found.pictures.read(0), bytes)
    fill(tmp_path / "captioned", 1)
    (tmp_path / "captioned" / "0.txt").write_text("a fish\na blue fish\n")
    captioned = open_set(tmp_path / "captioned")
    assert isinstance(captioned, CaptionedDataset)
    assert captioned.captions(0) == ("a fish", "a blue fish")


def test_what_is_not_there_is_said(tmp_path: Path, classes: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not there; wanted a folder of class folders.*imagenette"):
        open_set(str(tmp_path / "nowhere"))
    fill(tmp_path / "one" / "only", 1)
    with pytest.raises(DataError, match="1 folders of pictures below; wanted one for each of two"):
        open_set(tmp_path / "one", kind="classes")


def test_folders_of_one_spelling_are_one_class_and_said(tmp_path: Path) -> None:
    for name in ("red_fish", "red fish", "cup"):
        fill(tmp_path / "set" / name, 1)
    found = open_set(tmp_path / "set")
    assert isinstance(found, LabelledDataset)
    assert found.classes == ("cup", "red fish")
    assert np.bincount(found.labels).tolist() == [1, 2]
    assert found.description == "folders with equivalent names are one class: 'red fish' and 'red_fish'"


def test_pairs_in_tables_and_patterns_are_known_by_their_files(shards: Path, tmp_path: Path) -> None:
    fill(tmp_path / "pictures", 2)
    table = tmp_path / "pairs.csv"
    table.write_text("image,caption\npictures/0.png,a fish\npictures/1.png,a cup\n")
    before = open_set(table).pictures.identity
    (tmp_path / "pictures" / "1.png").write_bytes(b"another")
    assert open_set(table).pictures.identity != before
    (tmp_path / "0.tar").write_bytes(next(shards.glob("*.tar")).read_bytes())
    pattern = str(tmp_path / "{0..0}.tar")
    first = open_set(pattern).pictures.identity
    (tmp_path / "0.tar").touch()
    assert open_set(pattern).pictures.identity != first
