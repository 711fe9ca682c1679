"""Synthetic vectors like CLIP's: pictures in one cone, texts in another, both about the same things.

They have known properties of CLIP's vectors: the means of the pictures' and of the texts' unit vectors have lengths of
about 0.75, and the cosine between the two means is about 0.25 (the modality gap: Liang et al., "Mind the Gap",
2022); a caption's cosine with its own picture is about 0.3 to 0.4, with another's about 0.14. Deviations
from the pictures' mean have a slowly falling spectrum (i^-0.5) and are clustered by things, 100 pictures of each on
average, unevenly; 40 % of a picture's deviation is its own. A text shares 80 % of its deviation with pictures; the rest
has a random direction. The last three numbers set the difficulty of the search: a RaBitQ scan with 200 candidates
reaches a recall of about 0.98.
"""

import numpy as np

CONE, BETWEEN = 0.75, 0.25
DECAY, OWN, SHARED = 0.5, 0.4, 0.8
UNEVEN = 0.4  # the exponent of the frequencies of things
PER_THING = 100


class Cones:
    """Draws pictures and texts as float32 unit vectors, the same for the same seed."""

    def __init__(self, count: int, *, dim: int = 512, seed: int = 0):
        draw = np.random.default_rng(seed)
        turned = np.linalg.qr(draw.standard_normal((dim, dim)))[0].astype(np.float32)
        self._picture_axis = turned[0]
        self._text_axis = BETWEEN * turned[0] + np.sqrt(1 - BETWEEN**2) * turned[1]
        spectrum = np.arange(1, dim - 1, dtype=np.float64) ** -DECAY
        spread = np.sqrt(spectrum / spectrum.sum()).astype(np.float32)[:, None]
        self._about = turned[2:] * spread
        self._beside = turned[2:][draw.permutation(dim - 2)] * spread
        things = max(10, count // PER_THING)
        self._things = draw.standard_normal((things, dim - 2), dtype=np.float32)
        often = np.arange(1, things + 1, dtype=np.float64) ** -UNEVEN
        self._often = often / often.sum()

    def _meanings(self, count: int, draw: np.random.Generator) -> np.ndarray:
        things = self._things[draw.choice(len(self._often), count, p=self._often)]
        own = draw.standard_normal((count, self._things.shape[1]), dtype=np.float32)
        return np.float32(np.sqrt(1 - OWN)) * things + np.float32(np.sqrt(OWN)) * own

    def pictures(self, count: int, *, seed: int) -> np.ndarray:
        """(count, dim) float32."""
        meanings = self._meanings(count, np.random.default_rng([seed, 1]))
        return unit(CONE * self._picture_axis + np.sqrt(1 - CONE**2) * (meanings @ self._about))

    def texts(self, count: int, *, seed: int) -> np.ndarray:
        """(count, dim) float32."""
        draw = np.random.default_rng([seed, 2])
        about = self._meanings(count, draw) @ self._about
        beside = draw.standard_normal((count, self._things.shape[1]), dtype=np.float32) @ self._beside
        apart = np.sqrt(SHARED) * about + np.sqrt(1 - SHARED) * beside
        return unit(CONE * self._text_axis + np.sqrt(1 - CONE**2) * apart)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
