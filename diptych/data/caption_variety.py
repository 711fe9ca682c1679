"""Checks that captions are useful for training: most must distinguish pictures, and they must contain words."""

from collections import Counter

import numpy as np

from diptych.data.column_names import names_a_class
from diptych.data.samples import Source, Stream, layout_of
from diptych.data.sources.folders import ClassSource
from diptych.errors import DataError

MAX_SAMPLES = 2000  # samples, evenly spread
MIN_SAMPLES = 4  # fewer samples with equal captions prove nothing
MAX_SHARE, MAX_CLASS_SHARE = 0.5, 0.9  # the largest share of samples with the same caption; with the same class


def monotony(source: Source | Stream) -> str | None:
    """Why these captions are useless for training; None if they are not, or for a stream.

    One caption for most samples is often a folder's name, a placeholder, or the wrong column; captions without letters
    are numeric labels.
    """
    if isinstance(source, Stream) or not len(source):
        return None
    captions = _some_captions(source)
    if captions and not any(letter.isalpha() for texts in captions for text in texts for letter in text):
        return f"its captions are only numbers ({captions[0][0]!r:.40}); wanted sentences or class names"
    if len(captions) < MIN_SAMPLES:
        return None
    (most, count), *_ = Counter(captions).most_common(1)
    if count <= (MAX_CLASS_SHARE if _are_classes(source) else MAX_SHARE) * len(captions):
        return None
    checked = f" (of {len(captions):,} checked)" if len(captions) < len(source) else ""
    return (
        f"{most[0]!r:.80} is the caption of {count / len(captions):.0%} of its samples{checked}; a model learns "
        f"nothing from one caption for most pictures. It was read as {source.form}"
    )


def require_variety(source: Source | Stream, spec: object) -> None:
    """Raises DataError if the captions of a source, called `spec`, are useless for training."""
    if problem := monotony(source):
        remedy = "Name the table, the column or the folder that holds the captions."
        raise DataError(f"{spec}: {problem}.", "one caption", remedy=remedy)


def _some_captions(source: Source) -> list[tuple[str, ...]]:
    """The distinct captions of some samples, evenly spread. Unreadable samples are skipped; the loader counts them."""
    found = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(MAX_SAMPLES, len(source))).astype(np.int64)):
        try:
            found.append(tuple(dict.fromkeys(source.captions(int(index)))))
        except (DataError, OSError):
            continue
    return found


def _are_classes(source: Source) -> bool:
    columns = layout_of(source).columns
    return isinstance(source, ClassSource) or (columns is not None and names_a_class(columns[1][0]))
