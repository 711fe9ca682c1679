"""Concatenates sources."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from diptych.data.samples import Layout, Sample, Source, count


def locate_index(sources: Sequence[Source], index: int) -> tuple[int, int]:
    """The source that has sample `index` of the concatenation, and the index in that source."""
    ends = list(accumulate(len(source) for source in sources))
    which = bisect_right(ends, index)
    return which, index - (ends[which - 1] if which else 0)


class ConcatSource:
    """The samples of several sources, concatenated."""

    def __init__(self, sources: Sequence[Source], form: str | Layout, skipped: dict[str, int] | None = None):
        self.form, self.skipped = str(form), dict(skipped or {})
        self.layout = form if isinstance(form, Layout) else Layout(form)
        self._sources = list(sources)
        for source in self._sources:
            for reason, number in source.skipped.items():
                count(self.skipped, reason, number)

    def __len__(self) -> int:
        return sum(len(source) for source in self._sources)

    def __getitem__(self, index: int) -> Sample:
        which, index = locate_index(self._sources, index)
        return self._sources[which][index]

    def captions(self, index: int) -> tuple[str, ...]:
        which, index = locate_index(self._sources, index)
        return self._sources[which].captions(index)

    def key(self, index: int) -> str:
        which, index = locate_index(self._sources, index)
        return self._sources[which].key(index)
