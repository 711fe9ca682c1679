"""The region loss: regions through crops, the patches that they cover, and the loss by hand."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit as sigmoid

from diptych.data.loading.augmentation import moved_region
from diptych.data.samples import Region
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scenes.scene import draw_scene
from diptych.text.phrases import phrases_of
from diptych.training.objectives.regions import RegionTargets, patch_coverage, region_batch, region_loss
from diptych.training.objectives.targets import identify
from diptych.training.parallel.accumulate import backward
from diptych.training.scene_source import SceneSource, close_up, regions_of

CIRCLE = Region("a red circle", (0.25, 0.5, 0.75, 1.0))


def test_a_region_moves_with_its_crop() -> None:
    """The right half of the picture: what was from a quarter to three quarters is its left half."""
    assert moved_region(CIRCLE, (0.5, 0, 1, 1)) == Region("a red circle", (0, 0.5, 0.5, 1))
    assert moved_region(CIRCLE, (0.5, 0, 1, 1), is_mirrored=True) == Region("a red circle", (0.5, 0.5, 1, 1))
    assert moved_region(CIRCLE, (0.5, 0.6, 1, 1)) is None  # 40 % of it is left
    left = Region("a cat on the left", (0, 0, 0.5, 0.5))
    assert moved_region(left, (0, 0, 1, 1), is_mirrored=True) == Region("a cat on the right", (0.5, 0, 1, 0.5))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 9))
def test_a_box_covers_as_much_of_the_map_as_of_the_picture(edges: list[float], grid: int) -> None:
    left, right, top, bottom = *sorted(edges[:2]), *sorted(edges[2:])
    coverage = patch_coverage(torch.tensor([[left, top, right, bottom]]), grid)
    assert coverage.shape == (1, grid**2)
    assert coverage.min() >= 0
    assert coverage.max() <= 1 + 1e-5
    assert coverage.mean().item() == pytest.approx((right - left) * (bottom - top), abs=1e-5)


def test_coverage_of_patches_by_hand() -> None:
    assert patch_coverage(torch.tensor([[0.25, 0.0, 1.0, 0.5]]), 2).tolist() == [[0.5, 1.0, 0.0, 0.0]]


def test_a_phrase_implies_those_that_say_less() -> None:
    batch = region_batch([[Region("a circle", CIRCLE.box)], [CIRCLE, Region("an orange square", (0, 0, 1, 1))]], 2)
    assert batch is not None
    assert batch.phrases == ["a circle", "a red circle", "an orange square"]
    assert batch.implied.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert (batch.image_index.tolist(), batch.phrase_index.tolist()) == ([0, 1, 1], [0, 1, 2])
    assert region_batch([[], []], 2) is None


def test_the_loss_by_hand() -> None:
    """Two pictures of 2 x 2 patches in a space of three axes; scale 2."""
    axes = torch.eye(3)
    regions = [
        [Region("red circle", (0, 0, 0.5, 0.5)), Region("circle", (0, 0, 0.5, 0.5))],
        [Region("hat", (0, 0, 1, 0.5))],
    ]
    batch = region_batch(regions, 2)
    assert batch is not None
    phrases = torch.stack([axes[0], axes[1], axes[2]])  # circle, hat, red circle
    patches = torch.stack([axes[[2, 1, 1, 1]], axes[[1, 1, 0, 0]]])
    images = torch.stack([axes[2], axes[0]])
    # "red circle" may not be told from "circle", nor the other way round: hat is the only wrong name for both.
    right, wrong = np.exp(2), 1.0
    phrase_loss = [-np.log(right / (right + wrong)), np.log(2), -np.log(right / (right + 2 * wrong))]
    patch_loss = [-np.log(right / (right + 3 * wrong)), np.log(4), -np.log(right / (2 * right + 2 * wrong))]
    phrase = [-np.log(right / (right + wrong)), np.log(2), -np.log(wrong / (right + 2 * wrong))]
    # Pictures x (circle, hat, red circle): logits [[0, 0, 2], [2, 0, 0]]; [[true, -, true], [-, true, -]] is so.
    middle = brentq(lambda b: 4 * sigmoid(-b) + 2 * sigmoid(2 - b) - 3, -9, 9)  # three of six
    wrong_by = [
        [sigmoid(middle), sigmoid(-middle), sigmoid(middle - 2)],
        [sigmoid(2 - middle), sigmoid(middle), sigmoid(-middle)],
    ]
    presence_loss = (np.mean(phrase) - np.log1p(-np.array(wrong_by)).sum() / 3) / 2
    # The picture of the hat is one of axis 0, which is the circle's; its patches 0 and 1 are the hat's.
    found = region_loss(images, patches, phrases, torch.tensor(2.0), batch)
    # Separated at a scale of 8: "circle" from "hat" alone, "hat" from both others.
    separation_loss = [np.log(1 + np.exp(-8)), np.log(1 + 2 * np.exp(-8)), np.log(1 + np.exp(-8))]
    assert found.item() == pytest.approx(
        np.mean([np.mean(phrase_loss), np.mean(patch_loss), presence_loss, np.mean(separation_loss)]), abs=1e-5
    )


def test_what_is_said_of_a_whole_picture() -> None:
    """Two of its phrases are learnt from; whatever else its captions say is no wrong phrase for it, in any number."""
    said = [Region(phrase, None) for phrase in ("black dog", "snow", "dogs", "runs")]
    batch = region_batch([said, [Region("dog", (0, 0, 1, 1))], [Region("cat", None)]], 2)
    assert batch is not None
    assert batch.phrases == ["black dog", "cat", "dog", "snow"]
    assert (batch.image_index.tolist(), batch.phrase_index.tolist()) == ([1, 0, 0, 2], [2, 0, 3, 1])
    assert batch.patch_coverage.tolist() == [[1, 1, 1, 1]]  # of the one box
    assert batch.is_true.tolist() == [
        [True, False, True, True],
        [False, False, True, False],
        [False, True, False, False],
    ]


def test_the_loss_of_what_has_no_box_by_hand() -> None:
    """A dog and a cat; the second picture's vector is the dog's. Scale 2."""
    batch = region_batch([[Region("dog", None)], [Region("cat", None)]], 1)
    assert batch is not None
    axes = torch.eye(2)
    found = region_loss(axes[[1, 1]], axes[[0, 1], None], axes, torch.tensor(2.0), batch)  # cat, dog
    right, wrong = np.exp(2), 1.0
    phrase = [-np.log(right / (right + wrong)), -np.log(wrong / (right + wrong))]
    # Logits [[0, 2], [0, 2]] of cat and dog, of which two of four are true: 1 is taken from all. The first picture's
    # are right by 1, the other's wrong by 1.
    true = (2 * np.log(1 + np.exp(-1)) + 2 * np.log(1 + np.exp(1))) / 2
    assert found.item() == pytest.approx((np.mean(phrase) + true) / 2, abs=1e-5)


def test_what_a_caption_says() -> None:
    assert phrases_of(["A brown dog runs over the grass.", "2 Dogs!"]) == [
        "brown", "dog", "runs", "brown dog runs", "grass", "dogs",
    ]  # fmt: skip
    assert phrases_of(["Old brick wall painted green", "", "It is."]) == ["old", "brick", "wall", "painted", "green"]


def test_gradients_are_those_of_both_losses() -> None:
    torch.manual_seed(0)
    network, pixels = CLIP(preset("resnet-tiny")).double(), torch.randn(3, 3, 64, 64, dtype=torch.float64)
    ids = torch.randint(1, 1000, (3, 8))
    pair_ids = identify(np.arange(3), ["a", "b", "c"], np.arange(3))
    batch = region_batch([[CIRCLE], [Region("hat", (0, 0, 1, 0.5))], []], 2)
    assert batch is not None
    batch = batch._replace(patch_coverage=batch.patch_coverage.double())
    regions = RegionTargets(batch, ids[:2], 0.5)

    def gradients(some: RegionTargets | None) -> list[torch.Tensor]:
        network.zero_grad()
        result = backward(network, pixels, ids, pair_ids, regions=some)
        assert (result.regions is None) == (some is None)
        return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in network.parameters()]

    network.eval()  # batch statistics would count twice
    both, alone = gradients(regions), gradients(None)
    network.zero_grad()
    output = network(pixels, ids, regions.ids)
    region_loss(output.image, output.patches, output.phrases, output.scale, batch).backward()
    for mine, one, parameter in zip(both, alone, network.parameters(), strict=True):
        other = torch.zeros_like(one) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(mine, one + 0.5 * other)
    with pytest.raises(ValueError, match="pass accumulate=1"):
        backward(network, pixels, ids, pair_ids, micro_batches=2, regions=regions)


def test_drawn_scenes_say_what_is_where() -> None:
    scene = draw_scene(3, size_px=64)
    regions = regions_of(scene, Random(0))
    assert {f"{thing.colour} {thing.kind}" for thing in scene.things} <= {region.phrase for region in regions}
    for thing, region in zip(scene.things, regions, strict=False):
        x, y, width, height = thing.box_xywh_px
        assert np.multiply(region.box, 64) == pytest.approx((x, y, x + width, y + height))


@pytest.mark.parametrize("seed", range(20))
def test_a_close_up_shows_what_it_names(seed: int) -> None:
    scene = draw_scene(seed, size_px=96)
    sample = close_up(scene, regions_of(scene, Random(0)), Random(seed))
    width, height = sample.image.size  # type: ignore[union-attr]
    assert abs(width - height) <= 1
    assert sample.regions
    for region in sample.regions:
        assert 0 <= min(region.box) <= max(region.box) <= 1 + 1e-9
    assert len(sample.captions) == 3


def test_scenes_without_end_are_the_same_each_time() -> None:
    one, again = SceneSource(64)[5], SceneSource(64)[5]
    assert one._replace(image=b"") == again._replace(image=b"")
    assert one.image == again.image
