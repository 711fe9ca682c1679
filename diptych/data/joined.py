"""Several sources as one."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from diptych.data.samples import Layout, Sample, Source, count


def located(sources: Sequence[Source], index: int) -> tuple[int, int]:
    """Which source holds sample `index` of all, and which of its own it is."""
    ends = list(accumulate(len(source) for source in sources))
    which = bisect_right(ends, index)
    return which, index - (ends[which - 1] if which else 0)


class Joined:
    """The samples of several sources, one after the other."""

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
        which, index = located(self._sources, index)
        return self._sources[which][index]

    def captions(self, index: int) -> tuple[str, ...]:
        which, index = located(self._sources, index)
        return self._sources[which].captions(index)

    def key(self, index: int) -> str:
        which, index = located(self._sources, index)
        return self._sources[which].key(index)
