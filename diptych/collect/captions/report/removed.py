"""What rules removed from a set: a count and some examples of each."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping

from diptych.collect.captions.personal import masked
from diptych.untrusted.json import parse_json

EXAMPLES = 12  # of each rule
_MOST_CHARACTERS = 200  # of an example


class Removed:
    """Counts what each rule removed. Which examples are kept depends neither on the order nor on the number of
    processes: they are those of the smallest hash. Personal data in them is masked before it is kept."""

    def __init__(self) -> None:
        self.seen = 0
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, list[tuple[int, str]]] = {}  # heaps, the largest hash (negative) first

    def add(self, text: str, rule: str | None) -> None:
        """Note a text (a caption, or what names a picture) and the rule that removed it, or None if it stays."""
        self.seen += 1
        if rule is not None:
            self.counts[rule] += 1
            self._keep(rule, text)

    def merge(self, other: Removed) -> None:
        """Add what another process noted."""
        self.seen += other.seen
        self.counts += other.counts
        for rule in other._examples:
            for text in other.examples(rule):
                self._keep(rule, text)

    def examples(self, rule: str) -> list[str]:
        """Different texts that a rule removed, at most EXAMPLES."""
        return [text for _, text in sorted(self._examples.get(rule, ()), reverse=True)]

    def to_json(self, descriptions: Mapping[str, str]) -> dict[str, object]:
        """As report.json has it: `seen`, `kept`, and of each rule what it says, its count and examples."""
        names = list(dict.fromkeys([*descriptions, *self.counts]))
        return {
            "seen": self.seen,
            "kept": self.seen - self.counts.total(),
            "rules": {
                name: {
                    "removes": descriptions.get(name, ""), "count": self.counts[name], "examples": self.examples(name)
                }
                for name in names
            },
        }  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> Removed:
        """What `to_json` gave, written as JSON."""
        removed, content = cls(), parse_json(text)
        removed.seen = content["seen"]
        for rule, noted in content["rules"].items():
            if noted["count"]:
                removed.counts[rule] = noted["count"]
            for text in noted["examples"]:
                removed._keep(rule, text)
        return removed

    def _keep(self, rule: str, text: str) -> None:
        heap = self._examples.setdefault(rule, [])
        key = -int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest())
        if len(heap) == EXAMPLES and key <= heap[0][0]:
            return
        text = masked(text)
        shown = text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
        if (key, shown) not in heap:
            (heapq.heappush if len(heap) < EXAMPLES else heapq.heapreplace)(heap, (key, shown))
