"""Real photographs with captions and labelled boxes: retrieval by their captions, and zero-shot among their labels.

    python bench/photographs.py --photos FOLDER [--model MODEL] [--quick] [--json]

FOLDER has photos.jsonl, as for bench/pointing.py; each line has `captions` too. A photograph is classified rightly if
the best of all labels, in "a photo of a ...", is one of its own; among its own the one of the largest area is the main
one. Name several models to compare them. Without FOLDER drawn scenes replace the photographs.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from table import Row, arguments, report

import diptych
from diptych.scenes.scene import Scenes
from diptych.scoring.metrics import retrieval

QUESTION = "Photographs: retrieval by captions, and zero-shot among their labels, in percent"
TEMPLATE = "a photo of a {}"


class Photograph(NamedTuple):
    """A picture, its captions, and its labels, that of the largest area first."""

    image: Image.Image
    captions: tuple[str, ...]
    labels: tuple[str, ...]


def main() -> None:
    """Measure every model on the same photographs."""
    parser = arguments(QUESTION)
    parser.add_argument("--photos", help="a folder with photos.jsonl")
    parser.add_argument("--model", action="append", help="a model; may be repeated; by default the bundled one")
    options = parser.parse_args()
    pictures = list(photographs(Path(options.photos)) if options.photos else drawn(8 if options.quick else 40))
    pictures = pictures[:8] if options.quick else pictures
    rows = [row for name in options.model or [None] for row in rows_of(name, diptych.load(name), pictures)]
    report(QUESTION, rows, as_json=options.as_json)


def photographs(folder: Path) -> Iterator[Photograph]:
    """The photographs of photos.jsonl."""
    for line in (folder / "photos.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        areas: dict[str, float] = {}
        for box in entry["boxes"]:
            areas[box["label"]] = areas.get(box["label"], 0) + box["box_xywh_px"][2] * box["box_xywh_px"][3]
        labels = tuple(sorted(areas, key=lambda label: -areas[label]))
        yield Photograph(Image.open(folder / entry["file"]).convert("RGB"), tuple(entry["captions"]), labels)


def drawn(count: int) -> Iterator[Photograph]:
    """Scenes of one to three things."""
    for scene in Scenes(count, seed=9, size_px=192, split="test", things=(1, 3)):
        things = sorted(scene.things, key=lambda thing: -thing.box_xywh_px[2] * thing.box_xywh_px[3])
        yield Photograph(scene.image, scene.captions, tuple(dict.fromkeys(thing.kind for thing in things)))


def rows_of(name: str | None, model: diptych.Embedder, pictures: Sequence[Photograph]) -> Iterator[Row]:
    """Recall in both directions, and the share of rightly classified pictures."""
    vectors = model.embed_images([picture.image for picture in pictures])
    captions = [caption for picture in pictures for caption in picture.captions]
    owners = np.repeat(np.arange(len(pictures)), [len(picture.captions) for picture in pictures])
    who = f"{name or 'bundled'}, {len(pictures)} pictures"
    result = retrieval(vectors, model.embed_texts(captions, truncate=True), owners)
    for direction, recall in result._asdict().items():
        for at, value in recall._asdict().items():
            yield Row(f"{who} x {len(captions)} texts", value, f"{direction.replace('_', ' ')} R@{at[3:]}")
    labels = sorted({label for picture in pictures for label in picture.labels})
    cosines = vectors @ model.embed_texts([TEMPLATE.format(label) for label in labels]).T
    has = np.array([[label in picture.labels for label in labels] for picture in pictures])
    is_main = np.array([[label == picture.labels[0] for label in labels] for picture in pictures])
    order = np.argsort(-cosines, axis=1, kind="stable")
    who = f"{who}, {len(labels)} labels"
    yield Row("chance", 100 * float(has.mean()), "% top-1 one of its own")
    yield Row(who, 100 * float(np.take_along_axis(has, order, 1)[:, 0].mean()), "% top-1 one of its own")
    for k in (1, 5):
        found = np.take_along_axis(is_main, order, 1)[:, :k].any(axis=1)
        yield Row(who, 100 * float(found.mean()), f"% top-{k} has the main one")


if __name__ == "__main__":
    main()
