"""Retrieval: captions find their picture, and pictures their captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.data.samples import DataError, count
from diptych.display.plots import shortened
from diptych.evaluation.sets.dataset import Pairs
from diptych.evaluation.tasks.features import Seen
from diptych.evaluation.tasks.job import EXAMPLES, Example, Job, Outcome
from diptych.scoring import metrics

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def retrieval_task(job: Job) -> Outcome:
    """Captions find their picture and pictures their captions (Karpathy and Fei-Fei 2015, section 4.2)."""
    pairs, seen = job.pairs, job.seen(job.pairs)
    failures = seen.reasons()
    captions, owners = _captions(pairs, seen, failures)
    texts = job.model.embed_readable_texts(captions, truncate=True)
    for failure in texts.failures.values():
        count(failures, f"caption: {failure.reason}")
    owners = owners[texts.keys]
    if not len(owners):
        raise DataError("the set has no caption that can be read.")
    ways, above = _both_ways(seen.vectors, texts.vectors, owners)
    result = Outcome(_ranking_metrics(ways), len(seen.places), failures)
    result.details = {
        "captions": len(owners),
        "cut": job.model.tokenize([captions[at] for at in texts.keys], truncate=True).cut,
    }
    result.per_item = {
        "places": seen.places[np.unique(owners)],
        "text_places": seen.places[owners],
        **{
            f"{way}{among}_right": (better < k).astype(np.float32)
            for way, better in zip(("text_to_image", "image_to_text"), above, strict=True)
            for k, among in ((1, ""), (5, "_r5"), (10, "_r10"))
        },
    }
    kept = [captions[at] for at in texts.keys]
    result.best, result.worst = _caption_examples(seen, texts.vectors, owners, kept)
    return result


def _captions(pairs: Pairs, seen: Seen, failures: dict[str, int]) -> tuple[list[str], np.ndarray]:
    """All captions of the pictures that were seen, with the row of each one's picture."""
    captions: list[str] = []
    owners: list[int] = []
    for row, place in enumerate(seen.places):
        try:
            own = pairs.captions(int(place))
        except (DataError, OSError) as error:
            count(failures, f"caption: {getattr(error, 'reason', type(error).__name__)}")
            continue
        captions += own
        owners += [row] * len(own)
    return captions, np.array(owners, np.int64)


def _both_ways(
    images: Float[np.ndarray, "n dim"], texts: Float[np.ndarray, "m dim"], owners: Int[np.ndarray, " m"]
) -> tuple[metrics.Rankings, tuple[np.ndarray, np.ndarray]]:
    """`metrics.rankings`, and for each text and each picture that has one how many wrong answers are before its first
    right one."""
    numbers = np.arange(len(texts))
    to_image = metrics.above(texts, images, numbers, owners)
    order = np.argsort(owners, kind="stable")
    to_text = metrics.above(images, texts, owners[order], order)
    ways = metrics.Rankings(metrics.ranking(numbers, to_image), metrics.ranking(owners[order], to_text))
    starts = np.flatnonzero(np.r_[True, np.diff(owners[order]) > 0])
    first = np.minimum.reduceat(to_text, starts)
    return ways, (to_image, first)


def _ranking_metrics(ways: metrics.Rankings) -> dict[str, float]:
    said = {}
    for way, ranking in ways._asdict().items():
        said |= {f"{way}_r{k}": value for k, value in zip((1, 5, 10), ranking.recall, strict=True)}
        said[f"{way}_median_rank"] = ranking.median_rank
        said[f"{way}_map"] = ranking.mean_average_precision
    return said


def _caption_examples(
    seen: Seen, texts: Float[np.ndarray, "m dim"], owners: Int[np.ndarray, " m"], captions: list[str]
) -> tuple[list[Example], list[Example]]:
    """Pictures by how far the best of their own captions is before, or behind, the best of all others."""
    margins, said, score = np.full(len(seen.places), np.nan), np.zeros(len(seen.places), np.int64), {}
    for row in np.unique(owners):
        cosines, own = texts @ seen.vectors[row], owners == row
        said[row], score[row] = cosines.argmax(), float(cosines.max())
        margins[row] = cosines[own].max() - (cosines[~own].max() if not own.all() else 0)
    order = np.argsort(-margins, kind="stable")[: np.isfinite(margins).sum()]
    first = {int(row): at for at, row in reversed(list(enumerate(owners)))}

    def told(rows: np.ndarray) -> list[Example]:
        shown = [(row, shortened(captions[first[row]], 120), shortened(captions[said[row]], 120)) for row in rows]
        return [Example(int(seen.places[row]), truth, words, score[row]) for row, truth, words in shown]

    return told(order[:EXAMPLES]), told(order[::-1][:EXAMPLES])
