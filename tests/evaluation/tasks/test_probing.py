"""Probes on sets: what is learnt from what and judged by what, and `diptych probe`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.cli import FAILED, OK, PARTLY
from diptych.embedder import Embedder
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import LabelledDataset
from diptych.evaluation.sets.opening import open_set, training_set
from diptych.evaluation.tasks import features, probing
from diptych.evaluation.tasks.job import EvaluationJob
from diptych.evaluation.tasks.probing import held_out
from diptych.evaluation.tasks.zero_shot import zero_shot_task
from diptych.scoring.probe import from_class_vectors
from tests.conftest import Cli

ZERO_SHOT_START = ("red", "green", "blue")


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model, precision="float32")


def paint(folder: Path, per_class: int, seed: int, names: tuple[str, ...] = ZERO_SHOT_START) -> Path:
    """Noisy pictures in a colour, a folder for each."""
    draw = np.random.default_rng(seed)
    for channel, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = draw.integers(0, 120, (40, 40, 3))
            pixels[..., channel] += 130
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def few_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folds instead of five, and two draws instead of three, where the property does not depend on their number."""
    monkeypatch.setattr(probing, "FOLDS", 2)
    monkeypatch.setattr(probing, "DRAWS", 2)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with train/ and test/."""
    folder = tmp_path_factory.mktemp("split")
    paint(folder / "train", 20, 0)
    paint(folder / "test", 5, 1)
    return folder


def labelled(folder: Path, split: str | None = None) -> LabelledDataset:
    found = open_set(folder, split=split)
    assert isinstance(found, LabelledDataset)
    return found


def test_a_probe_learns_colours(model: Embedder, colours: Path) -> None:
    job = EvaluationJob(model, labelled(colours), training_set(colours))
    outcome = probing.probe_task(job)
    assert outcome.metrics["top1"] == 100
    assert outcome.metrics["validation_top1"] == 100
    assert 1e-6 <= outcome.metrics["l2"] <= 1e6
    assert (outcome.count, outcome.details["trained_on"]) == (15, 60)
    assert outcome.per_item["right"].tolist() == [1] * 15
    assert probing.probe_settings(job)["train"] == "the split train"


def test_few_shots_from_zero_shot_on(model: Embedder, colours: Path, few_folds: None) -> None:
    job = EvaluationJob(model, labelled(colours), training_set(colours))
    outcome = probing.few_shot_task(job)
    said = model.classify(
        [job.data.pictures.read(place) for place in range(15)], job.labelled.classes, templates=job.prompts
    ).best
    truth = [job.labelled.classes[answer] for answer in job.labelled.labels]
    zero = 100 * np.mean([best == true for best, true in zip(said, truth, strict=True)])
    assert outcome.metrics["zero_shot"] == pytest.approx(zero)
    assert list(outcome.metrics) == ["zero_shot", "shots_1", "shots_2", "shots_4", "shots_8", "shots_16", "all"]
    assert outcome.metrics["all"] == 100 > zero
    for point in outcome.details["curve"]:
        assert point["low"] <= point["accuracy"] <= point["high"]
        assert point["accuracy"] == pytest.approx(outcome.metrics[f"shots_{point['shots']}"])
        rights = outcome.per_item[f"shots_{point['shots']}_wise_right"]
        assert point["wise"] == pytest.approx(100 * rights.mean())


def test_shots_that_no_class_has_are_left_out(model: Embedder, tmp_path: Path, few_folds: None) -> None:
    folder = paint(tmp_path / "few", 6, 3)
    outcome = probing.few_shot_task(EvaluationJob(model, labelled(folder)))
    assert list(outcome.metrics) == ["zero_shot", "shots_1", "shots_2", "all"]  # half of six are learnt from


def test_a_set_without_splits_is_halved_by_the_seed(model: Embedder, colours: Path) -> None:
    data = labelled(colours, "train")
    first, again, other = (probing.split_features(EvaluationJob(model, data, seed=seed)) for seed in (0, 0, 1))
    assert first.indices.tolist() == again.indices.tolist() != other.indices.tolist()
    assert np.bincount(first.test_labels).tolist() == [10, 10, 10]
    assert len(first.train) == 30
    both = np.concatenate([first.train, first.test])
    assert len(np.unique(both.round(5), axis=0)) == 60  # no picture is in both
    assert "half of each class, drawn by seed 0" in probing.probe_settings(EvaluationJob(model, data))["train"]


def test_what_is_held_out_by_hand() -> None:
    labels = np.array([0] * 10 + [1] * 2 + [2])
    held = held_out(labels, 0.2, 0)
    assert [int(held[labels == one].sum()) for one in range(3)] == [2, 1, 0]


def test_one_of_each_class_leaves_nothing_to_choose_by() -> None:
    parts = parts_by_hand(np.eye(3, dtype=np.float32), np.arange(3))
    zero = from_class_vectors(np.eye(3, dtype=np.float32), range(3), scale=1.0)
    for plain in (False, True):
        found = probing.full_probe(parts, zero, 0, plain=plain)
        assert found.probe.predict(parts.train).tolist() == [0, 1, 2]
        assert np.isnan(found.validation)
        assert found.probe.l2 == probing.PLAIN_L2
        assert found.start == ("nothing" if plain else "names")


def parts_by_hand(vectors: np.ndarray, labels: np.ndarray) -> probing.FeatureSplit:
    """Everything is learnt from and judged by."""
    return probing.FeatureSplit(vectors, labels, vectors, labels, np.arange(len(labels)), {})


def clouds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 32) unit vectors around five centres in a cone, as pictures of alike things are, their classes, and the
    centres."""
    draw = np.random.default_rng(0)
    centres = np.eye(32)[0] + 0.06 * draw.standard_normal((5, 32))
    draw = np.random.default_rng([1, seed])
    labels = np.repeat(np.arange(5), count)
    vectors = centres[labels] + 0.12 * draw.standard_normal((len(labels), 32))
    vectors, centres = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors, centres))
    return vectors.astype(np.float32), labels, centres.astype(np.float32)


