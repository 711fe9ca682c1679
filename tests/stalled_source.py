"""A run whose data stop coming, for tests/training/run/test_checkpoints.py: a module, so that a
loader's process can import it."""

import threading
from pathlib import Path

from diptych.data.samples import Sample
from diptych.data.sources.shards import ShardSource
from diptych.training import setup
from diptych.training.config import TrainConfig
from diptych.training.trainer import Trainer, train

SAMPLES = 80  # that come


class Stalling(ShardSource):
    """Says when the first sample that does not come is asked for."""

    read = 0

    def __getitem__(self, index: int) -> Sample:
        type(self).read += 1
        if self.read > SAMPLES:
            print("stalls", flush=True)
            threading.Event().wait()
        return super().__getitem__(index)


def begin(config: TrainConfig) -> None:
    """Train, saying each step; it never ends by itself."""
    account = Trainer._record_step
    Trainer._record_step = lambda *numbers: (account(*numbers), print("step", flush=True))  # type: ignore[method-assign]
    setup.open_source = lambda *_, **__: Stalling(sorted(Path(config.data[0]).glob("*.tar")))  # type: ignore[assignment]
    train(config)
