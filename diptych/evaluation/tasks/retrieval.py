"""Retrieval: the rank of each caption's picture, and of each picture's captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.data.samples import count
from diptych.display.plots import shortened
from diptych.errors import DataError
from diptych.evaluation.sets.dataset import CaptionedDataset
from diptych.evaluation.tasks.features import EmbeddedPictures
from diptych.evaluation.tasks.job import EXAMPLES, EvaluationJob, Example, TaskResult
from diptych.scoring import metrics

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def retrieval_task(job: EvaluationJob) -> TaskResult:
    """Pictures ranked for each caption, and captions for each picture (Karpathy and Fei-Fei 2015, section 4.2)."""
    pairs, seen = job.pairs, job.embed(job.pairs)
    failures = seen.reasons()
    captions, image_index = captions_of(pairs, seen, failures)
    texts = job.model.try_embed_texts(captions, truncate=True)
    for failure in texts.failures.values():
        count(failures, f"caption: {failure.reason}")
    image_index = image_index[texts.keys]
    if not len(image_index):
        raise DataError("the set has no caption that can be read.")
    ways, above = _both_ways(seen.vectors, texts.vectors, image_index)
    result = TaskResult(_ranking_metrics(ways), len(seen.indices), failures)
    result.details = {
        "captions": len(image_index),
        "cut": job.model.tokenize([captions[at] for at in texts.keys], truncate=True).truncated,
    }
    result.per_item = {
        "places": seen.indices[np.unique(image_index)],
        "text_places": seen.indices[image_index],
        **{
            f"{way}{among}_right": (better < k).astype(np.float32)
            for way, better in zip(("text_to_image", "image_to_text"), above, strict=True)
            for k, among in ((1, ""), (5, "_r5"), (10, "_r10"))
        },
    }
    kept = [captions[at] for at in texts.keys]
    result.best, result.worst = _caption_examples(seen, texts.vectors, image_index, kept)
    return result


def captions_of(
    pairs: CaptionedDataset, seen: EmbeddedPictures, failures: dict[str, int]
) -> tuple[list[str], np.ndarray]:
    """All captions of the embedded pictures, and the row of each caption's picture."""
    captions: list[str] = []
    image_index: list[int] = []
    for row, index in enumerate(seen.indices):
        try:
            own = pairs.captions(int(index))
        except (DataError, OSError) as error:
            count(failures, f"caption: {getattr(error, 'reason', type(error).__name__)}")
            continue
        captions += own
        image_index += [row] * len(own)
    return captions, np.array(image_index, np.int64)


def _both_ways(
    images: Float[np.ndarray, "n dim"], texts: Float[np.ndarray, "m dim"], image_index: Int[np.ndarray, " m"]
) -> tuple[metrics.Rankings, tuple[np.ndarray, np.ndarray]]:
    """`metrics.rankings`, and for each text and each picture with a text the number of wrong results before the first
    correct one."""
    numbers = np.arange(len(texts))
    to_image = metrics.above(texts, images, numbers, image_index)
    order = np.argsort(image_index, kind="stable")
    to_text = metrics.above(images, texts, image_index[order], order)
    ways = metrics.Rankings(metrics.ranking(numbers, to_image), metrics.ranking(image_index[order], to_text))
    starts = np.flatnonzero(np.r_[True, np.diff(image_index[order]) > 0])
    first = np.minimum.reduceat(to_text, starts)
    return ways, (to_image, first)


def _ranking_metrics(ways: metrics.Rankings) -> dict[str, float]:
    measured = {}
    for way, ranking in ways._asdict().items():
        measured |= {f"{way}_r{k}": value for k, value in zip((1, 5, 10), ranking.recall, strict=True)}
        measured[f"{way}_median_rank"] = ranking.median_rank
        measured[f"{way}_map"] = ranking.mean_average_precision
    return measured


def _caption_examples(
    seen: EmbeddedPictures, texts: Float[np.ndarray, "m dim"], image_index: Int[np.ndarray, " m"], captions: list[str]
) -> tuple[list[Example], list[Example]]:
    """Pictures by the margin of the best of their own captions over the best of all others."""
    margins, predicted, score = np.full(len(seen.indices), np.nan), np.zeros(len(seen.indices), np.int64), {}
    for row in np.unique(image_index):
        cosines, own = texts @ seen.vectors[row], image_index == row
        predicted[row], score[row] = cosines.argmax(), float(cosines.max())
        margins[row] = cosines[own].max() - (cosines[~own].max() if not own.all() else 0)
    order = np.argsort(-margins, kind="stable")[: np.isfinite(margins).sum()]
    first = {int(row): at for at, row in reversed(list(enumerate(image_index)))}

    def examples(rows: np.ndarray) -> list[Example]:
        shown = [(row, shortened(captions[first[row]], 120), shortened(captions[predicted[row]], 120)) for row in rows]
        return [Example(int(seen.indices[row]), truth, words, score[row]) for row, truth, words in shown]

    return examples(order[:EXAMPLES]), examples(order[::-1][:EXAMPLES])
