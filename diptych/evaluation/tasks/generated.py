"""Generated pictures: their agreement with their prompts (CLIP score), and their likeness to true pictures (CMMD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.data.samples import count
from diptych.display.plots import shortened
from diptych.errors import DataError
from diptych.evaluation.tasks.features import EmbeddedPictures
from diptych.evaluation.tasks.job import EXAMPLES, EvaluationJob, Example, TaskResult
from diptych.evaluation.tasks.retrieval import captions_of
from diptych.scoring import generated

if TYPE_CHECKING:
    from jaxtyping import Float, Int

SHOWN = 120  # characters of a prompt under an example


def clip_score_task(job: EvaluationJob) -> TaskResult:
    """CLIPScore of each picture with its first caption, the prompt, and RefCLIPScore with its other captions as
    references (Hessel et al. 2021, section 3), both times 100; and the CLIPScore with the next prompt instead, which a
    generator that ignores its words reaches as well."""
    pairs, seen = job.pairs, job.embed(job.pairs)
    failures = seen.reasons()
    captions, image_index = captions_of(pairs, seen, failures)
    texts = job.model.try_embed_texts(captions, truncate=True)
    for failure in texts.failures.values():
        count(failures, f"caption: {failure.reason}")
    rows, first = np.unique(image_index, return_index=True)
    row_of_caption = {int(key): row for row, key in enumerate(texts.keys)}
    readable = np.array([int(at) in row_of_caption for at in first], dtype=bool)
    rows, first = rows[readable], first[readable]
    if not len(rows):
        raise DataError("the set has no picture with a prompt that can be read.")
    images, prompts = seen.vectors[rows], texts.vectors[[row_of_caption[int(at)] for at in first]]
    words = [captions[at] for at in first]
    scores = generated.clip_scores(images, prompts)
    result = TaskResult({"clip_score": 100 * float(scores.mean())}, len(rows), failures)
    result.per_item = {"places": seen.indices[rows], "clip_score_right": scores.astype(np.float32)}
    references = _references(rows, first, image_index, row_of_caption)
    if references is not None:
        kept, text_index = references
        own = generated.reference_clip_scores(images, prompts, texts.vectors[kept], text_index)
        result.metrics["reference_clip_score"] = 100 * float(np.nanmean(own))
        result.details["with_references"] = int(np.isfinite(own).sum())
    if (other := _next_prompts(words)) is not None:
        scores_of_others = generated.clip_scores(images, prompts[other])
        result.metrics["clip_score_other_prompts"] = 100 * float(scores_of_others.mean())
    result.details["cut"] = job.model.tokenize(words, truncate=True).truncated
    result.best, result.worst = _examples(seen, rows, prompts, words, scores)
    return result


def cmmd_task(job: EvaluationJob) -> TaskResult:
    """CMMD of the pictures and the reference pictures (Jayasumana et al. 2024, section 4), unbiased as in the paper,
    and biased as in its authors' code."""
    if job.reference is None:
        raise DataError('cmmd compares with true pictures; set reference = "FOLDER" in the suite\'s [[dataset]].')
    seen, true = job.embed(job.data), job.embed(job.reference[1])
    if min(len(seen.vectors), len(true.vectors)) < 2:
        raise DataError("cmmd compares two sets of two pictures or more.")
    values = {
        "cmmd": generated.cmmd(seen.vectors, true.vectors),
        "cmmd_biased": generated.cmmd(seen.vectors, true.vectors, biased=True),
    }
    failures = seen.reasons()
    for reason, times in true.reasons().items():
        count(failures, f"reference: {reason}", times)
    result = TaskResult(values, len(seen.vectors), failures)
    result.details["references"] = len(true.vectors)
    result.per_item = {"places": seen.indices}
    return result


def cmmd_settings(job: EvaluationJob) -> dict[str, Any]:
    """The reference set, by its source and its contents."""
    if job.reference is None:
        return {"reference": None}
    source, data = job.reference
    return {"reference": source, "reference_identity": data.pictures.identity}


def _references(
    rows: Int[np.ndarray, " n"], first: Int[np.ndarray, " n"], image_index: np.ndarray, row_of_caption: dict[int, int]
) -> tuple[list[int], Int[np.ndarray, " m"]] | None:
    """The rows of the texts' vectors that are references, and the picture of each, by its position in `rows`; None if
    there are none."""
    picture_of = {int(row): at for at, row in enumerate(rows)}
    own = set(first.tolist())
    found = [
        (row_of_caption[at], picture_of[int(row)])
        for at, row in enumerate(image_index)
        if at not in own and at in row_of_caption and int(row) in picture_of
    ]
    if not found:
        return None
    kept, text_index = zip(*found, strict=True)
    return list(kept), np.array(text_index, np.int64)


def _next_prompts(words: Sequence[str]) -> Int[np.ndarray, " n"] | None:
    """For each picture, a row that has the next of the distinct prompts; None if there is only one."""
    first = {text: at for at, text in reversed(list(enumerate(words)))}
    distinct = list(dict.fromkeys(words))
    if len(distinct) < 2:
        return None
    following = dict(zip(distinct, [*distinct[1:], distinct[0]], strict=True))
    return np.array([first[following[text]] for text in words], np.int64)


def _examples(
    seen: EmbeddedPictures,
    rows: Int[np.ndarray, " n"],
    prompts: Float[np.ndarray, "n dim"],
    words: Sequence[str],
    scores: Float[np.ndarray, " n"],
) -> tuple[list[Example], list[Example]]:
    """The pictures with the highest and the lowest scores, each with its prompt and the prompt that fits it best."""
    order = np.argsort(-scores, kind="stable")

    def example(at: int) -> Example:
        nearest = int((prompts @ seen.vectors[rows[at]]).argmax())
        said = words[at] if np.array_equal(prompts[nearest], prompts[at]) else words[nearest]
        index, score = int(seen.indices[rows[at]]), float(scores[at])
        return Example(index, shortened(words[at], SHOWN), shortened(said, SHOWN), score)

    return [example(at) for at in order[:EXAMPLES]], [example(at) for at in order[::-1][:EXAMPLES]]
