"""diptych train"""

import dataclasses
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.options import activation_option, json_option, print_json
from diptych.cli.sections import Sectioned
from diptych.cli.terminal import tell
from diptych.cli.wording import message_of
from diptych.storage.atomic import atomic_write

if TYPE_CHECKING:
    from diptych.training.config import TrainConfig
    from diptych.training.trainer import TrainResult

PRECISIONS = click.Choice(["bf16", "fp16", "fp32"])


SECTIONS = {
    "Data": (
        "data", "weights", "image_column", "caption_column", "allow_outside", "val", "captions_per_image", "scenes",
        "tokenizer", "vocab_size",
    ),
    "Model": ("model", "init", "activation", "image_size", "recipe", "list_recipes"),
    "Length of the run": ("epochs", "minutes", "batch_size", "accumulate", "eval_every", "seed"),
    "Optimisation": ("lr", "muon_lr", "weight_decay", "ema", "settings"),
    "Fine-tuning": ("lora", "lock_image", "wise_ft", "zero_shot"),
    "Machine": ("device", "precision", "compile", "shard", "threads", "workers"),
    "Results": ("out", "resume", "plot", "over", "as_json"),
}  # fmt: skip


@click.command("train", cls=Sectioned, sections=SECTIONS)
@click.option(
    "--data",
    multiple=True,
    help="Pairs: a folder (with caption files, a table, or class folders), a table (.csv .tsv .json .jsonl .parquet), "
    "tar shards (file, folder, glob, {00..31}, http://) or hf:// and hf-stream://OWNER/NAME:SPLIT. Repeatable.",
)
@click.option("--weight", "weights", type=float, multiple=True, help="Share of each --data in the mixture, in order.")
@click.option("--image-column", help="A table's column with pictures, where its name does not say so.")
@click.option("--caption-column", help="A table's column with captions.")
@click.option(
    "--allow-outside",
    is_flag=True,
    default=None,
    help="Read files outside of the data's folder, where a table names them or a link leads to them; by default these "
    "are left out and counted.",
)
@click.option("--val", help="Held-out pairs, for recall during the run; of a folder with splits, those held out.")
@click.option("--out", help="The run's folder; the model ends up in OUT/model. [default: runs/1, or the next free one]")
@click.option("--recipe", help="Settings to start from; --recipes lists them with their sources. [default: laptop]")
@click.option("--model", help="An architecture; `diptych models` lists them. [default: resnet-small]")
@click.option("--init", help="Start from this model's weights and tokenizer: a folder, file, hub id, or bundled.")
@activation_option
@click.option("--tokenizer", help="A tokenizer.json to use in place of one learnt from the captions.")
@click.option("--image-size", type=int, help="Picture size in pixels, where it should not be the architecture's own.")
@click.option("--epochs", type=float, help="Length of the run. [default: 30]")
@click.option("--minutes", type=float, help="Length of the run in wall-clock time, in place of --epochs.")
@click.option("--batch-size", type=int, help="Pictures in a step, over all processes. [default: 256]")
@click.option("--accumulate", type=int, help="Pieces in which a batch is computed, to save memory. [default: 1]")
@click.option("--captions-per-image", type=int, help="Captions of each picture in a step. [default: 2]")
@click.option("--lr", type=float, help="Peak learning rate of AdamW. [default: 0.001]")
@click.option("--muon-lr", type=float, help="Peak learning rate of Muon, whose are the matrices. [default: 0.02]")
@click.option("--weight-decay", type=float, help="[default: 0.1]")
@click.option("--ema", type=float, help="How much of the averaged weights a step keeps. [default: 0.998]")
@click.option("--vocab-size", type=int, help="Size of the tokenizer that is trained on the captions. [default: 4096]")
@click.option("--scenes", type=float, help="Share of drawn scenes to mix in, 0 to 1. [default: 0]")
@click.option("--lock-image", is_flag=True, default=None, help="Keep the image tower of --init as it is (LiT).")
@click.option("--lora", type=int, help="Rank of low-rank adapters to train in place of --init's weights.")
@click.option("--wise-ft", type=float, help="Share of the new weights in the saved model; the rest is --init's.")
@click.option("--zero-shot", multiple=True, help="Class folders to measure before and after. Repeatable.")
@click.option("--precision", type=PRECISIONS, help="[default: bf16 where the device has it, else fp32]")
@click.option("--compile/--no-compile", "compile", default=None, help="Compile the towers: faster, after a minute.")
@click.option("--shard", is_flag=True, default=None, help="Split the weights over the processes (FSDP).")
@click.option("--device", help="cuda, mps or cpu; by default the first of these that is here.")
@click.option("--threads", type=int, help="Threads that decode pictures. [default: 2]")
@click.option("--workers", type=int, help="Processes that decode pictures, in place of threads.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--eval-every", type=int, help="Epochs between evaluations. [default: 5]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other setting of a run, by its name. Repeatable.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out at its last checkpoint; begin it if none is.")
@click.option(
    "--plot",
    multiple=True,
    metavar="RUN",
    help="Train nothing: draw this run's curves as a PNG, OUT or RUN/curves.png. Repeat it to compare runs.",
)
@click.option("--over", type=click.Choice(["epoch", "step", "hours"]), help="What --plot draws over. [default: epoch]")
@click.option("--recipes", "list_recipes", is_flag=True, help="List the recipes and do nothing else.")
@json_option
def command(
    as_json: bool, plot: tuple[str, ...], over: str | None, list_recipes: bool, resume: bool, **given: Any
) -> int:
    """Train a model on (picture, caption) pairs and leave a model folder.

    \b
    diptych train --data pairs/train --val pairs/dev --out runs/first --minutes 30
    diptych train --out runs/first --resume
    diptych train --recipe finetune --init MODEL --data mine --val mine-held-out
    diptych train --plot runs/first
    """
    if list_recipes:
        return _list_recipes(as_json)
    if plot:
        return _plot(plot, over, given, as_json)
    if over:
        raise click.UsageError("--over goes with --plot.")
    from diptych.extras import require

    require("training", "torch", "tensorboardX", "matplotlib")
    from diptych.training.trainer import train

    try:
        config = _configured(given, resume)
    except ValueError as error:
        raise click.UsageError(message_of(error)) from error
    result = train(config, resume=resume)
    if int(os.environ.get("RANK", "0")):
        return OK  # of several processes the first speaks
    _print(result, config, as_json)
    return PARTLY if result.skipped else OK


