"""What a training run is told."""

import math
from dataclasses import dataclass, field
from typing import Literal

from diptych.data.augment import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """A run, whole. Lengths are given in `epochs`, or in `minutes` of wall-clock, which then also paces the schedule.

    `scenes` is the share of drawn scenes in each epoch. `captions_per_image` captions of each picture are read at
    every step, all of them positives (the text tower is cheap beside the image tower, and each caption is one more
    negative for everyone else). `ema` averages the weights over about 1 / (1 - ema) steps; the average is what is
    evaluated and saved. `init` starts from a model's weights in place of random ones, at this run's `image_size`.
    """

    data: tuple[str, ...]
    val: str | None = None
    out: str = "runs/1"
    model: str = "resnet-small"
    init: str | None = None
    image_size: int | None = None
    vocab_size: int = 4096
    context: int = 40

    epochs: float = 30
    minutes: float | None = None
    batch_size: int = 256
    captions_per_image: int = 2
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema: float = 0.998
    drop_path: float = 0.1
    dropout: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)
    scenes: float = 0.0

    precision: Literal["bf16", "fp32"] = "bf16"
    device: str | None = None
    threads: int = 2
    seed: int = 0
    eval_every: int = 5

    def __post_init__(self) -> None:
        for name, least in {"epochs": 0, "batch_size": 2, "captions_per_image": 1, "lr": 0, "eval_every": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; wanted {least} or more.")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes is {self.minutes}; wanted more than 0, or none and a number of epochs.")
        if not self.data:
            raise ValueError("data is empty; name a folder of pairs, or shards.")
        if not 0 <= self.scenes < 1:
            raise ValueError(f"scenes is {self.scenes}; wanted a share from 0 to under 1.")
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision {self.precision!r} is not known; choose bf16 or fp32.")


def learning_rate(progress: float, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017, equation 5). `progress`: 0 to 1."""
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    done = min(1.0, (progress - config.warmup) / max(1e-9, 1 - config.warmup))
    return config.lr * (1 + math.cos(math.pi * done)) / 2
