import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from diptych.scenes import captions, drawing
from diptych.scenes import scene as scenes
from diptych.scenes.captions import plural, position_words, relations_of
from diptych.scenes.designs import OTHERS, design
from diptych.scenes.scene import COLOURS, HELD_OUT, KINDS, OBJECTS, SHAPES, Scene, Scenes, Thing, draw_pair, draw_scene

seeds = st.integers(0, 2**40)
quick = settings(max_examples=60)

NUMBERS = {word: number for number, word in enumerate(captions._NUMBERS)}
SAME_WORD = {
    synonym: word
    for table in (captions.COLOUR_SYNONYMS, captions.KIND_SYNONYMS, captions.SIZE_SYNONYMS)
    for word, synonyms in table.items()
    for synonym in synonyms
}
COLOUR_WORDS = [*COLOURS, *(word for words in captions.COLOUR_SYNONYMS.values() for word in words)]
KIND_WORDS = sorted((*KINDS, *(w for ws in captions.KIND_SYNONYMS.values() for w in ws)), key=len, reverse=True)
SIZE_WORDS = ["small", "large", *(word for words in captions.SIZE_SYNONYMS.values() for word in words)]
NAMED = rf"(?:an?|the) (?:({'|'.join(SIZE_WORDS)}) )?({'|'.join(COLOUR_WORDS)}) ({'|'.join(KIND_WORDS)})"
RELATION = "to the left of|to the right of|left of|right of|above|over|below|under|next to|beside|near|overlapping"
PLACE = "(?:on the|at the|in the) (?:(top|bottom) )?(left|right|top|bottom)"


def named(scene: Scene, words: Sequence[str | None]) -> Thing:
    size, colour, kind = (word and SAME_WORD.get(word, word) for word in words)
    found = [thing for thing in scene.things if (thing.colour, thing.kind) == (colour, kind)]
    assert found, f"{words} is not in {scene.things}"
    assert size in (None, found[0].size)
    return found[0]


def combinations(scene: Scene) -> set[tuple[str, str]]:
    return {(thing.colour, thing.kind) for thing in scene.things}


def test_the_same_seed_gives_the_same_scene_whatever_came_before():
    one = draw_scene(7)
    draw_scene(8)
    np.random.default_rng(0).random()
    two = draw_scene(7)
    assert one.image.tobytes() == two.image.tobytes()
    assert (one.things, one.captions) == (two.things, two.captions)
    assert one.image.tobytes() != draw_scene(7, split="test").image.tobytes()


def test_every_colour_and_every_kind_is_seen_in_training_in_nine_of_ten_combinations():
    seen = {(colour, kind) for colour in COLOURS for kind in KINDS} - HELD_OUT
    assert {colour for colour, _ in seen} == set(COLOURS)
    assert {kind for _, kind in seen} == set(KINDS) == set(SHAPES) | set(OBJECTS)
    assert 0.08 < len(HELD_OUT) / len(COLOURS) / len(KINDS) < 0.12


@quick
@given(seeds)
def test_held_out_combinations_are_for_the_test_split_only(seed: int):
    assert not combinations(draw_scene(seed, size_px=64)) & HELD_OUT
    assert combinations(draw_scene(seed, size_px=64, split="test")) & HELD_OUT


def test_training_scenes_show_every_combination_that_is_not_held_out():
    drawn = Counter(choice for i in range(3000) for choice in scenes._choose(scenes.Random(i), "train", 5))
    assert set(drawn) == {(colour, kind) for colour in COLOURS for kind in KINDS} - HELD_OUT


@quick
@given(seeds, st.integers(1, 5))
def test_things_are_as_many_as_asked_inside_the_picture_and_half_visible(seed: int, count: int):
    easel = scenes._compose(scenes.Random(seed), 96, "train", count, ())
    assert len(easel.things) == count
    for thing, area, visible in zip(easel.things, easel.areas, easel.visible, strict=True):
        x, y, width, height = thing.box_xywh_px
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 96
        assert 0.03 <= area / 96**2 <= 0.30
        assert visible.sum() >= 0.5 * area


def test_a_count_that_has_no_room_is_refused():
    with pytest.raises(ValueError, match="20 things; a scene has 1 to 8"):
        draw_scene(0, things=(20, 20))


