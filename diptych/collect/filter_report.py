"""What filtering left out, for people: counts, and some pictures and captions of each reason."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.collect.caption_passes import BALANCING_RULES
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

RULES = {**CAPTION_RULES, **PICTURE_RULES, **DECIDING_RULES, **BALANCING_RULES}
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
    flags: Sequence[tuple[str, ...]], captions: Removed, unsafe: Mapping[str, float],
) -> None:  # fmt: skip
    """Write OUT/report.html and OUT/report.json: the pairs that were left out, those that are kept with a flag, and the
    captions that were refused. Pictures that have flags are shown as a few blurred colours, under whatever reason they
    were left out, and so are, where something is `unsafe` (score by name), those that were left out before they were
    judged; those that were asked to be forgotten are not shown at all. `flags` are by row."""
    unjudged = np.array([bool(reason) and bool(unsafe) for look in looks for reason in look.reasons], bool)
    left_out, flagged = _Examples(), _Examples()
    reasons = _left_out(decisions, int(looks.starts[sets]))
    names = _flagged(decisions, int(looks.starts[sets]), flags)
    for row, pair in _read(paths, looks, sets, sorted({*reasons, *names})):
        is_blurred = bool(flags[row] or unjudged[row])
        left_out.add(pair, reasons.get(row, ()), is_blurred=is_blurred)
        flagged.add(pair, names.get(row, ()), is_blurred=is_blurred)
    parts = {"Pairs": left_out.part(result.seen, result.removed, RULES)}
    if result.flagged:
        says = {name: f"pictures with a score of {least:g} or more" for name, least in unsafe.items()}
        parts["Flagged pairs"] = flagged.part(result.kept, result.flagged, says)._replace(is_kept=True)
    parts["Captions"] = Part(captions, CAPTION_RULES)
    write_report(result.out, parts)


class _Examples:
    """Some pairs of each reason, as the report shows them."""

    def __init__(self) -> None:
        self._removed, self._pictures = Removed(), dict[str, list[PictureExample]]()

    def add(self, pair: Pair, reasons: Sequence[str], *, is_blurred: bool) -> None:
        caption = masked(pair.captions[0].text) if pair.captions else ""
        if len(caption) > _MOST_CHARACTERS:
            caption = f"{caption[: _MOST_CHARACTERS - 1].rstrip()}…"
        for reason in reasons:
            self._removed.add(caption, reason)
            if example := _example(pair, caption, is_blurred=is_blurred):
                self._pictures.setdefault(reason, []).append(example)

    def part(self, seen: int, counts: Mapping[str, int], descriptions: Mapping[str, str]) -> Part:
        """With the counts of all pairs, not of the examples alone."""
        self._removed.seen, self._removed.counts = seen, Counter(counts)
        return Part(self._removed, descriptions, self._pictures)


def _left_out(decisions: Decisions, first: int) -> dict[int, list[str]]:
    """The first pairs of each reason, by row."""
    return {
        int(first + row): [reason]
        for code, reason in enumerate(decisions.reasons)
        if code and reason != FORGOTTEN
        for row in np.flatnonzero(decisions.codes[first:] == code)[:_SHOWN]
    }


def _flagged(decisions: Decisions, first: int, flags: Sequence[tuple[str, ...]]) -> dict[int, list[str]]:
    """The first pairs with each flag that are kept, by row."""
    shown, counts = dict[int, list[str]](), Counter[str]()
    for row in (first + np.flatnonzero(decisions.codes[first:] == 0)).tolist():
        for name in flags[row]:
            counts[name] += 1
            if counts[name] <= _SHOWN:
                shown.setdefault(row, []).append(name)
    return shown


def _read(paths: Sequence[Path], looks: Looks, sets: int, rows: Sequence[int]) -> Iterator[tuple[int, Pair]]:
    """The pairs of these rows, in their order."""
    shown = np.zeros(looks.rows, bool)
    shown[list(rows)] = True
    for number, path in enumerate(paths):
        start, stop = looks.starts[sets + number], looks.starts[sets + number + 1]
        if shown[start:stop].any():
            own = np.flatnonzero(shown[start:stop])
            read = read_shard(path, size=None, rules=_ALL, skipped=(~shown[start:stop]).tolist())
            for at, (_, pair) in zip(own, read, strict=False):
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
