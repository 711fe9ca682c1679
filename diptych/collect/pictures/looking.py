"""Looks at pairs: the rules on pictures and captions, the scores of models, and what is needed to find copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from diptych.collect.pairs import Pair
from diptych.collect.pictures.looks import Look, empty_grey
from diptych.collect.pictures.rules import PictureRules
from diptych.collect.pictures.safety import Classifier, Concept
from diptych.errors import ImageError
from diptych.failures import Failure
from diptych.media.images import open_image
from diptych.scoring.same_picture import GREY_PX

if TYPE_CHECKING:
    from diptych.embedder import Embedder

AGREEMENT = "agreement"  # the name of the cosine of a picture and the caption that fits it best
_BATCH = 32  # pairs
_LOOK_PX = 320  # shorter side, of what classifiers are given: NudeNet's own size


@dataclass(frozen=True)
class Looker:
    """Looks at pairs with some models. `usable` returns the captions of a pair that may be used, or a reason."""

    rules: PictureRules
    usable: Callable[[Pair], tuple[str, ...] | str]
    model: Embedder | None = None
    classifiers: Mapping[str, Classifier] = field(default_factory=dict)
    concepts: Sequence[Concept] = ()

    @property
    def score_names(self) -> list[str]:
        """The names of the scores, in the order of their columns."""
        concepts = [concept.name for concept in self.concepts]
        return [*([AGREEMENT] if self.model else []), *self.classifiers, *concepts]

    def look(
        self, read: Iterable[tuple[str, Pair | Failure]], *, on_pair: Callable[[Pair], None] | None = None
    ) -> Look:
        """See all pairs in order. `on_pair` is called for each one that was read."""
        seen = [each for batch in _batches(self._judged(read, on_pair)) for each in self._seen(batch)]
        dim, names = self.model.dim if self.model else 0, self.score_names
        return Look(
            [each.key for each in seen],
            [each.reason for each in seen],
            np.array([each.area for each in seen], np.int64),
            np.array([each.hash for each in seen], np.uint64),
            np.array([each.best for each in seen], np.int32),
            names,
            np.array([each.scores or [0.0] * len(names) for each in seen], np.float32).reshape(len(seen), len(names)),
            np.stack([each.grey for each in seen]) if seen else np.zeros((0, GREY_PX, GREY_PX), np.uint8),
            np.array([np.zeros(dim) if each.vector is None else each.vector for each in seen], np.float16).reshape(
                len(seen), dim
            ),
        )

    def _judged(
        self, read: Iterable[tuple[str, Pair | Failure]], on_pair: Callable[[Pair], None] | None
    ) -> Iterator[_Judged]:
        for key, pair in read:
            if isinstance(pair, Failure):
                yield _Judged(key, pair.reason)
                continue
            if on_pair:
                on_pair(pair)
            captions = self.usable(pair)
            if isinstance(captions, str):
                yield _Judged(key, captions)
                continue
            try:
                image = open_image(pair.picture.content, decode="fast", size_px=_LOOK_PX)
            except ImageError as error:
                yield _Judged(key, error.reason)
                continue
            refusal = self.rules.refusal_by_pixels(image)
            area = pair.picture.original_width * pair.picture.original_height
            yield _Judged(key, refusal[0] if refusal else "", pair, captions, image, area)

    def _seen(self, batch: Sequence[_Judged]) -> Iterator[_Seen]:
        kept = [each for each in batch if not each.reason]
        images = [each.image for each in kept if each.image]
        vectors, columns, bests = None, list[Sequence[float]](), [0] * len(kept)
        if self.model is not None and kept:
            vectors = self.model.embed_images(images, decode="fast")
            agreements, bests = self._agreements(vectors, [each.captions for each in kept])
            columns.append(agreements)
        columns += [classifier.scores(images) for classifier in self.classifiers.values()]
        if self.model is not None and vectors is not None and self.concepts:
            texts = self.model.embed_texts([concept.text for concept in self.concepts], truncate=True)
            columns += list((vectors @ texts.T).T)
        number = 0
        for each in batch:
            if each.reason or each.pair is None or each.image is None:
                yield _Seen(each.key, each.reason, 0, 0, 0, [], empty_grey(), None)
                continue
            scores = [float(column[number]) for column in columns]
            vector = None if vectors is None else vectors[number]
            digest = each.pair.picture.perceptual_hash
            yield _Seen(each.key, "", each.area, digest, bests[number], scores, small_grey(each.image), vector)
            number += 1

    def _agreements(self, vectors: np.ndarray, captions: Sequence[tuple[str, ...]]) -> tuple[list[float], list[int]]:
        """For each picture the cosine of the caption that fits best, and its number."""
        assert self.model is not None
        texts = self.model.embed_texts([caption for several in captions for caption in several], truncate=True)
        found, best, start = [], [], 0
        for vector, several in zip(vectors, captions, strict=True):
            cosines = texts[start : start + len(several)] @ vector
            start += len(several)
            best.append(int(cosines.argmax()))
            found.append(float(cosines.max()))
        return found, best


class _Judged(NamedTuple):
    key: str
    reason: str
    pair: Pair | None = None
    captions: tuple[str, ...] = ()
    image: Image.Image | None = None
    area: int = 0


class _Seen(NamedTuple):
    key: str
    reason: str
    area: int
    hash: int
    best: int
    scores: list[float]
    grey: np.ndarray
    vector: np.ndarray | None


def small_grey(image: Image.Image) -> np.ndarray:
    """The whole picture in GREY_PX x GREY_PX grey pixels, by which copies are told."""
    return np.asarray(image.convert("L").resize((GREY_PX, GREY_PX), Image.Resampling.BOX))


def _batches(judged: Iterable[_Judged]) -> Iterator[list[_Judged]]:
    judged = iter(judged)
    while batch := list(islice(judged, _BATCH)):
        yield batch
