"""What is in a source: counts, sizes, captions, what is broken, what is there twice, and how fast it is read."""

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

from diptych.data.duplicates import nearly_same, repeated, same, small_grey
from diptych.data.loading.augmentation import Augmentation
from diptych.data.loading.decoding import Bad, picture_of, why
from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import Part
from diptych.data.loading.stream import fetched
from diptych.data.samples import Layout, Sample, Source, Stream, count, layout_of
from diptych.data.varied import flaw
from diptych.errors import DataError, ImageError
from diptych.media.undecoded import opened_by_pillow

LIMIT, SHOWN = 10_000, 20
THUMBNAIL_PX = 160
ENOUGH, BARELY = 1.5, 1.0  # times the rate of training: a loader with less than half again has no room for slow moments


class Spread(NamedTuple):
    """How numbers are spread: the least, the middle, what 95 in 100 do not pass, the most."""

    least: float
    median: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """That of some numbers, at least one."""
        return cls(*(float(np.quantile(values, share)) for share in (0, 0.5, 0.95, 1)))


class Seen(NamedTuple):
    """What is kept of a sample: its picture's size and form as stored, a hash of its bytes, a tiny grey of it."""

    key: str
    size: tuple[int, int]
    form: str
    file_bytes: int
    digest: bytes
    grey: np.ndarray
    captions: tuple[str, ...]


@dataclass
class Inspection:
    """What a source holds. `looked` of `total` samples were read (None: the source does not know how many it has).

    `form` and `layout` are what it was recognised as, in words and in parts; `flaw` is why its captions teach nothing.
    `skipped` counts what is no pair, by reason; `broken` holds, by key, the samples and shards that cannot be read.
    `same_pictures` and `near_pictures` are groups of keys (identical files; nearly the same to look at), and
    `same_captions` pairs of a caption and how many pictures have it. `sheet` holds some pictures with their captions.
    """

    source: str
    form: str
    layout: Layout
    flaw: str | None
    total: int | None
    looked: int
    skipped: dict[str, int]
    broken: dict[str, Bad]
    formats: dict[str, int]
    short_side_px: Spread
    file_bytes: Spread
    captions_per_picture: Spread
    words: Spread
    characters: Spread
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
    """Samples a second: what the loader brings with so many `threads` or `workers`, and what the device trains. Where
    the device is the processor, both take turns on its cores."""

    loader: float
    device: float
    size_px: int
    threads: int
    workers: int
    shares_cores: bool = False

    @property
    def times(self) -> float:
        """How many times the device's rate the loader reaches."""
        return self.loader / self.device

    @property
    def verdict(self) -> str:
        """Whether the device will wait for data, and what to do about it."""
        if self.shares_cores:
            taken = self.device / (self.device + self.loader)
            return f"both share the processor: reading takes about {taken:.0%} of the time, training the rest"
        if self.times >= ENOUGH:
            return f"the loader brings {self.times:.1f} times what the device trains: it will not wait"
        if self.times >= BARELY:
            return f"the loader brings {self.times:.1f} times what the device trains: enough, but with nothing to spare"
        waits = 1 - self.times
        return f"the device would wait {waits:.0%} of the time: take more threads or workers, or store smaller pictures"


