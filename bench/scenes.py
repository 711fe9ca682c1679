"""How well does a model recognise drawn scenes with combinations of colour and kind that are not in training?

    python bench/scenes.py [--model MODEL] [--count 200] [--grounds pairs/dev] [--windows 40] [--quick] [--json]

Scenes of two to five things that cover 3 to 30 % of the picture each and overlap, on drawn grounds and, with --grounds,
on parts of photographs. The questions are the colour of each thing with a unique kind, among all twelve and
against one other, and the kind of each thing with a unique colour, among twelve: by the picture's vector, and by its
patches. The same for single things; the thing that was added to a scene; and the location of a thing, as by default,
by patches and by windows.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from random import Random

import numpy as np
from table import Row, arguments, report

import diptych
from diptych.data.sources.opening import open_source
from diptych.inference.heat_map import Method, heat_maps
from diptych.media.preprocessing import resized_and_cropped
from diptych.scenes.scene import COLOURS, KINDS, Scene, Scenes, Thing, draw_pair
from diptych.scoring.difference import difference
from diptych.scoring.locate import iou
from diptych.scoring.zero_shot import patch_pooled_scores
from diptych.training.scene_source import photographs

QUESTION = "Recognition of held-out drawn scenes"
SIZE_PX, WORDS = 192, 12
Found = dict[str, list[float]]


def main() -> None:
    """Evaluate one model."""
    parser = arguments(QUESTION)
    parser.add_argument("--model", help="a model; by default the bundled one")
    parser.add_argument("--count", type=int, default=200, help="scenes of each sort")
    parser.add_argument("--windows", type=int, default=40, help="scenes that windows search, too")
    parser.add_argument("--grounds", help="pairs whose photographs half of the scenes are drawn on")
    options = parser.parse_args()
    model = diptych.load(options.model)
    count, windows = (4, 1) if options.quick else (options.count, options.windows)
    grounds = photographs(open_source(options.grounds), SIZE_PX, 200) if options.grounds else ()
    several = list(Scenes(count, seed=7, size_px=SIZE_PX, split="test", things=(2, 5), backgrounds=grounds))
    single = list(Scenes(count, seed=9, size_px=SIZE_PX, split="test", things=(1, 1), backgrounds=grounds))
    found: Found = defaultdict(list)
    attributes(model, several, "several things", found)
    attributes(model, single, "one thing", found)
    for seed in range(count):
        before, after, added = draw_pair(seed, size_px=SIZE_PX, split="test", backgrounds=grounds)
        found[f"what was added, of {WORDS} words"].append(is_named(model, before, after, added, Random(seed)))
    for number, scene in enumerate(several):
        located(model, scene, "auto", found)
        located(model, scene, "patches", found)
        if number < windows:
            located(model, scene, "windows", found)
    rows = [
        Row(f"{what} ({len(values):,} times)", float(np.mean(values)) * (1 if "IoU" in what else 100), unit_of(what))
        for what, values in found.items()
    ]
    report(QUESTION, rows, as_json=options.as_json)


def unit_of(what: str) -> str:
    """Overlaps are shares, everything else is in percent."""
    return "" if "IoU" in what else "%"


def attributes(model: diptych.Embedder, scenes: Sequence[Scene], where: str, found: Found) -> None:
    """The colours of kinds and the kinds of colours; the first word of each list is correct."""
    pixels = np.stack([resized_and_cropped(scene.image, model.preprocessing) for scene in scenes])
    rng = Random(0)
    for at, scene in enumerate(scenes):
        seen = model.engine.encode_patches(pixels[at : at + 1])
        for what, words in questions(scene.things, rng):
            classes = model.embed_labels(words, templates=["a {}"])
            for way, scores in (
                ("the vector", classes @ seen.images[0]),
                ("its patches", patch_pooled_scores(seen, classes)[0]),
            ):
                found[f"{where}, {what}, by {way}"].append(float(scores.argmax() == 0))


def questions(things: Sequence[Thing], rng: Random) -> Iterator[tuple[str, list[str]]]:
    """The questions about a scene, and the words to choose from."""
    kinds, colours = [thing.kind for thing in things], [thing.colour for thing in things]
    for thing in things:
        if kinds.count(thing.kind) == 1:
            wrong = [colour for colour in COLOURS if colour != thing.colour]
            yield "colour of 12", [f"{colour} {thing.kind}" for colour in (thing.colour, *wrong)]
            yield "colour of 2", [f"{colour} {thing.kind}" for colour in (thing.colour, rng.choice(wrong))]
        if colours.count(thing.colour) == 1:
            absent = rng.sample([kind for kind in KINDS if kind not in kinds], WORDS - 1)
            yield f"kind of {WORDS}", [f"{thing.colour} {kind}" for kind in (thing.kind, *absent)]
    if len(things) == 1:
        wrong = [kind for kind in KINDS if kind != kinds[0]]
        yield f"kind of {len(KINDS)}", [f"{colours[0]} {kind}" for kind in (kinds[0], *wrong)]


def is_named(model: diptych.Embedder, before: Scene, after: Scene, added: Thing, rng: Random) -> float:
    """Whether the difference of the two pictures is named as the kind that was added."""
    words = (added.kind, *rng.sample([kind for kind in KINDS if kind != added.kind], WORDS - 1))
    first, second = model.embed_images([before.image, after.image])
    said = difference(first, second, model.embed_labels(words), words, scale=model.scale)
    return float(said.appeared.argmax() == 0)


def located(model: diptych.Embedder, scene: Scene, method: Method, found: Found) -> None:
    """For each unique thing, whether the centre of the best box is in the true one, and their overlap."""
    named = [(thing.colour, thing.kind) for thing in scene.things]
    once = [thing for thing in scene.things if named.count((thing.colour, thing.kind)) == 1]
    phrases = [f"{thing.colour} {thing.kind}" for thing in once]
    maps = heat_maps(model, scene.image, phrases, method=method) if once else []
    for thing, found_map in zip(once, maps, strict=True):
        x, y, width, height = thing.box_xywh_px
        best = found_map.boxes[0] if found_map.boxes else None
        middle = (best.x + best.width / 2, best.y + best.height / 2) if best else (-1, -1)
        inside = x <= middle[0] <= x + width and y <= middle[1] <= y + height
        found[f"found by {method}: middle in the box"].append(float(inside))
        found[f"found by {method}: IoU"].append(iou(best, thing.box_xywh_px) if best else 0.0)


if __name__ == "__main__":
    main()
