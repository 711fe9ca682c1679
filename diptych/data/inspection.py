"""Inspects a source: counts, sizes, captions, broken and duplicate samples, and reading speed."""

import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from diptych.data.caption_variety import monotony
from diptych.data.duplicates import nearly_same, repeated, same, small_grey
from diptych.data.loading.augmentation import Augmentation
from diptych.data.loading.decoding import BadSample, failure_of, picture_of
from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import MixtureSource
from diptych.data.loading.stream import fetched
from diptych.data.samples import Layout, Sample, Source, Stream, count, layout_of
from diptych.errors import DataError, ImageError
from diptych.media.undecoded import opened_by_pillow

MAX_SAMPLES, SHEET_SAMPLES = 10_000, 20
THUMBNAIL_PX = 160
READY_RATIO, MIN_RATIO = (
    1.5,
    1.0,
)  # times the rate of training: a loader below 1.5 times has no margin for slow batches


class Quantiles(NamedTuple):
    """The minimum, median, 95th percentile and maximum."""

    least: float
    median: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Quantiles":
        """The quantiles of one or more numbers."""
        return cls(*(float(np.quantile(values, share)) for share in (0, 0.5, 0.95, 1)))


class SampleStats(NamedTuple):
    """Statistics of a sample: its picture's stored size and format, a hash of its bytes, a small grey version."""

    key: str
    size: tuple[int, int]
    form: str
    file_bytes: int
    digest: bytes
    grey: np.ndarray
    captions: tuple[str, ...]


@dataclass
class Inspection:
    """The contents of a source. `looked` of `total` samples were read; `total` is None if it is unknown.

    `form` and `layout` describe the recognised layout; `flaw` explains why the captions are useless for training.
    `skipped` counts contents that are not pairs, by reason; `broken` has unreadable samples and shards by key.
    `same_pictures` and `near_pictures` are groups of keys of identical files and of near duplicates; `same_captions`
    are captions of several pictures with their counts. `sheet` has some pictures with a caption.
    """

    source: str
    form: str
    layout: Layout
    flaw: str | None
    total: int | None
    looked: int
    skipped: dict[str, int]
    broken: dict[str, BadSample]
    formats: dict[str, int]
    short_side_px: Quantiles
    file_bytes: Quantiles
    captions_per_picture: Quantiles
    words: Quantiles
    characters: Quantiles
    same_pictures: list[list[str]]
    near_pictures: list[list[str]]
    same_captions: list[tuple[str, int]]
    word_counts: list[int]
    short_sides_px: list[int]
    sheet: list[tuple[Image.Image, str]]

    @property
    def usable(self) -> int:
        """Samples that could be read."""
        return len(self.short_sides_px)


class Speed(NamedTuple):
    """Samples per second of the loader, with `threads` or `workers`, and of training on the device. With
    `shares_cores`, the device is the CPU, and both use its cores."""

    loader: float
    device: float
    size_px: int
    threads: int
    workers: int
    shares_cores: bool = False

    @property
    def times(self) -> float:
        """The loader's speed divided by the device's."""
        return self.loader / self.device

    @property
    def verdict(self) -> str:
        """Whether the device will wait for data, and the remedy."""
        if self.shares_cores:
            taken = self.device / (self.device + self.loader)
            return f"both share the CPU: reading takes about {taken:.0%} of the time, training the rest"
        if self.times >= READY_RATIO:
            return f"the loader reads {self.times:.1f} times as fast as the device trains: the device will not wait"
        if self.times >= MIN_RATIO:
            return f"the loader reads {self.times:.1f} times as fast as the device trains: enough, without a margin"
        waits = 1 - self.times
        return f"the device would wait {waits:.0%} of the time: use more threads or workers, or store smaller pictures"


