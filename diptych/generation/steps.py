"""The steps from noise to a picture, in NumPy: DDIM without added noise (Song et al. 2021, equation 12), and
DPM-Solver++ of second order (Lu et al. 2022, algorithm 2), with the numbers of diffusers' DDIMScheduler and
DPMSolverMultistepScheduler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from diptych.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64

Sampler = Literal["ddim", "dpm"]
SAMPLERS: tuple[Sampler, ...] = ("dpm", "ddim")
_MOST_BETA = 0.999  # the cosine schedule's limit (Nichol and Dhariwal 2021, section 3.2)
_ONE = np.float32(1)
# The settings with one supported value
_FIXED: dict[str, Any] = {
    "beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": False, "set_alpha_to_one": True,
    "thresholding": False, "timestep_spacing": "trailing", "trained_betas": None,
}  # fmt: skip
_READ = {"clip_sample", "clip_sample_range", "num_train_timesteps", "prediction_type"}
# Of the fixed values; and trailing steps have no offset
_WITHOUT_EFFECT = {"beta_start", "beta_end", "dynamic_thresholding_ratio", "sample_max_value", "steps_offset"}
_DEFAULTS: dict[str, Any] = {
    "beta_schedule": "linear", "set_alpha_to_one": True, "timestep_spacing": "leading", "rescale_betas_zero_snr": False,
    "thresholding": False, "trained_betas": None, "clip_sample": True, "clip_sample_range": 1.0,
    "num_train_timesteps": 1000, "prediction_type": "epsilon",
}  # fmt: skip
_PREDICTIONS = ("epsilon", "v_prediction")
_MOST_NOISE_STEPS = 100_000


class Plan(Protocol):
    """The steps of one drawing: the noise level at each, and the less noisy pictures that follow from a prediction. The
    steps are taken in order, each once."""

    timesteps: Int64[np.ndarray, " steps"]

    def step(self, number: int, predicted: np.ndarray, noisy: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class NoiseSchedule:
    """A cosine schedule of `noise_steps` levels. A network predicts the noise ("epsilon") or v (Salimans and Ho 2022);
    DDIM keeps what it makes of it within `clip` of 0, unless that is None."""

    noise_steps: int = 1000
    prediction: str = "v_prediction"
    clip: float | None = 1.0

    @cached_property
    def kept(self) -> Float32[np.ndarray, " levels"]:
        """The share of a picture's variance that is left at each level (alphas_cumprod)."""
        betas = [
            min(1 - _cosine((level + 1) / self.noise_steps) / _cosine(level / self.noise_steps), _MOST_BETA)
            for level in range(self.noise_steps)
        ]
        return np.cumprod(_ONE - np.array(betas, np.float32), dtype=np.float64).astype(np.float32)

    def plan(self, sampler: Sampler, steps: int) -> Plan:
        """A new plan. Raises ArgumentError for another sampler, or for more steps than levels."""
        if sampler not in SAMPLERS:
            raise ArgumentError(f"sampler={sampler!r}; choose one of {', '.join(SAMPLERS)}.", argument="sampler")
        if not 1 <= steps <= self.noise_steps:
            raise ArgumentError(f"steps={steps}; they are from 1 to {self.noise_steps:,}.", argument="steps")
        return DDIM(self, steps) if sampler == "ddim" else DPMSolver(self, steps)

    def timesteps(self, steps: int) -> Int64[np.ndarray, " steps"]:
        """Levels from the last one down, equally spaced ("trailing" in Lin et al. 2024, table 2)."""
        # For some counts, 61 of 1,000 for one, rounding would give one step more, at level -1.
        return np.round(np.arange(self.noise_steps, 0, -self.noise_steps / steps)[:steps]).astype(np.int64) - 1


def _cosine(share: float) -> float:
    return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2


