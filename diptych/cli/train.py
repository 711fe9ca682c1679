"""diptych train"""

import dataclasses
import math
import os

import click

from diptych.cli import OK, PARTLY
from diptych.cli.options import json_option, print_json


@click.command("train")
@click.option(
    "--data",
    multiple=True,
    required=True,
    help="Pairs: a folder of tar shards, a shard, a glob, or a folder of pictures with caption files. Repeatable.",
)
@click.option("--val", help="Held-out pairs, for recall during the run.")
@click.option("--out", help="The run's folder; the model ends up in OUT/model. [default: runs/1, or the next free one]")
@click.option("--model", help="An architecture; `diptych models` lists them. [default: resnet-small]")
@click.option("--init", help="Start from this model's weights and tokenizer.")
@click.option("--image-size", type=int, help="Picture size in pixels, where it should not be the architecture's own.")
@click.option("--epochs", type=float, help="Length of the run. [default: 30]")
@click.option("--minutes", type=float, help="Length of the run in wall-clock time, in place of --epochs.")
@click.option("--batch-size", type=int, help="Pictures in a step, over all processes. [default: 256]")
@click.option("--captions-per-image", type=int, help="Captions of each picture in a step. [default: 2]")
@click.option("--lr", type=float, help="Peak learning rate. [default: 0.001]")
@click.option("--weight-decay", type=float, help="[default: 0.2]")
@click.option("--ema", type=float, help="How much of the averaged weights a step keeps. [default: 0.998]")
@click.option("--vocab-size", type=int, help="Size of the tokenizer that is trained on the captions. [default: 4096]")
@click.option("--scenes", type=float, help="Share of drawn scenes to mix in, 0 to 1. [default: 0]")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), help="[default: bf16]")
@click.option("--device", help="cuda, mps or cpu; by default the first of these that is here.")
@click.option("--threads", type=int, help="Threads that decode pictures. [default: 2]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--eval-every", type=int, help="Epochs between evaluations. [default: 5]")
@json_option
def command(as_json: bool, **given: object) -> int:
    """Train a model on (picture, caption) pairs and leave a model folder.

    \b
    diptych train --data pairs/train --val pairs/dev --out runs/first --minutes 30
    """
    from diptych.training.recipe import TrainConfig
    from diptych.training.trainer import train

    if given["init"] and (clash := [name for name in ("model", "vocab_size") if given[name] is not None]):
        raise click.UsageError(f"--init brings its own; leave out --{clash[0].replace('_', '-')}.")
    try:
        config = TrainConfig(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    result = train(config)
    if int(os.environ.get("RANK", "0")):
        return OK  # of several processes the first speaks
    recall = result.retrieval
    if as_json:
        print_json(
            {
                "model": result.folder,
                "loss": result.loss if math.isfinite(result.loss) else None,  # JSON has no NaN, that of no step
                "recall": {name: value._asdict() for name, value in recall._asdict().items()} if recall else None,
                "failures": {key: bad.message for key, bad in result.skipped.items()},
                "config": dataclasses.asdict(config),
            }
        )
    else:
        click.echo(str(result.folder))
    return PARTLY if result.skipped else OK
