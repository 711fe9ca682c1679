"""A run that trains a generator, in its folder: generator/ is the result, run.json has the settings, and checkpoints/
resume it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source
from diptych.errors import ArgumentError, Setting
from diptych.extras import require
from diptych.generation.config import SCENES, GenerateConfig
from diptych.storage.atomic import atomic_folder, atomic_write_text, temporary_name
from diptych.storage.output_files import refuse_link
from diptych.untrusted.json import parse_json

if TYPE_CHECKING:
    from diptych.checkpoint.formats.text_tower import TextTower
    from diptych.generation.training.pairs import Pairs

SETTINGS, GENERATOR, CHECKPOINTS = "run.json", "generator", "checkpoints"
# What may change when a run goes on: none of them changes what its weights mean.
CHANGEABLE = {"out", "steps", "minutes", "cooldown", "checkpoint_s", "device"}


class GeneratorResult(NamedTuple):
    """The trained generator's folder, the steps and seconds of training, the mean loss of the last 100 steps, the
    pictures that could not be read, counted by reason ("" for none), and whether the run came to its end."""

    folder: Path
    steps: int
    elapsed_s: float
    loss: float
    failures: str
    is_complete: bool


def train_generator(
    config: GenerateConfig,
    *,
    resume: bool = False,
    on_read: Callable[[int, int], None] = lambda done, total: None,
    on_step: Callable[[dict[str, float]], None] = lambda row: None,
) -> GeneratorResult:
    """Train a generator and write it to `out`/generator, a folder that `diptych.open_generator` and diffusers'
    StableDiffusionPipeline open.

    `on_read` is told how many pictures are read, `on_step` the rows of metrics.jsonl. With `resume` the run in `out`
    goes on from its last checkpoint. Ctrl-C ends it after the current step, with a checkpoint. Raises ArgumentError for
    settings that do not fit, CheckpointError for a model whose text tower a pipeline cannot read, DataError for data
    without pairs.
    """
    require("training a generator", "torch", "diffusers", "transformers")
    from diptych.generation.denoiser import scheduler
    from diptych.generation.folder import write_generator
    from diptych.generation.training.trainer import Trainer
    from diptych.generation.words import WordReader

    out = _opened(config, resume)
    words = _text_tower(config.init or config.model)
    pairs, failures = _pairs(config, on_read)
    plan = scheduler(config)
    trainer = Trainer(
        config, pairs, WordReader(words.network(), words.tokenizer()), out,
        lambda folder, network: write_generator(folder, network, plan, words), on_step,
    )  # fmt: skip
    if config.init:
        trainer.start_from(_folder(config.init))
    if resume:
        trainer.resume()
    atomic_write_text(out / SETTINGS, json.dumps(config.to_json(), indent=2) + "\n")
    is_complete, loss = trainer.run()
    _replaced(out / GENERATOR, lambda folder: write_generator(folder, trainer.average, plan, words))
    return GeneratorResult(out / GENERATOR, trainer.step, trainer.elapsed_s, loss, failures, is_complete)


def _replaced(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder anew; the one of an earlier end of the run is removed when the new one is there."""
    aside = folder.with_name(temporary_name(f"{folder.name}-before"))
    with atomic_folder(folder, aside=aside) as new:
        write(new)
    shutil.rmtree(aside, ignore_errors=True)


def settings_of(out: Path) -> GenerateConfig:
    """The settings of the run in a folder. Raises ArgumentError if it has none."""
    try:
        found = parse_json((out / SETTINGS).read_bytes())
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{out} has no run of a generator to resume ({error}).", argument="out") from error
    return GenerateConfig.from_json(found)


def _opened(config: GenerateConfig, resume: bool) -> Path:
    if config.out is None:
        raise ArgumentError(["a run needs a folder: ", Setting("out", "FOLDER"), "."], argument="out")
    out = Path(config.out)
    for name in (GENERATOR, CHECKPOINTS):
        refuse_link(out / name)
    if resume:
        _check_same(config, settings_of(out), out)
    elif (out / SETTINGS).exists():
        remedy = [
            "Name another folder with ",
            Setting("out"),
            ", or resume the run with ",
            Setting("resume", True),
            ".",
        ]
        raise ArgumentError(f"{out} has a run already.", remedy=remedy, argument="out")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _check_same(config: GenerateConfig, before: GenerateConfig, out: Path) -> None:
    for field in dataclasses.fields(GenerateConfig):
        was, now = getattr(before, field.name), getattr(config, field.name)
        if field.name not in CHANGEABLE and was != now:
            raise ArgumentError(
                f"the run in {out} has {field.name}={was}, not {now}; leave it out.", argument=field.name
            )


def _text_tower(model: str) -> TextTower:
    """The text tower of a generator's folder, or of a CLIP."""
    from diptych.checkpoint.formats.text_tower import PREFIX, TextTower
    from diptych.checkpoint.pipelines.text_encoder import check_form, read_text_encoder
    from diptych.embedder import load

    folder = _folder(model)
    if (folder / "text_encoder").is_dir():
        return read_text_encoder(folder)
    clip = load(model, engine="pytorch")
    check_form(clip.config.text, clip.source)
    state = {name: tensor for name, tensor in clip.network.state_dict().items() if name.startswith(PREFIX)}
    return TextTower(clip.config.text, state, clip.tokenizer_json or "", clip.text_preprocessing)


def _folder(model: str) -> Path:
    from diptych.generation.generator import BUNDLED

    return BUNDLED if model == "bundled" else Path(model)


def _pairs(config: GenerateConfig, on_read: Callable[[int, int], None]) -> tuple[Pairs, str]:
    from diptych.generation.training.pairs import data_pairs, scene_pairs

    if config.data == SCENES:
        return scene_pairs(config.size_px, config.seed), ""
    read = data_pairs(indexed(open_source(config.data)), config.size_px, config.seed, on_read)
    return read.pairs, read.failures
