"""Learning which phrase is where: regions through crops, their shares of a map's places, and their loss."""

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
from diptych.training.objectives.regions import Grounded, covered, ground, places_loss
from diptych.training.objectives.targets import identify
from diptych.training.parallel.accumulate import backward
from diptych.training.scene_source import SceneSource, close_up, regions_of

CIRCLE = Region("a red circle", (0.25, 0.5, 0.75, 1.0))


def test_a_region_moves_with_its_crop() -> None:
    """The right half of the picture: what was from a quarter to three quarters is its left half."""
    assert moved_region(CIRCLE, (0.5, 0, 1, 1)) == Region("a red circle", (0, 0.5, 0.5, 1))
    assert moved_region(CIRCLE, (0.5, 0, 1, 1), flipped=True) == Region("a red circle", (0.5, 0.5, 1, 1))
    assert moved_region(CIRCLE, (0.5, 0.6, 1, 1)) is None  # 40 % of it is left
    left = Region("a cat on the left", (0, 0, 0.5, 0.5))
    assert moved_region(left, (0, 0, 1, 1), flipped=True) == Region("a cat on the right", (0.5, 0, 1, 0.5))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 9))
def test_a_box_covers_as_much_of_the_map_as_of_the_picture(edges: list[float], grid: int) -> None:
    left, right, top, bottom = *sorted(edges[:2]), *sorted(edges[2:])
    cover = covered(torch.tensor([[left, top, right, bottom]]), grid)
    assert cover.shape == (1, grid**2)
    assert cover.min() >= 0
    assert cover.max() <= 1 + 1e-5
    assert cover.mean().item() == pytest.approx((right - left) * (bottom - top), abs=1e-5)


def test_shares_of_places_by_hand() -> None:
    assert covered(torch.tensor([[0.25, 0.0, 1.0, 0.5]]), 2).tolist() == [[0.5, 1.0, 0.0, 0.0]]


def test_a_phrase_implies_those_that_say_less() -> None:
    known = ground([[Region("a circle", CIRCLE.box)], [CIRCLE, Region("an orange square", (0, 0, 1, 1))]], 2)
    assert known is not None
    assert known.phrases == ["a circle", "a red circle", "an orange square"]
    assert known.implied.tolist() == [[True, False, False], [True, True, False], [False, False, True]]
    assert (known.pictures.tolist(), known.said.tolist()) == ([0, 1, 1], [0, 1, 2])
    assert ground([[], []], 2) is None


def test_the_loss_by_hand() -> None:
    """Two pictures of 2 x 2 places in a space of three axes; scale 2. Everything is worked out from its words."""
    axes = torch.eye(3)
    regions = [
        [Region("red circle", (0, 0, 0.5, 0.5)), Region("circle", (0, 0, 0.5, 0.5))],
        [Region("hat", (0, 0, 1, 0.5))],
    ]
    known = ground(regions, 2)
    assert known is not None
    phrases = torch.stack([axes[0], axes[1], axes[2]])  # circle, hat, red circle
    places = torch.stack([axes[[2, 1, 1, 1]], axes[[1, 1, 0, 0]]])
    images = torch.stack([axes[2], axes[0]])
    # "red circle" may not be told from "circle", nor the other way round: hat is the only wrong name for both.
    right, wrong = np.exp(2), 1.0
    what = [-np.log(right / (right + wrong)), np.log(2), -np.log(right / (right + 2 * wrong))]
    where = [-np.log(right / (right + 3 * wrong)), np.log(4), -np.log(right / (2 * right + 2 * wrong))]
    phrase = [-np.log(right / (right + wrong)), np.log(2), -np.log(wrong / (right + 2 * wrong))]
    # Pictures x (circle, hat, red circle): logits [[0, 0, 2], [2, 0, 0]]; [[true, -, true], [-, true, -]] is so.
    middle = brentq(lambda b: 4 * sigmoid(-b) + 2 * sigmoid(2 - b) - 3, -9, 9)  # three of six
    wrong_by = [
        [sigmoid(middle), sigmoid(-middle), sigmoid(middle - 2)],
        [sigmoid(2 - middle), sigmoid(middle), sigmoid(-middle)],
    ]
    whether = (np.mean(phrase) - np.log1p(-np.array(wrong_by)).sum() / 3) / 2
    # The picture of the hat is one of axis 0, which is the circle's; of its places 0 and 1 are the hat's.
    found = places_loss(images, places, phrases, torch.tensor(2.0), known)
    # Told apart at a scale of 8: "circle" from "hat" alone, "hat" from both others.
    apart = [np.log(1 + np.exp(-8)), np.log(1 + 2 * np.exp(-8)), np.log(1 + np.exp(-8))]
    assert found.item() == pytest.approx(np.mean([np.mean(what), np.mean(where), whether, np.mean(apart)]), abs=1e-5)


def test_what_is_said_of_a_whole_picture() -> None:
    """Two of its phrases are learnt from; whatever else its captions say is no wrong phrase for it, in any number."""
    said = [Region(phrase, None) for phrase in ("black dog", "snow", "dogs", "runs")]
    known = ground([said, [Region("dog", (0, 0, 1, 1))], [Region("cat", None)]], 2)
    assert known is not None
    assert known.phrases == ["black dog", "cat", "dog", "snow"]
    assert (known.pictures.tolist(), known.said.tolist()) == ([1, 0, 0, 2], [2, 0, 3, 1])
    assert known.cover.tolist() == [[1, 1, 1, 1]]  # of the one box
    assert known.true.tolist() == [[True, False, True, True], [False, False, True, False], [False, True, False, False]]


def test_the_loss_of_what_has_no_box_by_hand() -> None:
    """A dog and a cat; the second picture's vector is the dog's. Scale 2."""
    known = ground([[Region("dog", None)], [Region("cat", None)]], 1)
    assert known is not None
    axes = torch.eye(2)
    found = places_loss(axes[[1, 1]], axes[[0, 1], None], axes, torch.tensor(2.0), known)  # cat, dog
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
    batch = identify(np.arange(3), ["a", "b", "c"], np.arange(3))
    known = ground([[CIRCLE], [Region("hat", (0, 0, 1, 0.5))], []], 2)
    assert known is not None
    known = known._replace(cover=known.cover.double())
    grounded = Grounded(known, ids[:2], 0.5)

    def gradients(some: Grounded | None) -> list[torch.Tensor]:
        network.zero_grad()
        contrast = backward(network, pixels, ids, batch, grounded=some)
        assert (contrast.places is None) == (some is None)
        return [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in network.parameters()]

    network.eval()  # batch statistics would count twice
    both, alone = gradients(grounded), gradients(None)
    network.zero_grad()
    output = network(pixels, ids, grounded.ids)
    places_loss(output.image, output.patches, output.phrases, output.scale, known).backward()
    for mine, one, parameter in zip(both, alone, network.parameters(), strict=True):
        other = torch.zeros_like(one) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(mine, one + 0.5 * other)
    with pytest.raises(ValueError, match="pass accumulate=1"):
        backward(network, pixels, ids, batch, chunks=2, grounded=grounded)


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
