"""Which pairs are kept, once all have been seen: by the scores of models, and by what they are copies of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych.collect.pictures.duplicates.near_duplicates import Copies, vector_index
from diptych.collect.pictures.looking import AGREEMENT
from diptych.collect.pictures.looks import Looks
from diptych.collect.pictures.safety import unsafe

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

UNSAFE, LOW_AGREEMENT, LEAK, NEAR_DUPLICATE = "unsafe", "low-agreement", "evaluation-set", "near-duplicate"
DECIDING_RULES = {
    UNSAFE: "pictures that a classifier or a concept says most people do not want to see",
    LOW_AGREEMENT: "pictures that fit their captions less than others, by a CLIP model",
    LEAK: "copies of pictures of evaluation sets",
    NEAR_DUPLICATE: "copies of other pictures of the set, of which the largest is kept",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """What is asked of scores. `agreement` is the least cosine, `keep_top` the share of pairs to keep, those that agree
    best; with both, both hold. `unsafe` are scores by name, from which on a picture is unsafe; with `flags_unsafe` it
    is flagged instead of left out."""

    agreement: float | None = None
    keep_top: float | None = None
    unsafe: Mapping[str, float] = field(default_factory=dict)
    flags_unsafe: bool = False
    by_vector: bool = False
    disabled: frozenset[str] = frozenset()


class Decisions(NamedTuple):
    """For each row the number of its reason in `reasons`, 0 for pairs that are kept; the row that it is a copy of, or
    -1; and the least agreement that was asked for, None if none was."""

    reasons: list[str]
    codes: Int[np.ndarray, " pairs"]
    copied: Int[np.ndarray, " pairs"]
    least: float | None

    def refusing(self, rows: Int[np.ndarray, " refused"], reason: str) -> Decisions:
        """The same, with rows that were kept so far left out for a reason."""
        reasons = self.reasons if reason in self.reasons else [*self.reasons, reason]
        codes = self.codes.copy()
        codes[rows] = reasons.index(reason)
        return self._replace(reasons=reasons, codes=codes)

    def save(self, path: Path) -> None:
        """Write them to a file."""
        from diptych.storage.atomic import atomic_write

        with atomic_write(path) as part, part.open("wb") as file:
            least = np.nan if self.least is None else self.least
            np.savez(file, reasons=np.array(self.reasons), codes=self.codes, copied=self.copied, least=np.array(least))

    @classmethod
    def load(cls, path: Path) -> Decisions:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            least = float(stored["least"])
            reasons = [str(each) for each in stored["reasons"]]
            return cls(reasons, stored["codes"], stored["copied"], None if np.isnan(least) else least)


def decide(
    looks: Looks, limits: Limits, *, sets: int, forgotten: Bool[np.ndarray, " pairs"], folder: Path,
    progress: Progress = lambda done, total: None,
) -> Decisions:  # fmt: skip
    """Decide about all pairs of `looks`, of which the first `sets` are evaluation sets. `forgotten` are rows that must
    not be kept; `folder` is for an index of vectors."""
    found = _Reasons(looks.rows)
    for start, look in zip(looks.starts, looks, strict=False):
        for number, reason in enumerate(look.reasons):
            if reason:
                found.refuse(start + number, reason)
    found.refuse_all(forgotten, "forgotten")
    own = np.arange(looks.rows) >= looks.starts[sets]
    if UNSAFE not in limits.disabled and not limits.flags_unsafe:
        found.refuse_all(own & np.array([bool(names) for names in unsafe_names(looks, limits)], bool), UNSAFE)
    scores = _column(looks, AGREEMENT)
    least = None if LOW_AGREEMENT in limits.disabled else _least(scores[found.kept & own], limits)
    if least is not None:
        found.refuse_all(own & (scores < least), LOW_AGREEMENT)
    copied = np.full(looks.rows, -1, np.int64)
    _refuse_copies(looks, limits, sets, found, copied, folder, progress)
    return Decisions(found.names, found.codes, copied, least)


def unsafe_names(looks: Looks, limits: Limits) -> list[tuple[str, ...]]:
    """For each row the names of the scores by which it is unsafe."""
    found = list[tuple[str, ...]]()
    for look in looks:
        scores = {name: look.scores[:, column] for column, name in enumerate(look.score_names)}
        own = {name: limit for name, limit in limits.unsafe.items() if name in scores}
        found += unsafe(scores, own) if own else [()] * len(look.keys)
    return found


class _Reasons:
    """The first reason of each row."""

    def __init__(self, rows: int):
        self.names, self.codes = [""], np.zeros(rows, np.int32)

    @property
    def kept(self) -> Bool[np.ndarray, " pairs"]:
        return self.codes == 0

    def refuse(self, row: int, reason: str) -> None:
        if not self.codes[row]:
            self.codes[row] = self._code(reason)

    def refuse_all(self, rows: Bool[np.ndarray, " pairs"], reason: str) -> None:
        self.codes[rows & self.kept] = self._code(reason)

    def _code(self, reason: str) -> int:
        if reason not in self.names:
            self.names.append(reason)
        return self.names.index(reason)


def _column(looks: Looks, name: str) -> np.ndarray:
    """One score of all rows; 0 where it is missing."""
    columns = [
        look.scores[:, look.score_names.index(name)] if name in look.score_names else np.zeros(len(look.keys))
        for look in looks
    ]
    return np.concatenate([np.zeros(0, np.float32), *columns]).astype(np.float32)


def _least(scores: np.ndarray, limits: Limits) -> float | None:
    """The least agreement: what is asked for, or that of the last pair of the top share."""
    asked = [] if limits.agreement is None else [limits.agreement]
    if limits.keep_top is not None and len(scores):
        kept = max(1, round(limits.keep_top * len(scores)))
        asked.append(float(np.partition(scores, len(scores) - kept)[len(scores) - kept]))
    return max(asked, default=None)


def _refuse_copies(
    looks: Looks, limits: Limits, sets: int, found: _Reasons, copied: np.ndarray, folder: Path, progress: Progress
) -> None:
    """The largest picture of those that are alike comes first and is kept."""
    is_deduplicated = NEAR_DUPLICATE not in limits.disabled
    first = int(looks.starts[sets])
    has_sets = first > 0 and LEAK not in limits.disabled
    if not is_deduplicated and not has_sets:
        return
    copies = Copies(looks, vector_index(looks, folder) if limits.by_vector else None)
    hashes = np.concatenate([np.zeros(0, np.uint64), *(look.hashes for look in looks)])
    areas = np.concatenate([np.zeros(0, np.int64), *(look.areas for look in looks)])
    if has_sets:
        for row in np.flatnonzero(found.kept[:first]):
            copies.add(int(row), int(hashes[row]))
    rows = first + np.flatnonzero(found.kept[first:])
    for done, row in enumerate(rows[np.argsort(-areas[rows], kind="stable")], 1):
        progress(done, len(rows))
        original = copies.copied(int(row), int(hashes[row]))
        if original is not None:
            copied[row] = original
            found.refuse(int(row), LEAK if original < first else NEAR_DUPLICATE)
        elif is_deduplicated:
            copies.add(int(row), int(hashes[row]))