def inspect_source(
    source: Source | Stream,
    name: str,
    *,
    limit: int = MAX_SAMPLES,
    shown: int = SHEET_SAMPLES,
    threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Inspect up to `limit` samples, evenly spread over the source (the first ones of a stream). Needs about a
    kilobyte of memory for each sample. Raises DataError if no sample is usable."""
    total = source.samples if isinstance(source, Stream) else len(source)
    expected = limit if total is None else min(limit, total)
    seen: list[SampleStats] = []
    broken: dict[str, BadSample] = {}
    sheet: list[tuple[Image.Image, str]] = []
    every = max(1, expected // shown)
    for done, one in enumerate(_read_all(_sample_positions(source, limit, broken), threads), 1):
        if isinstance(one, tuple) and isinstance(one[1], BadSample):
            broken[one[0]] = one[1]
        else:
            fact, thumbnail = one
            seen.append(fact)
            if len(seen) % every == 1 % every and len(sheet) < shown:
                sheet.append((thumbnail, fact.captions[0]))
        progress(done, max(done, expected))
    if not seen:
        raise DataError(
            f"not one of {len(broken)} samples of {name} can be used: {next(iter(broken.values())).message}"
        )
    return _summary(source, name, total, seen, broken, sheet)


def _sample_positions(
    source: Source | Stream, limit: int, broken: dict[str, BadSample]
) -> Iterator[tuple[Source, int]]:
    """The samples to inspect. Shards that cannot be fetched are added to `broken`."""
    if not isinstance(source, Stream):
        picks = np.unique(np.linspace(0, len(source) - 1, min(limit, len(source))).astype(np.int64))
        yield from ((source, int(index)) for index in picks)
        return
    left = limit
    for shard in source.shards:
        try:
            part = fetched(source, shard)
        except (DataError, OSError) as error:
            broken.update([failure_of(shard, error)])
            continue
        for reason, number in part.skipped.items():
            count(source.skipped, reason, number)
        yield from ((part, index) for index in range(min(left, len(part))))
        if (left := left - len(part)) <= 0:
            return


def _read_all(positions: Iterator[tuple[Source, int]], threads: int) -> Iterator[tuple]:
    """(SampleStats, thumbnail) or (key, BadSample) of each, in order."""
    with ThreadPoolExecutor(threads, thread_name_prefix="diptych-inspect") as pool:
        while chunk := list(islice(positions, 64 * threads)):
            yield from pool.map(_read_one, *zip(*chunk, strict=True))


def _read_one(source: Source, index: int) -> tuple[SampleStats, Image.Image] | tuple[str, BadSample]:
    try:
        sample = source[index]
        picture = picture_of(sample, THUMBNAIL_PX)
        size, form, data = _as_stored(sample)
    except (ImageError, DataError, OSError) as error:
        return failure_of(source.key(index), error)
    digest = hashlib.blake2b(data, digest_size=16).digest()
    seen = SampleStats(source.key(index), size, form, len(data), digest, small_grey(picture), sample.captions)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return seen, picture


def _as_stored(sample: Sample) -> tuple[tuple[int, int], str, bytes]:
    if isinstance(sample.image, Image.Image):
        return sample.image.size, "open", sample.image.tobytes()
    with opened_by_pillow(io.BytesIO(sample.image)) as image:
        return image.size, image.format or "other", sample.image


def _summary(
    source: Source | Stream, name: str, total: int | None, seen: list[SampleStats], broken: dict[str, BadSample],
    sheet: list[tuple[Image.Image, str]],
) -> Inspection:  # fmt: skip
    captions = [caption for one in seen for caption in one.captions]
    word_counts = [len(caption.split()) for caption in captions]
    sides = [min(one.size) for one in seen]
    twins = same(one.digest for one in seen)
    firsts = sorted({*range(len(seen))} - {index for group in twins for index in group[1:]})  # one of each file
    near = [[firsts[i] for i in group] for group in nearly_same(np.stack([seen[i].grey for i in firsts]))]
    return Inspection(
        source=name, form=source.form, layout=layout_of(source), flaw=monotony(source),
        total=total, looked=len(seen) + len(broken),
        skipped=dict(source.skipped), broken=broken, formats=dict(Counter(one.form for one in seen).most_common()),
        short_side_px=Quantiles.of(sides), file_bytes=Quantiles.of([one.file_bytes for one in seen]),
        captions_per_picture=Quantiles.of([len(one.captions) for one in seen]),
        words=Quantiles.of(word_counts), characters=Quantiles.of([len(caption) for caption in captions]),
        same_pictures=[[seen[i].key for i in group] for group in twins],
        near_pictures=[[seen[i].key for i in group] for group in near],
        same_captions=repeated([one.captions for one in seen]),
        word_counts=word_counts, short_sides_px=sides, sheet=sheet,
    )  # fmt: skip


def loader_rate(
    source: Source | Stream, size_px: int, *, threads: int = 2, workers: int = 0, batch_size: int = 64,
    seconds: float = 3.0,
) -> float:  # fmt: skip
    """Samples per second of the loader alone, measured after it has warmed up."""
    known = source.samples if isinstance(source, Stream) else len(source)
    batch_size = min(batch_size, known or batch_size)
    parts = [MixtureSource(source, known or batch_size, Augmentation())]
    loader = Loader(parts, batch_size, size_px, 2, threads=threads, workers=workers, max_bad=1.0)
    batches = loader.batches()
    try:
        for _ in range(1 + 2 * workers):
            next(batches)
        started, read = time.perf_counter(), 0
        while (passed := time.perf_counter() - started) < seconds:
            read += len(next(batches).pixels)
        return read / passed
    finally:
        batches.close()