def inspect_source(
    source: Source | Stream,
    name: str,
    *,
    limit: int = LIMIT,
    shown: int = SHOWN,
    threads: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Read up to `limit` samples, evenly spread over the source (of a stream: its first), and say what they are.

    DataError where not one can be used. Memory grows by about a kilobyte a sample.
    """
    total = source.samples if isinstance(source, Stream) else len(source)
    expected = limit if total is None else min(limit, total)
    seen: list[Seen] = []
    broken: dict[str, Bad] = {}
    sheet: list[tuple[Image.Image, str]] = []
    every = max(1, expected // shown)
    for done, one in enumerate(_look_at(_places(source, limit, broken), threads), 1):
        if isinstance(one, tuple) and isinstance(one[1], Bad):
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


def _places(source: Source | Stream, limit: int, broken: dict[str, Bad]) -> Iterator[tuple[Source, int]]:
    """The samples to look at. Shards that cannot be had go to `broken`."""
    if not isinstance(source, Stream):
        picks = np.unique(np.linspace(0, len(source) - 1, min(limit, len(source))).astype(np.int64))
        yield from ((source, int(index)) for index in picks)
        return
    left = limit
    for shard in source.shards:
        try:
            part = fetched(source, shard)
        except (DataError, OSError) as error:
            broken.update([why(shard, error)])
            continue
        for reason, number in part.skipped.items():
            count(source.skipped, reason, number)
        yield from ((part, index) for index in range(min(left, len(part))))
        if (left := left - len(part)) <= 0:
            return


def _look_at(places: Iterator[tuple[Source, int]], threads: int) -> Iterator[tuple]:
    """(Seen, thumbnail) or (key, Bad) of each, in order."""
    with ThreadPoolExecutor(threads, thread_name_prefix="diptych-inspect") as pool:
        while chunk := list(islice(places, 64 * threads)):
            yield from pool.map(_look, *zip(*chunk, strict=True))


def _look(source: Source, index: int) -> tuple[Seen, Image.Image] | tuple[str, Bad]:
    try:
        sample = source[index]
        picture = picture_of(sample, THUMBNAIL_PX)
        size, form, data = _as_stored(sample)
    except (ImageError, DataError, OSError) as error:
        return why(source.key(index), error)
    digest = hashlib.blake2b(data, digest_size=16).digest()
    seen = Seen(source.key(index), size, form, len(data), digest, small_grey(picture), sample.captions)
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return seen, picture


def _as_stored(sample: Sample) -> tuple[tuple[int, int], str, bytes]:
    if isinstance(sample.image, Image.Image):
        return sample.image.size, "open", sample.image.tobytes()
    with opened_by_pillow(io.BytesIO(sample.image)) as image:
        return image.size, image.format or "other", sample.image


def _summary(
    source: Source | Stream, name: str, total: int | None, seen: list[Seen], broken: dict[str, Bad],
    sheet: list[tuple[Image.Image, str]],
) -> Inspection:  # fmt: skip
    captions = [caption for one in seen for caption in one.captions]
    word_counts = [len(caption.split()) for caption in captions]
    sides = [min(one.size) for one in seen]
    twins = same(one.digest for one in seen)
    firsts = sorted({*range(len(seen))} - {index for group in twins for index in group[1:]})  # one of each file
    near = [[firsts[i] for i in group] for group in nearly_same(np.stack([seen[i].grey for i in firsts]))]
    return Inspection(
        source=name, form=source.form, layout=layout_of(source), flaw=flaw(source),
        total=total, looked=len(seen) + len(broken),
        skipped=dict(source.skipped), broken=broken, formats=dict(Counter(one.form for one in seen).most_common()),
        short_side_px=Spread.of(sides), file_bytes=Spread.of([one.file_bytes for one in seen]),
        captions_per_picture=Spread.of([len(one.captions) for one in seen]),
        words=Spread.of(word_counts), characters=Spread.of([len(caption) for caption in captions]),
        same_pictures=[[seen[i].key for i in group] for group in twins],
        near_pictures=[[seen[i].key for i in group] for group in near],
        same_captions=repeated([one.captions for one in seen]),
        word_counts=word_counts, short_sides_px=sides, sheet=sheet,
    )  # fmt: skip


def loader_rate(
    source: Source | Stream, size_px: int, *, threads: int = 2, workers: int = 0, batch_size: int = 64,
    seconds: float = 3.0,
) -> float:  # fmt: skip
    """Samples a second that the loader brings when nobody else takes time, measured once it runs evenly."""
    known = source.samples if isinstance(source, Stream) else len(source)
    batch_size = min(batch_size, known or batch_size)
    parts = [Part(source, known or batch_size, Augmentation())]
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
