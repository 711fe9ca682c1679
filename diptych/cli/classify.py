"""diptych classify"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
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
    pictures_in,
    print_json,
    progress,
    report_failures,
    say,
    say_cut,
    truncate_option,
    write_input_sheet,
)
from diptych.cli.terminal import tell
from diptych.engines import EngineName

if TYPE_CHECKING:
    import numpy as np

    from diptych.embedder import Embedder


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
    "--templates",
    "template_set",
    metavar="SET",
    help="A set of prompts: plain, general, openai (of an installed open_clip), openai-7, or a JSON file.",
)
@click.option("--each", is_flag=True, help="Several labels may fit a picture: judge each by itself.")
@click.option("--places", is_flag=True, help="Judge by the place that fits a label best: for several things.")
@click.option(
    "--calibrate",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Class folders with some pictures of each label, to fit the probabilities to.",
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
    template_set: str | None, each: bool, places: bool, calibrate: str | None, top: int, show_input: str | None,
    follow_links: bool, truncate: bool, model: str | None, engine: EngineName | None, device: str | None,
    activation: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Say which label fits each of PICTURES (files, folders or URLs), with probabilities.

    \b
    diptych classify photos/ --labels cat,dog,bird
    diptych classify animals/ --templates general     the labels: animals/cat ...

    Where the pictures lie in folders that are called as the labels, the accuracy is printed, too.
    """
    import numpy as np

    from diptych.scoring import zero_shot

    if templates and template_set:
        raise click.UsageError("prompts came twice. Pass --template or --templates, not both.")
    names = _labels(labels, labels_file, pictures, follow_links)
    try:
        templates = zero_shot.templates_of(template_set) if template_set else templates or zero_shot.PLAIN_TEMPLATES
        zero_shot.prompts(("a label",), templates)  # says what is wrong with them before anything is opened
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if len(names) == 1 and not each:
        say(f"{names[0]!r} is the one label, which always gets 100 %: pass others beside it, or --each")
    embedder = open_model(model, device, activation, engine)
    classes = embedder.embed_labels(names, templates=templates, truncate=truncate)  # may fail, so before the pictures
    if truncate:
        say_cut(embedder, zero_shot.prompts(tuple(names), templates))
    judge = _judge(embedder, classes, each, places)
    fitted = _calibrated(embedder, judge, names, calibrate, follow_links) if calibrate else None
    scale, bias = fitted or embedder.scale, None if fitted else embedder.bias
    paths = pictures_in(pictures, follow_links=follow_links)
    with progress("looking at pictures") as advance:
        seen = embedder.embed_readable(paths, encode=judge, progress=advance)
    code = report_failures(seen.failures)
    cosines = seen.vectors[:, : len(names)] if seen.keys else np.empty((0, len(names)), np.float32)
    if each:
        shares = zero_shot.each_label(cosines, seen.vectors[:, -1], scale=scale)
    else:
        shares = zero_shot.classify(cosines, tuple(names), scale=scale, bias=bias).probabilities
    rows = [
        {"path": str(path), "labels": {names[j]: float(row[j]) for j in (-row).argsort()[:top]}}
        for path, row in zip(seen.keys, shares, strict=True)
    ]
    answers = _answers(seen.keys, names, pictures)
    counted = [at for at, answer in enumerate(answers) if answer is not None]
    accuracy = _accuracy(shares[counted], [answers[at] for at in counted], names) if counted else {}
    if 0 < len(counted) < len(answers):
        say(f"{len(answers) - len(counted)} pictures lie in no folder that is called as a label: not in the accuracy")
    if as_json:
        told = {"accuracy": accuracy | {"confusion": _told(accuracy["confusion"], names)}} if accuracy else {}
        said = {"labels": names, "scale": scale, "pictures": rows, **told, "failures": failures_json(seen.failures)}
        print_json(said)
    else:
        for row in rows:
            tell(f"{quoted(row['path'])}  " + "  ".join(f"{name} {share:.1%}" for name, share in row["labels"].items()))
        if accuracy:
            tell(_accuracy_line(accuracy, len(counted)))
    if not paths:
        say(f"no pictures in {', '.join(pictures)}.")
        return NOTHING
    if show_input and seen.keys:
        write_input_sheet(show_input, embedder, seen.keys)
    return code if seen.keys else FAILED


def _judge(embedder: Embedder, classes: np.ndarray, each: bool, places: bool) -> Callable[[np.ndarray], np.ndarray]:
    """From pixels to cosines with each label, and with `each` to one more, with no label."""
    import numpy as np

    from diptych.scoring.zero_shot import NOTHING as NO_LABEL
    from diptych.scoring.zero_shot import class_vectors

    if each:
        nothing = class_vectors(embedder.embed_texts(NO_LABEL, truncate=True), len(NO_LABEL))
        classes = np.concatenate([classes, nothing])

    if places:
        return partial(embedder.anywhere, classes=classes)
    return lambda pixels: embedder.engine.encode_images(pixels) @ classes.T


