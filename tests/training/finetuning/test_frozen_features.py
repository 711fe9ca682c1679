"""A locked tower encodes every picture once: the same weights, after less work."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import together

import diptych
from diptych.checkpoint import save_folder
from diptych.data.loading.augmentation import NONE, Augmentation
from diptych.data.loading.plan import MixtureSource
from diptych.data.samples import Stream
from diptych.data.sources.opening import open_source
from diptych.engines.pytorch import PyTorchEngine
from diptych.errors import ArgumentError, DataError
from diptych.media.preprocessing import Preprocess
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.nets.resnet import ModifiedResNet
from diptych.nets.vision import VisionTransformer
from diptych.scenes.scene import Scenes
from diptych.text.tokenizer import Tokenizer
from diptych.training.config import TrainConfig
from diptych.training.finetuning import frozen_features
from diptych.training.finetuning.feature_file import FeatureFile
from diptych.training.finetuning.freezing import POOLING
from diptych.training.finetuning.frozen_features import FeatureMaker, fingerprint, reason_against
from diptych.training.setup import from_model, sized
from diptych.training.trainer import Trainer, train
from diptych.training.validation import Validation
from tests.conftest import write_tar

EPOCHS = 2


def locked(pairs: Path, out: Path, model: Path, **changes) -> TrainConfig:
    """Pictures of the tower's size and no augmentation: the plain view is what each epoch would show."""
    plain = {"init": str(model), "lock_image": True, "epochs": EPOCHS, "batch_size": 8, "captions_per_image": 1}
    plain |= {"precision": "fp32", "device": "cpu", "optimizer": "adamw", "lr": 1e-3, "augmentation": NONE}
    plain |= {"threads": 1}
    return TrainConfig(data=(str(pairs),), out=str(out), **{**plain, **changes})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of 24 scenes of 32 px with a caption each."""
    return with_broken(tmp_path_factory.mktemp("pairs"), 24, 0)


def with_broken(folder: Path, count: int, broken: int) -> Path:
    """A shard whose first `broken` pictures are none."""
    files = {}
    for number, scene in enumerate(Scenes(count, size_px=32)):
        scene.image.save(path := folder / "picture.png")
        files[f"{number:03d}.png"] = b"no picture" if number < broken else path.read_bytes()
        files[f"{number:03d}.txt"] = (scene.captions[0] + " on the left").encode()
    return write_tar(folder / "pairs.tar", files)


def resnet(tmp_path: Path) -> Path:
    """A model whose image tower is a ResNet of 32 px with random weights."""
    tokenizer = Tokenizer.train([c for scene in Scenes(20) for c in scene.captions], vocab_size=520, context=40)
    torch.manual_seed(0)
    network = CLIP(sized(preset("resnet-tiny"), 32, tokenizer))
    spec = Preprocess(size_px=32).to_hugging_face()
    return save_folder(tmp_path / "resnet", network, tokenizer_json=tokenizer.to_json(), preprocess=spec)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return diptych.load(folder, device="cpu").network.state_dict()


def apart(one: Path, other: Path) -> float:
    """The largest difference of any weight."""
    before, after = weights(one), weights(other)
    return max((before[name].float() - after[name].float()).abs().max().item() for name in before)


def stop_after(monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
    """The features' file fails after some writes."""
    write, count = FeatureFile.write, [0]

    def failing(file: FeatureFile, *arguments) -> None:
        count[0] += 1
        if count[0] > writes:
            raise error
        write(file, *arguments)

    monkeypatch.setattr(FeatureFile, "write", failing)


def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures of each call of the frozen tower from now on."""
    encode, counts = FeatureMaker._encoded, []

    def counting(maker: FeatureMaker, pixels: np.ndarray) -> np.ndarray:
        counts.append(len(pixels))
        return encode(maker, pixels)

    monkeypatch.setattr(FeatureMaker, "_encoded", counting)
    return counts


def test_stored_features_give_the_weights_of_pictures(
    pairs: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = train(locked(pairs, tmp_path / "stored", tiny_model))
    said = capsys.readouterr().err
    each_time = train(locked(pairs, tmp_path / "each", tiny_model, views=0))
    assert apart(stored.folder, each_time.folder) < 1e-6
    assert stored.loss == pytest.approx(each_time.loss, abs=1e-6)
    assert apart(stored.folder, tiny_model) > 1e-4
    assert "the features of 24 pictures take" in said
    assert "s with stored features and would take" in said
    assert "to make them included" in said
    assert "computed each time: views is 0" in capsys.readouterr().err
    assert not (tmp_path / "stored" / "frozen-features").exists()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_locked_trunk_trains_pooling_and_projection(
    kind: str, pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the trunk itself, rounded to the float16 in which its output is stored."""
    model = tiny_model if kind == "vit" else resnet(tmp_path)
    tower = VisionTransformer if kind == "vit" else ModifiedResNet
    options = {"lock_image": False, "lock_trunk": True, "lr": 1e-4}
    stored = train(locked(pairs, tmp_path / "stored", model, **options), quiet=True)
    before, after = weights(model), weights(stored.folder)
    trained = {name.split(".")[1] for name in after if "image." in name and not before[name].equal(after[name])}
    assert trained == ({"norm_post", "proj"} if kind == "vit" else {"pool"})
    assert trained <= {*POOLING}
    trunk = tower.trunk
    monkeypatch.setattr(tower, "trunk", lambda tower, pixels: trunk(tower, pixels).half().float())
    each_time = train(locked(pairs, tmp_path / "each", model, views=0, **options), quiet=True)
    assert apart(stored.folder, each_time.folder) < 1e-6


