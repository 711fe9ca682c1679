"""diptych generate train"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import INTERRUPTED, OK, PARTLY
from diptych.cli.options import json_option, print_json, stages
from diptych.cli.terminal import print_result, print_status
from diptych.cli.wording import message_of

if TYPE_CHECKING:
    from diptych.generation.config import GenerateConfig


def _channels(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in value.split(",")) if value else None
    except ValueError:
        raise click.BadParameter(f"{value!r}; expected whole numbers separated by commas: 32,64,96.") from None


@click.command("train")
@click.option("--out", metavar="FOLDER", required=True, help="The run's folder; the generator is OUT/generator.")
@click.option(
    "--data",
    help="Pairs, as for `diptych train`: a folder, a table, tar shards. [default: scenes, which are drawn without end]",
)
@click.option(
    "--model", help="The CLIP, or the generator, whose text tower is read. [default: the bundled generator's]"
)
@click.option("--init", metavar="FOLDER", help="Train this generator further; bundled is the bundled one.")
@click.option("--size", "size_px", type=int, help="Side of the pictures in pixels. [default: 32]")
@click.option(
    "--channels",
    callback=_channels,
    metavar="32,64,...",
    help="Of the denoiser at each resolution, halved from one to the next.",
)
@click.option("--steps", type=int, help="Length of the run. [default: 20000]")
@click.option("--minutes", type=float, help="End after so many minutes if that is sooner.")
@click.option("--batch-size", type=int, help="Pictures per step. [default: 32]")
@click.option("--lr", type=float, help="Peak learning rate of AdamW. [default: 0.001]")
@click.option("--muon-lr", type=float, help="Peak learning rate of Muon, which trains the matrices. [default: 0.01]")
@click.option("--ema", type=float, help="Decay of the moving average of the weights, which is saved. [default: 0.999]")
@click.option("--drop-caption", type=float, help="Share of captions dropped, for guidance. [default: 0.1]")
@click.option(
    "--prediction",
    type=click.Choice(["v_prediction", "epsilon"]),
    help="What is predicted: the velocity or the noise. [default: v_prediction]",
)
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--device", help="cuda or cpu; by default the first that is available.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint, with its settings.")
@json_option
def command(resume: bool, as_json: bool, **given: Any) -> int:
    """Train a generator: a small diffusion model that reads the text tower's state of every word.

    The result opens in `diptych generate --generator OUT/generator` and in diffusers' StableDiffusionPipeline. Ctrl-C
    stops after the step, and --resume goes on.

    \b
    diptych generate train --out runs/scenes --steps 2000
    diptych generate train --out runs/flowers --data flowers/ --model MODEL --size 64
    diptych generate train --out runs/scenes --resume
    """
    from diptych.generation.config import GenerateConfig
    from diptych.generation.training.run import settings_of, train_generator

    flags = {name: value for name, value in given.items() if value is not None}
    try:
        before = settings_of(Path(given["out"])) if resume else GenerateConfig()
        config = dataclasses.replace(before, **flags)
    except ValueError as error:
        raise click.UsageError(message_of(error)) from error
    with stages("reading pictures", "training") as (on_read, on_step):
        result = train_generator(
            config, resume=resume, on_read=on_read, on_step=lambda row: _tell(row, config, on_step)
        )
    if result.failures:
        print_status(f"left out: {result.failures}")
    if as_json:
        loss = result.loss if math.isfinite(result.loss) else None
        print_json({**result._asdict(), "folder": str(result.folder), "loss": loss, "config": config.to_json()})
    else:
        print_status(f"{result.steps:,} steps, loss {result.loss:.4f}")
        print_result(str(result.folder), fold=False)
    if not result.is_complete:
        print_status(f"stopped at step {result.steps:,}; go on with --resume --out {config.out}")
        return INTERRUPTED
    return PARTLY if result.failures else OK


def _tell(row: dict[str, Any], config: GenerateConfig, on_step: Any) -> None:
    on_step(row["step"], config.steps)
