"""diptych classify"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from diptych.cli.exit_codes import FAILED, NOTHING
from diptych.cli.names import quoted
from diptych.cli.options import (
    failures_json,
    follow_links_option,
    listed,
    model_options,
    open_model,
    print_json,
    print_status,
    progress,
    report_failures,
    report_links,
    report_truncated,
    truncate_option,
    write_input_sheet,
)
from diptych.cli.terminal import print_result
from diptych.cli.wording import message_of
from diptych.display.counting import counted
from diptych.engines import EngineName
from diptych.errors import ArgumentError

if TYPE_CHECKING:
    from diptych.embedder import Embedder
    from diptych.inference.picture_files import ClassifiedFiles
    from diptych.scoring.metrics import Accuracy


@click.command("classify")
@click.argument("pictures", nargs=-1, required=True)
@click.option("--labels", metavar="A,B,...", help="Class names, separated by commas.")
@click.option("--labels-file", type=click.Path(exists=True, dir_okay=False), help="Class names, one per line.")
@click.option(
    "--template",
    "templates",
    multiple=True,
    help='Prompt with {} for the label; several are averaged. [default: "a photo of a {}."]',
)
@click.option(
    "--templates",
    "template_set",
    metavar="SET",
    help="A set of prompts: plain, general, openai (of an installed open_clip), openai-7, or a JSON file.",
)
@click.option("--multi-label", is_flag=True, help="Judge each label by itself: several may fit a picture.")
@click.option("--patches", is_flag=True, help="Score the part that fits a label best, for pictures of several things.")
@click.option(
    "--calibrate",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Fit the probabilities to the pictures in this folder, which has a folder for each label.",
)
@click.option(
    "--top", default=3, show_default=True, type=click.IntRange(min=1), help="Labels to print for each picture."
)
@click.option(
    "--show-input", metavar="PNG", type=click.Path(dir_okay=False), help="Write the pictures as the model sees them."
)
@follow_links_option
@truncate_option
@model_options
def command(
    pictures: tuple[str, ...], labels: str | None, labels_file: str | None, templates: tuple[str, ...],
    template_set: str | None, multi_label: bool, patches: bool, calibrate: str | None, top: int, show_input: str | None,
    follow_links: bool, truncate: bool, model: str | None, engine: EngineName | None, device: str | None,
    activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Assign a label to each of PICTURES (files, folders or URLs), with probabilities.

    \b
    diptych classify photos/ --labels cat,dog,bird
    diptych classify animals/ --templates general     the labels: animals/cat ...

    If the pictures are in folders named as the labels, the accuracy is printed as well.
    """
    from diptych.scoring.zero_shot import prompts

    if templates and template_set:
        raise click.UsageError("--template and --templates exclude each other. Pass one of them.")
    names = _labels(labels, labels_file, pictures, follow_links)
    chosen = _templates(templates, template_set)
    if len(names) == 1 and not multi_label:
        print_status(f"{names[0]!r} is the only label and always gets 100 %: pass several labels, or --multi-label")
    embedder = open_model(model, device, activation, engine)
    with progress("classifying pictures") as advance:
        result = _classified(
            embedder, pictures, names, templates=chosen, truncate=truncate, patches=patches, multi_label=multi_label,
            calibrate=calibrate, follow_links=follow_links, progress=advance,
        )  # fmt: skip
    if truncate:
        report_truncated(embedder, prompts(tuple(names), chosen))
    code = _report(result, embedder, calibrate)
    if as_json:
        print_json(_as_json(result, top))
    else:
        _print(result, top)
    if not result.pictures and not result.failures:
        print_status(f"no pictures in {', '.join(pictures)}.")
        return NOTHING
    if show_input and result.pictures:
        write_input_sheet(show_input, embedder, result.pictures)
    return code if result.pictures else FAILED


def _classified(embedder: Embedder, pictures: tuple[str, ...], names: list[str], **options: Any) -> ClassifiedFiles:
    try:
        return embedder.classify_files(pictures, names, **options)
    except ArgumentError as error:
        if error.argument == "calibrate":
            raise click.UsageError(message_of(error)) from error
        raise


