"""Whether captions can teach anything: most of them must tell pictures apart, and be words."""

from collections import Counter

import numpy as np

from diptych.data.samples import Source, Stream, layout_of
from diptych.data.sources.folders import ClassSource
from diptych.data.tables.columns import names_a_class
from diptych.errors import DataError

LOOKED_AT = 2000  # samples, evenly spread
FEWEST = 4  # of three pictures two may share a caption
MOST, MOST_OF_CLASSES = 0.5, 0.9  # the share of samples that one caption may have; that of one of the classes


def flaw(source: Source | Stream) -> str | None:
    """Why these captions cannot teach anything; None where they can, or where that is not known before they are read.

    One caption for most samples is often a folder's name, a placeholder, or a column that is none of captions; captions
    without one letter are labels by number.
    """
    if isinstance(source, Stream) or not len(source):
        return None
    captions = _some_captions(source)
    if captions and not any(letter.isalpha() for texts in captions for text in texts for letter in text):
        return f"its captions are numbers alone ({captions[0][0]!r:.40}); wanted sentences, or the names of classes"
    if len(captions) < FEWEST:
        return None
    (most, count), *_ = Counter(captions).most_common(1)
    if count <= (MOST_OF_CLASSES if _are_classes(source) else MOST) * len(captions):
        return None
    looked = f" (of {len(captions):,} that were looked at)" if len(captions) < len(source) else ""
    return (
        f"{most[0]!r:.80} is the caption of {count / len(captions):.0%} of its samples{looked}, and from one caption "
        f"for most pictures nothing can be learnt. It was read as {source.form}"
    )


def require_varied(source: Source | Stream, spec: object) -> None:
    """DataError where the captions of what `spec` names cannot teach anything."""
    if said := flaw(source):
        remedy = "Name the table, the column or the folder that holds the captions."
        raise DataError(f"{spec}: {said}.", "one caption", remedy=remedy)


def _some_captions(source: Source) -> list[tuple[str, ...]]:
    """Those of some samples, of each without repeats; samples that cannot be read are the loader's to count."""
    found = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(LOOKED_AT, len(source))).astype(np.int64)):
        try:
            found.append(tuple(dict.fromkeys(source.captions(int(index)))))
        except (DataError, OSError):
            continue
    return found


def _are_classes(source: Source) -> bool:
    columns = layout_of(source).columns
    return isinstance(source, ClassSource) or (columns is not None and names_a_class(columns[1][0]))