def test_views_beside_the_plain_one_are_augmented(
    pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pick reads one of them; the captions of a mirrored one are mirrored."""
    seen = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda trainer, *rest: (seen.append((trainer, *rest)), step(trainer, *rest)))
    how = Augmentation(crop_scale=0.5, flip=1.0, jitter=0.3, erase=0.0, drop_words=0.0)
    train(locked(pairs, tmp_path, tiny_model, views=3, epochs=6, augmentation=how), quiet=True)
    rows = np.concatenate([batch.pixels for _, batch, _ in seen])
    assert rows.dtype == np.float32
    distinct = len(np.unique(rows, axis=0))
    assert 24 < distinct <= 3 * 24
    sides = [caption.rpartition(" ")[2] for _, batch, _ in seen for caption in batch.captions]
    assert 0.15 < sides.count("left") / len(sides) < 0.55  # a third: the plain view
    assert {*sides} == {"left", "right"}


def test_a_kill_while_features_are_made_costs_only_the_last_ones(
    pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(locked(pairs, tmp_path / "whole", tiny_model), quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(frozen_features, "BATCH", 8)
        stop_after(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            train(locked(pairs, tmp_path / "run", tiny_model), quiet=True)
    assert (tmp_path / "run" / "frozen-features" / "about.json").exists()
    counts = encoded(monkeypatch)
    resumed = train(locked(pairs, tmp_path / "run", tiny_model), resume=True, quiet=True)
    assert sum(counts) == 1 + 24 - 16  # one for the shape
    assert apart(resumed.folder, whole.folder) < 1e-6


def test_a_request_to_stop_while_features_are_made_keeps_them(
    pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeatureMaker._store

    def interrupting(maker: FeatureMaker, *arguments) -> None:
        store(maker, *arguments)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(frozen_features, "BATCH", 8)
    monkeypatch.setattr(FeatureMaker, "_store", interrupting)
    with pytest.raises(KeyboardInterrupt):
        train(locked(pairs, tmp_path, tiny_model))
    assert "the features of 8 of 24 pictures are made and stay in" in capsys.readouterr().err


def interrupted(pairs: Path, out: Path, model: Path, monkeypatch: pytest.MonkeyPatch, **changes) -> None:
    """A run that ends after four steps, with a checkpoint."""
    record = Trainer._record_step

    def interrupt(trainer: Trainer, *numbers) -> None:
        record(trainer, *numbers)
        if trainer.state.progress.steps == 4:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_record_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(locked(pairs, out, model, **changes), quiet=True)


def test_a_resumed_run_reads_the_features_that_are_there(
    pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(locked(pairs, tmp_path / "whole", tiny_model, views=2, epochs=3), quiet=True)
    interrupted(pairs, tmp_path / "run", tiny_model, monkeypatch, views=2, epochs=3)
    counts = encoded(monkeypatch)
    resumed = train(locked(pairs, tmp_path / "run", tiny_model, views=2, epochs=3), resume=True, quiet=True)
    assert counts == [1]
    assert apart(resumed.folder, whole.folder) == 0


@pytest.mark.parametrize("entry", ["model", "samples", "preprocessing"])
def test_features_of_something_else_are_refused(
    entry: str, pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(pairs, tmp_path, tiny_model, monkeypatch)
    about = tmp_path / "frozen-features" / "about.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {entry: "another"}))
    with pytest.raises(ArgumentError, match=f"do not fit: the {entry} changed since they were made"):
        train(locked(pairs, tmp_path, tiny_model), resume=True, quiet=True)


def test_the_fingerprint_is_of_what_is_frozen() -> None:
    torch.manual_seed(0)
    network = CLIP(preset("vit-tiny"))
    vector, trunk = fingerprint(network, "vector"), fingerprint(network, "trunk")
    with torch.no_grad():
        network.image.proj.weight += 1
    assert fingerprint(network, "vector") != vector
    assert fingerprint(network, "trunk") == trunk
    with torch.no_grad():
        network.image.positions[0, 0] += 1
    assert fingerprint(network, "trunk") != trunk


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["before", "reserving", "writing"])
def test_a_full_disk_leaves_the_run_without_stored_features(
    when: str, pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if when == "before":
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100))
    elif when == "reserving":
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    else:
        monkeypatch.setattr(frozen_features, "BATCH", 8)
        stop_after(monkeypatch, 1, OSError(errno.ENOSPC, "No space left on device"))
    result = train(locked(pairs, tmp_path, tiny_model, epochs=2))
    said = capsys.readouterr().err
    assert "computed each time: " in said
    assert ("and 0 kB are free" if when == "before" else "could not be written (No space left") in said
    assert not (tmp_path / "frozen-features").exists()
    assert result.folder.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scenes": 0.5}, "drawn scenes are new each time"),
        ({"region_weight": 0.5}, "the region loss needs pixels"),
        ({"epochs": 1}, "the run reads 24 pictures, and to store them it would encode 24"),
        ({"epochs": 3, "views": 3}, "the run reads 72 pictures, and to store them it would encode 72"),
        ({"lock_image": False, "lock_trunk": True, "patch_dropout": 0.5}, "patch_dropout leaves out"),
        ({"views": 0}, "views is 0"),
        ({}, None),
        ({"minutes": 1.0, "epochs": 0}, None),
    ],
    ids=str,
)
def test_reasons_against_stored_features_are_named(changes: dict, reason: str | None, pairs: Path) -> None:
    how = locked(pairs, pairs.parent / "out", Path("model"), **changes)
    found = reason_against(how, [MixtureSource(open_source(str(pairs)), 24, NONE)], 1)
    assert found is None if reason is None else reason in str(found)


def test_a_locked_tower_encodes_the_validation_pictures_once(
    pairs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (network, tokenizer, spec, _), count = from_model(str(tiny_model), None), [0]
    encode = PyTorchEngine.encode_images
    monkeypatch.setattr(PyTorchEngine, "encode_images", lambda *all: (count.append(1), encode(*all))[1])
    validation = Validation.read(open_source(str(pairs)), spec)
    measured = [
        validation.measure(network, tokenizer, spec, torch.device("cpu"), is_locked=locked)
        for locked in (True, True, False)
    ]
    assert len(count) == 1 + 2
    assert measured[0] == measured[1] == measured[2]


def test_what_else_is_in_the_folder_stays(pairs: Path, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "frozen-features").mkdir()
    (tmp_path / "frozen-features" / "notes.txt").write_text("mine")
    train(locked(pairs, tmp_path, tiny_model), quiet=True)
    assert [path.name for path in (tmp_path / "frozen-features").iterdir()] == ["notes.txt"]


def test_a_stream_is_not_stored(pairs: Path) -> None:
    stream = MixtureSource(Stream(["shard"], lambda *_: open_source(str(pairs)), "a test"), 24, NONE)
    assert "a stream's pictures are not known" in str(reason_against(locked(pairs, pairs, Path("m")), [stream], 1))


def test_broken_pictures_are_named_and_replaced(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = with_broken(tmp_path, 24, 3)
    stored = train(locked(pairs, tmp_path / "stored", tiny_model))
    assert capsys.readouterr().err.count("skipped ") >= 3
    each_time = train(locked(pairs, tmp_path / "each", tiny_model, views=0), quiet=True)
    assert len(stored.skipped) == 3
    assert stored.skipped.keys() == each_time.skipped.keys()
    assert {bad.reason for bad in stored.skipped.values()} == {bad.reason for bad in each_time.skipped.values()}
    assert apart(stored.folder, each_time.folder) < 1e-6


def test_too_many_broken_pictures_stop_the_run_before_it_trains(tmp_path: Path, tiny_model: Path) -> None:
    pairs = with_broken(tmp_path, 60, 30)
    with pytest.raises(DataError, match="samples are unusable"):
        train(locked(pairs, tmp_path / "run", tiny_model), quiet=True)
    assert not (tmp_path / "run" / "model").exists()


def test_features_beyond_float16_are_not_stored(
    pairs: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = FeatureMaker._encoded
    monkeypatch.setattr(FeatureMaker, "_encoded", lambda maker, pixels: 1e6 * encode(maker, pixels))
    train(locked(pairs, tmp_path, tiny_model, lock_image=False, lock_trunk=True, epochs=2))
    assert "beyond float16" in capsys.readouterr().err


def test_two_processes_make_a_part_each(pairs: Path, tmp_path: Path, tiny_model: Path) -> None:
    alone = train(locked(pairs, tmp_path / "alone", tiny_model, dropout=0.0, drop_path=0.0), quiet=True)
    two = locked(pairs, tmp_path / "two", tiny_model, dropout=0.0, drop_path=0.0)
    said, _ = together(tmp_path, train, two)
    assert "the features of 24 pictures take" in said
    assert apart(alone.folder, tmp_path / "two" / "model") < 1e-5
    assert not (tmp_path / "two" / "frozen-features").exists()
