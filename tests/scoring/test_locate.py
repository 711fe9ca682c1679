"""Where something is: windows that cover the picture, maps of scores, boxes around what stands out."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

import diptych
from diptych.cli import OK, USAGE
from diptych.display.plots import heat_overlay
from diptych.inference import heat_map
from diptych.inference.heat_map import _window_batches, heat_maps
from diptych.media.preprocessing import Preprocess
from diptych.scenes.scene import Scenes
from diptych.scoring.locate import (
    Box,
    boxes,
    guided_filter,
    iou,
    map_shape,
    relative_likelihood,
    upsampled,
    window_scores_to_map,
    windows,
)
from tests.conftest import Cli


@given(st.integers(1, 900), st.integers(1, 900), st.floats(0.05, 1), st.floats(0, 0.8))
def test_windows_cover_the_picture_and_overlap(width: int, height: int, scale: float, overlap: float) -> None:
    side = max(1.0, scale * min(width, height))
    assume((width / side + 1) * (height / side + 1) < 4000 * max(1 / side, 1 - overlap) ** 2)
    found = windows(width, height, scales=(scale,), overlap=overlap)
    for start, length, room in ((0, 2, width), (1, 3, height)):
        edges = sorted({round(window[start], 6) for window in found})
        assert edges[0] == 0
        assert edges[-1] + side == pytest.approx(max(room, side), abs=1e-3)
        assert all(b - a <= max(1, side * (1 - overlap)) + 1e-3 for a, b in pairwise(edges))
        assert all(window[length] == side for window in found)


def test_windows_by_hand() -> None:
    assert windows(4, 2, scales=(1,), overlap=0.5) == [Box(x, 0, 2, 2, 0) for x in (0, 1, 2)]
    with pytest.raises(ValueError, match="scales are"):
        windows(4, 2, scales=(2,))
    with pytest.raises(ValueError, match="overlap is 1"):
        windows(4, 2, overlap=1)
    assert len(windows(1, 300)) == 300  # five sizes that are one, and a pixel apart
    assert {box.width for box in windows(10, 18_000)} == {10}  # smaller ones would be too many
    with pytest.raises(ValueError, match="10 x 18000 px need over 5,000 windows; pass fewer, larger scales"):
        windows(10, 18_000, scales=(1, 0.5))
    with pytest.raises(ValueError, match="10 x 30000 px need over 5,000 windows"):
        windows(10, 30_000)


def test_the_best_window_is_where_the_map_is_highest() -> None:
    places = windows(400, 300, scales=(0.3,), overlap=0.6)
    scores = np.array([np.exp(-((x + w / 2 - 300) ** 2 + (y + h / 2 - 80) ** 2) / 5000) for x, y, w, h, _ in places])
    found = window_scores_to_map(scores, places, (400, 300), scale=20.0)
    assert found.shape == map_shape(400, 300) == (48, 64)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert abs(column * 400 / 64 - 300) < 25
    assert abs(row * 300 / 48 - 80) < 25


def test_a_place_has_the_mean_of_its_windows_by_hand() -> None:
    """Two windows side by side and one over both, over a picture of 64 x 32. A place in the middle of the first is in
    the large one, too, half way from its middle to its edge; that has four times the area."""
    places = [Box(0, 0, 32, 32, 0), Box(32, 0, 32, 32, 0), Box(0, -16, 64, 64, 0)]
    found = window_scores_to_map(np.array([0.9, 0.5, 0.8]), places, (64, 32), scale=10.0)
    first, large = (1 - 0.5 / 16) ** 4, (1 - 0.5 / 32) ** 2 * (1 - 16.5 / 32) ** 2 / 4
    mean = (first * 1 + large * np.exp(-1)) / (first + large)
    assert found[15, 15] == pytest.approx(0.9 + np.log(mean) / 10, abs=1e-6)
    assert found[15, 48] < found[15, 15]
    assert relative_likelihood(np.array([0.9, 0.5, 0.8]), 10.0) == pytest.approx(np.exp([0, -4, -1]))


def test_windows_are_cut_out_of_the_picture() -> None:
    """A window's pixels are those of the picture there, whatever its size; a picture smaller than the tower, too."""
    across = np.linspace(0, 255, 400)
    picture = Image.fromarray(np.tile(across.astype(np.uint8)[None, :, None], (300, 1, 3)))
    found = windows(400, 300)
    batches = np.concatenate(list(_window_batches(picture, found, Preprocess(32))))
    assert batches.shape == (len(found), 32, 32, 3)
    middles = [np.interp(window.x + window.width / 2, np.arange(400) + 0.5, across) for window in found]
    assert batches.mean(axis=(1, 2, 3)) == pytest.approx(np.array(middles), abs=3)
    small = np.concatenate(list(_window_batches(picture.resize((7, 3)), windows(7, 3), Preprocess(32))))
    assert small.shape[1:] == (32, 32, 3)


