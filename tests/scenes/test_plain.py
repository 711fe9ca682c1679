"""Plain scenes are what their captions say, by their pixels alone."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from diptych.errors import ArgumentError
from diptych.scenes.checking import accuracy, check, things_in
from diptych.scenes.plain import (
    COLOURS,
    KINDS,
    OPPOSITE,
    Described,
    PlainScene,
    Relation,
    plain_scene,
    plain_scenes,
    relation_of,
    silhouette,
)
from diptych.scenes.scene import HELD_OUT, Thing


@pytest.fixture(scope="module")
def scenes() -> list[PlainScene]:
    return list(plain_scenes(200, split="test", seed=3))


def test_the_same_seed_draws_the_same_scene_and_another_another() -> None:
    first, again, other = plain_scene(7), plain_scene(7), plain_scene(8)
    assert np.array_equal(first.image, again.image)
    assert first.captions == again.captions
    assert not np.array_equal(first.image, other.image)


def test_held_out_pairs_are_in_every_test_scene_and_in_no_other(scenes: list[PlainScene]) -> None:
    def held_out(scene: PlainScene) -> bool:
        return any((thing.colour, thing.kind) in HELD_OUT for thing in scene.things)

    assert all(map(held_out, scenes))
    assert not any(map(held_out, plain_scenes(200)))


def test_captions_name_every_thing_with_its_colour(scenes: list[PlainScene]) -> None:
    for scene in scenes:
        assert 1 <= len(scene.captions) <= 3
        for caption in scene.captions:
            assert all(f"{thing.colour} {thing.kind}" in caption for thing in scene.things), caption


def test_a_relation_is_said_from_either_side() -> None:
    one, other = (Thing("star", "red", "", (x, 4.0, 8.0, 8.0)) for x in (2.0, 20.0))
    assert relation_of((one, other)) == Relation(0, "left", 1)
    assert relation_of((other, one)) == Relation(0, "right", 1)
    assert relation_of((one,)) is None
    low = Thing("star", "red", "", (3.0, 22.0, 8.0, 8.0))
    assert relation_of((one, low)) == Relation(0, "above", 1)
    assert {OPPOSITE[OPPOSITE[word]] == word for word in OPPOSITE} == {True}


def test_a_square_covers_its_box_and_others_less() -> None:
    covered = {kind: silhouette(kind, (4, 8, 16, 16), 32).sum() for kind in KINDS}
    assert covered["square"] == pytest.approx(256, rel=0.02)
    assert covered["circle"] == pytest.approx(np.pi * 64, rel=0.02)
    assert covered["triangle"] == pytest.approx(128, rel=0.03)
    assert covered["cross"] == pytest.approx(256 * 5 / 9, rel=0.05)
    assert all(value < 256 for kind, value in covered.items() if kind != "square")


def test_a_picture_that_is_too_small_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"16 px; a plain scene has at least 24"):
        plain_scene(0, size_px=16)


# --- the checker


@pytest.mark.parametrize("size_px", [32, 64])
def test_true_scenes_pass(size_px: int) -> None:
    """The checker reads at least 99 in 100 of them, whatever their size."""
    count = 200 if size_px == 32 else 40
    scenes = list(plain_scenes(count, size_px=size_px, split="test", seed=4))
    found = accuracy([check(scene.image, scene.descriptions[0]) for scene in scenes])
    assert found["things"] >= 0.99
    assert found["relation"] >= 0.99


def test_swapped_captions_fail(scenes: list[PlainScene]) -> None:
    pairs = list(pairwise(scenes[:80]))
    assert accuracy([check(one.image, other.descriptions[0]) for one, other in pairs])["things"] <= 0.02


def test_what_is_true_of_all_but_one_word_fails(scenes: list[PlainScene]) -> None:
    """Another colour, another kind, the opposite relation, the colours of two things exchanged."""
    tried = 0
    for scene in scenes[:25]:
        said = scene.descriptions[0]
        first, *rest = said.things
        colour = next(each for each in COLOURS if each != first.colour)
        kind = next(each for each in KINDS if each != first.kind)
        wrong = [_with(said, (_thing(first, colour=colour), *rest)), _with(said, (_thing(first, kind=kind), *rest))]
        if len(said.things) == 2 and first.colour != rest[0].colour and first.kind != rest[0].kind:
            exchanged = (_thing(first, colour=rest[0].colour), _thing(rest[0], colour=first.colour))
            wrong.append(_with(said, exchanged))
        for each in wrong:
            tried += 1
            assert not check(scene.image, each).things
        assert [check(scene.image, each).colours for each in wrong[:2]] == [False, True]
        assert [check(scene.image, each).kinds for each in wrong[:2]] == [True, False]
        if said.relation:
            opposite = said.relation._replace(word=OPPOSITE[said.relation.word])
            assert check(scene.image, Described(said.caption, said.things, opposite)).relation is False
    assert tried > 50


def _with(said: Described, things: tuple[Thing, ...]) -> Described:
    return Described(said.caption, things, said.relation)


def _thing(thing: Thing, *, colour: str = "", kind: str = "") -> Thing:
    return Thing(kind or thing.kind, colour or thing.colour, thing.size, thing.box_xywh_px)


def test_a_thing_more_is_wrong_and_a_speck_is_none() -> None:
    scene = next(scene for scene in plain_scenes(50, split="test") if len(scene.things) == 2)
    alone = Described("", scene.things[:1], None)
    assert not check(scene.image, alone).things
    pixels = np.asarray(scene.image).copy()
    row, column = np.argwhere((pixels[1:-1, 1:-1] == pixels[0, 0]).all(2))[0] + 1
    pixels[row, column] = 255 - pixels[row, column]
    assert check(Image.fromarray(pixels), scene.descriptions[0]).things


def test_noise_and_an_empty_ground_have_no_things() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert things_in(Image.new("RGB", (32, 32), "grey")) == []
    assert things_in(Image.fromarray(noise)) == []
    assert accuracy([]) == {"things": 0.0, "relation": 0.0, "colours": 0.0, "kinds": 0.0}
