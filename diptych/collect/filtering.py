"""Shards to shards: the pairs whose captions and pictures are worth training on, each once.

A run counts the captions of each site. Then it looks at each pair and keeps, on the disk, what it saw; it decides about
all of them; last it writes those that are kept. Memory holds one shard's looks at a time, and a few numbers of each
pair. A run that is interrupted goes on after the last shard that it had seen, or the last pair that it had written.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from diptych.collect.caption_passes import BALANCE, NO_QUERY, Balancing, UsableCaptions, balanced, count_repeated
from diptych.collect.captions.balancing.balance import Method
from diptych.collect.captions.balancing.queries import read_queries
from diptych.collect.captions.repeated import RepeatedCaptions
from diptych.collect.captions.report.removed import Removed
from diptych.collect.captions.rules import RULES as CAPTION_RULES
from diptych.collect.captions.rules import CaptionRules
from diptych.collect.filter_report import RULES, FilterResult, write_filter_report
from diptych.collect.output.datasheet import refresh_datasheet
from diptych.collect.output.forgotten import Forgotten
from diptych.collect.output.open_shard import stored_pairs
from diptych.collect.output.removed import read_removed
from diptych.collect.output.run_log import RunRecord, add_run
from diptych.collect.output.shard_writer import PAIRS_PER_SHARD, ShardWriter, open_path, open_shards, shard_files
from diptych.collect.pairs import Pair
from diptych.collect.pictures.deciding import LEAK, Decisions, Limits, decide, unsafe_names
from diptych.collect.pictures.evaluation_sets import pictures_of
from diptych.collect.pictures.looking import Looker
from diptych.collect.pictures.looks import Look, Looks
from diptych.collect.pictures.rules import PICTURE_RULES, PictureRules
from diptych.collect.pictures.safety import Concept, open_classifier
from diptych.collect.reading import read_shard
from diptych.data.sources.shards import is_shard
from diptych.errors import ArgumentError, DataError
from diptych.storage.atomic import atomic_write_text
from diptych.storage.lock import locked

_WORK = ".filter"  # the folder of a run's own files
Progress = Callable[[int, int], None]
_nothing: Progress = lambda done, total: None  # noqa: E731


@dataclass(frozen=True)
class FilterSettings:
    """What is kept. Names of `disabled` rules are those of RULES. `classifiers` are names of `safety.CLASSIFIERS` with
    the score from which on a picture is unsafe, `evaluation_sets` names or folders as `diptych evaluate` takes them.
    `balance` is the number of pairs that each query keeps by the method `balance_by` (`captions.balancing.balance`),
    with the queries of a file or, without, those of the set itself; None does not balance."""

    size: int | None = None
    min_side_px: int = 64
    max_aspect: float = 3.0
    disabled: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    model: str | None = None
    agreement: float | None = None
    keep_top: float | None = None
    evaluation_sets: tuple[str, ...] = ()
    by_vector: bool = False
    classifiers: dict[str, float] = field(default_factory=dict)
    concepts: tuple[Concept, ...] = ()
    flags_unsafe: bool = False
    balance: int | None = None
    queries: str | None = None
    balance_by: Method = "clip"
    seed: int = 0
    pairs_per_shard: int = PAIRS_PER_SHARD

    def __post_init__(self) -> None:
        if unknown := sorted({*self.disabled} - RULES.keys()):
            raise ArgumentError(f"There is no rule {unknown[0]!r}. Choose from: {', '.join(RULES)}.")
        if self.keep_top is not None and not 0 < self.keep_top <= 1:
            raise ArgumentError(f"keep_top={self.keep_top:g}; wanted a share above 0, up to 1.", argument="keep_top")
        if self.balance is not None and self.balance < 1:
            raise ArgumentError(f"balance={self.balance}; wanted 1 pair or more a query.", argument="balance")
        if self.queries is not None and self.balance is None:
            raise ArgumentError(
                f"queries={self.queries!r} is for balancing; say how many pairs each query keeps.", argument="balance"
            )

    @property
    def needs_model(self) -> bool:
        """Whether a CLIP model is asked for anything."""
        return bool(self.model or self.concepts or self.by_vector) or (self.agreement, self.keep_top) != (None, None)

    @property
    def limits(self) -> Limits:
        """What is asked of scores."""
        unsafe = {**self.classifiers, **{concept.name: concept.threshold for concept in self.concepts}}
        return Limits(
            self.agreement, self.keep_top, unsafe, self.flags_unsafe, self.by_vector, frozenset(self.disabled)
        )

    def looker(self, usable: UsableCaptions) -> Looker:
        """What looks at the pairs. Raises the errors of `diptych.load`, and MissingExtraError."""
        classifiers = {name: open_classifier(name) for name in self.classifiers}
        model = None
        if self.needs_model:
            from diptych.embedder import load

            model = load(self.model)
        return Looker(self.picture_rules, usable, model, classifiers, self.concepts)

    def usable(self, repeated: RepeatedCaptions | None) -> UsableCaptions:
        """What chooses captions."""
        disabled = [name for name in self.disabled if name in CAPTION_RULES]
        return UsableCaptions(CaptionRules(disabled, languages=self.languages, repeated=repeated))

    @property
    def balancing(self) -> Balancing | None:
        """How pairs are balanced, if they are. Raises DataError for a file without queries."""
        if self.balance is None or BALANCE in self.disabled:
            return None
        queries = None if self.queries is None else read_queries(self.queries)
        return Balancing(self.balance, queries, self.balance_by, self.seed, NO_QUERY not in self.disabled)

    @property
    def picture_rules(self) -> PictureRules:
        """The rules on single pictures."""
        disabled = tuple(name for name in self.disabled if name in PICTURE_RULES)
        return PictureRules(self.min_side_px, self.max_aspect, disabled)


def filter_shards(
    shards: str | Path, out: str | Path, settings: FilterSettings, *,
    counting: Progress = _nothing, looking: Progress = _nothing, deciding: Progress = _nothing,
    writing: Progress = _nothing,
) -> FilterResult:  # fmt: skip
    """Filter the shards of a folder into another folder, which may hold an unfinished run with the same settings.

    `counting`, `looking` and `writing` get (done, total) in bytes of shards, `deciding` in pairs. Raises ArgumentError
    for settings that contradict what OUT holds, DataError where there are no shards or no queries.
    """
    paths, out = _shards(Path(shards)), Path(out)
    if out.resolve() in {path.resolve().parent for path in paths}:
        raise ArgumentError(f"{out} holds the shards that are to be filtered; name another folder.", argument="out")
    balancing, started_s = settings.balancing, time.time()
    work = out / _WORK
    work.mkdir(parents=True, exist_ok=True)
    with locked(work / "lock", does=f"is filtering into {out}", remedy="Wait for it, or name another folder."):
        _claim(work, paths, settings)
        with _repeated(paths, work, settings, counting) as repeated:
            usable = settings.usable(repeated)
            looks = _looked(paths, work, settings, usable, looking)
            forgotten = _forgotten(paths, out)
            decisions = _decided(paths, looks, work, settings, forgotten, balancing, usable, deciding)
            result = _written(paths, out, looks, decisions, settings, usable, forgotten, writing)
        add_run(out, _record(settings, result, started_s))
    refresh_datasheet(out)
    return result


def _record(settings: FilterSettings, result: FilterResult, started_s: float) -> RunRecord:
    """The run as the datasheet tells of it, with the settings that are not the usual ones."""
    usual = FilterSettings()
    flags = {name: value for name, value in asdict(settings).items() if value != getattr(usual, name)}
    for name, limits in (("classifiers", settings.classifiers.items()), ("concepts", settings.concepts)):
        if limits:
            flags[name] = [f"{text}={least:g}" for text, least in limits]
    return RunRecord("filter", flags, started_s, time.time(), result.seen, result.kept, result.removed)


@contextmanager
def _repeated(
    paths: Sequence[Path], work: Path, settings: FilterSettings, progress: Progress
) -> Iterator[RepeatedCaptions | None]:
    """The counts of each site's captions, of a file of the run's own."""
    if "repeated" in settings.disabled:
        yield None
        return
    with RepeatedCaptions(work / "captions.sqlite") as repeated:
        count_repeated(paths, repeated, progress)
        yield repeated


def _shards(folder: Path) -> list[Path]:
    """The shards in a folder, or one shard."""
    paths = sorted(path for path in folder.iterdir() if is_shard(path)) if folder.is_dir() else [folder]
    if not paths or not all(path.is_file() for path in paths):
        raise DataError(f"{folder} has no shards; wanted a folder with .tar files, as `diptych collect` writes them.")
    return paths


def _claim(work: Path, paths: Sequence[Path], settings: FilterSettings) -> None:
    """Remember what this run does. Raises ArgumentError where a run of another kind has begun."""
    read = [*paths, *([Path(settings.queries)] if settings.queries else [])]
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in read]
    wanted = json.dumps([states, asdict(settings)], default=str)
    claim = work / "settings.json"
    if not claim.exists():
        atomic_write_text(claim, wanted)
    elif claim.read_text(encoding="utf-8") != wanted:
        raise ArgumentError(
            f"{work.parent} holds pairs that were filtered from other shards or with other settings; name another "
            "folder, or the same settings to go on.",
            argument="out",
        )


def _looked(
    paths: Sequence[Path], work: Path, settings: FilterSettings, usable: UsableCaptions, progress: Progress
) -> Looks:
    """The looks at the evaluation sets and at the shards; those that are on the disk are not made again."""
    found, looker = list[Path](), None
    total, done = sum(path.stat().st_size for path in paths), 0
    for number, name in enumerate(_sets(settings)):
        found.append(work / f"set{number}")
        if not Look.is_saved(found[-1]):
            looker = looker or settings.looker(usable)
            _set_looker(looker).look(pictures_of(name)).save(found[-1])
    for number, path in enumerate(paths):
        found.append(work / f"{number:06}")
        if not Look.is_saved(found[-1]):
            looker = looker or settings.looker(usable)
            count = _Bytes(done, total, progress)
            read = read_shard(path, size=settings.size, rules=settings.picture_rules)
            usable.take_notes()
            look = looker.look(read, on_pair=count.add)
            noted = usable.take_notes().to_json(CAPTION_RULES)
            atomic_write_text(_notes(work, number), json.dumps(noted))
            look.save(found[-1])  # the look stands for both
        progress(done := done + path.stat().st_size, total)
    return Looks(found)


def _notes(work: Path, number: int) -> Path:
    """The file of what was refused of a shard's captions."""
    return work / f"{number:06}.captions.json"


