"""Texts in batches of few shapes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diptych
from diptych.inference.batching import BATCH, of_few_shapes


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1), (1, 2)), ((1, 8), (1, 8)), ((5, 9), (6, 10)), ((9, 17), (12, 20)), ((32, 33), (32, 40)),
        ((3, 76), (3, 77)), ((33, 4), (33, 4)),
    ],
)  # fmt: skip
def test_a_batch_is_padded_to_the_next_shape(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    ids = np.arange(1, np.prod(shape) + 1).reshape(shape)
    padded = of_few_shapes(ids, 0, 77)
    assert padded.shape == expected
    np.testing.assert_array_equal(padded[: shape[0], : shape[1]], ids)
    assert not padded[:, shape[1] :].any()
    assert all(np.array_equal(row, padded[0]) for row in padded[shape[0] :])


@given(st.integers(1, 77))
def test_no_length_is_beyond_the_context_or_padded_by_more_than_seven(tokens: int) -> None:
    width = of_few_shapes(np.ones((1, tokens), int), 0, 77).shape[1]
    assert tokens <= width <= min(77, tokens + 7)


def test_all_batches_have_few_shapes() -> None:
    shapes = {of_few_shapes(np.ones((n, m), int), 0, 77).shape for n in range(1, BATCH + 1) for m in range(1, 78)}
    assert len(shapes) == 180


def test_a_text_has_the_same_vector_in_every_company(tiny_model: Path) -> None:
    model = diptych.load(tiny_model, precision="float32")
    texts = ["a dog", "a small brown dog that runs over a lawn", "two", "a cat on a mat", "red"]
    together = model.embed_texts(texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(model.embed_texts([text])[0], vector, atol=2e-6)
