"""Whether generated pictures show what their captions say, by the pixels: for captions of plain scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.data.loading.decoding import failure_of
from diptych.data.samples import count
from diptych.errors import DataError, ImageError
from diptych.evaluation.tasks.job import DECODE, EXAMPLES, EvaluationJob, Example, TaskResult
from diptych.media.images import open_image
from diptych.scenes.captions import article
from diptych.scenes.checking import Check, accuracy, compare, controls, things_in
from diptych.scenes.plain import Described, middle, plain_scenes
from diptych.scenes.reading import described_in
from diptych.scenes.scene import Thing

MOST_PX, LEAST_PX = 64, 24  # the side at which pictures are judged
_CONTROLS = 200  # true scenes that are judged too


class _Seen(NamedTuple):
    """A picture by its index, what its caption says, the things in it, and its side as judged."""

    index: int
    said: Described
    things: list[Thing]
    size_px: int


def scene_attributes_task(job: EvaluationJob) -> TaskResult:
    """The shares of pictures with the things, the relation, the colours and the shapes that their first captions name,
    read by `diptych.scenes.checking`, and the things with the next picture's caption instead. For comparison, what the
    same checker says of true scenes with their own captions and with the next one's."""
    result = TaskResult({}, 0)
    seen = _all_seen(job, result.failures)
    if not seen:
        raise DataError(
            "the set has no picture with a caption of a plain scene, such as 'a red circle above a small blue star'."
        )
    checks = [compare(each.things, each.said) for each in seen]
    nexts = [compare(each.things, other.said) for each, other in zip(seen, [*seen[1:], seen[0]], strict=True)]
    result.count, result.metrics = len(seen), _metrics(checks, nexts, max(each.size_px for each in seen), len(seen))
    result.per_item = {
        "places": np.array([each.index for each in seen]),
        "things_right": np.array([each.things for each in checks], np.float32),
        "colours_right": np.array([each.colours for each in checks], np.float32),
        "kinds_right": np.array([each.kinds for each in checks], np.float32),
    }
    examples = [_example(each, check) for each, check in zip(seen, checks, strict=True)]
    result.best = [example for example, check in zip(examples, checks, strict=True) if _is_right(check)][:EXAMPLES]
    result.worst = [example for example, check in zip(examples, checks, strict=True) if not _is_right(check)][:EXAMPLES]
    return result


def _all_seen(job: EvaluationJob, failures: dict[str, int]) -> list[_Seen]:
    pairs, seen = job.pairs, list[_Seen]()
    for index, key in enumerate(pairs.pictures.keys):
        try:
            seen.append(_seen(index, pairs.captions(index)[0], pairs.pictures.read(index)))
        except (ImageError, DataError, OSError) as error:
            failure = failure_of(key, error)[1]
            count(failures, failure.reason)
            job.left_out.setdefault(failure.reason, failure.message)
        job.progress(index + 1, len(pairs.pictures))
    return seen


def _seen(index: int, caption: str, source: object) -> _Seen:
    said = described_in(caption)
    if said is None:
        raise DataError(f"{caption!r:.100} is no caption of a plain scene", reason="no caption of a plain scene")
    image = open_image(source, decode=DECODE)  # type: ignore[arg-type]
    if image.width != image.height or image.width < LEAST_PX:
        raise DataError(
            f"{image.width} x {image.height} px; wanted a square of {LEAST_PX} or more",
            reason="not square, or too small",
        )
    if image.width > MOST_PX:
        image = image.resize((MOST_PX, MOST_PX), Image.Resampling.BOX)
    return _Seen(index, said, things_in(image), image.width)


def _metrics(checks: Sequence[Check], nexts: Sequence[Check], size_px: int, pictures: int) -> dict[str, float]:
    own, other = accuracy(checks), accuracy(nexts)
    true = controls(list(plain_scenes(min(_CONTROLS, max(2, pictures)), size_px=size_px, split="test")))
    shares = {
        **own, "things_next_caption": other["things"], "true_scenes_things": true.own["things"],
        "true_scenes_relation": true.own["relation"], "true_scenes_next_caption": true.swapped["things"],
    }  # fmt: skip
    if all(check.relation is None for check in checks):
        del shares["relation"]
    return {name: 100 * share for name, share in shares.items()}


def _is_right(check: Check) -> bool:
    return check.things and check.relation is not False


def _example(seen: _Seen, check: Check) -> Example:
    said = seen.said.caption
    return Example(seen.index, said, said if _is_right(check) else spoken(seen.things), float("nan"))


def spoken(things: Sequence[Thing]) -> str:
    """What was found in a picture, in words, from the left."""
    ordered = sorted(things, key=lambda thing: middle(thing))
    return ", ".join(article(f"{thing.colour} {thing.kind}") for thing in ordered) or "nothing"
