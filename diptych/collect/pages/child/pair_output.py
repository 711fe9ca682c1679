"""Where a crawl's pairs go, and the rules that decide about them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from diptych.collect.captions.rules import RULES as CAPTION_RULES
from diptych.collect.captions.rules import CaptionRules
from diptych.collect.lists.preparers import Preparers
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.output.run_log import RunRecord, add_run
from diptych.collect.output.shard_writer import ShardWriter, open_path, open_shards, shard_files
from diptych.collect.pairs import Found, Pair, Picture, Words
from diptych.collect.pictures.rules import PICTURE_RULES
from diptych.errors import ArgumentError

_SYNC_EVERY = 50  # pairs
_PROCESSES = 2
_FLAGS = ("urls", "size", "other_hosts", "disabled")


class PairOutput:
    """Writes pairs into a folder's shards by a `writer`, as the rules and what is to be forgotten allow."""

    def __init__(self, out: Path, writer: ShardWriter, *, size: int | None, disabled: Collection[str]):
        self._writer, self._captions = writer, caption_rules(disabled)
        self._preparers = Preparers(_PROCESSES, size=size, disabled=disabled)
        self._forgotten = Forgotten(out)

    def words(self, found: Found) -> tuple[tuple[Words, ...], tuple[str, ...]]:
        """The usable words of a picture, and the rules that left others out."""
        verdicts = self._captions.verdicts(found)
        usable = tuple(words for words, rule in verdicts if rule is None)
        return usable, tuple(rule for _, rule in verdicts if rule is not None)

    async def prepare(self, content: bytes) -> Picture:
        """A picture as it is written, decoded in a process of its own: one that ends it costs itself alone. Raises
        PictureRefused."""
        return await self._preparers.prepare(content)

    async def close(self) -> None:
        """End the decoding processes."""
        await self._preparers.close()

    def is_forgotten(self, url: str, sha256: str = "") -> bool:
        """Whether someone asked to have it removed."""
        return self._forgotten.covers(url=url, sha256=sha256)

    def add(self, pair: Pair) -> None:
        """Write a pair; the file has it when this returns, and the disk after some more of them."""
        self._writer.add(pair)
        if self._writer.pairs % _SYNC_EVERY == 0:
            self._writer.sync()


def note_written(out: Path, note: Callable[[str, str], object]) -> None:
    """Call `note` with the address and SHA-256 of each pair that the latest process may have written without noting it:
    those of the open shards and of the last whole one."""
    whole = [path for _, path in shard_files(out) if path.suffix == ".tar"]
    for path in [*whole[-1:], *(open_path(out, number) for number in open_shards(out))]:
        for stored in stored_pairs(path):
            note(str(stored.facts["url"]), str(stored.facts["sha256"]))


def note_run(order: Mapping[str, Any], result: Mapping[str, Any], started_s: float) -> None:
    """Note a run for the datasheet. What is left out is counted over all runs, as the frontier does."""
    flags = {name: order[name] for name in _FLAGS if order[name]}
    left_out = Counter[str](result["words"])
    for counts in (result["pages"], result["pictures"]):
        for state in ("refused", "failed", "duplicate"):
            left_out.update(counts.get(state, {}))
    found = sum(sum(reasons.values()) for reasons in result["pictures"].values())
    add_run(order["out"], RunRecord("crawl", flags, started_s, time.time(), found, result["pairs_now"], dict(left_out)))


def caption_rules(disabled: Collection[str]) -> CaptionRules:
    """The rules on captions without those that are disabled. Raises ArgumentError for a name that no rule on captions
    or pictures has."""
    if unknown := sorted({*disabled} - {*PICTURE_RULES} - {*CAPTION_RULES}):
        names = ", ".join((*PICTURE_RULES, *CAPTION_RULES))
        raise ArgumentError(f"no rule is called {unknown[0]!r:.60}; there are {names}.", argument="disabled")
    return CaptionRules([name for name in disabled if name in CAPTION_RULES])
