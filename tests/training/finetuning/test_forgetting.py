"""What a run learnt and forgot: computed by hand, measured on folders, drawn, and reported if it was not measured."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data.sources.opening import open_source
from diptych.errors import DataError
from diptych.media.preprocessing import Preprocess, normalise
from diptych.nets.clip import CLIP
from diptych.scoring.metrics import Recall, Retrieval
from diptych.scoring.zero_shot import PLAIN_TEMPLATES, prompts
from diptych.text.tokenizer import Tokenizer
from diptych.training.finetuning import lora
from diptych.training.finetuning.forgetting import (
    ClassAccuracy,
    Drift,
    Forgetting,
    ForgettingProbe,
    LabelledImages,
    Measure,
    accuracy,
)
from diptych.training.finetuning.freezing import lock_image, parameter_groups
from diptych.training.setup import from_model
from diptych.training.validation import Validation

SPEC = Preprocess(32)
CPU = torch.device("cpu")
COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 4, 2 and 2 pictures, one of them broken; a hidden folder, an empty one, a loose file."""
    folder = tmp_path_factory.mktemp("sets") / "colours"
    for name, count in (("red", 4), ("dark_green", 2), ("blue", 2), (".trash", 1), ("empty", 0)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 30), name if name in ("red", "blue") else "green").save(
                folder / name / f"{index}.png"
            )
    (folder / "blue" / "1.png").write_bytes(b"")
    (folder / "loose.png").write_bytes((folder / "red" / "0.png").read_bytes())
    return folder


def test_a_folder_of_classes_is_read(colours: Path) -> None:
    read = LabelledImages.read(str(colours), SPEC)
    assert read.classes == ("blue", "dark green", "red")
    assert read.labels.tolist() == [0, 1, 1, 2, 2, 2, 2]
    assert read.pixels.shape == (7, 32, 32, 3)
    assert [(Path(each.key).name, each.reason) for each in read.skipped] == [("1.png", "empty file")]
    assert read.describe() == (
        f"{colours}: 7 of 8 pictures in 3 classes; could not be read: 1 empty file, the first {colours}/blue/1.png"
    )


def test_of_a_large_set_an_even_part_is_read(colours: Path) -> None:
    read = LabelledImages.read(str(colours), SPEC, limit=4)
    assert (len(read.pixels), read.available, len(set(read.labels.tolist()))) == (4, 8, 3)


def test_what_is_no_folder_of_classes(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which is not a folder"):
        LabelledImages.read(str(colours / "loose.png"), SPEC)
    with pytest.raises(DataError, match="a folder with pictures for 0 classes; wanted two"):
        LabelledImages.read(str(colours / "red"), SPEC)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the 2 pictures"):
        LabelledImages.read(str(tmp_path), SPEC)


def test_accuracy_by_hand() -> None:
    """3 of 4, 0 of 1, and no picture of class 1: 60 % of all, 37.5 % as the classes' mean. A tie is no hit."""
    labels = np.array([0, 0, 0, 0, 2])
    scores = np.array([[0.9, 0, 0], [0.9, 0.8, 0], [0.2, 0.1, 0.1], [0.5, 0.5, 0], [0.3, 0.2, np.nan]])
    assert accuracy(scores, labels) == ClassAccuracy(60.0, 37.5)
    assert accuracy(np.ones((5, 3)), labels) == ClassAccuracy(0, 0)


class Painter(torch.nn.Module):
    """A model that can be followed: a picture's vector is its mean colour, a text's is the colour that it names."""

    def __init__(self, tokenizer: Tokenizer, knows: str):
        super().__init__()
        self.known = {
            int(tokenizer([colour]).ids[0, 1]): ["red", "green", "blue"].index(colour) for colour in knows.split()
        }

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(each).view(3, 1, 1) for each in (SPEC.mean, SPEC.std))
        return (pixels * std + mean).mean(dim=(2, 3))

    def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
        vectors = torch.full((len(ids), 3), 0.01)
        for vector, row in zip(vectors, ids.tolist(), strict=True):
            vector[[self.known[id] for id in row if id in self.known]] = 1
        return vectors


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return from_model(str(tiny_model), None).tokenizer


