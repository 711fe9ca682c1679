"""Shards as CLIP_benchmark lays them out, and what Hugging Face's `datasets` holds, from local files."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.data.sources.opening import all_captions, open_source
from diptych.errors import DataError, DiptychError, FileError
from diptych.evaluation.sets import saved_datasets
from diptych.evaluation.sets.dataset import CaptionedDataset, LabelledDataset
from diptych.evaluation.sets.named_datasets import NAMED, open_named
from diptych.evaluation.sets.opening import open_set, splits, training_set
from diptych.evaluation.sets.saved_datasets import first_synonyms
from diptych.evaluation.suite import run
from diptych.evaluation.suite_file import SuiteEntry
from diptych.evaluation.tasks.job import EvaluationJob
from diptych.evaluation.tasks.retrieval import retrieval_task
from diptych.evaluation.tasks.zero_shot import zero_shot_task
from diptych.scenes.scene import draw_scene
from tests.conftest import write_tar

datasets = pytest.importorskip("datasets")


def png(seed: int) -> bytes:
    file = io.BytesIO()
    draw_scene(seed, size_px=40).image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Eleven test shards, so that 10.tar is not taken for the second; a training shard; names and templates."""
    top = tmp_path / "wds_set"
    for split, count in (("test", 11), ("train", 1)):
        (top / split).mkdir(parents=True)
        (top / split / "nshards.txt").write_text(f"{count}\n")
        for number in range(count):
            files = {f"s{number:07}.png": png(number), f"s{number:07}.cls": str(number % 3).encode()}
            write_tar(top / split / f"{number}.tar", files)
    (top / "classnames.txt").write_text("a cup\nhat\nfish\n")
    (top / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n{c}\n")
    return top


@pytest.mark.parametrize(
    "name", ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt", "test/3.tar"]
)
def test_what_links_lead_to_elsewhere_is_no_part_of_a_set(shards: Path, name: str) -> None:
    """Class names above all: they are written into reports."""
    elsewhere = shards.parent / "elsewhere"
    (shards / name).rename(elsewhere)
    (shards / name).symlink_to(elsewhere)
    with pytest.raises(DiptychError, match=r"outside .*wds_set|are outside its folder \(3\.tar\)"):
        open_set(shards)
    assert isinstance(open_set(shards, allow_outside=True), LabelledDataset)


def saved(folder: Path, word: str) -> Path:
    rows = datasets.Dataset.from_dict({"image": [{"bytes": png(0), "path": None}] * 2, "caption": [word] * 2})
    rows.cast_column("image", datasets.Image()).save_to_disk(folder)
    return folder


def edit(folder: Path, content: Any) -> None:
    (folder / "state.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_what_was_saved_names_no_file_elsewhere(tmp_path: Path) -> None:
    private, kept = saved(tmp_path / "private", "secret"), saved(tmp_path / "kept", "words")
    state = json.loads((kept / "state.json").read_text())
    [name] = [each["filename"] for each in state["_data_files"]]
    edit(kept, state | {"_data_files": [{"filename": f"../private/{name}"}]})
    for read in (open_set, open_source):
        with pytest.raises(DataError, match=rf"outside its folder \(\.\./private/{name}\)"):
            read(kept)
    assert list(all_captions(open_source(kept, allow_outside=True))) == ["secret"] * 2
    edit(kept, state)
    (kept / name).unlink()
    (kept / name).symlink_to(private / name)
    for read in (open_set, open_source):
        with pytest.raises(DataError, match="outside its folder"):
            read(kept)
    (kept / name).unlink()
    os.mkfifo(kept / name)
    for read in (open_set, open_source):
        with pytest.raises(FileError, match="is a pipe"):
            read(kept)


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 99_999, "{}", '{"_data_files": 5}', '{"_data_files": [{"filename": 5}]}']
)
def test_what_was_saved_and_is_damaged_says_so(tmp_path: Path, content: str) -> None:
    kept = saved(tmp_path / "kept", "words")
    edit(kept, content)
    for read in (open_set, open_source):
        with pytest.raises((DataError, FileNotFoundError)):
            read(kept)


