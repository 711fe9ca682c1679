import numpy as np
import pytest

from diptych.collect.pictures.duplicates import near_hashes
from diptych.collect.pictures.duplicates.near_hashes import HashIndex
from diptych.collect.pictures.hashing import distance
from diptych.errors import ArgumentError


@pytest.mark.parametrize("most", [0, 3, 4, 7, 10, 15])
def test_it_finds_what_comparing_all_finds(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_hashes, "_TAIL", 50)
    draw = np.random.default_rng(most)
    firsts = [int(each) for each in draw.integers(0, 2**63, 40, dtype=np.uint64)]
    masks = [[sum(1 << int(bit) for bit in draw.choice(64, count, False)) for count in range(17)] for _ in firsts]
    flipped = [first ^ mask for first, several in zip(firsts, masks, strict=True) for mask in several]
    index = HashIndex(most)
    for value in flipped:
        index.add(value)
    assert len(index) == len(flipped)
    for first in firsts:
        numbers, distances = index.near(first)
        all_distances = [distance(first, value) for value in flipped]
        assert sorted(numbers) == [number for number, each in enumerate(all_distances) if each <= most]
        assert [all_distances[number] for number in numbers] == sorted(distances) == list(distances)


def test_an_empty_index_finds_nothing() -> None:
    assert len(HashIndex(8).near(5)[0]) == 0


def test_a_distance_that_bands_cannot_promise() -> None:
    with pytest.raises(ArgumentError, match="0 to 15"):
        HashIndex(16)
