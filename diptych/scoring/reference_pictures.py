"""Reference pictures: the vectors of many photographs, which say how near to the best pictures of a collection a text
is expected to come.

Texts of a model differ in this: "person" may come near no picture that shows one, and "tennis" near all that do. So the
mean cosine of a text with its `top_k` best of `count` pictures means little by itself. It is compared with the mean
cosine that is expected with the best `top_k` of as many pictures drawn at random from the reference pictures, and with
what these would be if no picture showed what the text says.

The vectors lie in reference_pictures.safetensors of a model's folder, in 8 bits, with the least relevance z-score that
was chosen with them (see `diptych.index.search.relevance`, and `bench/relevance.py`, which makes the file), and what
photographs with captions say of a label's probability (see `diptych.inference.labels`, and `bench/multi_label.py`).
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from diptych.errors import CheckpointError

if TYPE_CHECKING:
    from jaxtyping import Float, Int8

REFERENCE_FILE = "reference_pictures.safetensors"
MAX_BYTES = 16 << 20
MIN_PICTURES, MAX_PICTURES = 2, 10_000
_INT8 = 127
_BELOW = NormalDist().cdf(-1)  # the share of normal numbers that are a standard deviation or more below their mean
_QUANTILES = 2000
_MULTI_LABEL = "multi_label"


class Logit(NamedTuple):
    """The logit `scale` * cosine + `bias` of a label's probability."""

    scale: float
    bias: float


class MultiLabel(NamedTuple):
    """The logits of labels that are judged by themselves, by a picture's vector, and by its patches."""

    picture: Logit
    patches: Logit


class ReferencePictures(NamedTuple):
    """The vectors of the pictures, each in its own scale, and the least relevance z-score of a text. `multi_label`, if
    there is one, has the scales and biases with which a cosine becomes the logit of a label."""

    vectors: Int8[np.ndarray, "pictures dim"]
    threshold: float
    multi_label: MultiLabel | None = None

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "pictures dim"], threshold: float) -> ReferencePictures:
        """Unit vectors in 8 bits. No vector may be zero."""
        scaled = vectors * (_INT8 / np.abs(vectors).max(axis=1, keepdims=True))
        return cls(np.rint(scaled).astype(np.int8), threshold)

    def expected(self, texts: Float[np.ndarray, "texts dim"], count: int, top_k: int) -> Float[np.ndarray, " texts"]:
        """The mean cosine that is expected of each text's unit vector with its best `top_k` of `count` pictures."""
        cosines = np.sort(self.unit_vectors() @ texts.T, axis=0)[::-1]
        return best_weights(len(cosines), count, top_k) @ cosines

    def without_matches(self, text: Float[np.ndarray, "dim"], count: int, top_k: int) -> tuple[float, float]:
        """The same for one text if no picture showed what it says, and the standard deviation of the cosines then.

        Most pictures do not show it. Without the few that do, the cosines are taken to be normally distributed, with
        their median as the mean; the deviation is that of the lower half, in which hardly any picture shows it."""
        low, median = np.quantile(self.unit_vectors() @ text, (_BELOW, 0.5))
        deviation = float(median - low)
        return float(median) + deviation * _best_of_normal(count, top_k), deviation

    def unit_vectors(self) -> Float[np.ndarray, "pictures dim"]:
        """The vectors at unit length."""
        pictures = self.vectors.astype(np.float32)
        pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
        return pictures

    def to_bytes(self) -> bytes:
        """The content of reference_pictures.safetensors."""
        tensors = {"vectors": self.vectors, "threshold": np.array(self.threshold, np.float32)}
        if self.multi_label:
            tensors[_MULTI_LABEL] = np.array(self.multi_label, np.float32)
        return safetensors.numpy.save(tensors)


def best_weights(references: int, count: int, top_k: int) -> Float[np.ndarray, "references"]:
    """The weights of values sorted in descending order whose weighted sum is the expected mean of the `top_k` greatest
    of `count` values drawn from them, with replacement (David and Nagaraja 2003, chapter 2).

    Of the j greatest values, min(top_k, draws among them) are expected to be among the `top_k` greatest drawn, and the
    draws among them are binomially distributed with probability j / references."""
    share, draws = np.arange(1, references + 1) / references, np.arange(top_k)[:, None]
    ways = np.cumsum(np.log(np.r_[1.0, (count - draws[:-1, 0]) / draws[1:, 0]]))[:, None]
    with np.errstate(divide="ignore"):  # the logarithm of zero, of a draw that misses all values
        exactly = np.exp(ways + draws * np.log(share) + (count - draws) * np.log1p(-share))
    among_best = top_k - ((top_k - draws) * exactly).sum(axis=0)
    return np.diff(among_best, prepend=0) / top_k


def _best_of_normal(count: int, top_k: int) -> float:
    """The mean that is expected of the `top_k` greatest of `count` standard normal numbers, to a few hundredths."""
    shares = (np.arange(_QUANTILES)[::-1] + 0.5) / _QUANTILES
    numbers = np.array([NormalDist().inv_cdf(share) for share in shares])
    return float(best_weights(_QUANTILES, count, top_k) @ numbers)


def parse(content: bytes, dim: int, source: str) -> ReferencePictures:
    """The content of a reference_pictures.safetensors. Raises CheckpointError if it is not one for `dim` dimensions."""
    try:
        tensors = dict(safetensors.deserialize(content))
        vectors, threshold = _array(tensors["vectors"], "I8"), _array(tensors["threshold"], "F32")
        logits = _array(tensors[_MULTI_LABEL], "F32") if _MULTI_LABEL in tensors else None
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(source, f"cannot be read ({error})") from error
    if vectors.ndim != 2 or vectors.shape[1] != dim or not MIN_PICTURES <= len(vectors) <= MAX_PICTURES:
        wanted = f"{MIN_PICTURES} to {MAX_PICTURES:,} vectors of {dim} dimensions"
        raise _damaged(source, f"has vectors of shape {vectors.shape}, wanted {wanted}")
    if not vectors.any(axis=1).all():
        raise _damaged(source, "has a vector that is zero")
    if threshold.shape or not np.isfinite(threshold):
        raise _damaged(source, "has no finite number as its threshold")
    if logits is not None and not (logits.shape == (2, 2) and np.isfinite(logits).all() and (logits[:, 0] > 0).all()):
        raise _damaged(source, f"has no two scales and biases as its {_MULTI_LABEL}")
    multi_label = None if logits is None else MultiLabel(*(Logit(*map(_short, each.tolist())) for each in logits))
    return ReferencePictures(vectors, _short(threshold.item()), multi_label)


def _short(number: float) -> float:
    """A float32 as it was written in decimals."""
    return float(f"{number:.6g}")


def _array(tensor: dict[str, Any], dtype: str) -> np.ndarray:
    """A tensor as an array. Raises ValueError for another `dtype`."""
    if tensor["dtype"] != dtype:
        raise ValueError(f"a tensor is {tensor['dtype']}, wanted {dtype}")
    kinds = {"I8": np.int8, "F32": np.dtype("<f4")}
    return np.frombuffer(tensor["data"], kinds[dtype]).reshape(tensor["shape"])


def _damaged(source: str, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{source}: its {REFERENCE_FILE} {problem}.",
        remedy="Fetch the model again, or remove the file: relevance is then judged without it.",
    )