def test_zero_shot_of_a_model_that_can_be_followed(colours: Path, tokenizer: Tokenizer) -> None:
    name, probe = str(colours), ForgettingProbe(None, [LabelledImages.read(str(colours), SPEC)], tokenizer, SPEC, CPU)
    assert probe.measure(Painter(tokenizer, "red green blue")).zero_shot == {name: ClassAccuracy(100, 100)}
    assert probe.measure(Painter(tokenizer, "")).zero_shot == {name: ClassAccuracy(0, 0)}  # all classes alike
    measure = probe.measure(Painter(tokenizer, "blue green"))  # red is as near to grey, "red", as to nothing else
    assert measure.zero_shot[name] == pytest.approx((100, 100))
    one = probe.measure(Painter(tokenizer, "blue"))  # red and green are alike for it
    assert one.zero_shot[name] == pytest.approx((100 / 7, 100 / 3))
    assert one.retained_score == pytest.approx(100 / 3)
    assert (one.recall, one.drift, one.new_task_score) == (None, None, None)


@pytest.fixture(scope="module")
def line(tiny_model: Path, shards: Path, colours: Path) -> Forgetting:
    """From the tiny model to itself with noise on its weights, measured on scenes and colours."""
    start = from_model(str(tiny_model), None)
    before = start.network.state_dict()
    torch.manual_seed(0)
    after = {
        name: tensor + 0.3 * tensor.std() * torch.randn_like(tensor) if tensor.ndim else tensor
        for name, tensor in before.items()
    }
    validation = Validation.read(open_source(shards), start.preprocess)
    probe = ForgettingProbe(validation, [LabelledImages.read(str(colours), SPEC)], start.tokenizer, SPEC, CPU)
    first = probe.measure(start.network)
    found = probe.measure_interpolation(start.network.config, before, after, (0.25, 0.75), saved=0.5)
    assert found.path_measures[0.0] == first
    return found


def test_the_line_has_both_ends_and_what_is_saved(line: Forgetting) -> None:
    assert list(line.path_measures) == [0.0, 0.25, 0.5, 0.75, 1.0]
    cosines = [measure.drift.image for measure in line.path_measures.values()]
    assert cosines[0] == pytest.approx(1, abs=1e-6)
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[-1] < 0.99


def test_the_report_in_numbers_and_as_a_picture(line: Forgetting, tmp_path: Path) -> None:
    line.save(tmp_path / "run")
    said = json.loads((tmp_path / "run" / "forgetting.json").read_text())
    assert [row["alpha"] for row in said["line"]] == list(line.path_measures)
    assert said["saved"] == 0.5
    recall = line.path_measures[1.0].recall.text_to_image
    assert said["line"][-1]["recall"]["text_to_image"] == recall._asdict()
    picture = Image.open(tmp_path / "run" / "forgetting.png")
    assert min(picture.size) > 400
    assert len(picture.convert("RGB").getcolors(10**6)) > 50  # something is drawn


