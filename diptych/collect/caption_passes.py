"""Passes over the captions of shards: which a site repeats, which may be used, and how many of a kind to keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.collect.captions.balancing.balance import Method, kept_by_clip, kept_by_metaclip
from diptych.collect.captions.balancing.queries import QueryMatcher, queries_of
from diptych.collect.captions.repeated import RepeatedCaptions, host_of
from diptych.collect.captions.report.removed import Removed
from diptych.collect.captions.rules import CaptionRules
from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.pairs import Found, Pair, Words
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules
from diptych.collect.reading import read_shard
from diptych.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Bool

BALANCE, NO_QUERY = "balance", "no-query"
BALANCING_RULES = {
    BALANCE: "pairs of frequent queries, beyond those that each query keeps",
    NO_QUERY: "captions that have none of the given queries",
}
_ALL = PictureRules(disabled=tuple(PICTURE_RULES))
Progress = Callable[[int, int], None]


class UsableCaptions:
    """Chooses the captions of a pair that no rule refuses, and notes what the rules refuse."""

    def __init__(self, rules: CaptionRules):
        self._rules, self._noted = rules, Removed()

    def __call__(self, pair: Pair) -> tuple[str, ...] | str:
        """The captions that may be used, or the rule that refuses the first."""
        verdicts = self._rules.verdicts(replace(pair.found, words=pair.captions))
        for words, rule in verdicts:
            self._noted.add(words.text, rule)
        kept = tuple(words.text for words, rule in verdicts if rule is None)
        return kept or next((rule for _, rule in verdicts if rule), "no caption")

    def take_notes(self) -> Removed:
        """What was refused since the last call."""
        noted, self._noted = self._noted, Removed()
        return noted


def count_repeated(paths: Sequence[Path], repeated: RepeatedCaptions, progress: Progress) -> None:
    """Count the captions of each site in the shards; those of shards that were counted before are not read again.
    Pairs of which no address is known are of no site. `progress` gets (done, total) in bytes of shards."""
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        repeated.add_part(path.name, _found_in(path))
        progress(done := done + path.stat().st_size, total)


def _found_in(path: Path) -> Iterator[Found]:
    for stored in stored_pairs(path):
        facts = stored.facts
        words = tuple(Words(text, "alt") for text in facts["captions"])  # type: ignore[union-attr]
        found = Found(str(facts["url"]), words, str(facts["page_url"]))
        if host_of(found):
            yield found


@dataclass(frozen=True)
class Balancing:
    """How many pairs of a kind to keep: at most about `most` of each query. `queries` None stands for those that are
    made of the set itself; without `drops_unmatched` captions with none of the given ones are kept."""

    most: int
    queries: Sequence[str] | None = None
    method: Method = "clip"
    seed: int = 0
    drops_unmatched: bool = True

    def refused(self, captions: Callable[[], Iterator[str]], rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of `rows` captions are beyond what their queries keep, and which have none of the given queries: both
        (rows,) bool. `captions` is called for each pass and gives the same each time."""
        matcher = QueryMatcher(queries_of(captions) if self.queries is None else self.queries)
        counts = matcher.count(captions())
        keep = kept_by_clip if self.method == "clip" else kept_by_metaclip
        keeps_unmatched = self.queries is None or not self.drops_unmatched
        kept = keep(captions(), matcher, counts, most=self.most, seed=self.seed, unmatched=keeps_unmatched)
        beyond, unmatched = np.zeros(rows, bool), np.zeros(rows, bool)
        for row, (caption, is_kept) in enumerate(zip(captions(), kept, strict=True)):
            if not is_kept:
                (beyond if keeps_unmatched or matcher.find(caption) else unmatched)[row] = True
        return beyond, unmatched


def balanced(
    paths: Sequence[Path], kept: Sequence[Bool[np.ndarray, " pairs"]], balancing: Balancing, usable: UsableCaptions,
    spool: Path,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Balance the pairs of shards of which `kept` is true, by the captions of each that may be used: as
    `Balancing.refused`, for these pairs in their order. The captions are read from the shards once, and in each pass
    from the file `spool`, which is removed in the end."""

    def captions() -> Iterator[str]:
        with spool.open(encoding="ascii") as file:
            yield from map(json.loads, file)

    try:
        with spool.open("w", encoding="ascii") as file:
            for path, chosen in zip(paths, kept, strict=True):
                read = read_shard(path, size=None, rules=_ALL, skipped=(~chosen).tolist()) if chosen.any() else ()
                lines = [_line(usable(pair)) for _, pair in read if isinstance(pair, Pair)]
                if len(lines) != chosen.sum():
                    raise DataError(f"{path} has changed while it was filtered; filter it again, into another folder.")
                file.writelines(lines)
        return balancing.refused(captions, sum(int(chosen.sum()) for chosen in kept))
    finally:
        spool.unlink(missing_ok=True)


def _line(captions: tuple[str, ...] | str) -> str:
    """A pair as the file has it: one text with a line for each caption, as JSON."""
    assert not isinstance(captions, str)  # pairs without a usable caption have been left out
    return json.dumps("\n".join(captions)) + "\n"