@pytest.mark.parametrize("knowing", [True, False])
def test_a_probe_begins_at_the_names_where_these_know_something(knowing: bool) -> None:
    """Where names say nothing, staying near them costs; where they are right, a few pictures add little to them."""
    for seed in range(2):
        vectors, labels, centres = clouds(16, seed)
        judged = clouds(100, 10 + seed)
        names = centres if knowing else clouds(1, 20 + seed)[0]  # of which each is some direction
        names = names if knowing else np.roll(names, 1 + seed, axis=0)
        zero = from_class_vectors(names, range(5), scale=100.0)
        parts = probing.FeatureSplit(vectors, labels, judged[0], judged[1], np.arange(len(judged[1])), {})
        found, plain = probing.full_probe(parts, zero, seed), probing.full_probe(parts, zero, seed, plain=True)
        assert found.start == ("names" if knowing else "nothing")
        assert found.tried[found.start]["loss"] == min(each["loss"] for each in found.tried.values())
        right = [each.probe.accuracy(parts.test, parts.test_labels) for each in (found, plain)]
        assert right[0] > right[1] if knowing else right[0] == right[1]


def test_few_pictures_are_judged_in_fifths_and_many_once() -> None:
    labels = np.repeat(np.arange(3), 7)
    fifths = probing.folds(labels, 0)
    assert np.sum(fifths, axis=0).tolist() == [1] * 21  # each once
    assert all(1 <= fifth[labels == one].sum() <= 2 for fifth in fifths for one in range(3))
    assert not np.any([fifth[0] for fifth in probing.folds(np.array([0, 1, 1]), 0)])  # of one none
    enough = round(probing.MIN_HELD_OUT / probing.HELD_OUT)
    vectors = np.random.default_rng(0).standard_normal((enough, 4)).astype(np.float32)
    for count, splits in ((enough - 20, 5), (enough, 1)):
        assert len(probing.splits_of(vectors[:count], np.arange(count) % 2, 0)) == splits


