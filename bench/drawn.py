"""Do drawn pictures show what their captions say?

    python bench/drawn.py [--generator FOLDER] [--count 500] [--steps 30] [--sampler dpm] [--rerank N] [--picture PNG]
        [--quick] [--json]

Captions are of plain scenes of the test split, each with a pair of colour and shape that no training scene has. The
judge is `diptych.scenes.checking`, which reads pixels. `things` is the share of pictures with all named things in their
colours and shapes and no others, `relation` that of pictures of a caption with a relation in which it holds too,
`colours` and `kinds` those of pictures in which these are right. The first rows judge true scenes with their own and
with the next scene's captions. `--rerank N` draws N pictures of each caption and keeps the one that the bundled CLIP
scores highest; `--picture` shows some of each guidance. `diptych evaluate` has the same as its task scene-attributes.
"""

from __future__ import annotations

from PIL import Image
from table import Row, arguments, report

import diptych
from diptych.display.plots import contact_sheet
from diptych.evaluation.sets.generators import Drawing, drawn
from diptych.generation.generator import Generator, best_of
from diptych.generation.sheets import enlarged
from diptych.scenes.checking import accuracy, check, controls
from diptych.scenes.plain import Described

QUESTION = "Share of drawn pictures that show what their captions say"
GUIDANCES = (0.0, 2.0, 4.0, 8.0)
SEED, SHOWN, QUICK = 1, 8, 8


def rows_of(who: str, shares: dict[str, float]) -> list[Row]:
    """The shares, in percent."""
    return [Row(f"{who}, {name}", 100 * share, "%") for name, share in shares.items()]


def judged(who: str, pictures: list[Image.Image], said: list[Described]) -> list[Row]:
    """What of their captions pictures show."""
    return rows_of(who, accuracy([check(*pair) for pair in zip(pictures, said, strict=True)]))


def reranked(generator: Generator, said: list[Described], steps: int, of: int) -> list[Image.Image]:
    """The best of several pictures of each caption by the bundled CLIP."""
    model, best = diptych.load(), list[Image.Image]()
    for number, each in enumerate(said):
        some = generator.draw(each.caption, count=of, steps=steps, seed=number * of)
        best += best_of(some, each.caption, 1, model).drawn.images()
    return best


def main() -> None:
    """Draw with each guidance, judge, and print the shares."""
    parser = arguments(QUESTION)
    parser.add_argument("--generator", help="by default the bundled one")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--sampler", default="dpm", choices=("dpm", "ddim"))
    parser.add_argument("--rerank", type=int, default=0, metavar="N")
    parser.add_argument("--picture", metavar="PNG")
    options = parser.parse_args()
    count, steps = (QUICK, 4) if options.quick else (options.count, options.steps)
    generator = diptych.open_generator(options.generator)
    drawings = [
        Drawing(guidance, steps=steps, sampler=options.sampler, count=count, seed=SEED) for guidance in GUIDANCES
    ]
    scenes = drawings[0].scenes(generator.size_px)
    said, true = [scene.descriptions[0] for scene in scenes], controls(scenes)
    rows = rows_of("true scenes", true.own) + rows_of("true scenes, the next one's captions", true.swapped)
    tiles = list[tuple[Image.Image, str]]()
    for drawing in drawings:
        pictures = drawn(generator, [each.caption for each in said], drawing)
        rows += judged(f"guidance {drawing.guidance:g}", pictures, said)
        tiles += [(enlarged(one, 4), each.caption) for one, each in zip(pictures[:SHOWN], said, strict=False)]
    if options.rerank:
        best = reranked(generator, said, steps, options.rerank)
        rows += judged(f"guidance 4, best of {options.rerank}", best, said)
    if options.picture:
        contact_sheet(tiles, columns=SHOWN, lines=3, size_px=128).save(options.picture)
    report(QUESTION, rows, as_json=options.as_json, inputs={"count": count, "steps": steps, "sampler": options.sampler})


if __name__ == "__main__":
    main()
