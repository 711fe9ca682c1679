"""diptych probe"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from diptych.cli.exit_codes import OK, PARTLY
from diptych.cli.options import model_options, open_model, outside_option, print_json, progress, say
from diptych.cli.terminal import tell
from diptych.engines import EngineName
from diptych.extras import require

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.evaluation.tasks.probing import Probed


@click.command("probe")
@click.argument("data")
@click.option("--val", metavar="DATA", help="Pictures to judge it by, of the same classes; by default those of DATA.")
@click.option("--shots", type=click.IntRange(min=1), help="Learn from so many of each class.")
@click.option("--plain", is_flag=True, help="Begin at nothing in any case, as in the paper.")
@click.option("--templates", default="general", show_default=True, help="Prompts for zero-shot: a name or a JSON file.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@click.option("--out", metavar="NPZ", type=click.Path(dir_okay=False), help="Write weights, bias and classes there.")
@outside_option
@model_options
def command(
    data: str, val: str | None, shots: int | None, plain: bool, templates: str, seed: int, out: str | None,
    allow_outside: bool, model: str | None, engine: EngineName | None, device: str | None, activation: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Train a linear classifier on the vectors of DATA: a folder of class folders, with train/ and test/ or val/ above
    them or without, or another set of classes that `diptych evaluate` reads. Without a split of its own, half of each
    class is kept to judge it by. It begins at the weights that the classes' names give and stays near them, the nearer
    the stronger its regularisation, or begins at nothing; both are chosen by cross-validation on what it learns from.
    Vectors are kept for the next time, in the user's cache.

    \b
    diptych probe flowers/ --out flowers.npz
    """
    require("a linear probe", "scipy")
    embedder = open_model(model, device, activation, engine)
    result = _probed(embedder, data, val, shots, plain, templates, seed, allow_outside)
    said = {
        "top1": result.accuracy, "zero_shot": result.zero_shot, "l2": result.probe.l2,
        "validation_top1": None if math.isnan(result.validation) else result.validation,
        "start": result.start, "in_cross_validation": result.tried,
    }  # fmt: skip
    counts = {"trained_on": result.trained_on, "judged_on": result.judged_on, "train": result.train}
    if as_json:
        print_json({**said, **counts, "classes": list(result.classes), "failures": result.failures})
    else:
        tell(f"accuracy   {result.accuracy:.1f} %  (l2 {result.probe.l2:.3g})")
        tell(f"zero-shot  {result.zero_shot:.1f} %")
    say(f"learnt from {result.trained_on:,} pictures ({result.train}), judged by {result.judged_on:,}")
    say(_beginning(result))
    if shots and result.trained_on < shots * len(result.probe.classes):
        say(f"not every class has {shots} pictures to learn from: of those that have fewer all were taken")
    if result.unlearnt:
        stand = "their names stand for them" if result.start == "names" else "they are never the answer"
        say(f"no picture to learn from of {', '.join(result.unlearnt[:5])}: {stand}")
    if result.failures:
        say("left out: " + ", ".join(f"{count} {reason}" for reason, count in result.failures.items()))
    if out:
        _save(out, result, embedder)
        say(f"wrote {out}")
    return PARTLY if result.failures else OK


def _beginning(result: Probed) -> str:
    """Where it began, and why."""
    where = {"names": "at the zero-shot weights", "nothing": "at nothing"}
    said = f"begun {where[result.start]}"
    if len(result.tried) > 1:
        parts = (
            f"{each['loss']:.3f} ({each['top1']:.1f} % right) {where[start]}" for start, each in result.tried.items()
        )
        said += f": in cross-validation on what it learnt from the loss is {', '.join(parts)}"
    return said


def _probed(
    embedder: Embedder, data: str, val: str | None, shots: int | None, plain: bool, templates: str, seed: int,
    allow_outside: bool,
) -> Probed:  # fmt: skip
    from diptych.evaluation.sets.sets import Labelled, open_set, training_set
    from diptych.evaluation.tasks.features import kept_for_user
    from diptych.evaluation.tasks.probing import probe_set
    from diptych.evaluation.tasks.tasks import Job
    from diptych.scoring.zero_shot import load_templates

    prompts = load_templates(templates)
    judged = open_set(val or data, kind="classes", allow_outside=allow_outside)
    train = training_set(data, allow_outside=allow_outside)
    if val and train is None:
        train = open_set(data, kind="classes", allow_outside=allow_outside)
    with progress("looking at pictures") as advance, kept_for_user() as cache:
        job = Job(embedder, judged, train, templates, prompts, seed, cache, advance)  # type: ignore[arg-type]
        result = probe_set(job, shots=shots, plain=plain)
    for said in dict.fromkeys(each.said for each in (judged, train) if isinstance(each, Labelled) and each.said):
        say(said)
    for said in job.left_out.values():
        say(said)
    return result


def _save(path: str, result: Probed, embedder: Embedder) -> None:
    import numpy as np

    probe = result.probe
    names = np.array([result.classes[number] for number in probe.classes])
    with open(path, "wb") as file:
        np.savez(
            file, weights=probe.weights, bias=probe.bias, classes=names, l2=probe.l2, fingerprint=embedder.fingerprint
        )
