"""What a generator learns from, and how: values worked out by hand, and runs of a few steps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.errors import ArgumentError, CheckpointError, DataError
from diptych.generation import denoiser
from diptych.generation.config import GenerateConfig
from diptych.generation.training.pairs import data_pairs, scene_pairs
from diptych.generation.training.run import settings_of, train_generator
from diptych.generation.training.trainer import rate
from diptych.scenes.plain import plain_scene

TINY = {"size_px": 24, "channels": (8, 8), "batch_size": 2, "steps": 3, "checkpoint_s": 0.0, "ema": 0.5}


@pytest.fixture(scope="module")
def config(tiny_model: Path) -> GenerateConfig:
    return GenerateConfig(model=str(tiny_model), **TINY)


# --- the formulas


def test_noise_is_added_by_the_schedule() -> None:
    pictures, noise = torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), -1.0)
    kept = torch.tensor([0.64])  # sqrt .8, and .6 of the noise
    assert denoiser.noised(pictures, noise, kept)[0, 0, 0, 0] == pytest.approx(0.8 * 0.5 - 0.6)
    assert denoiser.target(pictures, noise, kept, "v_prediction")[0, 0, 0, 0] == pytest.approx(-0.8 - 0.6 * 0.5)
    assert denoiser.target(pictures, noise, kept, "epsilon")[0, 0, 0, 0] == -1


def test_the_prediction_and_the_noisy_picture_give_the_picture_back() -> None:
    """x = sqrt(a) noisy - sqrt(1 - a) v."""
    pictures, noise = torch.rand(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    kept = torch.tensor([0.99, 0.5, 0.1, 0.001])
    noisy = denoiser.noised(pictures, noise, kept)
    v = denoiser.target(pictures, noise, kept, "v_prediction")
    a = kept[:, None, None, None]
    assert torch.allclose(a.sqrt() * noisy - (1 - a).sqrt() * v, pictures, atol=1e-5)


def test_weights_bound_the_signal_to_noise_ratio() -> None:
    kept = torch.tensor([0.5, 10 / 11, 1 / 11])  # ratios 1, 10, .1
    assert denoiser.weights(kept, "v_prediction", 0.0, 5.0).tolist() == pytest.approx([1 / 2, 5 / 11, 0.1 / 1.1])
    assert denoiser.weights(kept, "v_prediction", 0.2, 5.0).tolist() == pytest.approx([1 / 2, 5 / 11, 0.2 / 1.1])
    assert denoiser.weights(kept, "epsilon", 0.2, 5.0).tolist() == pytest.approx([1, 0.5, 1])


def test_the_loss_is_the_weighted_mean_of_squares() -> None:
    predicted, wanted = torch.zeros(2, 3, 1, 1), torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 3, 1, 1)
    assert denoiser.loss(predicted, wanted, torch.tensor([1.0, 0.5])) == pytest.approx((1 + 4.5) / 2)


def test_noise_levels_are_spread_and_strong_ones_come_often() -> None:
    """Of 1 - (1 - u)^2 the parts of ten begin at 0, .19, .36, .51, .64, .75, .84, .91, .96 and .99."""
    times = denoiser.times(10, 1000, torch.Generator().manual_seed(0))
    begins = [0, 190, 360, 510, 640, 750, 840, 910, 960, 990, 1000]
    assert all(low <= int(time) <= high for time, low, high in zip(times, begins, begins[1:], strict=False))
    assert int(times.max()) <= 999


def test_the_rate_rises_stays_and_falls() -> None:
    config = GenerateConfig(model="", steps=100, warmup=10, cooldown=0.2)
    assert [rate(config, step) for step in (0, 9, 50, 80, 90, 99)] == pytest.approx([0.1, 1, 1, 1, 0.5, 0.05])


# --- the pairs


def test_scenes_are_the_training_splits_with_one_of_their_captions() -> None:
    pairs = scene_pairs(24, seed=0)
    scene = plain_scene(1_000_000_007 + 5, size_px=24)
    assert np.array_equal(pairs(5).pixels, np.asarray(scene.image))
    assert pairs(5).caption in scene.captions
    assert pairs(5).caption == pairs(5).caption


class Rows:
    """A source of four samples, the second of which is damaged."""

    skipped: dict[str, int] = {}  # noqa: RUF012
    form = "rows"

    def __init__(self, bad: set[int]):
        self.bad = bad

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        from diptych.data.samples import Sample

        if index in self.bad:
            raise DataError(f"{index} is damaged.", "damaged")
        image = plain_scene(index, size_px=48).image.crop((0, 0, 48, 24))
        return Sample(image, (f"caption {index}",), self.key(index))

    def captions(self, index: int) -> tuple[str, ...]:
        return (f"caption {index}",)

    def key(self, index: int) -> str:
        return f"sample {index}"


def test_every_sound_pair_of_a_data_set_comes_once_in_a_pass() -> None:
    told = list[tuple[int, int]]()
    read = data_pairs(Rows({1}), 24, 0, lambda *done: told.append(done))  # type: ignore[arg-type]
    assert (read.count, read.failures) == (3, "1 damaged (sample 1)")
    assert told[-1] == (4, 4)
    for start in (0, 3, 6):
        assert {read.pairs(start + n).caption for n in range(3)} == {"caption 0", "caption 2", "caption 3"}
    assert read.pairs(0).pixels.shape == (24, 24, 3)


def test_a_data_set_without_a_sound_pair_is_refused() -> None:
    with pytest.raises(DataError, match=r"none of 4 pairs can be read: 4 damaged \(sample 0\)"):
        data_pairs(Rows({0, 1, 2, 3}), 24, 0, lambda *done: None)  # type: ignore[arg-type]


def test_a_data_set_that_is_too_large_for_memory_is_refused() -> None:
    with pytest.raises(DataError, match=r"4 pictures of 40000 px take 19 GB of memory"):
        data_pairs(Rows(set()), 40_000, 0, lambda *done: None)  # type: ignore[arg-type]


# --- runs


def test_a_run_that_is_resumed_ends_as_one_that_was_not(config: GenerateConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    whole = train_generator(replace(config, out=str(tmp_path / "whole"), seed=1))
    cut = replace(config, out=str(tmp_path / "cut"), steps=2, cooldown=0.0)
    train_generator(cut)
    rest = train_generator(replace(cut, steps=3), resume=True)
    straight = train_generator(replace(config, out=str(tmp_path / "straight"), cooldown=0.0))
    weights = [path.folder / "unet" / "diffusion_pytorch_model.safetensors" for path in (rest, straight, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert weights[0].read_bytes() != weights[2].read_bytes()
    assert (rest.steps, whole.is_complete) == (3, True)
    rows = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    assert all(math.isfinite(row["loss"]) for row in rows)
    with pytest.raises(ArgumentError, match="has a run already"):
        train_generator(cut)
    with pytest.raises(ArgumentError, match="has batch_size=2, not 4"):
        train_generator(replace(cut, batch_size=4), resume=True)
    assert settings_of(tmp_path / "cut").steps == 3


def test_a_generator_is_trained_further(config: GenerateConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    from safetensors.numpy import load_file

    first = train_generator(replace(config, out=str(tmp_path / "first"), steps=1))
    more = replace(config, out=str(tmp_path / "more"), init=str(first.folder), steps=1, lr=0.0, muon_lr=0.0)
    name = "unet/diffusion_pytorch_model.safetensors"
    before, after = (load_file(result.folder / name) for result in (first, train_generator(more)))
    assert all(np.array_equal(before[key], after[key]) for key in before)
    with pytest.raises(CheckpointError, match=r"has not the tensors of a denoiser of 24 px and channels \(8, 16\)"):
        train_generator(replace(more, out=str(tmp_path / "odd"), channels=(8, 16)))
    with pytest.raises(CheckpointError, match="is not a file, a folder"):
        train_generator(replace(more, out=str(tmp_path / "none"), init=str(tmp_path / "nowhere")))


def test_a_run_needs_its_folder_and_a_text_tower_that_pipelines_read(tmp_path: Path) -> None:
    import diptych

    with pytest.raises(ArgumentError, match="a run needs a folder"):
        train_generator(GenerateConfig())
    with pytest.raises(ArgumentError, match="no run of a generator to resume"):
        train_generator(GenerateConfig(out=str(tmp_path)), resume=True)
    bundled = str(Path(diptych.__file__).parent / "bundled")
    with pytest.raises(diptych.CheckpointError, match="sentence encoder in BERT's form"):
        train_generator(GenerateConfig(model=bundled, out=str(tmp_path / "run")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size=0; it is from 1"),
        ({"size_px": 30}, "30 px cannot be halved 3 times; take a multiple of 8"),
        ({"channels": (12, 16)}, "each is a multiple of 8"),
        ({"drop_caption": 1.5}, "drop_caption=1.5; it is from 0 to 1"),
    ],
)
def test_settings_outside_their_range_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        GenerateConfig(model="", **settings)  # type: ignore[arg-type]


def test_settings_are_read_back_and_unknown_ones_refused() -> None:
    config = GenerateConfig(model="m", channels=(8, 16), steps=5)
    assert GenerateConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ArgumentError, match="colour: no such setting of a generator"):
        GenerateConfig.from_json({"colour": 1})
