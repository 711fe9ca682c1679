"""Queries: weighted texts, pictures and vectors, combined into one unit vector."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from diptych.errors import QueryError
from diptych.index.search.ranking import MIN_SAMPLE
from diptych.media.pixels.arrays import as_array, is_array
from diptych.media.scanning.suffixes import RAW_SUFFIXES
from diptych.text.known_words import content_words

if TYPE_CHECKING:
    from jaxtyping import Float

    from diptych.media.images import Source
    from diptych.media.preprocessing import Preprocess
    from diptych.text.known_words import KnownWords

QueryInput: TypeAlias = "Query | Source | tuple[Term, ...]"
TermKind = Literal["text", "picture", "vector"]
# A sum that is shorter, relative to the weights, is a rounding error of terms that cancel out.
_LEAST_LENGTH = 1e-3
# A copy of a term's picture, or another size of it, says nothing of how far apart the items of a sample are. It would
# widen the spread in a sample of twenty by six tenths.
_SAME = 0.92
_LEAST_SPREAD = 1e-6


class EmbeddingModel(Protocol):
    """The part of a model that a query needs; `diptych.Embedder` has it."""

    @property
    def dim(self) -> int: ...

    @property
    def preprocessing(self) -> Preprocess: ...

    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray: ...

    def embed_images(self, images: Sequence[Source], *, decode: Literal["fast"]) -> np.ndarray: ...


class Term(NamedTuple):
    """A part of a query, subtracted if `weight` is negative. `value` is a sentence, a picture (anything that
    `diptych.media.images.open_image` takes, or the path of a RAW file), or a vector (dim,)."""

    kind: TermKind
    value: Source
    weight: float = 1.0


class UnseenWords(NamedTuple):
    """The words of a query that the model's training never saw, and whether these are `all` of its content words and
    it has no picture or vector."""

    words: tuple[str, ...] = ()
    all: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Query:
    """A weighted sum of terms: `Query("a dog") + 0.5 * Query.image("a.jpg") - "snow"`.

    `Query(thing)` is `Query.of(thing)`: a str is a text, floats (dim,) are a vector, anything else is a picture. Terms
    are normalised before they are weighted, and the sum is normalised again, so that a score is a cosine; only the
    ratios of the weights matter. Where texts, pictures and vectors are mixed, see `standardised`.
    """

    terms: tuple[Term, ...]

    def __init__(self, thing: QueryInput) -> None:
        is_terms = isinstance(thing, tuple) and all(isinstance(term, Term) for term in thing)
        object.__setattr__(self, "terms", thing if is_terms else _terms(thing))

    @classmethod
    def text(cls, text: str) -> Query:
        """A sentence."""
        return cls((Term("text", text),))

    @classmethod
    def image(cls, image: Source) -> Query:
        """A picture: a path, the bytes of a file, a PIL image, an (h, w, 3) uint8 array, or a URL."""
        return cls((Term("picture", image),))

    @classmethod
    def vector(cls, vector: Float[np.ndarray, "dim"] | Sequence[float]) -> Query:
        """A vector in the model's space, (dim,), of any length but 0."""
        return cls((Term("vector", np.asarray(vector, np.float64)),))

    @classmethod
    def of(cls, thing: object) -> Query:
        """A query from any object: a str is a text, floats are a vector, anything else is a picture."""
        return thing if isinstance(thing, Query) else cls(thing)  # type: ignore[arg-type]

    def __add__(self, other: Query | str) -> Query:
        return Query(self.terms + Query(other).terms) if isinstance(other, Query | str) else NotImplemented

    def __radd__(self, other: str) -> Query:
        return Query(other) + self if isinstance(other, str) else NotImplemented

    def __sub__(self, other: Query | str) -> Query:
        return self + -Query(other) if isinstance(other, Query | str) else NotImplemented

    def __rsub__(self, other: str) -> Query:
        return Query(other) - self if isinstance(other, str) else NotImplemented

    def __mul__(self, weight: float) -> Query:
        if not isinstance(weight, int | float | np.number):
            return NotImplemented
        return Query(tuple(term._replace(weight=term.weight * float(weight)) for term in self.terms))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Query:
        return self * (1 / divisor)

    def __neg__(self) -> Query:
        return self * -1

    def __repr__(self) -> str:
        first, *rest = (_term_text(term) for term in self.terms) if self.terms else ("Query(())",)
        parts = [f"- {part[1:]}" if part.startswith("-") else f"+ {part}" for part in rest]
        return " ".join([first, *parts])

    def embed(self, model: EmbeddingModel, *, truncate: bool = False) -> Float[np.ndarray, "dim"]:
        """The query as one unit vector, float32. Terms of several kinds are `standardised` by the model's reference
        pictures, if it has any. Raises QueryError, and what `embed_texts` and `embed_images` raise."""
        vectors = self.term_vectors(model, truncate=truncate)
        return self.standardised(vectors, reference_sample(self, model)).combined(vectors)

    def term_vectors(self, model: EmbeddingModel, *, truncate: bool = False) -> Float[np.ndarray, "terms dim"]:
        """The unit vector of each term, without its weight, in their order."""
        self._check()
        vectors = np.empty((len(self.terms), model.dim), np.float32)
        texts, pictures = (self._positions(kind) for kind in ("text", "picture"))
        if texts:
            words = [str(self.terms[position].value) for position in texts]
            vectors[texts] = model.embed_texts(words, truncate=truncate)
        if pictures:
            vectors[pictures] = model.embed_images(
                [_picture(self.terms[position].value, model) for position in pictures], decode="fast"
            )
        for position in self._positions("vector"):
            vectors[position] = _unit_vector(self.terms[position].value, model.dim)
        return vectors

    def combined(self, vectors: Float[np.ndarray, "terms *more dim"]) -> Float[np.ndarray, "*more dim"]:
        """The weighted sum of the terms' unit vectors, normalised. Raises QueryError if it is zero."""
        weights = np.array([term.weight for term in self.terms], np.float32)
        total = np.tensordot(weights, vectors, axes=1)
        lengths = np.linalg.norm(total, axis=-1, keepdims=True)
        if (lengths < _LEAST_LENGTH * np.abs(weights).sum()).any():
            raise QueryError(f"{self!r}: the terms cancel out, so there is nothing to search for. Change a weight.")
        return (total / lengths).astype(np.float32)

    def standardised(self, vectors: Float[np.ndarray, "terms dim"], sample: Float[np.ndarray, "items dim"]) -> Query:
        """The query for `combined` whose weights count alike for each kind of term.

        Cosines of a picture with pictures are spread several times as widely as those of a text with pictures: in a
        plain sum the words would hardly count. So a weight is divided by the spread of its kind: the standard deviation
        of the cosines with the items of a sample, of several terms of the kind its root mean square. Items that are
        copies of a term do not count. A query of one kind of terms stays as it is, and so does one without MIN_SAMPLE
        items to measure by, or without spread."""
        if not self.is_mixed or not len(sample):
            return self
        cosines = sample @ vectors.T
        cosines = cosines[(cosines < _SAME).all(axis=1)]
        if len(cosines) < MIN_SAMPLE:
            return self
        variances = cosines.var(axis=0, dtype=np.float64)
        spread = {kind: float(np.sqrt(variances[self._positions(kind)].mean())) for kind in self._kinds}
        if min(spread.values()) < _LEAST_SPREAD:
            return self
        first = spread[self.terms[0].kind]  # the first term's weight stays, for the messages
        return Query(tuple(term._replace(weight=term.weight * first / spread[term.kind]) for term in self.terms))

    def unseen_words(self, known: KnownWords) -> UnseenWords:
        """The content words of the texts that a model does not know."""
        texts = [str(self.terms[position].value) for position in self._positions("text")]
        words = dict.fromkeys(word for text in texts for word in content_words(text))
        unseen = tuple(word for word in words if not known.knows(word))
        return UnseenWords(unseen, self.is_text and 0 < len(unseen) == len(words))

    @property
    def is_text(self) -> bool:
        """Whether all terms are texts."""
        return all(term.kind == "text" for term in self.terms)

    @property
    def is_mixed(self) -> bool:
        """Whether there are terms of several kinds: texts, pictures and vectors."""
        return len(self._kinds) > 1

    @property
    def _kinds(self) -> set[TermKind]:
        return {term.kind for term in self.terms}

    def _positions(self, kind: TermKind) -> list[int]:
        return [position for position, term in enumerate(self.terms) if term.kind == kind]

    def _check(self) -> None:
        if not self.terms:
            raise QueryError("the query has no terms; wanted a text, a picture or a vector.")
        for term in self.terms:
            if not math.isfinite(term.weight) or term.weight == 0:
                raise QueryError(f"a weight is {term.weight:g}; wanted a number other than 0; or leave the term out.")


