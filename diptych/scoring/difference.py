"""The difference between two pictures in words: the difference of their vectors, compared with those of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import ArgumentError
from diptych.scoring.zero_shot import cosines, softmax, unit

if TYPE_CHECKING:
    from jaxtyping import Float

SAME = 0.999  # a cosine from which two pictures count as the same


class Difference(NamedTuple):
    """For each of `words` the probability that it `appeared` in the second picture and that it `disappeared` from the
    first; each sums to 1 over the words. `cosine` is that of the two pictures: at 1 nothing differs, and the
    probabilities mean nothing."""

    words: tuple[str, ...]
    appeared: Float[np.ndarray, " words"]
    disappeared: Float[np.ndarray, " words"]
    cosine: float

    @property
    def is_same(self) -> bool:
        """Whether the two pictures are nearly the same; the probabilities then mean little."""
        return self.cosine > SAME

    def top(self, count: int) -> tuple[dict[str, float], dict[str, float]]:
        """The `count` likeliest words that appeared, and those that disappeared, with their probabilities."""
        appeared, disappeared = (
            {self.words[index]: float(shares[index]) for index in (-shares).argsort()[:count]}
            for shares in (self.appeared, self.disappeared)
        )
        return appeared, disappeared


def difference(
    first: Float[np.ndarray, " dim"],
    second: Float[np.ndarray, " dim"],
    words: Float[np.ndarray, "words dim"],
    names: tuple[str, ...],
    *,
    scale: float,
) -> Difference:
    """From unit vectors: a softmax over the cosines of each word with the normalised change from the first picture to
    the second, at the model's own `scale` (its inverse temperature).

    Vectors of one modality occupy a narrow cone, so the mean over the words is subtracted from each. Raises
    ArgumentError for fewer than two words.
    """
    if len(names) < 2:
        raise ArgumentError(f"got {len(names)} words; expected two or more to choose from.")
    change = unit((second - first)[None].astype(np.float64))[0]
    apart = unit((words - words.mean(axis=0)).astype(np.float64))
    scores = scale * apart @ change
    return Difference(tuple(names), softmax(scores), softmax(-scores), float(cosines(first[None], second[None])[0, 0]))
