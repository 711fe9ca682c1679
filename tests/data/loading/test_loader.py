"""The loader: its order is repeatable and can be gone on with, processes share the work, broken samples cost
themselves."""

import io
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.data.loading.augmentation import NONE, Augmentation
from diptych.data.loading.loader import Batch, Loader, shares
from diptych.data.loading.plan import MixtureSource, Plan, merged_position
from diptych.data.loading.stream import Cursor
from diptych.data.samples import Region, Sample, Stream
from diptych.data.sources.opening import open_source
from diptych.errors import DataError


def jpeg(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def loader(shards: Path, **options) -> Loader:
    source = open_source(shards)
    return Loader([MixtureSource(source, len(source), Augmentation())], **{"batch_size": 20, "size_px": 32, **options})


def epochs(one: Loader, count: int = 1, position: dict | None = None) -> list[Batch]:
    return list(islice(one.batches(position), count * one.batches_per_epoch))


def same(one: Batch, two: Batch) -> bool:
    arrays = all(np.array_equal(one[i], two[i]) for i in (0, 2, 3))
    return arrays and one.captions == two.captions and (one.epoch, one.position) == (two.epoch, two.position)


class Numbers:
    """A source of `count` pictures of one colour, caption "number i"; those in `broken` are none."""

    form = "a test"

    def __init__(self, count: int, broken: frozenset[int] = frozenset(), name: str = "number"):
        self.count, self.broken, self.name, self.skipped = count, broken, name, {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        picture = b"nonsense" if index in self.broken else jpeg((index % 256, 0, 0), (8, 8))
        return Sample(picture, self.captions(index), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.key(index),)

    def key(self, index: int) -> str:
        return f"{self.name} {index}"


class Shards:
    """A fetch for a Stream: shard "name:count" has that many samples; "bad" cannot be fetched."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def __call__(self, shard: str, folder: Path) -> Numbers:
        self.fetched.append(shard)
        name, _, count = shard.partition(":")
        if name.startswith("bad"):
            raise DataError(f"{shard} is gone", "not found")
        (folder / "file").write_text("as large as a shard")
        return Numbers(int(count), name=name)


def stream(*sizes: int) -> Stream:
    return Stream([f"s{i}:{size}" for i, size in enumerate(sizes)], Shards(), "a test")


# --- order


class Dogs(Numbers):
    """One caption for all."""

    def captions(self, index: int) -> tuple[str, ...]:
        return ("A brown dog on grass.",)


def test_an_epoch_is_every_picture_once_in_another_order(shards: Path) -> None:
    plain = loader(shards, batch_size=48)
    plain.sources[0] = plain.sources[0]._replace(augmentation=NONE)
    batches = epochs(plain, 2)
    assert [batch.epoch for batch in batches] == [0, 0, 1, 1]
    first, second = ([b.pixels for b in batches if b.epoch == epoch] for epoch in (0, 1))
    assert [len(pixels) for pixels in first] == [48, 48]
    one, two = ({p.tobytes() for p in np.concatenate(pixels)} for pixels in (first, second))
    assert one == two
    assert len(one) == 96
    assert not np.array_equal(first[0], second[0])


def test_what_captions_name_are_regions_where_that_is_asked_for() -> None:
    """Nothing but places learns from them, and they would travel between processes."""

    def named(**options: bool) -> list[list[Region]]:
        return next(Loader([MixtureSource(Dogs(4), 4, NONE)], batch_size=4, size_px=8, **options).batches()).regions

    assert named() == [[]] * 4
    for regions in named(phrases=True):
        assert {region.phrase for region in regions} == {"brown dog", "brown", "dog", "grass"}
        assert {region.box for region in regions} == {None}


def test_batches_depend_on_the_seed_alone(shards: Path) -> None:
    one, two = (epochs(loader(shards, threads=threads, seed=5), 2) for threads in (1, 4))
    assert all(map(same, one, two))
    assert not np.array_equal(next(loader(shards, seed=6).batches()).pixels, one[0].pixels)


def test_two_processes_read_what_one_would(shards: Path) -> None:
    whole = epochs(loader(shards))
    halves = [epochs(loader(shards, rank=rank, world_size=2)) for rank in (0, 1)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert [len(part.pixels) for part in parts] == [10, 10]
        assert {p.tobytes() for p in batch.pixels} == {p.tobytes() for part in parts for p in part.pixels}
        assert parts[0].position == parts[1].position == batch.position


def test_several_captions_name_their_picture(shards: Path) -> None:
    batch = next(loader(shards, captions_per_image=3).batches())
    assert len(batch.captions) == len(batch.owners)
    counts = np.bincount(batch.owners, minlength=20)
    assert counts.min() >= 1
    assert counts.max() == 3


def test_equal_pictures_have_equal_ids(shards: Path) -> None:
    twice = loader(shards, batch_size=96)
    twice.sources.append(twice.sources[0])
    ids = np.concatenate([batch.picture_ids for batch in epochs(twice)])
    assert set(Counter(ids.tolist()).values()) == {2}
    assert len(set(ids.tolist())) == 96


# --- going on


def test_a_position_gives_the_batches_that_would_have_followed(shards: Path) -> None:
    """Through JSON, across the ends of epochs, with the random changes of each sample."""
    uninterrupted = epochs(loader(shards, size_px=8), 3)
    assert len(uninterrupted) == 12
    for after in (0, 2, 3, 10):
        position = json.loads(json.dumps(uninterrupted[after].position))
        rest = islice(loader(shards, size_px=8, threads=1).batches(position), 11 - after)
        assert all(map(same, uninterrupted[after + 1 :], rest))


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(5, 60), st.integers(1, 9), st.integers(1, 3), st.integers(0, 20))
def test_any_position_of_any_mixture(count: int, share: int, batch_size: int, world: int, after: int) -> None:
    """Any source size, share, batch size, rank; and the processes together read each batch of one."""
    parts = [MixtureSource(Numbers(count), share, NONE), MixtureSource(Numbers(7, name="other"), 10, NONE)]
    size = max(batch_size, world)
    whole = [picks(parts, 22, rank, world, size=size) for rank in range(world)]
    assert whole[0][after + 1 :] == picks(parts, 21 - after, 0, world, whole[0][after][1], size=size)
    for alone, *shared in zip(picks(parts, 22, size=size), *whole, strict=True):
        assert sorted(alone[0]) == sorted(key for keys, _ in shared for key in keys)


def test_another_batch_size_goes_on_at_the_sample() -> None:
    def captions(size: int, count: int, position: dict | None = None) -> list[str]:
        one = Loader([MixtureSource(Numbers(60), 60, NONE)], batch_size=size, size_px=8)
        batches = list(islice(one.batches(position), count))
        positions.append(batches[-1].position)
        return [caption for batch in batches for caption in batch.captions]

    positions: list[dict] = []
    assert captions(10, 2) + captions(20, 2, positions[0]) == captions(10, 6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"sources": [MixtureSource(Numbers(61), 60, NONE)]}, r"sizes was \[60\] and is \[61\]"),
    ],
)
def test_a_position_of_other_data_is_refused(changes: dict, said: str) -> None:
    plain: dict = {"sources": [MixtureSource(Numbers(60), 60, NONE)], "batch_size": 20, "size_px": 8}
    position = next(Loader(**plain).batches()).position
    with pytest.raises(DataError, match=said):
        next(Loader(**plain | changes).batches(position))


# --- mixtures


def test_a_small_share_sees_all_before_one_twice() -> None:
    """Passes over a source go on across epochs: 4 epochs of 15 are all 60 samples, in an order of their own."""
    mixed = Loader(
        [MixtureSource(Numbers(60), 15, NONE), MixtureSource(Numbers(5, name="few"), 10, NONE)],
        batch_size=25,
        size_px=8,
    )
    batches = epochs(mixed, 4)
    counts = Counter(caption for batch in batches for caption in batch.captions)
    assert counts == {f"number {i}": 1 for i in range(60)} | {f"few {i}": 8 for i in range(5)}
    first = sorted(int(c.split()[1]) for c in batches[0].captions if c.startswith("number"))
    assert first[-1] - first[0] > 30  # of the whole source, not its first quarter


def test_shares_of_a_mixture() -> None:
    few, many = Numbers(100), Numbers(900)
    assert shares([few, many]) == [100, 900]
    assert shares([few, many], samples_per_epoch=50) == [5, 45]
    assert shares([few, many], (1, 1)) == [500, 500]
    assert shares([few, stream(7)], (3, 1), 400) == [300, 100]
    assert shares([stream(7)], samples_per_epoch=40) == [40]
    with pytest.raises(DataError, match="set samples_per_epoch"):
        shares([stream(7)])
    with pytest.raises(DataError, match="set weights"):
        shares([few, stream(7)], samples_per_epoch=10)
    with pytest.raises(DataError, match="one number of 0 or more for each"):
        shares([few], (1, 2))


# --- broken samples


def test_another_sample_stands_in_for_a_broken_one() -> None:
    source = Numbers(40, frozenset({3}))
    batches = epochs(Loader([MixtureSource(source, 40, NONE)], batch_size=20, size_px=32), 2)
    assert [len(batch.pixels) for batch in batches] == [20] * 4
    captions = [caption for batch in batches[:2] for caption in batch.captions]
    assert "number 3" not in captions
    assert {*captions} == {f"number {i}" for i in range(40)} - {"number 3"}
    for batch in batches:  # the stand-in's picture and its caption
        reds = [int(caption.split()[1]) for caption in batch.captions]
        np.testing.assert_allclose(batch.pixels[:, 0, 0, 0], reds, atol=3)


def test_broken_samples_are_named_by_reason(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i}.jpg").write_bytes(b"" if i == 3 else jpeg())
        (tmp_path / f"{i}.txt").write_text("x")
    plain = Loader([MixtureSource(open_source(tmp_path), 40, NONE)], batch_size=20, size_px=32)
    epochs(plain, 2)
    assert [(Path(key).name, bad.reason) for key, bad in plain.bad.items()] == [("3.jpg", "empty file")]
    assert plain.reasons() == f"1 empty file ({tmp_path / '3.jpg'})"


def test_too_many_broken_samples_stop_the_run() -> None:
    half = Numbers(400, frozenset(range(0, 400, 2)))
    one = Loader([MixtureSource(half, 400, NONE)], batch_size=20, size_px=32)
    with pytest.raises(DataError, match=r"[45]\d of 400 samples are unusable: \d+ not an image \(number \d+\)"):
        epochs(one)
    assert len(epochs(Loader([MixtureSource(half, 400, NONE)], batch_size=20, size_px=32, max_bad=0.6))) == 20


def test_the_share_is_that_of_all_samples_however_few_an_epoch_takes() -> None:
    """One in fifty, over 40 epochs of 100: more broken ones than a tenth of an epoch, but not than a tenth of all."""
    source = Numbers(5000, frozenset(range(0, 5000, 50)))
    one = Loader([MixtureSource(source, 100, NONE)], batch_size=50, size_px=8)
    epochs(one, 40)
    assert 60 < len(one.bad) < 100


def test_many_broken_samples_of_a_huge_source_stop_the_run_early() -> None:
    """At a tenth of the first thousand, not at a tenth of a million."""
    third = Numbers(10**6, frozenset(range(0, 10**6, 3)))
    one = Loader([MixtureSource(third, 10**6, NONE)], batch_size=50, size_px=8)
    with pytest.raises(DataError, match=r"10\d of 1000 samples"):
        epochs(one)


def test_a_source_with_nothing_usable_says_so() -> None:
    nothing = Numbers(30, frozenset(range(30)))
    with pytest.raises(DataError, match=r"50 samples in a row are unusable: \d+ not an image"):
        next(Loader([MixtureSource(nothing, 30, NONE)], batch_size=10, size_px=8).batches())


def test_a_batch_larger_than_the_data_says_so(shards: Path) -> None:
    with pytest.raises(DataError, match="96 samples fill no batch of 200"):
        loader(shards, batch_size=200)


# --- streams


def picks(
    parts: list[MixtureSource], count: int, rank: int = 0, world: int = 1, position: dict | None = None, size: int = 12
):
    """(keys of each batch, position after it), without decoding anything."""
    plan = Plan(parts, size, 0, rank, world, lambda *_: None)
    batches = islice(plan.batches(position), count)
    return [([pick.source.key(pick.index) for pick in batch.picks], batch.position) for batch in batches]


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=11)


@settings(max_examples=15)
@given(sizes, st.integers(1, 4))
def test_lanes_share_a_pass_without_overlap(sizes: list[int], lanes: int) -> None:
    """In each pass the samples of all lanes together are all samples, each once."""
    everything = sorted(f"s{i} {j}" for i, size in enumerate(sizes) for j in range(size))
    passes: dict[int, list[str]] = {0: [], 1: []}
    for lane in range(min(lanes, len(sizes))):
        cursor = Cursor(stream(*sizes), (0,), lane, min(lanes, len(sizes)), lambda *_: None)
        while (taken := cursor.next_sample()).stream_position[0] < 2:
            passes[taken.stream_position[0]].append(taken.source.key(taken.index))
    assert sorted(passes[0]) == sorted(passes[1]) == everything
    assert passes[0] != passes[1] or len(everything) < 5


def together(parts: list[MixtureSource], count: int, world: int, position: dict | None = None):
    """(keys of each batch in all processes, sorted, and their merged position after it)."""
    each = [picks(parts, count, rank, world, position) for rank in range(world)]
    return [
        (
            sorted(key for keys, _ in same for key in keys),
            json.loads(json.dumps(merged_position([at for _, at in same]))),
        )
        for same in zip(*each, strict=True)
    ]


@settings(max_examples=12)
@given(sizes, st.integers(0, 9))
def test_the_samples_of_a_stream_do_not_depend_on_the_processes(sizes: list[int], after: int) -> None:
    """1, 2 and 4 read the same batches; so does every number that continues what another began, more than there are
    lanes or shards among them."""
    parts = [
        MixtureSource(Numbers(50, name="indexed"), 18, NONE),
        MixtureSource(stream(*(9 + s for s in sizes)), 42, NONE),
    ]
    whole = together(parts, 12, 2)
    assert [keys for keys, _ in together(parts, 12, 1)] == [keys for keys, _ in together(parts, 12, 4)]
    assert [keys for keys, _ in whole] == [keys for keys, _ in together(parts, 12, 1)]
    for world in (1, 3, 5):
        assert together(parts, 11 - after, world, whole[after][1]) == whole[after + 1 :]
    of_three = together(parts, 12, 3)
    assert together(parts, 11 - after, 2, of_three[after][1]) == of_three[after + 1 :]


def test_each_process_fetches_the_shards_of_its_lanes_alone() -> None:
    """Four fetch what they read and four shards ahead, none that another fetches."""
    fetched: list[str] = []
    for rank in range(4):
        source = stream(*[6] * 40)
        picks([MixtureSource(source, 240, NONE)], 8, rank, 4)  # 24 samples of each of the four
        assert 4 <= len(source.fetch.fetched) <= 4 + 4
        fetched += source.fetch.fetched
    assert len(fetched) == len(set(fetched))


@settings(max_examples=12)
@given(sizes, st.integers(0, 20), st.integers(0, 2))
def test_a_stream_goes_on_where_it_was(sizes: list[int], after: int, rank: int) -> None:
    """Mixed with an indexed source, in any of three processes."""

    def run(count: int, position: dict | None = None):
        parts = [
            MixtureSource(Numbers(50, name="indexed"), 18, NONE),
            MixtureSource(stream(*(9 + s for s in sizes)), 42, NONE),
        ]
        return picks(parts, count, rank, 3, position)

    whole = run(24)
    rest = run(23 - after, json.loads(json.dumps(whole[after][1])))
    assert whole[after + 1 :] == rest


def test_going_on_fetches_one_block_and_the_next() -> None:
    long = stream(*[6] * 40)
    position = picks([MixtureSource(long, 240, NONE)], 15)[-1][1]
    fetch = Shards()
    again = Stream(long.shards, fetch, "a test")
    next(Plan([MixtureSource(again, 240, NONE)], 12, 0, 0, 1, lambda *_: None).batches(position))
    assert len(fetch.fetched) <= 8


def test_fetched_files_go_when_they_are_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    batches = Loader([MixtureSource(stream(*[10] * 20), 200, NONE)], batch_size=10, size_px=8).batches()
    held = [len(list(tmp_path.iterdir())) for _ in islice(batches, 100)]
    assert max(held) <= 3 * 4
    assert min(held) >= 1
    batches.close()


def test_lost_shards_are_named_and_the_rest_goes_on() -> None:
    one_bad = Stream(["bad", "s1:20", "s2:20", "s3:20"], Shards(), "a test")
    one = Loader([MixtureSource(one_bad, 60, NONE)], batch_size=20, size_px=8)
    captions = {caption for batch in epochs(one, 2) for caption in batch.captions}
    assert captions == {f"s{i} {j}" for i in (1, 2, 3) for j in range(20)}
    assert one.reasons() == "1 not found (bad)"
    two_bad = Stream(["bad", "s1:20", "bad2", "s3:20"], Shards(), "a test")
    with pytest.raises(DataError, match=r"2 of 4 shards cannot be fetched: 2 not found \(bad"):
        epochs(Loader([MixtureSource(two_bad, 60, NONE)], batch_size=20, size_px=8))


def test_shards_that_fail_at_times_do_not_add_up() -> None:
    """Each of ten shards is gone in one pass of ten: all are named, and the run goes on. A lost shard lets its lane run
    ahead, so that the passes overlap, and three of them may be missing at a time."""
    tries: dict[str, int] = {}

    def fetch(shard: str, folder: Path) -> Numbers:
        tries[shard] = tries.get(shard, 0) + 1
        if tries[shard] == 1 + int(shard):
            raise DataError(f"{shard} is busy", "HTTP 503")
        return Numbers(20)

    source = Stream([*"0123456789"], fetch, "a test")
    one = Loader([MixtureSource(source, 200, NONE)], batch_size=20, size_px=8, max_bad=0.35)
    epochs(one, 12)
    assert len(one.bad) == 10


def test_a_shard_of_nothing_but_broken_samples_costs_these_alone() -> None:
    """Stand-ins are other shards' samples, the same in every run."""

    def made() -> Loader:
        shards = {name: Numbers(40, frozenset(range(40)) if name == "2" else frozenset()) for name in "0123456789"}
        source = Stream(list(shards), lambda name, folder: shards[name], "", samples=400)
        return Loader([MixtureSource(source, 400, NONE)], batch_size=40, size_px=8)

    one, again = made(), made()
    batches = epochs(one)
    assert [len(batch.pixels) for batch in batches] == [40] * 10
    assert 20 < len(one.bad) <= 40
    assert {bad.reason for bad in one.bad.values()} == {"not an image"}
    assert all(map(same, batches, epochs(again)))