def test_places_are_laid_over_the_whole_picture() -> None:
    scores = np.zeros(16, np.float32)
    scores[3] = 1  # the top right corner of 4 x 4
    found = upsampled(scores, (200, 100))
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert found.shape == (32, 64)
    assert row < 8
    assert column > 48


def test_a_map_takes_the_edges_of_its_picture() -> None:
    """A blurred score over the left half of a picture whose left half is red."""
    picture = np.zeros((40, 60, 3))
    picture[:, :30, 0] = 1
    blurred = np.tile(np.clip((36 - np.arange(60)) / 12, 0, 1), (40, 1)).astype(np.float32)
    found = guided_filter(blurred, picture)
    assert found[:, 26:30].min() > found[:, 30:34].max() + 0.5
    flat = guided_filter(blurred, np.full((40, 60, 3), 0.5))
    assert np.abs(np.diff(flat, axis=1)).max() < 0.1  # no edge to take


def test_edges_are_a_fit_by_least_squares() -> None:
    """In the middle of a map as small as the reach all windows are the whole map: one fit, by numpy's own solver."""
    draw = np.random.default_rng(0)
    picture, scores = draw.random((9, 9, 3)), draw.random((9, 9))
    found = guided_filter(scores.astype(np.float32), picture, radius=4, epsilon=0.02)
    expected = np.zeros(2)
    for at, (row, column) in enumerate(((4, 4), (0, 8))):
        fits = []
        for y in range(row - 4, row + 5):
            for x in range(column - 4, column + 5):
                y0, x0 = min(8, max(0, y)), min(8, max(0, x))
                window = np.ix_(np.clip(range(y0 - 4, y0 + 5), 0, 8), np.clip(range(x0 - 4, x0 + 5), 0, 8))
                colours, values = picture[window].reshape(-1, 3), scores[window].ravel()
                apart = colours - colours.mean(axis=0)
                slope = np.linalg.solve(apart.T @ apart / 81 + 0.02 * np.eye(3), apart.T @ values / 81)
                fits.append([*slope, values.mean() - slope @ colours.mean(axis=0)])
        expected[at] = np.mean(fits, axis=0) @ [*picture[row, column], 1]
    assert found[[4, 0], [4, 8]] == pytest.approx(expected, abs=1e-5)


def test_boxes_by_hand() -> None:
    scores = np.zeros((10, 20), np.float32)
    scores[2:5, 4:8], scores[7, 15:17] = 1.0, 0.8
    assert boxes(scores, (200, 100)) == (Box(40, 20, 40, 30, 1.0), Box(150, 70, 20, 10, pytest.approx(0.8)))
    assert boxes(scores, (200, 100), threshold=0.9) == (Box(40, 20, 40, 30, 1.0),)
    assert boxes(np.ones((4, 4), np.float32), (10, 10)) == ()


def test_overlap_by_hand() -> None:
    assert iou((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 1, 1)) == 0


@pytest.mark.parametrize("method", ["auto", "patches", "windows"])
def test_a_model_looks_at_the_whole_picture(method: str, tiny_model: Path) -> None:
    """What lies outside the centre crop changes the map there."""
    model = diptych.load(tiny_model, precision="float32")
    plain = Image.new("RGB", (300, 100), "grey")
    marked = plain.copy()
    marked.paste("red", (0, 20, 60, 80))
    one, other = (model.locate(image, "a red square", method=method) for image in (plain, marked))
    assert np.abs(other.scores - one.scores).max() > 1e-3
    assert other.overlay().size == (300, 100)


