"""diptych classify"""

from pathlib import Path

import click

from diptych.cli import FAILED, NOTHING
from diptych.cli.options import (
    failures_json,
    model_options,
    open_model,
    pictures_in,
    print_json,
    progress,
    report_failures,
    say,
    write_input_sheet,
)


@click.command("classify")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--labels", metavar="A,B,...", help="Class names, separated by commas.")
@click.option("--labels-file", type=click.Path(exists=True, dir_okay=False), help="Class names, one a line.")
@click.option("--template", "templates", multiple=True, help='Prompt with {} for the label; may be repeated and is averaged. [default: "a photo of a {}."]')  # fmt: skip
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels to print for each picture.")
@click.option("--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures as the model sees them.")
@model_options
def command(
    pictures: tuple[str, ...], labels: str | None, labels_file: str | None, templates: tuple[str, ...], top: int,
    show_input: str | None, model: str | None, device: str | None, activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say which label fits each of PICTURES (files, folders or URLs), with probabilities.

    \b
    diptych classify photos/ --labels cat,dog,bird
    """
    from diptych.zero_shot import PLAIN_TEMPLATES

    names = _labels(labels, labels_file)
    embedder = open_model(model, device, activation)
    paths = pictures_in(pictures)
    if not paths:
        say(f"no pictures in {', '.join(pictures)}.")
        return NOTHING
    with progress("looking at pictures") as advance:
        seen = embedder.embed_readable(paths, progress=advance)
    code = report_failures(seen.failures)
    result = embedder.classify(seen.vectors, names, templates=templates or PLAIN_TEMPLATES)
    rows = [
        {"path": str(path), "labels": {names[j]: float(row[j]) for j in (-row).argsort()[:top]}}
        for path, row in zip(seen.keys, result.probabilities, strict=True)
    ]
    if as_json:
        print_json({"labels": names, "pictures": rows, "failures": failures_json(seen.failures)})
    else:
        for row in rows:
            click.echo(f"{row['path']}  " + "  ".join(f"{name} {share:.1%}" for name, share in row["labels"].items()))
    if show_input and seen.keys:
        write_input_sheet(show_input, embedder, seen.keys)
    return code if seen.keys else FAILED


def _labels(labels: str | None, labels_file: str | None) -> list[str]:
    lines = Path(labels_file).read_text(encoding="utf-8").splitlines() if labels_file else (labels or "").split(",")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise click.UsageError("no labels. Pass --labels cat,dog or --labels-file FILE with one a line.")
    return names
