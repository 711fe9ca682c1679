"""Which pictures and texts belong together."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.training.objectives.targets import PairIds, identify, positives


def cells(batch: PairIds) -> list[tuple[int, int]]:
    """All at once; the same by rows, and as many as are counted."""
    found, pictures = positives(batch, torch.device("cpu")), len(batch.pictures)
    rows, columns = (x.tolist() for x in found.for_rows(0, pictures))
    cells = sorted(zip(rows, columns, strict=True))
    by_rows = [(row, column) for row in range(pictures) for column in sorted(found.for_rows(row, row + 1)[1].tolist())]
    assert by_rows == cells
    counts = torch.bincount(torch.tensor(rows), minlength=pictures), torch.bincount(torch.tensor(columns))
    assert all(map(torch.equal, found.counts(), counts))
    return cells


def test_each_picture_owns_its_captions() -> None:
    batch = identify(np.array([0, 0, 1]), ["a dog", "a wet dog", "a cat"], np.array([5, 9]))
    assert cells(batch) == [(0, 0), (0, 1), (1, 2)]


def test_a_caption_that_comes_twice_belongs_to_both_pictures() -> None:
    """But the other captions of these pictures stay the one's alone."""
    batch = identify(np.array([0, 0, 1, 1]), ["A  dog\nruns", "brown fur", "a dog runs", "a park"], np.array([5, 9]))
    assert cells(batch) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (1, 3)]


def test_a_picture_that_comes_twice_owns_the_captions_of_both() -> None:
    batch = identify(np.array([0, 1, 2]), ["a dog", "a cat", "an animal"], np.array([5, 9, 5]))
    assert cells(batch) == [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)]


def test_captions_of_one_class_belong_to_all_of_it() -> None:
    batch = identify(np.arange(4), ["a cat", "a dog", "a cat", "a dog"], np.arange(4))
    assert cells(batch) == [(0, 0), (0, 2), (1, 1), (1, 3), (2, 0), (2, 2), (3, 1), (3, 3)]


@given(st.data())
def test_the_rule_read_out_loud(data: st.DataObject) -> None:
    """Picture i and text j belong together where a picture like i was read with a caption like j."""
    pictures = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=8))
    texts = data.draw(st.lists(st.tuples(st.integers(0, len(pictures) - 1), st.integers(0, 4)), min_size=1, max_size=9))
    image_index, captions = zip(*texts, strict=True)
    said = {(pictures[owner], caption) for owner, caption in texts}
    wanted = [(i, j) for i, p in enumerate(pictures) for j, c in enumerate(captions) if (p, c) in said]
    assert cells(PairIds(*map(torch.tensor, (image_index, captions, pictures)))) == wanted


def test_numbers_are_the_same_in_every_process() -> None:
    """Python's own hash is not: it is salted."""
    assert identify(np.array([0]), ["A dog"], np.array([1])).captions.tolist() == [-4081912340589182210]
