"""diptych classify"""

import click

from diptych.cli import FAILED, NOTHING
from diptych.cli.options import (
    failures_json,
    lines_of,
    model_options,
    open_model,
    pictures_in,
    print_json,
    progress,
    report_failures,
    say,
    say_cut,
    truncate_option,
    write_input_sheet,
)
from diptych.engines import EngineName


@click.command("classify")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--labels", metavar="A,B,...", help="Class names, separated by commas.")
@click.option("--labels-file", type=click.Path(exists=True, dir_okay=False), help="Class names, one a line.")
@click.option(
    "--template",
    "templates",
    multiple=True,
    help='Prompt with {} for the label; may be repeated, and is averaged. [default: "a photo of a {}."]',
)
@click.option(
    "--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels to print for each picture."
)
@click.option(
    "--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures as the model sees them."
)
@truncate_option
@model_options
def command(
    pictures: tuple[str, ...], labels: str | None, labels_file: str | None, templates: tuple[str, ...],
    top: int, show_input: str | None, truncate: bool,
    model: str | None, engine: EngineName | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say which label fits each of PICTURES (files, folders or URLs), with probabilities.

    \b
    diptych classify photos/ --labels cat,dog,bird
    """
    from diptych import zero_shot

    names = _labels(labels, labels_file)
    templates = templates or zero_shot.PLAIN_TEMPLATES
    embedder = open_model(model, device, activation, engine)
    classes = embedder.embed_labels(names, templates=templates, truncate=truncate)  # may fail, so before the pictures
    if truncate:
        say_cut(embedder, zero_shot.prompts(tuple(names), templates))
    paths = pictures_in(pictures)
    with progress("looking at pictures") as advance:
        seen = embedder.embed_readable(paths, progress=advance)
    code = report_failures(seen.failures)
    result = zero_shot.classify(seen.vectors, classes, tuple(names), scale=embedder.scale, bias=embedder.bias)
    rows = [
        {"path": str(path), "labels": {names[j]: float(row[j]) for j in (-row).argsort()[:top]}}
        for path, row in zip(seen.keys, result.probabilities, strict=True)
    ]
    if as_json:
        print_json({"labels": names, "pictures": rows, "failures": failures_json(seen.failures)})
    else:
        for row in rows:
            click.echo(f"{row['path']}  " + "  ".join(f"{name} {share:.1%}" for name, share in row["labels"].items()))
    if not paths:
        say(f"no pictures in {', '.join(pictures)}.")
        return NOTHING
    if show_input and seen.keys:
        write_input_sheet(show_input, embedder, seen.keys)
    return code if seen.keys else FAILED


def _labels(labels: str | None, labels_file: str | None) -> list[str]:
    if labels is not None and labels_file:
        raise click.UsageError("labels came twice. Pass --labels or --labels-file, not both.")
    found = lines_of(labels_file) if labels_file else [name.strip() for name in (labels or "").split(",")]
    names = list(dict.fromkeys(name for name in found if name))  # a label that stands there twice would share its part
    if not names:
        raise click.UsageError("no labels. Pass --labels cat,dog or --labels-file FILE with one a line.")
    return names
