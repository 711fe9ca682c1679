"""diptych probe"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.options import model_options, open_model, outside_option, print_json, print_status, progress
from diptych.cli.terminal import print_result
from diptych.engines import EngineName
from diptych.extras import require

if TYPE_CHECKING:
    from diptych.evaluation.tasks.probing import ProbeResult


@click.command("probe")
@click.argument("data")
@click.option("--val", metavar="DATA", help="Pictures of the same classes to evaluate it on; by default those of DATA.")
@click.option("--shots", type=click.IntRange(min=1), help="Train on so many pictures of each class.")
@click.option("--plain", is_flag=True, help="Start from zero, as in the paper.")
@click.option("--templates", default="general", show_default=True, help="Prompts for zero-shot: a name or a JSON file.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random draws.")
@click.option("--out", metavar="NPZ", type=click.Path(dir_okay=False), help="Write weights, bias and classes there.")
@outside_option
@model_options
def command(
    data: str, val: str | None, shots: int | None, plain: bool, templates: str, seed: int, out: str | None,
    allow_outside: bool, model: str | None, engine: EngineName | None, device: str | None, activation: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Train a linear classifier on the vectors of DATA: a folder of class folders, with or without train/ and test/ or
    val/ above them, or another data set of classes that `diptych evaluate` reads. Without splits it is evaluated on
    half of each class. It starts from the zero-shot classifier's weights and is regularised towards them, or starts
    from zero, whichever is better in cross-validation; `--plain` starts from zero. The vectors are cached in the user's
    cache.

    \b
    diptych probe flowers/ --out flowers.npz
    """
    from diptych.evaluation.probe import probe

    require("a linear probe", "scipy")
    embedder = open_model(model, device, activation, engine)
    with progress("looking at pictures") as advance:
        result = probe(
            embedder, data, val=val, shots=shots, plain=plain, templates=templates, seed=seed,
            allow_outside=allow_outside, progress=advance,
        )  # fmt: skip
    for note in result.notes:
        print_status(note)
    metrics = {
        "top1": result.accuracy, "zero_shot": result.zero_shot, "l2": result.probe.l2,
        "validation_top1": None if math.isnan(result.validation) else result.validation,
        "start": result.start, "in_cross_validation": result.tried,
    }  # fmt: skip
    counts = {"trained_on": result.trained_on, "judged_on": result.judged_on, "train": result.train}
    if as_json:
        print_json({**metrics, **counts, "classes": list(result.classes), "failures": result.failures})
    else:
        print_result(f"accuracy   {result.accuracy:.1f} %  (l2 {result.probe.l2:.3g})")
        print_result(f"zero-shot  {result.zero_shot:.1f} %")
    print_status(f"trained on {result.trained_on:,} pictures ({result.train}), evaluated on {result.judged_on:,}")
    print_status(_start_description(result))
    if shots and result.trained_on < shots * len(result.probe.classes):
        print_status(f"some classes have fewer than {shots} training pictures: all of theirs were used")
    if result.unlearnt:
        effect = "the zero-shot classifier is used for them" if result.start == "names" else "they are never predicted"
        print_status(f"no training pictures of {', '.join(result.unlearnt[:5])}: {effect}")
    if result.failures:
        print_status("left out: " + ", ".join(f"{count} {reason}" for reason, count in result.failures.items()))
    if out:
        result.save(out)
        print_status(f"wrote {out}")
    return PARTLY if result.failures else OK


def _start_description(result: ProbeResult) -> str:
    """The start of the probe, and the reason for it."""
    starts = {"names": "the zero-shot weights", "nothing": "zero"}
    text = f"started from {starts[result.start]}"
    if len(result.tried) > 1:
        losses = (
            f"{each['loss']:.3f} ({each['top1']:.1f} % correct) from {starts[start]}"
            for start, each in result.tried.items()
        )
        text += f": the cross-validation loss is {', '.join(losses)}"
    return text
