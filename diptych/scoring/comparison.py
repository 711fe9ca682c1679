"""Cosine, dot product and Euclidean distance of pictures and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from jaxtyping import Float


class Comparison(NamedTuple):
    """Matrices of pictures by texts. For unit vectors dot = cosine, and euclidean² = 2 - 2 cosine."""

    cosine: Float[np.ndarray, "pictures texts"]
    dot: Float[np.ndarray, "pictures texts"]
    euclidean: Float[np.ndarray, "pictures texts"]


def compare(images: Float[np.ndarray, "pictures dim"], texts: Float[np.ndarray, "texts dim"]) -> Comparison:
    """The measures of every picture and every text. The vectors may have any length.

    Raises ArgumentError if pictures and texts have different dimensions.
    """
    if images.shape[1] != texts.shape[1]:
        raise ArgumentError(
            f"pictures have {images.shape[1]} dimensions, texts {texts.shape[1]}; embed both with one model."
        )
    images, texts = (
        images.astype(np.float64),
        texts.astype(np.float64),
    )  # for a small distance is the difference of large terms
    dot = images @ texts.T
    lengths = np.linalg.norm(images, axis=1)[:, None] * np.linalg.norm(texts, axis=1)
    squares = (images**2).sum(axis=1)[:, None] + (texts**2).sum(axis=1) - 2 * dot
    cosine = np.clip(dot / np.maximum(lengths, np.finfo(np.float32).tiny), -1, 1)
    return Comparison(cosine, dot, np.sqrt(np.maximum(squares, 0)))