def reference_sample(query: Query, model: EmbeddingModel) -> Float[np.ndarray, "pictures dim"]:
    """The model's reference pictures as a sample for `Query.standardised`; none if it has none, or for a query of one
    kind of terms, which needs no sample. Raises CheckpointError where their file is damaged."""
    reference = getattr(model, "reference_pictures", None) if query.is_mixed else None
    return reference.unit_vectors() if reference else np.empty((0, model.dim), np.float32)


def _terms(thing: Any) -> tuple[Term, ...]:
    if isinstance(thing, Query):
        return thing.terms
    if isinstance(thing, str):
        return (Term("text", thing),)
    if thing is None or isinstance(thing, int | float | list | dict):
        raise QueryError(f"the query is {str(thing)[:40]!r}; wanted a text, a picture, a vector, or a sum of queries.")
    if is_array(thing) and thing.ndim == 1 and (numbers := as_array(thing)).dtype.kind == "f":
        return (Term("vector", numbers),)
    return (Term("picture", thing),)


def _picture(value: Any, model: EmbeddingModel) -> Any:
    """A picture as `embed_images` takes it; for a RAW file its preview, as an index reads it."""
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        if path.lower().endswith(RAW_SUFFIXES) and os.path.isfile(path):
            from diptych.media.content.photographs import LARGEST_PICTURE, read_photograph

            with open(path, "rb") as file:
                return read_photograph(file.read(LARGEST_PICTURE), path, model.preprocessing).pixels
    return value


def _unit_vector(vector: Any, dim: int) -> np.ndarray:
    if vector.shape != (dim,):
        raise QueryError(f"a vector has the shape {vector.shape}; this index has vectors of shape ({dim},).")
    exact = np.asarray(vector, np.float64)
    largest = float(np.abs(exact).max(initial=0.0))
    if not math.isfinite(largest) or largest == 0:
        raise QueryError(f"a vector has the length {largest:g}; wanted finite numbers that are not all 0.")
    exact = exact / largest  # whose squares are numbers, however large or small it was
    return (exact / np.linalg.norm(exact)).astype(np.float32)


def _term_text(term: Term) -> str:
    """A term as Python code."""
    if term.kind == "text":
        inner = f"text({term.value!r})"
    elif term.kind == "vector":
        inner = f"vector(<{np.size(term.value)} numbers>)"  # type: ignore[arg-type]
    elif isinstance(term.value, str | os.PathLike):
        inner = f"image({os.fspath(term.value)!r})"
    else:
        inner = f"image(<{type(term.value).__name__}>)"
    sign, size = "-" if term.weight < 0 else "", abs(term.weight)
    return f"{sign}{'' if size == 1 else f'{size:g} * '}Query.{inner}"
