"""The cosine to expect of a text's best pictures, by which models' texts differ: for some models "person" never comes
near any picture that shows one, and "tennis" to all that do.

It is a linear function of the text's vector, fitted by ridge regression (Hoerl and Kennard 1970) to the cosines of many
words with the best hundredth of many pictures. It lies in relevance.json of a model's folder, with the least relevance
z-score that was chosen with it (see `diptych.index.search.relevance`)."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.errors import CheckpointError, JSONError
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from jaxtyping import Float

RELEVANCE_FILE = "relevance.json"
MAX_BYTES = 1 << 20
BEST_SHARE = 0.01  # of the pictures
_RIDGE = 1.0  # beside the squares of unit vectors


class ExpectedCosine(NamedTuple):
    """The linear function, and the least relevance z-score of a text."""

    weights: Float[np.ndarray, "dim"]
    bias: float
    threshold: float

    def of(self, vectors: Float[np.ndarray, "*texts dim"]) -> Float[np.ndarray, "*texts"]:
        """The cosines to expect of unit vectors of texts."""
        return vectors @ self.weights + self.bias

    def to_json(self) -> str:
        """The text of relevance.json, with five digits."""
        weights = [float(f"{weight:.5g}") for weight in self.weights.tolist()]
        return json.dumps({"weights": weights, "bias": round(self.bias, 6), "threshold": self.threshold}) + "\n"


def parse(text: str, dim: int, source: str) -> ExpectedCosine:
    """The content of a relevance.json. Raises CheckpointError if it is not one of `dim` finite numbers."""
    try:
        content = parse_json(text, max_bytes=MAX_BYTES)
        weights = content["weights"] if isinstance(content["weights"], list) else []
        given = [*weights, content["bias"], content["threshold"]]
        are_numbers = all(type(number) in (int, float) for number in given)
        numbers = np.array(given if are_numbers else [], np.float64)
    except JSONError as error:
        raise CheckpointError(f"{source}: its {RELEVANCE_FILE} is not JSON ({error}).") from error
    except (KeyError, TypeError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape != (dim + 2,) or not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e6:
        raise CheckpointError(
            f"{source}: its {RELEVANCE_FILE} lacks weights, bias and threshold for {dim} dimensions. Fit it again, or "
            "remove the file."
        )
    return ExpectedCosine(numbers[:-2].astype(np.float32), float(numbers[-2]), float(numbers[-1]))


def fit(
    texts: Float[np.ndarray, "texts dim"], pictures: Float[np.ndarray, "pictures dim"], threshold: float = -math.inf
) -> ExpectedCosine:
    """Fit to the mean cosine of each text with the best hundredth of these pictures."""
    cosines = texts @ pictures.T
    count = max(1, round(BEST_SHARE * len(pictures)))
    best = np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1)
    centre = texts.mean(axis=0)
    rest = texts - centre
    squares = rest.T @ rest + _RIDGE * np.eye(texts.shape[1])
    weights = np.linalg.solve(squares, rest.T @ (best - best.mean()))
    return ExpectedCosine(weights.astype(np.float32), float(best.mean() - centre @ weights), threshold)
