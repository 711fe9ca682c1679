"""The pointing game: does a model point at the named thing, on photographs with labelled boxes?

    python bench/pointing.py [--photos FOLDER] [--model MODEL] [--quick] [--json]

FOLDER has photos.jsonl: one photograph per line, with `file` and `boxes`, each a `label` and `box_xywh_px`. Each label
of each photograph is a round: a hit if the maximum of its map is in one of its boxes (Zhang et al. 2018, "Top-down
neural attention by excitation backprop", section 4.1). Chance is the share of the picture that these boxes cover; the
centre guess always points at the middle. Intervals are of the mean over rounds, resampled by photograph. The same is
printed for the small labels, whose boxes cover less than a tenth of the picture, and for the others: the centre is a
good guess for large things alone. --questions adds a row for each label. Without FOLDER drawn scenes replace the
photographs.
"""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from table import Row, arguments, report

import diptych
from diptych.evaluation.intervals import mean_interval, paired_interval
from diptych.inference.heat_map import Method, heat_maps
from diptych.scenes.scene import Scenes

QUESTION = "The pointing game"
SMALL = 10  # percent of the picture
METHODS: tuple[Method, ...] = ("auto", "patches", "windows")
Box = tuple[float, float, float, float]


class Labelled(NamedTuple):
    """A picture, and the boxes (x, y, width, height) of each label."""

    image: Image.Image
    boxes: dict[str, list[Box]]


def main() -> None:
    """All methods, chance and the centre guess."""
    parser = arguments(QUESTION)
    parser.add_argument("--model", help="a model; by default the bundled one")
    parser.add_argument("--photos", help="a folder with photos.jsonl")
    parser.add_argument("--questions", action="store_true", help="print the hits of each label, too")
    options = parser.parse_args()
    model = diptych.load(options.model)
    pictures = list(photographs(Path(options.photos)) if options.photos else drawn(2 if options.quick else 40))
    pictures = pictures[:2] if options.quick else pictures
    hits: dict[str, list[float]] = {who: [] for who in ("chance", "the centre", *METHODS)}
    groups: list[int] = []
    for number, (image, boxes) in enumerate(pictures):
        groups += [number] * len(boxes)
        hits["chance"] += [covered(image.size, some) for some in boxes.values()]
        middle = (image.width / 2, image.height / 2)
        hits["the centre"] += [is_hit(middle, some) for some in boxes.values()]
        for method in METHODS:
            maps = heat_maps(model, image, [f"a {label}" for label in boxes], method=method)
            hits[method] += [
                is_hit(peak(one.relative_likelihood, image.size), boxes[label])
                for label, one in zip(boxes, maps, strict=True)
            ]
    values, numbers = {who: 100 * np.array(some) for who, some in hits.items()}, np.array(groups)
    is_small = values["chance"] < SMALL
    rows = rows_of(values, numbers, "labels")
    for kind, chosen in (("small labels", is_small), ("large labels", ~is_small)):
        if chosen.any():
            rows += rows_of({who: some[chosen] for who, some in values.items()}, numbers[chosen], kind)
    names = np.array([label for _, boxes in pictures for label in boxes])
    for name in dict.fromkeys(names.tolist()) if options.questions else ():
        chosen = names == name
        rows += rows_of({who: some[chosen] for who, some in values.items()}, numbers[chosen], name)
    report(QUESTION, rows, as_json=options.as_json)


def rows_of(values: dict[str, np.ndarray], groups: np.ndarray, kind: str) -> list[Row]:
    """Hits in percent with their interval and ratio to chance, and the difference of each method to the centre guess
    and to chance."""
    rows = []
    for who, some in values.items():
        found = mean_interval(some, groups)
        label = f"{who}, {len(some)} {kind}, 95 % from {found.low:.1f} to {found.high:.1f}"
        rows.append(Row(label, found.mean, "% hits", found.mean / float(values["chance"].mean())))
    for method, guess in product(METHODS, ("the centre", "chance")):
        found = paired_interval(values[guess], values[method], groups)
        label = f"{method} less {guess}, {kind}, 95 % from {found.low:.1f} to {found.high:.1f}"
        rows.append(Row(label, found.mean, "points"))
    return rows


def photographs(folder: Path) -> Iterator[Labelled]:
    """The photographs of photos.jsonl without labels that have boxes of crowds, which are inexact."""
    for line in (folder / "photos.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        crowds = {box["label"] for box in entry["boxes"] if box.get("crowd")}
        boxes: dict[str, list[Box]] = {}
        for box in entry["boxes"]:
            if box["label"] not in crowds:
                boxes.setdefault(box["label"], []).append(tuple(box["box_xywh_px"]))
        yield Labelled(Image.open(folder / entry["file"]).convert("RGB"), boxes)


def drawn(count: int) -> Iterator[Labelled]:
    """Scenes of two to five things."""
    for scene in Scenes(count, seed=7, size_px=192, split="test", things=(2, 5)):
        boxes: dict[str, list[Box]] = {}
        for thing in scene.things:
            boxes.setdefault(f"{thing.colour} {thing.kind}", []).append(thing.box_xywh_px)
        yield Labelled(scene.image, boxes)


def peak(scores: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """The centre of a map's maximum, in pixels."""
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return (float(column) + 0.5) * size[0] / scores.shape[1], (float(row) + 0.5) * size[1] / scores.shape[0]


def is_hit(point: tuple[float, float], boxes: list[Box]) -> float:
    """1 if the point is in one of the boxes, else 0."""
    return float(any(x <= point[0] <= x + width and y <= point[1] <= y + height for x, y, width, height in boxes))


def covered(size: tuple[int, int], boxes: list[Box]) -> float:
    """The share of the picture that the boxes cover."""
    mask = np.zeros((size[1], size[0]), bool)
    for x, y, width, height in boxes:
        mask[round(y) : round(y + height), round(x) : round(x + width)] = True
    return float(mask.mean())


if __name__ == "__main__":
    main()