def test_probe_and_evaluate_give_the_same_numbers(cli: Cli, tiny_model: Path, tmp_path: Path, few_folds: None) -> None:
    """Of all pictures and of a few, from the better beginning and from nothing; in the same arithmetic."""
    draw = np.random.default_rng(3)
    for split, per_class in (("train", 9), ("test", 7)):
        for channel, name in enumerate(ZERO_SHOT_START):  # with so much noise that not all are told apart
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(per_class):
                pixels = draw.integers(0, 200, (32, 32, 3))
                pixels[..., channel] += draw.integers(-9, 12)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / split / name / f"{index}.png")
    job = EvaluationJob(diptych.load(tiny_model), labelled(tmp_path), training_set(tmp_path))
    full_probe, few_shot_probe = probing.probe_task(job), probing.few_shot_task(job)
    said = cli("probe", tmp_path, "--model", tiny_model, "--json").json
    assert 0 < said["top1"] < 100
    assert full_probe.metrics["top1"] == few_shot_probe.metrics["all"]
    told = {name: said[name] for name in ("top1", "l2", "validation_top1")}  # with nine digits
    assert told == pytest.approx({name: full_probe.metrics[name] for name in told}, rel=1e-8)
    assert said["start"] == full_probe.details["start"]
    plain = cli("probe", tmp_path, "--model", tiny_model, "--plain", "--json").json
    assert plain["top1"] == pytest.approx(full_probe.metrics["plain"], rel=1e-8)
    draws = [
        cli("probe", tmp_path, "--model", tiny_model, "--shots", 4, "--seed", seed, "--json").json
        for seed in range(probing.DRAWS)
    ]
    (point,) = (point for point in few_shot_probe.details["curve"] if point["shots"] == 4)
    assert [each["top1"] for each in draws] == pytest.approx(point["draws"])
    assert np.mean(point["draws"]) == pytest.approx(few_shot_probe.metrics["shots_4"])
    assert [each["start"] for each in draws] == point["starts"]


def test_classes_go_by_name_not_by_number(model: Embedder, colours: Path, tmp_path: Path) -> None:
    """The training split has no green, so its blue and red have other numbers."""
    train = paint(tmp_path / "train", 6, 5)
    for path in (train / "green").iterdir():
        path.unlink()
    outcome = probing.probe_task(EvaluationJob(model, labelled(colours), labelled(train)))
    names = labelled(colours).classes
    right = outcome.per_item["right"].reshape(3, 5).mean(axis=1)
    assert dict(zip(names, right.tolist(), strict=True)) == {"blue": 1.0, "green": 0.0, "red": 1.0}
    (train / "pink").mkdir()
    Image.new("RGB", (9, 9)).save(train / "pink" / "1.png")
    with pytest.raises(DataError, match="training pictures have the class 'pink', which the test pictures do not have"):
        probing.probe_task(EvaluationJob(model, labelled(colours), labelled(train)))


def test_command(cli: Cli, colours: Path, tiny_model: Path, model: Embedder, tmp_path: Path) -> None:
    out = tmp_path / "probe.npz"
    said = cli("probe", colours, "--model", tiny_model, "--out", out, "--json")
    assert said.code == OK
    assert said.json["top1"] == 100 > said.json["zero_shot"]
    assert (said.json["trained_on"], said.json["judged_on"]) == (60, 15)
    saved = np.load(out)
    paths = [colours / "test" / name / "0.png" for name in ZERO_SHOT_START]
    scores = model.embed_images(paths) @ saved["weights"].T + saved["bias"]
    assert saved["classes"][scores.argmax(axis=1)].tolist() == list(ZERO_SHOT_START)
    assert str(saved["fingerprint"]) == model.fingerprint

    (colours / "train" / "red" / "bad.png").write_bytes(b"")
    shots = cli("probe", colours / "train", "--val", colours / "test", "--shots", 2, "--model", tiny_model)
    (colours / "train" / "red" / "bad.png").unlink()
    assert shots.code == PARTLY
    assert "accuracy" in shots.out
    assert "zero-shot" in shots.out
    assert "trained on 6 pictures" in shots.err
    assert "1 empty file (training)" in shots.err
    assert "bad.png" in shots.err
    assert cli("probe", tmp_path / "nowhere", "--model", tiny_model).code == FAILED