@pytest.mark.parametrize(
    "name", ["../private/t.csv", "{top}/private/t.csv", "http://127.0.0.1:9/t.csv", "zip://t.csv::t.zip"]
)
def test_a_card_names_no_data_files_elsewhere(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for place, word in (("set", "words"), ("private", "secret")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "t.csv").write_text(f"image,caption\na.jpg,{word}\n")
    card, form = tmp_path / "set" / "README.md", "---\nconfigs:\n- config_name: default\n  data_files: '{}'\n---\n"
    card.write_text(form.format(name.replace("{top}", str(tmp_path))))
    for kind in ("hf", "hf-stream"):
        with pytest.raises(DataError, match="files are outside its folder"):
            open_source(f"{kind}://{tmp_path}/set")
    card.write_text(form.format("t.csv"))
    assert list(all_captions(open_source(f"hf://{tmp_path}/set"))) == ["words"]
    card.write_text("---\n" + "[" * 2000)
    with pytest.raises(DataError, match=r"README\.md cannot be read"):
        open_source(f"hf://{tmp_path}/set")


def test_classes_in_shards(shards: Path) -> None:
    assert splits(shards) == ("train", "test")
    found = open_set(shards)
    assert isinstance(found, LabelledDataset)
    assert found.classes == ("a cup", "hat", "fish")
    assert found.templates == ("a photo of {}.", "{}")
    assert found.labels.tolist() == [number % 3 for number in range(11)]
    assert found.pictures.read(10) == png(10)
    assert found.pictures.split == "test"
    train = training_set(shards)
    assert train is not None
    assert len(train.pictures) == 1


def test_a_suite_uses_the_sets_own_templates(shards: Path, tiny_model: Path, tmp_path: Path) -> None:
    (row,) = run(diptych.load(tiny_model), [SuiteEntry("shards", str(shards))], tmp_path / "out")
    assert row["error"] is None
    assert row["settings"]["templates"] == "the set's own"
    assert row["count"] == 11


def test_captions_in_shards(shards: Path, tiny_model: Path) -> None:
    (shards / "classnames.txt").unlink()
    (shards / "dataset_type.txt").write_text("retrieval\n")
    for number in range(11):
        write_tar(shards / "test" / f"{number}.tar", {"k.png": png(number), "k.txt": b"a scene\nof several things\n"})
    found = open_set(shards, split="test")
    assert isinstance(found, CaptionedDataset)
    assert found.captions(0) == ("a scene", "of several things")
    assert len(found.pictures) == 11
    assert retrieval_task(EvaluationJob(diptych.load(tiny_model), found)).details["captions"] == 22


def test_what_is_wrong_with_shards(shards: Path) -> None:
    (shards / "test" / "nshards.txt").write_text("12")
    with pytest.raises(DataError, match=r"contains 11 shards and nshards\.txt counts 12; fetch the missing"):
        open_set(shards)
    (shards / "test" / "nshards.txt").write_text("11")
    write_tar(shards / "test" / "0.tar", {"a.png": png(0), "a.cls": b"3"})
    with pytest.raises(DataError, match="is of class '3'; wanted a number below 3"):
        open_set(shards)
    (shards / "test" / "0.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="cannot be read as a tar shard"):
        open_set(shards)
    (shards / "classnames.txt").unlink()
    with pytest.raises(DataError, match=r"has no classnames\.txt"):
        open_set(shards, kind="classes")


@pytest.fixture
def rows() -> Any:
    """Four pictures of two classes."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["tench, Tinca tinca", "golf ball"])}
    )
    pictures = [Image.open(io.BytesIO(png(number))) for number in range(4)]
    return datasets.Dataset.from_dict({"image": pictures, "label": [0, 1, 1, 0]}, features=features)


def test_rows_are_a_set_like_any_other(rows: Any, tiny_model: Path) -> None:
    found = saved_datasets.of_rows(rows, "val", image="image", label="label", caption=None)
    assert isinstance(found, LabelledDataset)
    assert found.classes == ("tench", "golf ball")
    assert found.labels.tolist() == [0, 1, 1, 0]
    model = diptych.load(tiny_model)
    outcome = zero_shot_task(EvaluationJob(model, found))
    said = model.classify([png(n) for n in range(4)], found.classes, templates=EvaluationJob(model, found).prompts).best
    assert outcome.metrics["top1"] == 25 * sum(a == found.classes[b] for a, b in zip(said, [0, 1, 1, 0], strict=True))


def test_named_sets_have_the_splits_of_the_table() -> None:
    assert splits("imagenette") == ("val", "train")
    with pytest.raises(DataError, match="imagenette has no split 'dev' here; it has val, train"):
        open_named("imagenette", "dev")


def test_datasets_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install \"diptych\[datasets\]\""):
        open_named("cifar10")


def test_what_datasets_has_saved(rows: Any, tmp_path: Path) -> None:
    rows.save_to_disk(tmp_path / "one")
    found = open_set(tmp_path / "one")
    assert isinstance(found, LabelledDataset)
    assert found.pictures.split == "all"
    datasets.DatasetDict({"train": rows, "test": rows.select([2])}).save_to_disk(tmp_path / "two")
    found = open_set(tmp_path / "two")
    assert isinstance(found, LabelledDataset)
    assert (found.pictures.split, found.labels.tolist()) == ("test", [1])
    train = training_set(tmp_path / "two")
    assert train is not None
    assert len(train.pictures) == 4
    captions = rows.remove_columns("label").add_column("caption", [["a cup", "a mug"], ["b"], ["c"], ["d"]])
    captions.save_to_disk(tmp_path / "three")
    pairs = open_set(tmp_path / "three")
    assert isinstance(pairs, CaptionedDataset)
    assert pairs.captions(0) == ("a cup", "a mug")
    rows.remove_columns("label").save_to_disk(tmp_path / "four")
    with pytest.raises(DataError, match="wanted an Image, and a ClassLabel or one called caption"):
        open_set(tmp_path / "four")


def test_hidden_and_unnamed_classes(rows: Any) -> None:
    hidden = rows.map(lambda row: {"label": -1})
    with pytest.raises(DataError, match="hides its classes"):
        saved_datasets.of_rows(hidden, "test", image="image", label="label", caption=None)
    plain = rows.cast_column("label", datasets.Value("int64"))
    with pytest.raises(DataError, match="wanted a ClassLabel, which names its classes"):
        saved_datasets.of_rows(plain, "test", image="image", label="label", caption=None)


def test_first_synonyms() -> None:
    names = ["tench, Tinca tinca", "crane", "crane, lifting", "garden_spider"]
    assert first_synonyms(names) == ("tench", "crane", "crane, lifting", "garden spider")


def test_the_table_is_whole() -> None:
    assert json.dumps({name: entry._asdict() for name, entry in NAMED.items()}, default=dict)
    for entry in NAMED.values():
        assert entry.splits
        assert (entry.image is None) == (entry.label is None and entry.caption is None)
    assert np.isin(["imagenette", "imagenet-1k", "objectnet", "cifar100", "flickr30k", "coco"], list(NAMED)).all()
