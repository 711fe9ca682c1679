"""Loader processes: they give what threads give, their deaths are errors, and they end with the run."""

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from diptych.data.loading.augmentation import NONE, Augmentation
from diptych.data.loading.decoding import Decoder
from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import MixtureSource, Pick
from diptych.data.loading.workers import Workers
from diptych.data.samples import Sample
from diptych.errors import DataError
from tests.data.loading.test_loader import Numbers, epochs, loader, same, stream


class Deadly(Numbers):
    """A sample that takes its process with it."""

    def __getitem__(self, index: int) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_workers_give_what_threads_give(shards: Path) -> None:
    """With a stream in the mixture, whose sources go to the workers while they run; and from a position."""
    parts = [loader(shards).sources[0], MixtureSource(stream(30, 30, 30, 30, 30), 60, Augmentation())]
    common: dict = {"batch_size": 30, "size_px": 24, "captions_per_image": 2, "seed": 3}
    plain = epochs(Loader(parts, **common), 2)
    assert all(map(same, plain, epochs(Loader(parts, **common, workers=2), 2)))
    assert same(plain[4], next(Loader(parts, **common, workers=1).batches(plain[3].position)))


def test_a_worker_that_dies_is_an_error() -> None:
    one = Loader([MixtureSource(Deadly(50), 50, NONE)], batch_size=10, size_px=8, workers=1)
    with pytest.raises(
        DataError,
        match=r"loader process 1 of 1 died \(signal SIGKILL\).* use fewer workers\. workers=0 reads in threads",
    ):
        next(one.batches())


def test_what_is_broken_in_a_worker_is_said() -> None:
    nothing = Numbers(30, frozenset(range(30)))
    with pytest.raises(DataError, match="50 samples in a row are unusable"):
        next(Loader([MixtureSource(nothing, 30, NONE)], batch_size=10, size_px=8, workers=1).batches())
    unsendable = Numbers(30)
    unsendable.lock = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"cannot be sent to another process .* Set workers=0"):
        next(Loader([MixtureSource(unsendable, 30, NONE)], batch_size=10, size_px=8, workers=1).batches())


class Counted(Numbers):
    """It counts how often it is sent to another process."""

    sent = 0

    def __getstate__(self) -> dict:
        self.sent += 1
        return self.__dict__ | {"sent": 0}


def test_a_whole_source_is_sent_once() -> None:
    rare, common = Counted(10, name="rare"), Counted(100)
    parts = [
        MixtureSource(rare, 10, NONE),
        MixtureSource(common, 100, NONE),
        MixtureSource(stream(20, 20, 20, 20, 20, 20, 20, 20), 40, NONE),
    ]
    one = Loader(parts, batch_size=5, size_px=8, workers=1)
    needed = ["rare" in " ".join(batch.captions) for batch in epochs(one, 2)]
    assert sum(now and not before for before, now in pairwise(needed)) > 1  # it was away, and came again
    assert (rare.sent, common.sent) == (1, 1)


def test_workers_hold_no_shard_longer_than_it_is_needed() -> None:
    whole, first, second = Numbers(4), Numbers(4), Numbers(4)
    with Workers(1, Decoder(8, 1, (NONE,)), 1, resident=[whole]) as workers:
        for source in (whole, first, second, second, whole):
            workers.submit([Pick(0, source, 0, (1,))])
            workers.result()
            assert list(workers._held[0].values()) == [whole, *([] if source is whole else [source])]


RAISES = """
import sys
sys.path.insert(0, {tests!r})
from diptych.data.loading.augmentation import NONE
from diptych.data.loading.loader import Loader
from diptych.data.loading.plan import MixtureSource
from tests.data.loading.test_loader import Numbers

def main():
    batches = Loader([MixtureSource(Numbers(50), 50, NONE)], batch_size=10, size_px=8, workers=1).batches()
    next(batches)
    raise ZeroDivisionError

if __name__ == "__main__":
    main()
"""


def test_a_script_that_raises_ends_with_its_workers(tmp_path: Path) -> None:
    """The uncaught error holds the frame, the frame the generator, and that the pipes that the workers listen at."""
    script = tmp_path / "script.py"
    script.write_text(RAISES.format(tests=str(Path(__file__).parents[2])))
    done = subprocess.run([sys.executable, script], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