def test_boxes_are_tight_around_the_paint(monkeypatch: pytest.MonkeyPatch):
    magenta = (255, 0, 255)
    monkeypatch.setattr(scenes, "background", lambda size_px, *_: (Image.new("RGB", (size_px, size_px), magenta), ""))
    monkeypatch.setattr(scenes, "develop", lambda canvas, rng: canvas)
    look = scenes.sample_look
    monkeypatch.setattr(scenes, "sample_look", lambda *args, **options: replace(look(*args, **options), shadow=0.0))
    for seed in range(150):
        scene = draw_scene(seed, things=(1, 1))
        painted = drawing.colour_distance(np.asarray(scene.image), magenta) > 0.08
        rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
        x, y, width, height = scene.things[0].box_xywh_px
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - [x, y, x + width, y + height]).max() <= 2, scene.things


@quick
@given(seeds)
def test_relations_and_places_in_captions_hold_by_the_boxes(seed: int):
    scene = draw_scene(seed, size_px=96, things=(1, 4))
    for caption in scene.captions:
        text = caption.lower()
        if match := re.search(rf"{NAMED} (?:is )?({RELATION}) {NAMED}[ .]*$", text):
            words = match.groups()
            one, other = named(scene, words[:3]).box_xywh_px, named(scene, words[4:]).box_xywh_px
            (x0, y0), (x1, y1) = ((x + w / 2, y + h / 2) for x, y, w, h in (one, other))
            assert {
                "left": x0 < x1, "right": x0 > x1, "above": y0 < y1, "over": y0 < y1, "below": y0 > y1,
                "under": y0 > y1,
            }.get(words[3].removeprefix("to the ").removesuffix(" of"), True)  # fmt: skip
            if words[3] == "overlapping":
                assert abs(x0 - x1) < (one[2] + other[2]) / 2
                assert abs(y0 - y1) < (one[3] + other[3]) / 2
        elif match := re.search(rf"{NAMED} (?:is )?{PLACE}", text):
            _, colour, kind, *sides = match.groups()
            assert any(
                side_holds(thing, sides, 96)
                for thing in scene.things
                if (thing.colour, thing.kind) == (SAME_WORD.get(colour, colour), SAME_WORD.get(kind, kind))
            )