def _sets(settings: FilterSettings) -> Sequence[str]:
    return () if LEAK in settings.disabled else settings.evaluation_sets


def _set_looker(looker: Looker) -> Looker:
    """Evaluation sets are asked for their vectors alone."""
    rules = PictureRules(disabled=tuple(PICTURE_RULES))
    return Looker(rules, lambda pair: tuple(words.text for words in pair.captions), looker.model)


class _Bytes:
    """Progress within a shard, by the bytes of its pictures."""

    def __init__(self, done: int, total: int, progress: Progress):
        self._done, self._total, self._progress = done, total, progress

    def add(self, pair: Pair) -> None:
        self._done += len(pair.picture.content)
        self._progress(min(self._done, self._total), self._total)


def _forgotten(paths: Sequence[Path], out: Path) -> Forgotten:
    """What must not be collected: asked for here, or where the shards come from."""
    forgotten = Forgotten(out)
    for folder in sorted({path.parent for path in paths}):
        forgotten.adopt(Forgotten(folder))
    return forgotten


def _decided(
    paths: Sequence[Path], looks: Looks, work: Path, settings: FilterSettings, forgotten: Forgotten,
    balancing: Balancing | None, usable: UsableCaptions, progress: Progress,
) -> Decisions:  # fmt: skip
    saved = work / "decisions.npz"
    if saved.exists():
        return Decisions.load(saved)
    sets = len(_sets(settings))
    rows = np.zeros(looks.rows, bool)
    if len(forgotten):
        for number, path in enumerate(paths):
            first = int(looks.starts[sets + number])
            for at, (_, pair) in enumerate(read_shard(path, size=None, rules=settings.picture_rules)):
                if isinstance(pair, Pair):
                    rows[first + at] = forgotten.covers(url=pair.found.picture_url, sha256=pair.picture.sha256)
    vectors = work / "vectors"
    found = decide(looks, settings.limits, sets=sets, forgotten=rows, folder=vectors, progress=progress)
    if balancing is not None:
        starts = looks.starts[sets:]
        kept = [found.codes[start:stop] == 0 for start, stop in pairwise(starts)]
        beyond, unmatched = balanced(paths, kept, balancing, usable, work / "captions.jsonl")
        rows = starts[0] + np.flatnonzero(np.concatenate(kept))
        found = found.refusing(rows[beyond], BALANCE).refusing(rows[unmatched], NO_QUERY)
    found.save(saved)
    shutil.rmtree(vectors, ignore_errors=True)
    return found


