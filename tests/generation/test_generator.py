"""The generator that users hold, and that its folder is a pipeline of diffusers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diptych
from diptych.generation.config import GenerateConfig
from diptych.generation.generator import Generator, best_of, open_generator
from diptych.generation.sheets import grid, strip
from diptych.generation.training.run import train_generator

PROMPTS = ["a red circle", "a blue star above a green square"]


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tiny"
    config = GenerateConfig(
        model=str(tiny_model), out=str(out), size_px=24, channels=(8, 16), batch_size=2, steps=2, muon_lr=0.1
    )
    return train_generator(config).folder


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return open_generator(folder)


def test_a_picture_depends_on_its_seed_and_words_and_on_nothing_else(generator: Generator) -> None:
    both = generator.draw(PROMPTS, steps=3, seed=5)
    alone = generator.draw(PROMPTS[1], steps=3, seed=6)
    assert both.pictures.shape == (2, 24, 24, 3)
    assert np.abs(both.pictures[1].astype(int) - alone.pictures[0]).max() <= 1
    other = generator.draw(PROMPTS[1], steps=3, seed=7)
    assert np.abs(other.pictures[0].astype(int) - alone.pictures[0]).max() > 20


def test_many_pictures_are_drawn_in_parts(generator: Generator) -> None:
    told = list[tuple[int, int]]()
    drawn = generator.draw("a red circle", count=33, steps=2, shown=2, on_step=lambda *done: told.append(done))
    assert drawn.pictures.shape == (33, 24, 24, 3)
    assert drawn.strip.shape == (3, 33, 24, 24, 3)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    last = generator.draw("a red circle", seed=32, steps=2)
    assert np.abs(drawn.pictures[32].astype(int) - last.pictures[0]).max() <= 1
    assert np.array_equal(drawn.strip[-1], drawn.pictures)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("", {}, "the prompt is ''; wanted words"),
        (["a star", "  "], {}, "wanted words that say what to draw"),
        ([], {}, "no prompt"),
        ("a star", {"guidance": -1.0}, "guidance=-1; it is from 0"),
        ("a star", {"guidance": float("nan")}, "guidance=nan; it is from 0"),
        ("a star", {"steps": 0}, "steps=0; they are from 1"),
        ("a star", {"count": 0}, "0 pictures"),
        ("a star", {"sampler": "euler"}, "choose one of"),
        ("star " * 90, {}, "this model reads"),
        ("a star", {"negative": "star " * 90}, "this model reads"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(
    generator: Generator, prompts: str | list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(diptych.DiptychError, match=message):
        generator.draw(prompts, **options)  # type: ignore[arg-type]


def test_a_long_prompt_is_cut_where_that_is_asked_for(generator: Generator) -> None:
    assert len(generator.draw("star " * 90, steps=1, truncate=True).pictures) == 1


def test_a_generator_is_pickled_by_its_folder(generator: Generator, folder: Path) -> None:
    again = pickle.loads(pickle.dumps(generator))
    assert again.source == str(folder)
    assert np.array_equal(again.draw("a star", steps=1).pictures, generator.draw("a star", steps=1).pictures)


def test_the_folder_opens_in_diffusers_and_draws_the_same(generator: Generator, folder: Path) -> None:
    """From the same noise, with the words alone and DDIM's steps; padding is attended to there."""
    import torch
    from diffusers import StableDiffusionPipeline

    from diptych.generation.noise import noise_of

    pipeline = StableDiffusionPipeline.from_pretrained(str(folder))
    pipeline.set_progress_bar_config(disable=True)
    context = pipeline.tokenizer.model_max_length
    prompt = " ".join(["a"] * (context - 2))  # so long that there is no padding
    mine = generator.draw(prompt, guidance=1, steps=4, seed=3, sampler="ddim").pictures[0]
    latents = torch.from_numpy(noise_of([3], 24))
    theirs = pipeline(prompt, guidance_scale=1.0, num_inference_steps=4, latents=latents, output_type="np").images[0]
    assert np.abs(theirs * 255 - mine).max() <= 1.5


def test_a_generator_does_not_say_where_its_maker_keeps_files(folder: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    from diptych.checkpoint.pipelines.text_encoder import read_text_encoder
    from diptych.generation.denoiser import scheduler
    from diptych.generation.folder import write_generator

    network = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    config = GenerateConfig(size_px=24, channels=(8, 16))
    write_generator(tmp_path / "copy", network, scheduler(config), read_text_encoder(folder))  # type: ignore[arg-type]
    said = (tmp_path / "copy" / "unet" / "config.json").read_text()
    assert str(folder) not in said
    assert "_name_or_path" not in said
    assert open_generator(tmp_path / "copy").size_px == 24


def test_the_best_by_a_score_are_kept(generator: Generator) -> None:
    class Scorer:
        def similarity(self, images: list[Image.Image], texts: list[str]) -> np.ndarray:
            assert texts == ["a star"]
            return np.array([[0.1], [0.4], [0.2], [0.4]], np.float32)[: len(images)]

    drawn = generator.draw("a star", count=4, steps=1, shown=1)
    best = best_of(drawn, "a star", 3, Scorer())  # type: ignore[arg-type]
    assert best.numbers == [1, 3, 2]
    assert best.scores == pytest.approx([0.4, 0.4, 0.2])
    assert np.array_equal(best.drawn.pictures, drawn.pictures[[1, 3, 2]])
    assert np.array_equal(best.drawn.strip[0], drawn.strip[0][[1, 3, 2]])


def test_sheets_show_every_picture_and_every_step(generator: Generator) -> None:
    drawn = generator.draw("a star", count=7, steps=4, shown=3)
    names = [f"seed {seed}" for seed in range(7)]
    assert grid(drawn, names, title="a star").width > 6 * 140
    rows = strip(drawn, names, 4)
    assert rows.height > 7 * 96
    assert rows.width > 4 * 96
