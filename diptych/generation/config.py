"""The settings of a run that trains a generator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diptych.errors import ArgumentError

Prediction = Literal["v_prediction", "epsilon"]
SCENES = "scenes"
# Bounds of each number, both included
_BOUNDS: dict[str, tuple[float, float]] = {
    "size_px": (8, 1024), "steps": (1, math.inf), "batch_size": (1, math.inf), "lr": (0, 10), "muon_lr": (0, 10),
    "ema": (0, 1), "drop_caption": (0, 1), "snr_floor": (0, math.inf), "snr_limit": (0, math.inf),
    "noise_steps": (2, 100_000), "checkpoint_s": (0, math.inf), "minutes": (0, math.inf),
}  # fmt: skip


@dataclass(frozen=True)
class GenerateConfig:
    """What a generator learns from, what it is, and how it is trained.

    `data` is "scenes", which draws plain scenes without end, or a data set of pairs as for `diptych train`. `model` is
    the CLIP, or the generator, whose text tower is read and stays as it is; "bundled" is the bundled generator's.
    `init` is a generator whose denoiser is trained further, with its text tower, size and channels ("bundled" is the
    bundled one). `channels` are the denoiser's at each resolution, halved from one to the next. `drop_caption` is the
    share of samples whose caption is dropped, for classifier-free guidance (Ho and Salimans 2022). A picture's error
    weighs as the signal-to-noise ratio, within `snr_floor` and `snr_limit` (Salimans and Ho 2022, section 4; Hang et
    al. 2023); errors of noise ("epsilon") have no floor. The learning rate rises over the first `warmup` steps and
    falls over the last `cooldown` share of all. The run ends after `steps`, or after `minutes` if that is sooner;
    `minutes` does not change the rate, which `steps` alone set.
    """

    model: str = "bundled"
    init: str | None = None
    data: str = SCENES
    out: str | None = None
    size_px: int = 32
    channels: tuple[int, ...] = (32, 64, 96, 128)
    steps: int = 20_000
    minutes: float | None = None
    batch_size: int = 32
    lr: float = 1e-3
    muon_lr: float = 0.01
    warmup: int = 100
    cooldown: float = 0.25
    ema: float = 0.999
    prediction: Prediction = "v_prediction"
    noise_steps: int = 1000
    snr_floor: float = 0.1
    snr_limit: float = 5.0
    drop_caption: float = 0.1
    seed: int = 0
    checkpoint_s: float = 300.0
    device: str | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ArgumentError(f"{name}={value}; it is from {least:g} to {most:g}.", argument=name)
        halvings = 2 ** (len(self.channels) - 1)
        if self.size_px % halvings:
            raise ArgumentError(
                f"{self.size_px} px cannot be halved {len(self.channels) - 1} times; take a multiple of {halvings}.",
                argument="size_px",
            )
        if not self.channels or any(each % 8 or each < 8 for each in self.channels):
            raise ArgumentError(f"channels={self.channels}; each is a multiple of 8.", argument="channels")

    def to_json(self) -> dict[str, object]:
        """All settings, as JSON has them."""
        return {**dataclasses.asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_json(cls, settings: Mapping[str, object]) -> GenerateConfig:
        """From `to_json`. Raises ArgumentError for a setting that does not exist."""
        unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ArgumentError(f"{', '.join(unknown)}: no such setting of a generator.")
        known: dict[str, Any] = dict(settings)
        return cls(**{**known, "channels": tuple(known.get("channels", cls.channels))})
