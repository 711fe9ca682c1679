"""diptych train"""

import dataclasses
import math
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.fetching import asking_before_fetching, yes_option
from diptych.cli.options import activation_option, json_option, print_json
from diptych.cli.sections import Sectioned
from diptych.cli.terminal import print_result, print_status
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
    "Model": ("model", "image_weights", "init", "yes", "activation", "image_size", "recipe", "list_recipes"),
    "Length of the run": ("epochs", "minutes", "batch_size", "accumulate", "eval_every", "seed"),
    "Optimisation": ("lr", "muon_lr", "weight_decay", "ema", "settings"),
    "Fine-tuning": ("lora", "lock_image", "lock_trunk", "lock_text", "wise_ft", "zero_shot"),
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
@click.option("--image-column", help="The table's column of pictures, if its name is unusual.")
@click.option("--caption-column", help="The table's column of captions, if its name is unusual.")
@click.option(
    "--allow-outside",
    is_flag=True,
    default=None,
    help="Read files outside of the data's folder that a table names or a link points to. By default they are left out "
    "and counted.",
)
@click.option("--val", help="Held-out pairs, for recall during the run; if the folder has splits, a held-out one.")
@click.option(
    "--out", help="The run's folder; the model is saved in OUT/model. [default: runs/1, or the next free one]"
)
@click.option("--recipe", help="Named settings; --recipes lists them with their sources. [default: laptop]")
@click.option("--model", help="An architecture; `diptych models` lists them. [default: resnet-small]")
@click.option(
    "--image-weights", help="Start the image tower from the released weights of an EfficientNet-Lite, a file."
)
@click.option(
    "--init", help="Start from the weights and tokenizer of this model: a folder, file, hub id or pretrained name."
)
@yes_option
@activation_option
@click.option("--tokenizer", help="A tokenizer.json to use instead of training one on the captions.")
@click.option("--image-size", type=int, help="Picture size in pixels. [default: the architecture's]")
@click.option("--epochs", type=float, help="Length of the run. [default: 30]")
@click.option("--minutes", type=float, help="Length of the run in wall-clock time, instead of --epochs.")
@click.option("--batch-size", type=int, help="Pictures per step, over all processes. [default: 256]")
@click.option("--accumulate", type=int, help="Micro-batches per step (gradient accumulation). [default: 1]")
@click.option("--captions-per-image", type=int, help="Captions of each picture per step. [default: 2]")
@click.option("--lr", type=float, help="Peak learning rate of AdamW. [default: 0.001]")
@click.option("--muon-lr", type=float, help="Peak learning rate of Muon, which trains the matrices. [default: 0.02]")
@click.option("--weight-decay", type=float, help="[default: 0.1]")
@click.option("--ema", type=float, help="Decay of the moving average of the weights; 0 turns it off. [default: 0.998]")
@click.option(
    "--vocab-size", type=int, help="Vocabulary of the tokenizer that is trained on the captions. [default: 4096]"
)
@click.option("--scenes", type=float, help="Share of drawn scenes to mix in, 0 to 1. [default: 0]")
@click.option(
    "--lock-image",
    is_flag=True,
    default=None,
    help="Freeze the image tower of --init (LiT): it encodes each picture once. --set views=4 adds augmented views.",
)
@click.option(
    "--lock-trunk", is_flag=True, default=None, help="Freeze the image tower below its pooling, which trains."
)
@click.option("--lock-text", is_flag=True, default=None, help="Freeze the text tower of --init.")
@click.option("--lora", type=int, help="Train low-rank updates of this rank beside frozen matrices, merged on save.")
@click.option(
    "--wise-ft", type=float, help="Interpolate the saved weights with --init's; 1 is only the new ones (WiSE-FT)."
)
@click.option("--zero-shot", multiple=True, help="Class folders for zero-shot accuracy before and after. Repeatable.")
@click.option("--precision", type=PRECISIONS, help="[default: bf16 where the device has it, else fp32]")
@click.option(
    "--compile/--no-compile", "compile", default=None, help="Compile the towers: faster after the first minute."
)
@click.option("--shard", is_flag=True, default=None, help="Shard the weights over the processes (FSDP).")
@click.option("--device", help="cuda, mps or cpu. [default: the first that this machine has]")
@click.option("--threads", type=int, help="Threads that decode pictures. [default: 2]")
@click.option("--workers", type=int, help="Processes that decode pictures, instead of threads.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--eval-every", type=int, help="Epochs between evaluations. [default: 5]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other setting of a run, by name. Repeatable.",
)
@click.option(
    "--resume", is_flag=True, help="Continue the run in --out from its last checkpoint, or start it if it has none."
)
@click.option(
    "--plot",
    multiple=True,
    metavar="RUN",
    help="Only plot this run's curves as a PNG, OUT or RUN/curves.png. Repeat it to compare runs.",
)
@click.option("--over", type=click.Choice(["epoch", "step", "hours"]), help="The x axis of --plot. [default: epoch]")
@click.option("--recipes", "list_recipes", is_flag=True, help="Only list the recipes.")
@json_option
def command(
    as_json: bool, plot: tuple[str, ...], over: str | None, list_recipes: bool, resume: bool, **given: Any
) -> int:
    """Train a model on (picture, caption) pairs and save a model folder.

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
        raise click.UsageError("--over needs --plot.")
    from diptych.extras import require

    require("training", "torch", "tensorboardX", "matplotlib")
    from diptych.training.trainer import train

    try:
        config = _configured(given, resume)
    except ValueError as error:
        raise click.UsageError(message_of(error)) from error
    with asking_before_fetching():
        result = train(config, resume=resume)
    if int(os.environ.get("RANK", "0")):
        return OK  # rank 0 prints for all processes
    _print(result, config, as_json)
    return PARTLY if result.skipped else OK


def _configured(given: dict[str, Any], resume: bool) -> "TrainConfig":
    """The flags over the recipe, or over the settings of the resumed run."""
    from diptych.training.architectures import architecture
    from diptych.training.config import FINE_TUNING, FROM_MODEL, TrainConfig, from_fields
    from diptych.training.recipes import settings_of
    from diptych.training.run.folder import settings_of_run

    name, settings = given.pop("recipe"), parsed_settings(given.pop("settings"))
    flags = {name: value for name, value in given.items() if value is not None and value != ()}
    _check_clashes(flags, settings)
    requested = flags | settings
    init = requested.get("init")
    if init and (clash := [name for name in FROM_MODEL if name in requested]):
        raise click.UsageError(f"the model of --init has its own {clash[0].replace('_', ' ')}; leave it out.")
    if resume and not given["out"]:
        raise click.UsageError("--resume needs --out, the folder of the run.")
    resumed = settings_of_run(given["out"]) if resume else None
    if resumed is not None and name:
        raise click.UsageError("--resume keeps the run's settings; leave out --recipe.")
    fields: dict[str, Any] = resumed or settings_of(name or "laptop", init=bool(init))
    if resumed and "epochs" in requested:
        fields = fields | {"minutes": None}
    if "data" not in fields | flags:
        no_run = f"{given['out']} has no run to resume; to start one, " if resume else ""
        raise click.UsageError(f"{no_run}pass the training data with --data.")
    if name and not init and any(setting in fields for setting in FINE_TUNING):
        raise click.UsageError(f"--recipe {name} needs --init, the model to start from.")
    if not init:
        architecture((fields | flags).get("model", TrainConfig.model))  # raises for an unknown name, a usage error
    return from_fields(_merged(fields | flags, settings))


def parsed_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """The values of --set; a line on stderr for an old name."""
    from diptych.training.config import parse_setting

    with warnings.catch_warnings(record=True) as renamed:
        warnings.simplefilter("always", DeprecationWarning)
        parsed = dict(map(parse_setting, settings))
    for warning in renamed:
        print_status(f"--set {warning.message}")
    return parsed


def _check_clashes(flags: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise UsageError for a setting given twice, or two lengths."""
    if twice := [name for name in settings if name in flags]:
        raise click.UsageError(f"{_flag(twice[0])} and --set {twice[0]} are the same setting; give it once.")
    if not {"epochs", "minutes"} - {name for name, value in (flags | settings).items() if value is not None}:
        raise click.UsageError("epochs and minutes are both lengths; give one.")