class DDIM:
    """DDIM's steps."""

    def __init__(self, schedule: NoiseSchedule, steps: int):
        self._schedule, self.timesteps = schedule, schedule.timesteps(steps)
        self._stride = schedule.noise_steps // steps

    def step(self, number: int, predicted: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        """Pictures at the next level. It is a whole stride below this one, as in diffusers, and not always the one that
        the next step begins at."""
        schedule, level = self._schedule, int(self.timesteps[number])
        below = level - self._stride
        kept, kept_below = schedule.kept[level], schedule.kept[below] if below >= 0 else _ONE
        picture, noise = _split(schedule.prediction, predicted, noisy, np.sqrt(kept), np.sqrt(_ONE - kept))
        if schedule.clip is not None:
            picture = picture.clip(-schedule.clip, schedule.clip)
        return np.sqrt(kept_below) * picture + np.sqrt(_ONE - kept_below) * noise


def _split(
    prediction: str, predicted: np.ndarray, noisy: np.ndarray, signal: np.float32, sigma: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """The picture and the noise that noisy = signal * picture + sigma * noise is made of, by a prediction."""
    if prediction == "epsilon":
        return (noisy - sigma * predicted) / signal, predicted
    return signal * noisy - sigma * predicted, signal * predicted + sigma * noisy


class DPMSolver:
    """DPM-Solver++(2M)'s steps: of first order at the start and at the end, which is without noise."""

    def __init__(self, schedule: NoiseSchedule, steps: int):
        self._prediction, self.timesteps = schedule.prediction, schedule.timesteps(steps)
        kept = schedule.kept[self.timesteps]
        ratios = np.append(np.sqrt((_ONE - kept) / kept), np.float32(0))
        self._signal = _ONE / np.sqrt(ratios * ratios + _ONE)
        self._sigma = ratios * self._signal
        with np.errstate(divide="ignore"):
            self._log_snr = np.log(self._signal) - np.log(self._sigma)
        self._before: np.ndarray | None = None

    def step(self, number: int, predicted: np.ndarray, noisy: np.ndarray) -> np.ndarray:
        """Pictures at the next level."""
        signal, sigma, log_snr = self._signal, self._sigma, self._log_snr
        picture, _ = _split(self._prediction, predicted, noisy, signal[number], sigma[number])
        length = log_snr[number + 1] - log_snr[number]
        share = signal[number + 1] * (np.exp(-length) - _ONE)
        after = sigma[number + 1] / sigma[number] * noisy - share * picture
        if self._before is not None and number + 1 < len(self.timesteps):
            ratio = (log_snr[number] - log_snr[number - 1]) / length
            after = after - np.float32(0.5) * share * (_ONE / ratio * (picture - self._before))
        self._before = picture
        return after


def schedule_of(config: Mapping[str, Any], source: str) -> NoiseSchedule:
    """The schedule in a scheduler_config.json of diffusers. Raises CheckpointError with the name of a setting that is
    unknown or not supported."""
    for key, value in config.items():
        if not key.startswith("_") and key not in {*_FIXED, *_READ, *_WITHOUT_EFFECT}:
            raise CheckpointError(f"{source}: {key:.60}={value!r:.80} is no setting of a noise schedule that is known.")
    found = {**_DEFAULTS, **config}
    for key, value in _FIXED.items():
        if found[key] != value:
            raise _unsupported(source, key, found[key], repr(value))
    levels, prediction, clip = (found[key] for key in ("num_train_timesteps", "prediction_type", "clip_sample_range"))
    if not isinstance(levels, int) or isinstance(levels, bool) or not 2 <= levels <= _MOST_NOISE_STEPS:
        raise _unsupported(source, "num_train_timesteps", levels, f"a whole number from 2 to {_MOST_NOISE_STEPS:,}")
    if prediction not in _PREDICTIONS:
        raise _unsupported(source, "prediction_type", prediction, " or ".join(map(repr, _PREDICTIONS)))
    if not isinstance(found["clip_sample"], bool):
        raise _unsupported(source, "clip_sample", found["clip_sample"], "true or false")
    if not isinstance(clip, (int, float)) or isinstance(clip, bool) or not 0 < clip < math.inf:
        raise _unsupported(source, "clip_sample_range", clip, "a number above 0")
    return NoiseSchedule(levels, prediction, float(clip) if found["clip_sample"] else None)


def _unsupported(source: str, key: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"{source}: {key}={value!r:.80} is not supported; wanted {wanted}.")