def test_a_class_without_training_pictures(
    cli: Cli, model: Embedder, tiny_model: Path, tmp_path: Path, few_folds: None
) -> None:
    """Zero-shot is judged among all classes, and what begins there can still answer with all of them. Names that say
    nothing, as this model's, are not begun at: the class is then never the answer, which is said."""
    paint(tmp_path / "train", 8, 0, ("red", "green"))
    paint(tmp_path / "test", 5, 1)
    job = EvaluationJob(model, labelled(tmp_path), training_set(tmp_path))
    numbers = probing.few_shot_task(job).metrics
    assert numbers["zero_shot"] == pytest.approx(zero_shot_task(job).metrics["top1"])
    blue = job.labelled.classes.index("blue")
    others = [at for at in range(3) if at != blue]
    for plain in (False, True):
        assert probing.probe_set(job, plain=plain).probe.classes.tolist() == others
    said = cli("probe", tmp_path, "--model", tiny_model)
    assert "no training pictures of blue: they are never predicted" in said.err
    assert "started from zero: the cross-validation loss is " in said.err


def test_a_class_that_is_known_by_its_name_alone() -> None:
    """Of names that know something it keeps the weights, with the biases of the others about zero."""
    vectors, labels, centres = clouds(8, 0)
    zero, known = from_class_vectors(centres, range(5), scale=100.0), labels != 2
    judged = clouds(60, 1)
    parts = probing.FeatureSplit(vectors[known], labels[known], judged[0], judged[1], np.arange(300), {})
    found = probing.full_probe(parts, zero, 0)
    assert found.start == "names"
    np.testing.assert_array_equal(found.probe.weights[2], zero.weights[2])
    assert (found.probe.bias[2], found.probe.bias.sum()) == (0, pytest.approx(0, abs=1e-4))
    third = judged[1] == 2
    assert found.probe.accuracy(judged[0][third], judged[1][third]) > 50


def test_vectors_are_kept_for_the_next_probe(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "set" / "train", 3, 0)
    paint(tmp_path / "set" / "test", 2, 1)
    colours = tmp_path / "set"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "MAX_CACHED", 2)
    first = cli("probe", colours, "--model", tiny_model, "--json").json
    kept = tmp_path / "diptych" / "vectors"
    assert len(list(kept.iterdir())) == 2  # train and test
    monkeypatch.setattr(features, "_embed", None)  # no picture is looked at again
    assert cli("probe", colours, "--model", tiny_model, "--json").json == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "MAX_CACHED", 1)
    assert cli("probe", colours, "--model", tiny_model, "--plain", "--json").json["top1"] == 100
    assert len(list(kept.iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "diptych" / "file"))
    (tmp_path / "diptych" / "file").write_text("in the way")
    assert cli("probe", colours, "--model", tiny_model, "--json").json == first


def test_as_many_shots_as_there_are_pictures(model: Embedder, tmp_path: Path) -> None:
    """Nothing is left to choose the strength on: it is chosen by some of those that are learnt from. At a strength that
    nobody chose the probe stayed at the zero-shot weights."""
    paint(tmp_path / "train", 4, 0)
    paint(tmp_path / "test", 5, 1)
    job = EvaluationJob(model, labelled(tmp_path), training_set(tmp_path))
    assert probing.probe_set(job, shots=4).accuracy >= 80
    assert probing.probe_set(job, shots=100).accuracy >= 80