def teach(network: CLIP, tokenizer: Tokenizer, lesson: LabelledImages, *, lr: float, steps: int = 30) -> None:
    """Steps on the pictures of a set and its prompts, as a run on a little data takes them."""
    optimizer = torch.optim.AdamW(parameter_groups(network, weight_decay=0.0), lr=lr)
    pixels = torch.from_numpy(normalise(lesson.pixels, SPEC))
    ids = torch.from_numpy(tokenizer(prompts(lesson.classes, PLAIN_TEMPLATES)).ids)
    for _ in range(steps):
        network.train()
        output = network(pixels, ids)
        loss = torch.nn.functional.cross_entropy(
            output.scale * output.image @ output.text.T, torch.tensor(lesson.labels)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def old(colours: Path) -> LabelledImages:
    return LabelledImages.read(str(colours), SPEC)


@pytest.fixture(scope="module")
def pretrained(tiny_model: Path, tokenizer: Tokenizer, old: LabelledImages) -> CLIP:
    network = from_model(str(tiny_model), None).network
    teach(network, tokenizer, old, lr=2e-3, steps=120)
    return network


@pytest.mark.parametrize(
    ("prepare", "lr"),
    [(lambda network: None, 2e-3), (lock_image, 2e-3), (lambda network: lora.add(network, 4, 8), 1e-2)],
    ids=["full", "locked image tower", "LoRA"],
)
def test_forgetting_is_seen(
    prepare: Callable[[CLIP], None], lr: float, pretrained: CLIP, tokenizer: Tokenizer, old: LabelledImages
) -> None:
    """The new lesson gives the colours each other's names: it cannot be learnt without forgetting the old."""
    new = replace(old, name="new names", classes=("red", "blue", "dark green"))
    probe = ForgettingProbe(None, [old, new], tokenizer, SPEC, CPU)
    network = copy.deepcopy(pretrained)
    prepare(network)
    teach(network, tokenizer, new, lr=lr)
    config, before = pretrained.config, pretrained.state_dict()
    found = probe.measure_interpolation(
        config, before, lora.merged_state(network.state_dict()), (0.25, 0.5, 0.75)
    ).curves()
    assert found[old.name][0] == found["new names"][-1] == 100
    assert found[old.name][-1] == found["new names"][0] == 0
    assert found[old.name] == sorted(found[old.name], reverse=True)  # on the way back it is there again, step by step


def measured(recall: float | None, *accuracies: float) -> Measure:
    retrieval = None if recall is None else Retrieval(Recall(recall, recall, recall), Recall(recall, recall, recall))
    drift = None if recall is None else Drift(0.75, 0.5)
    return Measure(retrieval, drift, {f"set {i}": ClassAccuracy(10.0, each) for i, each in enumerate(accuracies)})


LINE = {0.0: measured(10, 80, 40), 0.5: measured(28, 76, 38), 1.0: measured(30, 60, 20)}


def test_the_table_by_hand() -> None:
    """Recall and the sets' mean: 10 + 60, 28 + 57, 30 + 40; half-way is best."""
    found = Forgetting(LINE, saved_alpha=1.0)
    assert found.best == 0.5
    head, *rows, last = found.table().splitlines()
    assert head.split("  ")[0] == "alpha"
    assert "set 0: top-1 (mean of classes)" in head
    assert [row.split()[:2] for row in rows] == [["0.00", "before"], ["0.50", "best"], ["1.00", "after,"]]
    assert "after, saved" in rows[2]
    assert "30.0 / 30.0 / 30.0" in rows[2]
    assert "10.0 (20.0)" in rows[2]
    assert "0.750, 0.500" in rows[2]
    assert "mean recall 10.0 before, 30.0 in the saved model" in last
    assert "Zero-shot: 60.0 before, 40.0 in the saved model" in last
    assert "best mean of both is at alpha 0.5" in last


def test_what_was_not_measured_is_said() -> None:
    without_sets = Forgetting({0.0: measured(10), 1.0: measured(20)}, saved_alpha=1.0)
    assert without_sets.best is None
    assert "Forgetting was not measured: zero_shot names no folders" in without_sets.table()
    assert "only show how far" in without_sets.table()
    assert without_sets.curves() == {"pictures": [0.75, 0.75], "texts": [0.5, 0.5]}
    without_pairs = Forgetting({0.0: measured(None, 50), 1.0: measured(None, 40)}, saved_alpha=1.0)
    assert "Learning was not measured: val names no held-out pairs" in without_pairs.summary()
    assert "Zero-shot: 50.0 before, 40.0" in without_pairs.summary()


@pytest.mark.parametrize(
    "measures",
    [(measured(10), measured(20)), (measured(None, 50), measured(None, 40)), (measured(None), measured(None))],
)
def test_every_report_can_be_saved(measures: tuple[Measure, Measure], tmp_path: Path) -> None:
    Forgetting(dict(zip((0.0, 1.0), measures, strict=True)), saved_alpha=1.0).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"forgetting.json", "forgetting.png"}


def test_old_names_of_measures() -> None:
    found = Forgetting(LINE, saved_alpha=1.0)
    for owner, old, new in (
        (LINE[0.0], "learnt", "new_task_score"), (LINE[0.0], "kept", "retained_score"),
        (found, "line", "path_measures"), (found, "saved", "saved_alpha"),
    ):  # fmt: skip
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}"):
            assert getattr(owner, old) == getattr(owner, new)
