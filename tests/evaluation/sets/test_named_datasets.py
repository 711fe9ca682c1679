"""Sets by name, from a server on this machine that speaks the hub's protocol: the clients' own code fetches them."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import NOWHERE, Files, Hub, point_to, standing_in

import diptych
from diptych.errors import DataError
from diptych.evaluation import results
from diptych.evaluation.sets.dataset import CaptionedDataset, LabelledDataset
from diptych.evaluation.sets.named_datasets import NAMED, PARQUET
from diptych.evaluation.sets.opening import open_set, training_set
from diptych.evaluation.suite import run
from diptych.evaluation.suite_file import SuiteEntry
from diptych.scenes.scene import draw_scene
from tests.conftest import write_tar

datasets = pytest.importorskip("datasets")

CIFAR10 = "datasets/uoft-cs/cifar10"
IMAGENETTE = "datasets/frgfm/imagenette"
IMAGENET = "datasets/ILSVRC/imagenet-1k"
IMAGENET_A = "datasets/clip-benchmark/wds_imagenet-a"
FLICKR = "datasets/clip-benchmark/wds_flickr30k"
NAMES = ("cifar10", "imagenet-a")
CLUTTER = {".gitattributes": b"*.tar filter=lfs", "README.md": b"---\nlicense: mit\n---\n# A set\n"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    with standing_in(monkeypatch, tmp_path / "hub") as server:
        yield server


def png(seed: int) -> bytes:
    file = io.BytesIO()
    draw_scene(seed, size_px=40).image.save(file, "PNG")
    return file.getvalue()


def parquet(folder: Path, names: list[str], answers: list[int], *, image: str = "image", first: int = 0) -> bytes:
    """What `push_to_hub` writes: pictures and class numbers, with the names of the classes in the file's schema."""
    features = datasets.Features({image: datasets.Image(), "label": datasets.ClassLabel(names=names)})
    cells = [{"bytes": png(first + at), "path": None} for at in range(len(answers))]
    rows = datasets.Dataset.from_dict({image: cells, "label": answers}, features=features)
    rows.to_parquet(folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


def tar(folder: Path, files: Files) -> bytes:
    return write_tar(folder / "shard.tar", files).read_bytes()


def cifar10(folder: Path) -> Files:
    names = ["airplane", "automobile", "bird"]
    return CLUTTER | {
        "plain_text/train-00000-of-00001.parquet": parquet(folder, names, [2, 2], image="img", first=50),
        "plain_text/test-00000-of-00002.parquet": parquet(folder, names, [0, 1, 2, 1], image="img"),
        "plain_text/test-00001-of-00002.parquet": parquet(folder, names, [2, 0], image="img", first=4),
    }


def imagenet_a(folder: Path) -> Files:
    """Two shards of classes, as CLIP_benchmark lays them out."""
    first = {f"s{at:07}.png": png(at) for at in range(3)} | {f"s{at:07}.cls": str(at).encode() for at in range(3)}
    return CLUTTER | {
        "classnames.txt": b"stingray\ngoldfinch\njunco",
        "zeroshot_classification_templates.txt": b"a bad photo of a {c}.\na {c}.",
        "test/nshards.txt": b"2",
        "test/0.tar": tar(folder, first),
        "test/1.tar": tar(folder, {"s0000003.png": png(3), "s0000003.cls": b"1"}),
        "train/0.tar": b"not asked for",
    }


def labelled(name: str, split: str | None = None) -> LabelledDataset:
    found = open_set(name, split=split)
    assert isinstance(found, LabelledDataset)
    return found


def test_parquet_with_the_names_of_its_own_label(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[CIFAR10] = cifar10(tmp_path)
    found = labelled("cifar10")
    assert found.classes == ("airplane", "automobile", "bird")
    assert found.labels.tolist() == [0, 1, 2, 1, 2, 0]
    assert [found.pictures.read(at) for at in (0, 5)] == [png(0), png(5)]
    assert found.pictures.split == "test"
    train = training_set("cifar10")
    assert train is not None
    assert train.labels.tolist() == [2, 2]
    assert train.pictures.identity != found.pictures.identity
    assert labelled("cifar10", "test").labels.tolist() == [0, 1, 2, 1, 2, 0]  # with the other split beside it


def test_of_several_splits_one_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """`datasets.load_dataset` fetches all: for 50,000 pictures of ImageNet the other 1.3 million."""
    hub.repositories[CIFAR10] = cifar10(tmp_path)
    labelled("cifar10")
    assert sorted(hub.asked) == ["plain_text/test-00000-of-00002.parquet", "plain_text/test-00001-of-00002.parquet"]


def test_a_repository_with_a_script_has_its_copy_on_another_branch(hub: Hub, tmp_path: Path) -> None:
    names = ["tench, Tinca tinca", "English springer"]
    hub.repositories[IMAGENETTE] = CLUTTER | {"imagenette.py": b"raise SystemExit", "metadata/val.txt": b"no pictures"}
    hub.repositories[f"{IMAGENETTE}@{PARQUET}"] = {
        "160px/validation/0000.parquet": b"another configuration",
        "320px/train/0000.parquet": b"another split",
        "320px/validation/0000.parquet": parquet(tmp_path, names, [1, 0, 1]),
    }
    found = labelled("imagenette")
    assert found.classes == ("tench", "English springer")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.pictures.split == "val"
    assert hub.asked == ["320px/validation/0000.parquet"]


def test_classes_in_shards_with_their_templates(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[IMAGENET_A] = imagenet_a(tmp_path)
    found = labelled("imagenet-a")
    assert found.classes == ("stingray", "goldfinch", "junco")
    assert found.templates == ("a bad photo of a {}.", "a {}.")
    assert found.labels.tolist() == [0, 1, 2, 1]
    assert found.pictures.read(3) == png(3)
    assert "train/0.tar" not in hub.asked


def test_captions_in_shards(hub: Hub, tmp_path: Path) -> None:
    pictures = {f"s{at:07}.png": png(at) for at in range(2)}
    texts = {f"s{at:07}.txt": f"scene {at}\nanother".encode() for at in range(2)}
    hub.repositories[FLICKR] = CLUTTER | {
        "dataset_type.txt": b"retrieval",
        "test/nshards.txt": b"1",
        "test/0.tar": tar(tmp_path, pictures | texts),
    }
    found = open_set("flickr30k")
    assert isinstance(found, CaptionedDataset)
    assert found.captions(1) == ("scene 1", "another")
    assert found.pictures.read(1) == png(1)


def imagenet(folder: Path, names: bytes = b"stingray\njunco\ngreat white shark") -> dict[str, Files]:
    synsets = ["stingray", "junco, snowbird", "white shark, man-eater"]
    return {
        IMAGENET: CLUTTER | {"data/validation-00000-of-00001.parquet": parquet(folder, synsets, [0, 2])},
        "datasets/clip-benchmark/wds_imagenet1k": CLUTTER
        | {
            "classnames.txt": names,
            "zeroshot_classification_templates.txt": b"a photo of a {c}.",
            "test/0.tar": b"not asked for",
        },
    }


def test_imagenet_has_the_class_names_of_its_shifts(hub: Hub, tmp_path: Path) -> None:
    """Its own are WordNet's, under which no class of ImageNet-R would be found again."""
    hub.repositories |= imagenet(tmp_path)
    found = labelled("imagenet-1k")
    assert found.classes == ("stingray", "junco", "great white shark")
    assert found.templates == ("a photo of a {}.",)
    assert "test/0.tar" not in hub.asked


def test_names_that_are_not_as_many_as_the_classes(hub: Hub, tmp_path: Path) -> None:
    hub.repositories |= imagenet(tmp_path, b"ray\njunco")
    with pytest.raises(DataError, match="wds_imagenet1k names 2 classes; ILSVRC/imagenet-1k has 3"):
        open_set("imagenet-1k")


@pytest.mark.parametrize("way", ["down", "nowhere", "offline"])
def test_what_was_fetched_needs_no_network(way: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories = {CIFAR10: cifar10(tmp_path), IMAGENET_A: imagenet_a(tmp_path), IMAGENETTE: CLUTTER}
    hub.repositories[f"{IMAGENETTE}@{PARQUET}"] = {
        "320px/validation/0000.parquet": parquet(tmp_path, ["a", "b"], [1, 0])
    }
    names = ("cifar10", "imagenet-a", "imagenette")
    before = [labelled(name) for name in names]
    requested = list(hub.asked)
    if way == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    elif way == "nowhere":
        point_to(NOWHERE, monkeypatch)
    hub.down = True
    for name, one in zip(names, before, strict=True):
        again = labelled(name)
        assert again.pictures.identity == one.pictures.identity
        assert again.classes == one.classes
        assert again.pictures.read(1) == one.pictures.read(1)
    assert hub.asked == requested
    with pytest.raises(DataError, match=r"cifar10 cannot be fetched: .* needs the network once; try again when"):
        open_set("cifar10", split="train")


def test_half_of_the_files_is_no_set(hub: Hub, tmp_path: Path) -> None:
    """An older client takes what a download that was cut off left in the cache for the whole."""
    hub.repositories[CIFAR10] = cifar10(tmp_path)
    del hub.repositories[CIFAR10]["plain_text/test-00001-of-00002.parquet"]
    with pytest.raises(DataError, match="holds 1 of 2 files; connect to fetch the rest"):
        open_set("cifar10")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar10", "the hub has no uoft-cs/cifar10 that you can read; log in with `hf auth login`, or pass a folder."),
        (
            "imagenet-a",
            "clip-benchmark/wds_imagenet-a has terms of use; accept them at "
            "https://huggingface.co/datasets/clip-benchmark/wds_imagenet-a and log in with `hf auth login`.",
        ),
        ("imagenette", "frgfm/imagenette has no files 320px/validation*.parquet any more; fetch it yourself"),
    ],
)
def test_what_the_hub_does_not_give(name: str, says: str, hub: Hub, tmp_path: Path) -> None:
    hub.repositories = {IMAGENET_A: imagenet_a(tmp_path), IMAGENETTE: CLUTTER}
    hub.gated = {IMAGENET_A}
    with pytest.raises(DataError) as error:
        open_set(name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_hub_that_cannot_be_reached(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(NOWHERE, monkeypatch)
    for name, entry in NAMED.items():
        with pytest.raises(DataError, match=rf"^{name} cannot be fetched: .*{re.escape(entry.hub)} needs the network"):
            open_set(name)


def test_in_a_suite_a_set_that_cannot_be_had_costs_itself(hub: Hub, tmp_path: Path, tiny_model: Path) -> None:
    hub.repositories = {IMAGENET_A: imagenet_a(tmp_path), CIFAR10: cifar10(tmp_path)}
    hub.gated = {IMAGENET_A}
    entries = [SuiteEntry(name, name) for name in ("imagenet-a", "cifar100", "cifar10")]
    gated, missing, good = run(diptych.load(tiny_model), entries, tmp_path / "out")
    assert "accept them at" in gated["error"]
    assert "the hub has no uoft-cs/cifar100" in missing["error"]
    assert (good["error"], good["count"]) == (None, 6)


@pytest.mark.slow
def test_evaluate_as_a_user_calls_it(tiny_model: Path, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HOME as a user sets them, in processes of their own, the second without a hub."""
    server = Hub()
    server.repositories = {CIFAR10: cifar10(tmp_path), IMAGENET_A: imagenet_a(tmp_path)}
    suite = tmp_path / "suite.toml"
    suite.write_text(
        "".join(
            f'[[dataset]]\nname = "{name}"\nsource = "{name}"\ntasks = ["zero-shot"]\n'
            for name in ("cifar10", "imagenet-a")
        )
    )
    root = {"PYTHONPATH": str(Path(__file__).parents[3]), "NO_PROXY": "127.0.0.1"}
    environment = os.environ | root | {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "diptych", "evaluate", str(tiny_model), "--suite", str(suite), "--out"]
    for out in ("first", "second"):
        said = subprocess.run([*command, str(tmp_path / out)], env=environment, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        environment["HF_HUB_OFFLINE"], server.down = "1", True
    server.shutdown()
    server.server_close()
    first, second = (results.read_results(tmp_path / out) for out in ("first", "second"))
    assert [(row["dataset"], row["count"]) for row in first] == [("cifar10", 6), ("imagenet-a", 4)]
    assert [row["key"] for row in first] == [row["key"] for row in second]
    assert [row["settings"]["templates"] for row in first] == ["general", "the set's own"]
