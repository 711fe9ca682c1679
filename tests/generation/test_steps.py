"""The steps are those of diffusers' schedulers."""

from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ArgumentError, CheckpointError
from diptych.generation.steps import NoiseSchedule, Sampler, schedule_of

CONFIG: dict[str, Any] = {
    "_class_name": "DDIMScheduler", "_diffusers_version": "0.42.1", "beta_end": 0.02, "beta_start": 0.0001,
    "beta_schedule": "squaredcos_cap_v2", "clip_sample": True, "clip_sample_range": 1.0, "set_alpha_to_one": True,
    "dynamic_thresholding_ratio": 0.995, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": False, "sample_max_value": 1.0, "steps_offset": 1, "thresholding": False,
    "timestep_spacing": "trailing", "trained_betas": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def diffusers() -> Any:
    return pytest.importorskip("diffusers")


def theirs(diffusers: Any, sampler: Sampler, config: dict[str, Any], steps: int) -> Any:
    first = diffusers.DDIMScheduler(**{key: value for key, value in config.items() if not key.startswith("_")})
    kind = diffusers.DPMSolverMultistepScheduler
    plan = first if sampler == "ddim" else kind.from_config(first.config, final_sigmas_type="zero")
    plan.set_timesteps(steps)
    return plan


@pytest.mark.parametrize("steps", [1, 2, 7, 14, 30, 100])
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_steps_are_those_of_diffusers(diffusers: Any, sampler: Sampler, prediction: str, steps: int) -> None:
    """To 1e-5 of the largest number: where little of a picture is left, epsilon is divided by 5e-5."""
    config = CONFIG | {"prediction_type": prediction}
    plan, reference = schedule_of(config, "x").plan(sampler, steps), theirs(diffusers, sampler, config, steps)
    assert plan.timesteps.tolist() == reference.timesteps.tolist()
    rng = np.random.default_rng(steps)
    noisy = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    expected = torch.from_numpy(noisy)
    for number, level in enumerate(reference.timesteps):
        predicted = rng.standard_normal(noisy.shape).astype(np.float32)
        noisy = plan.step(number, predicted, noisy)
        expected = reference.step(torch.from_numpy(predicted), level, expected).prev_sample
        assert noisy.dtype == np.float32
        assert np.abs(noisy - expected.numpy()).max() < 1e-5 * max(1, float(expected.abs().max()))


def test_pictures_may_leave_their_range_if_the_schedule_says_so(diffusers: Any) -> None:
    config = CONFIG | {"clip_sample": False}
    predicted = noisy = np.full((1, 3, 2, 2), 3, np.float32)
    plan, reference = schedule_of(config, "x").plan("ddim", 4), theirs(diffusers, "ddim", config, 4)
    expected = reference.step(torch.from_numpy(predicted), 999, torch.from_numpy(noisy)).prev_sample
    found = plan.step(0, predicted, noisy)
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    assert not np.allclose(found, NoiseSchedule().plan("ddim", 4).step(0, predicted, noisy), atol=0.1)


@pytest.mark.parametrize("steps", [61, 103, 1000])
def test_there_are_as_many_steps_as_asked_for(steps: int) -> None:
    """Rounding alone would give one more for 61 and 103, at level -1."""
    levels = NoiseSchedule().timesteps(steps)
    assert len(levels) == steps
    assert levels[0] == 999
    assert levels.min() >= 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_schedule", "linear"), ("timestep_spacing", "leading"), ("prediction_type", "sample"),
        ("thresholding", True), ("num_train_timesteps", 10**9), ("num_train_timesteps", "1000"),
        ("clip_sample_range", float("nan")), ("clip_sample", "no"), ("trained_betas", [0.1]), ("colour", "red"),
    ],
)  # fmt: skip
def test_another_setting_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=key):
        schedule_of(CONFIG | {key: value}, "scheduler_config.json")


def test_an_absent_setting_is_the_default_of_diffusers() -> None:
    with pytest.raises(CheckpointError, match="beta_schedule='linear'"):
        schedule_of({}, "scheduler_config.json")
    few = {key: CONFIG[key] for key in ("beta_schedule", "timestep_spacing", "prediction_type")}
    assert schedule_of(few, "x") == NoiseSchedule()


def test_numbers_outside_their_range() -> None:
    for steps in (0, 1001):
        with pytest.raises(ArgumentError, match=f"steps={steps}"):
            NoiseSchedule().plan("ddim", steps)
    with pytest.raises(ArgumentError, match="'euler'"):
        NoiseSchedule().plan("euler", 10)  # type: ignore[arg-type]