def _labels(labels: str | None, labels_file: str | None, pictures: tuple[str, ...], follow_links: bool) -> list[str]:
    if labels is None and labels_file is None and len(pictures) == 1 and os.path.isdir(pictures[0]):
        return _class_folders(pictures[0], follow_links)
    from diptych.data.sources.classes import spelling

    names = listed(labels, labels_file, "labels")
    if not names:
        if missing := [each for each in pictures if "://" not in each and not os.path.exists(each)]:
            raise click.UsageError(f"{missing[0]} is not there, and no labels came. Check the path; pass --labels.")
        raise click.UsageError("no labels. Pass --labels cat,dog or --labels-file FILE with one a line.")
    first = {spelling(name): name for name in reversed(names)}  # as folders are matched
    return [name for name in names if first[spelling(name)] is name]


def _class_folders(folder: str, follow_links: bool) -> list[str]:
    """The labels that the folders of pictures below a folder are called by."""
    from diptych.data.sources.classes import read_classes

    found = read_classes(folder, follows=(lambda path: True) if follow_links else None)
    if found.said:
        say(found.said)
    if not found.names:
        raise click.UsageError(
            f"no labels, and no folders of pictures in {folder} to take them from. Pass --labels or --labels-file."
        )
    return list(found.names)


def _answers(paths: Sequence[Any], names: list[str], places: Sequence[str]) -> list[int | None]:
    """The number of the label that each picture's folder, in one of the places that were named, is called by."""
    from diptych.data.sources.classes import answers_among

    tops = [place for place in places if os.path.isdir(place)]
    return answers_among(names, paths, tops)


def _accuracy(shares: np.ndarray, answers: Sequence[int | None], names: list[str]) -> dict[str, Any]:
    """Percentages, over all pictures and by class, and who was taken for whom."""
    import numpy as np

    from diptych.scoring.metrics import class_accuracy, confusion, top_accuracy

    right = np.array(answers)
    taken = confusion(shares.argmax(axis=1), right, len(names))
    by_class = class_accuracy(taken)
    tops = top_accuracy(shares, right, [k for k in (1, 5) if k < len(names)] or [1])
    return {
        **{f"top{k}": value for k, value in tops.items()},
        "mean_class": float(np.nanmean(by_class)),
        "by_class": {
            name: None if np.isnan(value) else value for name, value in zip(names, by_class.tolist(), strict=True)
        },
        "confusion": taken.tolist(),
    }


def _told(confusion: list[list[int]], names: list[str]) -> list[dict[str, Any]]:
    """Which label was taken for which how often, but for pairs that never occur."""
    return [
        {"label": names[right], "taken_for": names[said], "count": count}
        for right, row in enumerate(confusion)
        for said, count in enumerate(row)
        if count
    ]


def _accuracy_line(accuracy: dict[str, Any], count: int) -> str:
    top5 = f", {accuracy['top5']:.1f} % among the first five" if "top5" in accuracy else ""
    known = {name: value for name, value in accuracy["by_class"].items() if value is not None}
    worst = min(known, key=lambda name: known[name])
    least = f"least: {worst} {known[worst]:.1f} %"
    mean = f"mean over classes {accuracy['mean_class']:.1f} %"
    return f"accuracy {accuracy['top1']:.1f} % of {count:,}{top5}; {mean}, {least}{_confused(accuracy)}"


def _confused(accuracy: dict[str, Any]) -> str:
    """The three pairs of classes that were confused most often."""
    names, table = list(accuracy["by_class"]), accuracy["confusion"]
    pairs = [(table[i][j], names[i], names[j]) for i in range(len(names)) for j in range(len(names)) if i != j]
    most = [pair for pair in sorted(pairs, key=lambda pair: -pair[0])[:3] if pair[0]]
    told = ", ".join(f"{right} for {said} ({times:,})" for times, right, said in most)
    return f"; most often mistaken: {told}" if told else ""


def _calibrated(
    embedder: Embedder,
    judge: Callable[[np.ndarray], np.ndarray],
    names: list[str],
    folder: str,
    follow_links: bool,
) -> float | None:
    """The scale that fits the labelled pictures of a folder best; None where all are right at any."""
    import numpy as np

    from diptych.scoring.zero_shot import calibrated_scale

    seen = embedder.embed_readable(pictures_in((folder,), follow_links=follow_links), encode=judge)
    report_failures(seen.failures)
    answers = _answers(seen.keys, names, [folder])
    if not answers or None in answers:
        odd = sorted({Path(path).parent.name for path, at in zip(seen.keys, answers, strict=True) if at is None})
        which = f"pictures in {odd[0]!r}, which is no label" if odd else "no picture that can be read"
        raise click.UsageError(f"{folder} has {which}; wanted folders called {', '.join(names[:5])}.")
    cosines = seen.vectors[:, : len(names)]
    if (cosines.argmax(axis=1) == np.array(answers)).all():
        say(
            f"all {len(answers)} labelled pictures are right already, so no scale is too high for them: the model's "
            f"{embedder.scale:.1f} stays. Add harder ones to {folder}"
        )
        return None
    scale = calibrated_scale(cosines, np.array(answers))
    say(f"scale {scale:.1f} by {len(answers)} labelled pictures, in place of the model's {embedder.scale:.1f}")
    return scale
