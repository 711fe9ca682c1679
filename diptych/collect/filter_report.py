"""What filtering left out, for people: counts, and some pictures and captions of each reason."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.collect.captions.personal import masked
from diptych.collect.captions.report.page import Part, PictureExample, write_report
from diptych.collect.captions.report.removed import Removed
from diptych.collect.captions.rules import RULES as CAPTION_RULES
from diptych.collect.pairs import Pair
from diptych.collect.pictures.deciding import DECIDING_RULES, Decisions
from diptych.collect.pictures.looks import Looks
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules
from diptych.collect.reading import read_shard
from diptych.errors import ImageError
from diptych.media.images import open_image

RULES = {**CAPTION_RULES, **PICTURE_RULES, **DECIDING_RULES}
FORGOTTEN = "forgotten"
_SHOWN = 6  # pictures of each reason
_THUMBNAIL_PX, _BLURRED_POINTS, _QUALITY = 128, 5, 75
_MOST_CHARACTERS = 100
_ALL = PictureRules(disabled=tuple(PICTURE_RULES))


class FilterResult(NamedTuple):
    """The numbers of pairs that came, that were kept, that were left out by reason, and that were flagged by name;
    the least agreement, if one was asked for. `removed` has no entry of 0."""

    out: Path
    seen: int
    kept: int
    removed: dict[str, int]
    flagged: dict[str, int]
    least_agreement: float | None


def write_filter_report(
    result: FilterResult, paths: Sequence[Path], looks: Looks, decisions: Decisions, sets: int,
    flags: Sequence[tuple[str, ...]], *, judges_safety: bool,
) -> None:  # fmt: skip
    """Write OUT/report.html and OUT/report.json. Pictures that have flags are shown as a few blurred colours, under
    whatever reason they were left out, and so are, with `judges_safety`, those that were left out before they were
    judged; those that were asked to be forgotten are not shown at all. `flags` are by row."""
    unjudged = np.array([bool(reason) and judges_safety for look in looks for reason in look.reasons], bool)
    removed, pictures = Removed(), dict[str, list[PictureExample]]()
    for row, pair in _examples(paths, looks, decisions, sets):
        reason = decisions.reasons[decisions.codes[row]]
        caption = masked(pair.captions[0].text)[:_MOST_CHARACTERS] if pair.captions else ""
        removed.add(caption, reason)
        if example := _example(pair, caption, is_blurred=bool(flags[row] or unjudged[row])):
            pictures.setdefault(reason, []).append(example)
    removed.seen, removed.counts = result.seen, Counter(result.removed)
    write_report(result.out, {"Pairs": Part(removed, RULES, pictures)})


def _examples(paths: Sequence[Path], looks: Looks, decisions: Decisions, sets: int) -> Iterator[tuple[int, Pair]]:
    """The first pairs of each reason, with their rows."""
    first = int(looks.starts[sets])
    shown = np.zeros(looks.rows, bool)
    for code, reason in enumerate(decisions.reasons):
        if code and reason != FORGOTTEN:
            shown[first + np.flatnonzero(decisions.codes[first:] == code)[:_SHOWN]] = True
    for number, path in enumerate(paths):
        start, stop = looks.starts[sets + number], looks.starts[sets + number + 1]
        if shown[start:stop].any():
            rows = np.flatnonzero(shown[start:stop])
            read = read_shard(path, size=None, rules=_ALL, skipped=~shown[start:stop])
            for at, (_, pair) in zip(rows, read, strict=False):
                if isinstance(pair, Pair):
                    yield int(start + at), pair


def _example(pair: Pair, caption: str, *, is_blurred: bool) -> PictureExample | None:
    try:
        image = open_image(pair.picture.content, decode="fast", size_px=_THUMBNAIL_PX)
    except ImageError:
        return None
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    if is_blurred:  # in the file itself: a style could be switched off
        points = image.resize((_BLURRED_POINTS, _BLURRED_POINTS), Image.Resampling.BOX)
        image = points.resize(image.size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    address = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return PictureExample(address, caption, is_blurred)
