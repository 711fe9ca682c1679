"""Reference pictures: the vectors of many photographs, which say how near to the best pictures of a collection a text
is expected to come.

Texts of a model differ in this: "person" may come near no picture that shows one, and "tennis" near all that do. So the
mean cosine of a text with its `top_k` best of `count` pictures means little by itself. It is compared with the mean
cosine that is expected with the best `top_k` of as many pictures drawn at random from the reference pictures, in
standard deviations of the text's cosines with all of those.

The vectors lie in reference_pictures.safetensors of a model's folder, in 8 bits, with the least relevance z-score that
was chosen with them (see `diptych.index.search.relevance`, and `bench/relevance.py`, which makes the file).
"""

from __future__ import annotations

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


class ReferencePictures(NamedTuple):
    """The vectors of the pictures, each in its own scale, and the least relevance z-score of a text."""

    vectors: Int8[np.ndarray, "pictures dim"]
    threshold: float

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "pictures dim"], threshold: float) -> ReferencePictures:
        """Unit vectors in 8 bits. No vector may be zero."""
        scaled = vectors * (_INT8 / np.abs(vectors).max(axis=1, keepdims=True))
        return cls(np.rint(scaled).astype(np.int8), threshold)

    def expected(self, text: Float[np.ndarray, "dim"], count: int, top_k: int) -> tuple[float, float]:
        """The mean cosine that is expected of a text's unit vector with its best `top_k` of `count` pictures, and the
        standard deviation of its cosines with all reference pictures."""
        cosines = np.sort(self.unit_vectors() @ text)
        return float(cosines @ best_weights(len(cosines), count, top_k)[::-1]), float(cosines.std())

    def unit_vectors(self) -> Float[np.ndarray, "pictures dim"]:
        """The vectors at unit length."""
        pictures = self.vectors.astype(np.float32)
        pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
        return pictures

    def to_bytes(self) -> bytes:
        """The content of reference_pictures.safetensors."""
        return safetensors.numpy.save({"vectors": self.vectors, "threshold": np.array(self.threshold, np.float32)})


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


def parse(content: bytes, dim: int, source: str) -> ReferencePictures:
    """The content of a reference_pictures.safetensors. Raises CheckpointError if it is not one for `dim` dimensions."""
    try:
        tensors = dict(safetensors.deserialize(content))
        vectors, threshold = _array(tensors["vectors"], "I8"), _array(tensors["threshold"], "F32")
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(source, f"cannot be read ({error})") from error
    if vectors.ndim != 2 or vectors.shape[1] != dim or not MIN_PICTURES <= len(vectors) <= MAX_PICTURES:
        wanted = f"{MIN_PICTURES} to {MAX_PICTURES:,} vectors of {dim} dimensions"
        raise _damaged(source, f"has vectors of shape {vectors.shape}, wanted {wanted}")
    if not vectors.any(axis=1).all():
        raise _damaged(source, "has a vector that is zero")
    if threshold.shape or not np.isfinite(threshold):
        raise _damaged(source, "has no finite number as its threshold")
    return ReferencePictures(vectors, float(f"{threshold.item():.6g}"))


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
