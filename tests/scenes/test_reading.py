"""Captions of plain scenes are read as they were meant."""

import pytest

from diptych.scenes.plain import OPPOSITE, Described, Relation, plain_scenes
from diptych.scenes.reading import described_in


def meant(said: Described) -> tuple[object, ...]:
    """The things, and the relation as it is from the first of them by name."""
    names = [(thing.size, thing.colour, thing.kind) for thing in said.things]
    if said.relation is None:
        return sorted((colour, kind) for _, colour, kind in names), None
    first, word, second = said.relation
    ends = [names[first][1:], names[second][1:]]
    return sorted(ends), word if ends == sorted(ends) else OPPOSITE[word]


def test_every_caption_says_what_was_meant() -> None:
    captions = [said for scene in plain_scenes(150, split="test") for said in scene.descriptions]
    for said in captions:
        read = described_in(said.caption)
        assert read is not None, said.caption
        assert meant(read) == meant(said), said.caption
        assert [thing.size in said.caption for thing in read.things] == [True] * len(said.things)
    assert {said.relation is None for said in captions} == {True, False}


def test_sizes_order_and_relation_are_read() -> None:
    read = described_in("There is a large red  circle to the left of an orange star on a grey ground.")
    assert read is not None
    assert [(each.size, each.colour, each.kind) for each in read.things] == [
        ("large", "red", "circle"),
        ("", "orange", "star"),
    ]
    assert read.relation == Relation(0, "left", 1)


@pytest.mark.parametrize(
    "caption",
    ["", "a dog", "red circle", "a red circle and", "a red circle near a blue star", "a red circle on a green ground",
     "a red dog", "a red circle and a blue star and a green heart", "a red circle\0"],
)  # fmt: skip
def test_what_is_no_caption_of_a_plain_scene_is_not_read(caption: str) -> None:
    assert described_in(caption) is None