def _flag(name: str) -> str:
    """The flag of an argument of `command`."""
    return next(option.opts[0] for option in command.params if option.name == name)


def _merged(fields: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` over `fields`, with those of the augmentation inside it."""
    nested = {name.partition(".")[2]: value for name, value in settings.items() if "." in name}
    if nested:
        augmentation = fields.get("augmentation", {})
        augmentation = augmentation if isinstance(augmentation, dict) else dataclasses.asdict(augmentation)
        fields = fields | {"augmentation": augmentation | nested}
    return fields | {name: value for name, value in settings.items() if "." not in name}


def _print(result: "TrainResult", config: "TrainConfig", as_json: bool) -> None:
    from diptych.training.config import to_fields

    if not as_json:
        print_result(str(result.folder), fold=False)
        return
    recall = result.retrieval
    print_json(
        {
            "model": result.folder,
            "loss": result.loss if math.isfinite(result.loss) else None,  # JSON has no NaN, the loss without steps
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
        print_result(f"{name}: {each.purpose}", fold=False)
        print_result(f"  {each.source}", fold=False)
        for key, value in each.settings.items():
            print_result(f"    {key} = {value}", fold=False)
    return OK


def _plot(folders: tuple[str, ...], over: str | None, given: dict[str, Any], as_json: bool) -> int:
    """Plot the curves of runs and print the picture's path. Of the other flags only --out is allowed."""
    from diptych.training.diagnostics.curves import curves_figure, read_runs, summary

    if stray := [name for name, value in given.items() if value not in (None, ()) and name != "out"]:
        raise click.UsageError(f"--plot does not train; leave out {_flag(stray[0])}.")
    runs = read_runs(folders)
    common = os.path.commonpath([os.path.abspath(name) for name in runs])
    path = str(given["out"] or os.path.normpath(os.path.join(os.path.relpath(common), "curves.png")))
    if not os.path.splitext(path)[1]:
        raise click.UsageError(f"--out {path} has no file ending; with --plot it is a picture, such as curves.png.")
    figure = curves_figure(runs, over=over)
    if given["out"]:
        figure.savefig(path)
    else:  # beside the runs, which may be untrusted
        with atomic_write(Path(path)) as part:
            figure.savefig(part, format="png")
    if as_json:
        print_json({"plot": path, "runs": {name: summary(rows) for name, rows in runs.items()}})
    else:
        print_result(path, fold=False)
    return OK