def _templates(templates: tuple[str, ...], template_set: str | None) -> tuple[str, ...]:
    """The requested prompts, checked before anything is opened."""
    from diptych.scoring.zero_shot import PLAIN_TEMPLATES, load_templates, prompts

    try:
        chosen = load_templates(template_set) if template_set else templates or PLAIN_TEMPLATES
        prompts(("a label",), chosen)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return chosen


def _report(result: ClassifiedFiles, embedder: Embedder, folder: str | None) -> int:
    """Report the calibration and the unreadable pictures on stderr; the exit code that follows."""
    report_links(result.links)
    if result.calibration:
        report_failures(result.calibration_failures)
        scale, count = result.calibration
        if scale:
            print_status(
                f"scale {scale:.1f} from {count} labelled pictures instead of the model's {embedder.scale:.1f}"
            )
        else:
            print_status(
                f"all {count} labelled pictures are classified correctly, so every higher scale fits better: the "
                f"model's {embedder.scale:.1f} is kept. Add harder pictures to {folder}"
            )
    if result.accuracy and result.unlabelled:
        print_status(f"{counted(result.unlabelled, 'picture')} in no folder named as a label: not in the accuracy")
    return report_failures(result.failures)


def _rows(result: ClassifiedFiles, top: int) -> list[dict[str, Any]]:
    pairs = zip(result.pictures, result.classification.top(top), strict=True)
    return [{"path": str(path), "labels": labels} for path, labels in pairs]


def _as_json(result: ClassifiedFiles, top: int) -> dict[str, Any]:
    accuracy = result.accuracy
    measured = {
        "accuracy": {f"top{k}": share for k, share in accuracy.top.items()}
        | {"mean_class": accuracy.mean_class, "by_class": accuracy.by_class}
        | {"confusion": [pair._asdict() for pair in accuracy.pairs]}
    } if accuracy else {}  # fmt: skip
    labels = list(result.classification.labels)
    rows, failures = _rows(result, top), failures_json(result.failures)
    return {"labels": labels, "scale": result.scale, "pictures": rows, **measured, "failures": failures}


def _print(result: ClassifiedFiles, top: int) -> None:
    for row in _rows(result, top):
        shares = "  ".join(f"{name} {share:.1%}" for name, share in row["labels"].items())
        print_result(f"{quoted(row['path'])}  {shares}")
    if result.accuracy:
        print_result(_accuracy_line(result.accuracy))


def _accuracy_line(accuracy: Accuracy) -> str:
    top5 = f", {accuracy.top[5]:.1f} % among the first five" if 5 in accuracy.top else ""
    known = {name: value for name, value in accuracy.by_class.items() if value is not None}
    worst = min(known, key=lambda name: known[name])
    mean = f"mean over classes {accuracy.mean_class:.1f} %, least: {worst} {known[worst]:.1f} %"
    pairs = ", ".join(f"{pair.label} for {pair.taken_for} ({pair.count:,})" for pair in accuracy.most_confused())
    confused = f"; most often mistaken: {pairs}" if pairs else ""
    return f"accuracy {accuracy.top[1]:.1f} % of {accuracy.count:,}{top5}; {mean}{confused}"


def _labels(labels: str | None, labels_file: str | None, pictures: tuple[str, ...], follow_links: bool) -> list[str]:
    if labels is None and labels_file is None and len(pictures) == 1 and os.path.isdir(pictures[0]):
        return _class_folders(pictures[0], follow_links)
    from diptych.data.sources.classes import distinct

    names = listed(labels, labels_file, "labels")
    if not names:
        if missing := [each for each in pictures if "://" not in each and not os.path.exists(each)]:
            raise click.UsageError(
                f"{missing[0]} does not exist, and there are no labels. Check the path; pass --labels."
            )
        raise click.UsageError("no labels. Pass --labels cat,dog or --labels-file FILE with one per line.")
    return distinct(names)


def _class_folders(folder: str, follow_links: bool) -> list[str]:
    """The names of the folders of pictures in a folder, as labels."""
    from diptych.data.sources.classes import read_classes

    classes = read_classes(folder, follows=(lambda path: True) if follow_links else None)
    if classes.description:
        print_status(classes.description)
    if not classes.names:
        raise click.UsageError(f"no labels: {folder} contains no folders of pictures. Pass --labels or --labels-file.")
    return list(classes.names)