def side_holds(thing: Thing, sides: list[str | None], size_px: int) -> bool:
    x, y, width, height = (value / size_px for value in thing.box_xywh_px)
    x, y = x + width / 2, y + height / 2
    return all({"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5}[side] for side in sides if side)


@quick
@given(seeds)
def test_counts_in_captions_are_exact_and_articles_right(seed: int):
    scene = draw_scene(seed, size_px=64)
    kinds, colours = Counter(thing.kind for thing in scene.things), Counter(thing.colour for thing in scene.things)
    plurals = {plural(word): SAME_WORD.get(word, word) for word in KIND_WORDS}
    for caption in scene.captions:
        text = caption.lower()
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
        for number, kind in re.findall(rf"\b({'|'.join(NUMBERS)}) ({'|'.join(plurals)})\b", text):
            assert kinds[plurals[kind]] == NUMBERS[number], caption
        for number, colour in re.findall(rf"\b({'|'.join(NUMBERS)}) ({'|'.join(COLOURS)}) (?:things|objects)", text):
            assert colours[colour] == NUMBERS[number], caption
        if match := re.search(rf"\b({'|'.join(NUMBERS)}) (?:drawn )?(?:things|objects|items)", text):
            assert len(scene.things) == NUMBERS[match[1]]


@quick
@given(seeds)
def test_the_first_caption_names_everything_and_the_others_differ(seed: int):
    scene = draw_scene(seed, size_px=64)
    text = scene.captions[0].lower()
    for thing in scene.things:
        words = [word for word, meaning in SAME_WORD.items() if meaning == thing.kind] + [thing.kind]
        assert any(word in text for word in words)
    assert 4 <= len(set(scene.captions)) == len(scene.captions) <= 5


def test_relations_and_places_worked_out_by_hand():
    assert set(relations_of((10, 40, 20, 20), (60, 40, 20, 20), 100)) == {"to the left of", "left of"}
    assert "beside" in relations_of((60, 40, 20, 20), (25, 45, 20, 20), 100)
    assert set(relations_of((40, 10, 20, 20), (42, 33, 20, 20), 100)) == {"above", "over", "near"}
    assert relations_of((40, 40, 20, 20), (45, 45, 20, 20), 100) == ()
    assert position_words((5, 5, 20, 20), 100)[0] == "in the top left corner"
    assert position_words((70, 40, 20, 20), 100) == ("on the right", "on the right side")
    assert "in the middle" in position_words((40, 40, 20, 20), 100)


@settings(max_examples=25)
@given(seeds, st.sampled_from(["train", "test"]))
def test_a_pair_differs_by_one_object(seed: int, split: scenes.Split):
    before, after, added = draw_pair(seed, split=split)
    assert after.things == (*before.things, added)
    assert added.kind not in {thing.kind for thing in before.things}
    assert ((added.colour, added.kind) in HELD_OUT) == (split == "test")
    changed = np.abs(np.asarray(before.image, int) - np.asarray(after.image, int)).max(2) > 0
    x, y, width, height = (round(value) for value in added.box_xywh_px)
    margin = 4 + width // 4  # blur and shadow reach beyond the object
    assert changed[y : y + height, x : x + width].mean() > 0.15
    changed[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin] = False
    assert not changed.any()


def test_scenes_are_a_sequence():
    drawn = Scenes(5, seed=3, size_px=48, split="test")
    assert len(drawn) == len(list(drawn)) == 5
    assert drawn[4].captions == drawn[-1].captions == Scenes(9, seed=3, size_px=48, split="test")[4].captions
    assert drawn[0].image.tobytes() != Scenes(5, seed=4, size_px=48, split="test")[0].image.tobytes()
    assert drawn[0].image.size == (48, 48)
    with pytest.raises(IndexError):
        drawn[5]


def test_shards_hold_pictures_beside_their_captions(tmp_path):
    paths = scenes.write_shards(tmp_path / "shards", 5, size_px=48, shard_size=3)
    assert [path.name for path in paths] == ["scenes-train-00000.tar", "scenes-train-00001.tar"]
    with tarfile.open(paths[1]) as tar:
        names = tar.getnames()
        assert names == [f"train-0-0000000{i}.{ending}" for i in (3, 4) for ending in ("jpg", "json")]
        picture, words = (member.read() for name in names[:2] if (member := tar.extractfile(name)))
    picture, words = Image.open(io.BytesIO(picture)), json.loads(words)
    scene = Scenes(5, size_px=48)[3]
    assert np.abs(np.asarray(picture, int) - np.asarray(scene.image, int)).mean() < 12
    assert tuple(words["captions"]) == scene.captions
    assert words["things"][0]["box_xywh_px"] == list(scene.things[0].box_xywh_px)


def test_photographs_serve_as_grounds_for_half_of_the_scenes():
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    noise[..., 1] = 0  # a ground without green is like none that is drawn
    photo = Image.fromarray(noise).filter(ImageFilter.BoxBlur(2))
    used = 0
    for seed in range(40):
        scene = draw_scene(seed, size_px=48, things=(1, 1), backgrounds=[photo])
        used += np.median(np.asarray(scene.image)[..., 1]) < 12
    assert 8 <= used <= 32
    grey = draw_scene(1, size_px=48, backgrounds=[photo.convert("L")])
    assert grey.image.mode == "RGB"


@pytest.mark.parametrize("name", COLOURS)
def test_colours_stay_what_they_are_called(name: str):
    middle = {
        "red": (210, 20, 25), "green": (40, 150, 40), "blue": (30, 80, 200), "yellow": (245, 225, 25),
        "orange": (248, 125, 15), "purple": (115, 40, 155), "pink": (250, 145, 190), "brown": (110, 65, 30),
        "black": (18, 18, 18), "white": (250, 250, 250), "grey": (135, 135, 135), "cyan": (50, 205, 210),
    }  # fmt: skip
    samples = [np.array(drawing.sample_colour(name, scenes.Random(seed))) for seed in range(100)]
    nearest = Counter(
        min(middle, key=lambda other: drawing.colour_distance(sampled, middle[other]).item()) for sampled in samples
    )
    assert nearest[name] >= 85, nearest


@pytest.mark.parametrize("kind", KINDS)
def test_every_design_keeps_to_its_square_and_is_mostly_of_its_own_colour(kind: str) -> None:
    """The box is made of the form, and the colour's name is that of the paint that one sees most."""
    for seed in range(40):
        parts = design(kind, Random(seed))
        points = np.concatenate([points for _, points in parts])
        assert points.min() > -0.06
        assert points.max() < 1.06
        canvas = Image.new("L", (64, 64))
        for number, (role, polygon) in enumerate(parts, 1):
            ImageDraw.Draw(canvas).polygon((polygon * 63).ravel().tolist(), fill=0 if role == "hole" else number)
        seen = [role for role, _ in parts]
        shown = Counter(seen[value - 1] for value in np.asarray(canvas).ravel().tolist() if value)
        own = shown["body"] + shown["shade"] + shown["tint"]
        assert own > 0.4 * shown.total(), f"seed {seed}: {shown}"


def test_kinds_have_designs_of_their_own() -> None:
    """What a kind looks like is more than one drawing."""
    for kind in OTHERS:
        roles = {tuple((role, len(points)) for role, points in design(kind, Random(seed))) for seed in range(40)}
        assert len(roles) >= 2, kind
