"""Do drawn pictures show what their captions say?

    python bench/drawn.py [--generator FOLDER] [--count 500] [--steps 30] [--sampler dpm] [--rerank N] [--picture PNG]
        [--quick] [--json]

Captions are of plain scenes of the test split, each with a pair of colour and shape that no training scene has. The
judge is `diptych.scenes.checking`, which reads pixels. `things` is the share of pictures with all named things in their
colours and shapes and no others, `relation` that of pictures of a caption with a relation in which it holds too. The
first rows judge true scenes with their own and with the next scene's captions. `--rerank N` draws N pictures of each
caption and keeps the one that the bundled CLIP scores highest; `--picture` shows some of each guidance.
"""

from __future__ import annotations

from itertools import pairwise

from PIL import Image
from table import Row, arguments, report

import diptych
from diptych.display.plots import contact_sheet
from diptych.generation.generator import Generator, best_of
from diptych.generation.sheets import enlarged
from diptych.scenes.checking import Check, accuracy, check
from diptych.scenes.plain import Described, plain_scenes

QUESTION = "Share of drawn pictures that show what their captions say"
GUIDANCES = (0.0, 2.0, 4.0, 8.0)
SEED, SHOWN, QUICK = 1, 8, 8


def rows_of(who: str, checks: list[Check]) -> list[Row]:
    """Both shares, in percent."""
    found = accuracy(checks)
    return [Row(f"{who}, {name}", 100 * share, "%") for name, share in found.items()]


def drawn(generator: Generator, said: list[Described], guidance: float, steps: int, sampler: str) -> list[Image.Image]:
    """A picture of each caption."""
    captions = [each.caption for each in said]
    return generator.draw(captions, guidance=guidance, steps=steps, sampler=sampler).images()  # type: ignore[arg-type]


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
    scenes = list(plain_scenes(count, size_px=generator.size_px, split="test", seed=SEED))
    said = [scene.descriptions[0] for scene in scenes]
    rows = rows_of("true scenes", [check(scene.image, each) for scene, each in zip(scenes, said, strict=True)])
    rows += rows_of(
        "true scenes, the next one's captions", [check(a.image, b.descriptions[0]) for a, b in pairwise(scenes)]
    )
    tiles = list[tuple[Image.Image, str]]()
    for guidance in GUIDANCES:
        pictures = drawn(generator, said, guidance, steps, options.sampler)
        rows += rows_of(f"guidance {guidance:g}", [check(*pair) for pair in zip(pictures, said, strict=True)])
        tiles += [(enlarged(one, 4), each.caption) for one, each in zip(pictures[:SHOWN], said, strict=False)]
    if options.rerank:
        best = reranked(generator, said, steps, options.rerank)
        rows += rows_of(
            f"guidance 4, best of {options.rerank}", [check(*pair) for pair in zip(best, said, strict=True)]
        )
    if options.picture:
        contact_sheet(tiles, columns=SHOWN, lines=3, size_px=128).save(options.picture)
    report(QUESTION, rows, as_json=options.as_json, inputs={"count": count, "steps": steps, "sampler": options.sampler})


if __name__ == "__main__":
    main()
