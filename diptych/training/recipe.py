"""What a training run is told."""

import math
from dataclasses import dataclass, field
from typing import Literal

from diptych.data.augment import Augmentation

# Each number's least value, and the one that it stays under.
RANGES = {
    "epochs": (0, math.inf), "batch_size": (2, math.inf), "captions_per_image": (1, math.inf), "lr": (0, math.inf),
    "eval_every": (1, math.inf), "threads": (1, math.inf), "seed": (0, math.inf), "weight_decay": (0, math.inf),
    "warmup": (0, 1), "ema": (0, 1), "drop_path": (0, 1), "dropout": (0, 1), "scenes": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """A run, whole. Lengths are given in `epochs`, or in `minutes` of wall-clock, which then also paces the schedule.

    `scenes` is the share of drawn scenes in each epoch. `captions_per_image` captions of each picture are read at
    every step, all of them positives (the text tower is cheap beside the image tower, and each caption is one more
    negative for everyone else). `ema` averages the weights over about 1 / (1 - ema) steps; the average is what is
    evaluated and saved. `init` starts from a model in place of `model`'s random weights: its tokenizer and its
    preprocessing come with it, at this run's `image_size`. `batch_size` counts the pictures of all processes together.
    `out` is the run's folder, by default the first free one of runs/1, runs/2, .... One with a run in it is refused.
    """

    data: tuple[str, ...]
    val: str | None = None
    out: str | None = None
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
        if isinstance(self.data, str) or not self.data:
            raise ValueError(f"data is {self.data!r}; wanted a tuple with one or more folders of pairs, or shards.")
        for name, (least, below) in RANGES.items():
            if not least <= getattr(self, name) < below:
                end = "" if below == math.inf else f" and under {below}"
                raise ValueError(f"{name} is {getattr(self, name)}; wanted {least} or more{end}.")
        for name in ("minutes", "clip_norm"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name} is {value}; wanted more than 0.")
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision {self.precision!r} is not known; choose bf16 or fp32.")


def chance_loss(config: TrainConfig) -> float:
    """The softmax loss of a model that guesses: the mean of ln(texts) and ln(pictures) in a batch."""
    return math.log(config.batch_size) + math.log(config.captions_per_image) / 2


def learning_rate(progress: float, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017, equation 5). `progress`: 0 to 1."""
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    done = min(1.0, (progress - config.warmup) / max(1e-9, 1 - config.warmup))
    return config.lr * (1 + math.cos(math.pi * done)) / 2
