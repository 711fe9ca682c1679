"""Sets that are a shift of another: how a suite says so, and what a model makes of the other under the same classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.embedder import Embedder
from diptych.evaluation import suite
from diptych.evaluation.report.page import write_report
from diptych.evaluation.shifts import same_classes
from diptych.evaluation.suite_file import SuiteEntry, read_suite, shift_bases

PER_CLASS = 6


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Embedder:
    return diptych.load(tiny_model)


def fill(folder: Path, *names: str, seed: int = 0) -> Path:
    """A few noisy pictures of each class."""
    draw = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(PER_CLASS):
            pixels = draw.integers(0, 255, (40, 40, 3))
            pixels[..., len(name) % 3] //= 2
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return fill(tmp_path / "base", "red", "green", "blue", "Sports_Car")


def rows_of(model: Embedder, out: Path, *entries: SuiteEntry) -> dict[str, dict]:
    return {row["dataset"]: row for row in suite.run(model, entries, out)}


def test_the_base_is_judged_on_the_same_classes(model: Embedder, base: Path, tmp_path: Path) -> None:
    """Of four classes the shift has two: the base's pictures of these, with no other name to take them for."""
    shifted = fill(tmp_path / "shifted", "red", "sports car", seed=1)
    entries = SuiteEntry("base", str(base)), SuiteEntry("s", str(shifted), templates="plain", shift_of="base")
    found = rows_of(model, tmp_path / "out", *entries)
    said = found["s"]["details"]["base"]
    answers = np.repeat(["red", "sports car"], PER_CLASS)
    places = [path for name in ("red", "Sports_Car") for path in sorted((base / name).iterdir())]
    right = np.array(model.classify(places, ["red", "sports car"], templates=["a photo of a {}."]).best) == answers
    assert found["s"]["settings"]["templates"] == "plain"
    assert said == {"name": "base", "top1": pytest.approx(100 * np.mean(right)), "count": 12, "classes": 2, "of": 4}
    assert (found["s"]["shift_of"], found["base"]["shift_of"]) == ("base", None)
    assert "base" not in found["base"]["details"]


def test_with_other_names_it_is_all_of_the_base(model: Embedder, base: Path, tmp_path: Path) -> None:
    shifted = fill(tmp_path / "shifted", "red", "truck", seed=1)
    entries = SuiteEntry("s", str(shifted), shift_of="base"), SuiteEntry("base", str(base))
    found = rows_of(model, tmp_path / "out", *entries)
    said = found["s"]["details"]["base"]
    assert said["top1"] == pytest.approx(found["base"]["metrics"]["top1"])  # the same names and templates
    assert (said["classes"], said["of"], said["missing"]) == (4, 4, ["truck"])
    page = write_report(tmp_path / "out").read_text("utf-8")
    assert "s has classes that base does not name (truck)" in page
    assert "Robustness" in page


def test_a_base_that_cannot_be_opened_costs_the_comparison_alone(model: Embedder, base: Path, tmp_path: Path) -> None:
    shifted = fill(tmp_path / "shifted", "red", "green", seed=1)
    moved = base.rename(tmp_path / "away")
    entries = SuiteEntry("base", str(base)), SuiteEntry("s", str(shifted), shift_of="base")
    found = rows_of(model, tmp_path / "out", *entries)
    assert found["s"]["error"] is None
    assert "is not there" in found["s"]["details"]["base"]["problem"]
    assert "s could not be compared" in write_report(tmp_path / "out").read_text("utf-8")
    moved.rename(base)
    found = rows_of(model, tmp_path / "out", *entries)  # the row depends on the base: it is made again
    assert found["s"]["details"]["base"]["count"] == 12
    page = write_report(tmp_path / "out").read_text("utf-8")
    assert "could not be compared" not in page


def test_only_zero_shot_rows_are_made_again_for_a_base(model: Embedder, base: Path, tmp_path: Path) -> None:
    shifted = fill(tmp_path / "shifted", "red", "green", seed=1)
    both = "zero-shot", "probe"
    made: list[dict] = []
    for shift_of in (None, "base"):
        made.clear()
        entries = SuiteEntry("base", str(base)), SuiteEntry("s", str(shifted), tasks=both, shift_of=shift_of)
        suite.run(model, entries, tmp_path / "out", on_row=made.append)
    assert [(row["dataset"], row["task"]) for row in made] == [("s", "zero-shot")]


def test_a_suite_says_of_what_a_set_is_a_shift(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    tables = [('"a"', '"here"', ""), ('"b"', '"there"', 'shift_of = "a"')]
    path.write_text("\n".join(f"[[dataset]]\nname = {name}\nsource = {at}\n{more}" for name, at, more in tables))
    entries = read_suite(path)
    assert {name: base.name for name, base in shift_bases(entries).items()} == {"b": "a"}
    for wrong in ("c", "b"):
        path.write_text(path.read_text().replace('shift_of = "a"', f'shift_of = "{wrong}"'))
        with pytest.raises(ValueError, match=f"'b' has shift_of = '{wrong}'; the suite's other sets are a"):
            read_suite(path)
        path.write_text(path.read_text().replace(f'shift_of = "{wrong}"', 'shift_of = "a"'))


def test_named_sets_know_their_base() -> None:
    named = [
        SuiteEntry(name, name) for name in ("imagenet-v2", "imagenet-r", "imagenet-a", "imagenet-sketch", "objectnet")
    ]
    others = [SuiteEntry("cifar10", "cifar10"), SuiteEntry("mine", "photos/")]
    assert shift_bases([*named, *others]) == {}  # the base is not in the suite
    whole = SuiteEntry("ImageNet, validation", "imagenet-1k")
    assert shift_bases([*named, *others, whole]) == {entry.name: whole for entry in named}
    told = SuiteEntry("imagenet-a", "imagenet-a", shift_of="mine")
    assert shift_bases([told, *others, whole])["imagenet-a"].name == "mine"


def test_classes_go_by_name() -> None:
    same = same_classes(["Missile", "tench", "missile"], ["tench", "missile", "hen", "missile"])
    assert same.numbers.tolist() == [1, 0, -1, 2]
    assert same.missing == []
    once = same_classes(["missile", "wig"], ["missile", "missile"])
    assert (once.numbers.tolist(), once.missing) == ([0, 0], ["wig"])