def test_windows_are_asked_where_no_patch_stands_out(
    tiny_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the phrases concerned alone, and fewer of them than `windows` takes."""
    model, path = diptych.load(tiny_model, precision="float32"), pictures / "scene-0.png"
    phrases, asked = ["a cat", "a dog", "a red star"], list[int]()
    patches = heat_maps(model, path, phrases, method="patches")
    stands_out = [float(one.scores.max() - np.median(one.scores)) * model.scale / 2 for one in patches]
    middle = sorted(stands_out)[1]
    monkeypatch.setattr(heat_map, "CLEAR", middle - 1e-3)  # the least clear one is not
    assert {one.method for one in heat_maps(model, path, phrases)} == {"patches"}  # windows of a ViT take too long
    monkeypatch.setattr(heat_map, "QUICK_TOWERS", (type(model.config.image),))
    found = heat_maps(model, path, phrases, progress=lambda _, total: asked.append(total))
    unclear = int(np.argmin(stands_out))
    assert [one.method for one in found] == ["both" if at == unclear else "patches" for at in range(3)]
    for one, by_patches in zip(found, patches, strict=True):
        assert (one.method == "both") == (not np.array_equal(one.scores, by_patches.scores))
    (by_windows,) = heat_maps(model, path, [phrases[unclear]], method="windows", scales=(1, 0.5, 0.25), overlap=0.5)
    assert asked[-1] == len(windows(*by_windows.image.size, scales=(1, 0.5, 0.25), overlap=0.5))
    assert asked[-1] < len(windows(*by_windows.image.size)) / 2
    assert found[unclear].scores.max() == pytest.approx(by_windows.scores.max(), abs=1e-4)
    monkeypatch.setattr(heat_map, "PATCH_WEIGHT", 0)
    (alone,) = heat_maps(model, path, [phrases[unclear]])
    np.testing.assert_allclose(alone.scores, by_windows.scores, atol=1e-4)


@pytest.mark.parametrize(("size", "most"), [((640, 427), 100), ((1600, 400), 300), ((2600, 7), 0), ((1, 1), 1)])
def test_windows_that_nobody_asked_for_are_few(size: tuple[int, int], most: int) -> None:
    found = heat_map._windows_of(Image.new("1", size), "auto", None, None)
    assert len(found) <= most
    assert bool(found) == bool(most)


def test_the_bundled_model_asks_windows_about_a_photograph() -> None:
    model = diptych.load(precision="float32")
    photograph = Image.fromarray(skimage.data.astronaut())
    (scene,) = Scenes(1, seed=3, size_px=224, things=(1, 1))
    (thing,) = scene.things
    assert model.locate(photograph, "a helmet").method == "both"
    assert model.locate(scene.image, f"{thing.colour} {thing.kind}").method == "patches"


def test_a_picture_of_one_pixel_is_drawn_on(tiny_model: Path) -> None:
    found = diptych.load(tiny_model, precision="float32").locate(Image.new("RGB", (1, 1), "red"), "a red square")
    assert found.overlay(boxes=5).size == (1, 1)
    assert heat_overlay(Image.new("RGB", (1, 1)), np.eye(4), [(0.3, 0.3, 0.2, 0.2)]).size == (1, 1)


def test_several_phrases_at_once(tiny_model: Path, pictures: Path) -> None:
    model = diptych.load(tiny_model, precision="float32")
    path = pictures / "scene-0.png"
    both = heat_maps(model, path, ["a cat", "a dog"])
    for phrase, found in zip(["a cat", "a dog"], both, strict=True):
        np.testing.assert_allclose(found.scores, model.locate(path, phrase).scores, atol=1e-5)
    with pytest.raises(ValueError, match="method 'grid' is not known; choose one of auto, patches, windows"):
        model.locate(path, "a cat", method="grid")


def test_command(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    path, plot = pictures / "scene-0.png", tmp_path / "where.png"
    said = cli("locate", path, "a red star", "a fish", "--model", tiny_model, "--compare", "--plot", plot, "--json")
    assert said.code == OK
    assert [(one["phrase"], one["method"]) for one in said.json["found"]] == [
        (phrase, method) for method in ("patches", "windows") for phrase in ("a red star", "a fish")
    ]
    width, height = said.json["size"]
    for one in said.json["found"]:
        ((x, y, w, h),) = [box["box_xywh_px"] for box in one["boxes"]]
        assert 0 <= x < x + w <= width + 1e-6
        assert 0 <= y < y + h <= height + 1e-6
    with Image.open(plot) as drawn:
        assert drawn.width > 4 * 320
    said = cli("locate", path, "a red star", "--model", tiny_model, "--plot", plot)
    assert said.out.endswith("a red star\n")
    assert cli("locate", path, "a", "--scales", "a,b", "--model", tiny_model).code == USAGE
    for option, value in (("--scales", "1,0.5"), ("--overlap", "0")):  # of windows, which are not asked for
        said = cli("locate", path, "a", option, value, "--model", tiny_model)
        assert said.code == USAGE
        assert "--method windows" in said.err