def _written(
    paths: Sequence[Path], out: Path, looks: Looks, decisions: Decisions, settings: FilterSettings,
    usable: UsableCaptions, forgotten: Forgotten, progress: Progress,
) -> FilterResult:  # fmt: skip
    sets, limits = len(_sets(settings)), settings.limits
    flags = unsafe_names(looks, limits) if limits.unsafe else [()] * looks.rows
    left, left_out = _written_before(out), _LeftOut(out / _WORK / "left_out")
    total, done = sum(path.stat().st_size for path in paths), 0
    with ShardWriter(out, pairs_per_shard=settings.pairs_per_shard) as writer:
        for number, path in enumerate(paths):
            first, look = int(looks.starts[sets + number]), looks[sets + number]
            skipped = decisions.codes[first : first + len(look.keys)] != 0
            skipped[[row - first for row in left_out.rows if first <= row < first + len(look.keys)]] = True
            kept = np.flatnonzero(~skipped)
            skipped[kept[:left]] = True
            left -= min(left, len(kept))
            rows = np.flatnonzero(~skipped)
            read = read_shard(path, size=settings.size, rules=settings.picture_rules, skipped=skipped)
            for at, (key, pair) in zip(rows, read, strict=True):
                if not isinstance(pair, Pair) or key != look.keys[at]:
                    raise DataError(f"{path} has changed while it was filtered, at {key}; filter it again.")
                if forgotten.covers(url=pair.found.picture_url, sha256=pair.picture.sha256):
                    left_out.add(first + int(at))  # asked for after the run had decided
                    continue
                writer.add(_finished(pair, usable(pair), look, int(at), flags[first + at]))
            writer.sync()
            progress(done := done + path.stat().st_size, total)
    result = _result(out, looks, decisions, sets, flags)
    captions = Removed()
    for number in range(len(paths)):
        captions.merge(Removed.from_json(_notes(out / _WORK, number).read_text(encoding="utf-8")))
    write_filter_report(result, paths, looks, decisions, sets, flags, captions, limits.unsafe)
    return result


