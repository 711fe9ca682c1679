"""The pairs of shards: of those that were collected here, with all that is known of them, and of any others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diptych.collect.output.facts import pair_of
from diptych.collect.output.open_shard import StoredPair, all_pairs, content_of
from diptych.collect.pairs import Found, Pair, Picture, Words
from diptych.collect.pictures.preparing import PictureRefused, prepare
from diptych.collect.pictures.rules import PictureRules
from diptych.data.sources.shards import DAMAGE, ShardSource
from diptych.errors import DataError
from diptych.failures import Failure

Read = tuple[str, Pair | Failure]

DAMAGED = "damaged shard"  # the reason under which what cannot be read is counted


def read_shard(
    shard: Path, *, size: int | None, rules: PictureRules, skipped: Sequence[bool] | None = None
) -> Iterator[Read]:
    """Each pair of a shard in order, under SHARD/KEY, or the reason why it cannot be used.

    Pictures that are larger than `size` (px of the shorter side) become smaller, and those of shards that were not
    collected here are prepared as those of pages are. Where `skipped` is true at the number of a pair, it is passed
    over. A shard that is damaged in the middle gives the pairs before that, and then one failure.
    """
    stored = all_pairs(shard)
    try:
        first = next(stored, None)
    except (DataError, *DAMAGE):
        yield from _foreign(shard, size, rules, skipped)
        return
    if first is not None:
        yield from _collected(shard, first, stored, size, rules, skipped)


def _collected(
    shard: Path, first: StoredPair, rest: Iterator[StoredPair], size: int | None, rules: PictureRules,
    skipped: Sequence[bool] | None,
) -> Iterator[Read]:  # fmt: skip
    each, number = first, 0
    while True:
        key = f"{shard.name}/{each.facts['key']}"
        if not _is_skipped(skipped, number):
            yield key, _pair_or_failure(shard, each, size, rules)
        number += 1
        try:
            following = next(rest, None)
        except (DataError, *DAMAGE) as error:
            if not _is_skipped(skipped, number):
                yield f"{key}+", Failure(DAMAGED, f"{shard} cannot be read after {key} ({error}).")
            return
        if following is None:
            return
        each = following


def _pair_or_failure(shard: Path, stored: StoredPair, size: int | None, rules: PictureRules) -> Pair | Failure:
    try:
        return _resized(pair_of(stored.facts, content_of(stored, shard)), size, rules)
    except PictureRefused as refused:
        return Failure(refused.reason, refused.message)
    except DataError as error:
        return Failure(error.reason, str(error))
    except OSError as error:
        return Failure(DAMAGED, f"{shard} cannot be read ({error}).")


def _resized(pair: Pair, size: int | None, rules: PictureRules) -> Pair:
    old = pair.picture
    refusal = rules.refusal_by_header((old.original_width, old.original_height))
    if refusal:
        raise PictureRefused(*refusal)
    if size is None or min(old.width, old.height) <= size:
        return pair
    new = prepare(old.content, size=size, rules=rules)
    return replace(pair, picture=_as_it_came(new, old))


def _as_it_came(new: Picture, old: Picture) -> Picture:
    """A picture that was made smaller again, with the digest and size of what once came."""
    return replace(new, sha256=old.sha256, original_width=old.original_width, original_height=old.original_height)


def _foreign(shard: Path, size: int | None, rules: PictureRules, skipped: Sequence[bool] | None) -> Iterator[Read]:
    try:
        source = ShardSource([shard])
    except (DataError, *DAMAGE) as error:
        yield shard.name, Failure(DAMAGED, f"{shard} cannot be read ({error}).")
        return
    for number in range(len(source)):
        if _is_skipped(skipped, number):
            continue
        key = f"{shard.name}/{source.key(number)}"
        try:
            sample = source[number]
            words = tuple(Words.of(caption, "list") for caption in sample.captions)
            assert isinstance(sample.image, bytes)
            yield key, Pair(prepare(sample.image, size=size, rules=rules), words, Found("", words))
        except PictureRefused as refused:
            yield key, Failure(refused.reason, refused.message)
        except DataError as error:
            yield key, Failure(error.reason, str(error))
        except OSError as error:
            yield key, Failure(DAMAGED, f"{key} cannot be read ({error}).")


def _is_skipped(skipped: Sequence[bool] | None, number: int) -> bool:
    return skipped is not None and number < len(skipped) and bool(skipped[number])