def _configured(given: dict[str, Any], resume: bool) -> "TrainConfig":
    """What the flags say, over the recipe, or over the settings of the run that is resumed."""
    from diptych.nets.presets import preset
    from diptych.training.config import FINE_TUNING, FROM_MODEL, TrainConfig, from_fields, parse_setting
    from diptych.training.recipes import settings_of
    from diptych.training.run.folder import settings_of_run

    name, settings = given.pop("recipe"), dict(map(parse_setting, given.pop("settings")))
    flags = {name: value for name, value in given.items() if value is not None and value != ()}
    _check_clashes(flags, settings)
    told = flags | settings
    init = told.get("init")
    if init and (clash := [name for name in FROM_MODEL if name in told]):
        raise click.UsageError(f"--init brings its own {clash[0].replace('_', ' ')}; leave it out.")
    if resume and not given["out"]:
        raise click.UsageError("--resume wants --out, the folder of the run.")
    begun = settings_of_run(given["out"]) if resume else None
    if begun is not None and name:
        raise click.UsageError("--resume goes on with the run's own settings; leave out --recipe.")
    fields: dict[str, Any] = begun or settings_of(name or "laptop", init=bool(init))
    if begun and "epochs" in told:
        fields = fields | {"minutes": None}
    if "data" not in fields | flags:
        gone = f"{given['out']} holds no run to go on with; to begin one, " if resume else ""
        raise click.UsageError(f"{gone}--data is wanted: what to train on.")
    if name and not init and any(setting in fields for setting in FINE_TUNING):
        raise click.UsageError(f"--recipe {name} wants --init, the model to begin with.")
    if not init:
        preset((fields | flags).get("model", TrainConfig.model))  # a wrong name is the command line's fault
    return from_fields(_merged(fields | flags, settings))


