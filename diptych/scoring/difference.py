"""What differs between two pictures, in words: the difference of their vectors against those of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError
from diptych.scoring.zero_shot import cosines, softmax, unit

if TYPE_CHECKING:
    from jaxtyping import Float


class Difference(NamedTuple):
    """For each of `words` the probability that it `came`, in the second picture and not in the first, and that it
    `went`; each sums to 1 over the words. `cosine` is that of the two pictures: at 1 nothing differs, and the
    probabilities mean nothing."""

    words: tuple[str, ...]
    came: Float[np.ndarray, " words"]
    went: Float[np.ndarray, " words"]
    cosine: float


def difference(
    first: Float[np.ndarray, " dim"],
    second: Float[np.ndarray, " dim"],
    words: Float[np.ndarray, "words dim"],
    names: tuple[str, ...],
    *,
    scale: float,
) -> Difference:
    """From unit vectors: the change from the first picture to the second, made a unit vector, against each word's, by
    a softmax at the model's own `scale` (its inverse temperature).

    Vectors of one modality lie in a cone; what all words share says nothing of any, so their mean is taken off. Raises
    ValueError for a single word, of which nothing can be told.
    """
    if len(names) < 2:
        raise ArgumentError(f"{len(names)} words came; wanted two or more to choose among.")
    change = unit((second - first)[None].astype(np.float64))[0]
    apart = unit((words - words.mean(axis=0)).astype(np.float64))
    scores = scale * apart @ change
    return Difference(tuple(names), softmax(scores), softmax(-scores), float(cosines(first[None], second[None])[0, 0]))