class _LeftOut:
    """The rows that were left out while pairs were written, in a file with a line each: a run that goes on counts the
    pairs that are written, and these are none of them."""

    def __init__(self, path: Path):
        text = path.read_text(encoding="ascii") if path.exists() else ""
        self._path = path
        self.rows = {int(line) for line in text.splitlines(keepends=True) if line.endswith("\n")}

    def add(self, row: int) -> None:
        """Note a row, before any pair after it is written."""
        self.rows.add(row)
        atomic_write_text(self._path, "".join(f"{each}\n" for each in sorted(self.rows)))


def _written_before(out: Path) -> int:
    """How many pairs an earlier run has written, with those that were removed since on request: they are not written
    once more."""
    import pyarrow.parquet as pq

    unfinished = open_shards(out)  # one may have its table already
    tables = [path for number, path in shard_files(out) if path.suffix == ".parquet" and number not in unfinished]
    keys = {key for path in tables for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}
    keys |= {Path(picture).stem for each in read_removed(out).values() for picture in each.pictures}
    return len(keys) + sum(sum(1 for _ in stored_pairs(open_path(out, number))) for number in unfinished)


def _finished(pair: Pair, captions: tuple[str, ...] | str, look: Look, at: int, flags: tuple[str, ...]) -> Pair:
    """The pair with the captions that may be used, the one that fits best first, its scores and flags."""
    words = [next(each for each in pair.captions if each.text == text) for text in captions]
    words.insert(0, words.pop(int(look.best[at])))
    scores = dict(zip(look.score_names, map(float, look.scores[at]), strict=True))
    return replace(
        pair, captions=tuple(words), scores={**pair.scores, **scores},
        flags=tuple(dict.fromkeys([*pair.flags, *(flag.replace(" ", "-") for flag in flags)])),
    )  # fmt: skip


def _result(out: Path, looks: Looks, decisions: Decisions, sets: int, flags: list[tuple[str, ...]]) -> FilterResult:
    first = int(looks.starts[sets])
    codes = decisions.codes[first:]
    counts = Counter(decisions.reasons[code] for code in codes if code)
    flagged = Counter(name for row in first + np.flatnonzero(codes == 0) for name in flags[row])
    return FilterResult(
        out, len(codes), int((codes == 0).sum()), dict(counts.most_common()), dict(flagged), decisions.least
    )