def _check_clashes(flags: dict[str, Any], settings: dict[str, Any]) -> None:
    """No setting twice, and no two lengths."""
    if twice := [name for name in settings if name in flags]:
        raise click.UsageError(f"{_flag(twice[0])} and --set {twice[0]} are one setting; give it once.")
    if not {"epochs", "minutes"} - {name for name, value in (flags | settings).items() if value is not None}:
        raise click.UsageError("epochs and minutes both say how long; give one.")


def _flag(name: str) -> str:
    """The flag that gives an argument of `command`."""
    return next(option.opts[0] for option in command.params if option.name == name)


def _merged(fields: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` over `fields`; those of the augmentation inside it."""
    inner = {name.partition(".")[2]: value for name, value in settings.items() if "." in name}
    if inner:
        how = fields.get("augmentation", {})
        how = how if isinstance(how, dict) else dataclasses.asdict(how)
        fields = fields | {"augmentation": how | inner}
    return fields | {name: value for name, value in settings.items() if "." not in name}


def _print(result: "TrainResult", config: "TrainConfig", as_json: bool) -> None:
    from diptych.training.config import to_fields

    if not as_json:
        tell(str(result.folder), fold=False)
        return
    recall = result.retrieval
    print_json(
        {
            "model": result.folder,
            "loss": result.loss if math.isfinite(result.loss) else None,  # JSON has no NaN, that of no step
            "recall": {name: value._asdict() for name, value in recall._asdict().items()} if recall else None,
            "failures": {key: bad.message for key, bad in result.skipped.items()},
            "forgetting": result.forgetting.to_json() if result.forgetting else None,
            "config": to_fields(config),
        }
    )


def _list_recipes(as_json: bool) -> int:
    from diptych.training.recipes import RECIPES

    if as_json:
        print_json({name: dataclasses.asdict(each) for name, each in RECIPES.items()})
        return OK
    for name, each in RECIPES.items():
        tell(f"{name}: {each.purpose}", fold=False)
        tell(f"  {each.source}", fold=False)
        for key, value in each.settings.items():
            tell(f"    {key} = {value}", fold=False)
    return OK


def _plot(folders: tuple[str, ...], over: str | None, given: dict[str, Any], as_json: bool) -> int:
    """Draw the curves of runs and name the picture; beside --out nothing of a run's configuration goes with it."""
    from diptych.training.diagnostics.curves import curves_figure, read_runs, summary

    if stray := [name for name, value in given.items() if value not in (None, ()) and name != "out"]:
        raise click.UsageError(f"--plot trains nothing; leave out {_flag(stray[0])}.")
    runs = read_runs(folders)
    common = os.path.commonpath([os.path.abspath(name) for name in runs])
    path = str(given["out"] or os.path.normpath(os.path.join(os.path.relpath(common), "curves.png")))
    if not os.path.splitext(path)[1]:
        raise click.UsageError(f"--out {path} has no ending; with --plot it names a picture, such as curves.png.")
    figure = curves_figure(runs, over=over)
    if given["out"]:
        figure.savefig(path)
    else:  # beside the runs, which may have come from anybody
        with atomic_write(Path(path)) as part:
            figure.savefig(part, format="png")
    if as_json:
        print_json({"plot": path, "runs": {name: summary(rows) for name, rows in runs.items()}})
    else:
        tell(path, fold=False)
    return OK
