"""How long does it take to locate something in a picture, relative to embedding the picture?

    python bench/locate.py [--model MODEL] [--quick] [--json]

An open picture of 1,600 x 1,200 pixels (with --quick 400 x 300) and one phrase. "one embedding" is `embed_images` of
that picture; the map by patches is one pass, upsampled, with boxes; windows per second are compared with the engine on
batches of pixels in memory. Medians of interleaved rounds.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from table import Row, arguments, report

import diptych
from diptych.scoring.locate import windows

QUESTION = "Finding a phrase in a picture"


def main() -> None:
    """Measure in interleaved rounds."""
    parser = arguments(QUESTION)
    parser.add_argument("--model", help="a model; by default the bundled one")
    options = parser.parse_args()
    model, rounds, side = diptych.load(options.model), *((1, 400) if options.quick else (9, 1600))
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 256, (75, 100, 3), np.uint8)).resize((side, 3 * side // 4))
    size, count = model.preprocessing.size_px, len(windows(*picture.size))
    batch = draw.integers(0, 256, (32, size, size, 3), np.uint8)
    batches = -(-count // len(batch))

    def many() -> None:
        for _ in range(batches):
            model.engine.encode_images(batch)

    ways: dict[str, Callable[[], object]] = {
        "one embedding": lambda: model.embed_images([picture]),
        "a map by patches": lambda: model.locate(picture, "a red star", method="patches"),
        "batches alone": many,
        "a map by windows": lambda: model.locate(picture, "a red star", method="windows"),
    }
    taken_s: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            started_s = time.perf_counter()
            work()
            if turn:  # the first compiles
                taken_s[name].append(time.perf_counter() - started_s)
    median_s = {name: statistics.median(times) for name, times in taken_s.items()}
    one, patches = median_s["one embedding"], median_s["a map by patches"]
    alone, by_windows = batches * len(batch) / median_s["batches alone"], count / median_s["a map by windows"]
    rows = [
        Row("one embedding", 1e3 * one, "ms", 1.0),
        Row("a map by patches", 1e3 * patches, "ms", patches / one),
        Row(f"a map by {count} windows", 1e3 * median_s["a map by windows"], "ms", median_s["a map by windows"] / one),
        Row("the engine alone, batches of 32", alone, "pictures/s", 1.0),
        Row("a map by windows", by_windows, "pictures/s", by_windows / alone),
    ]
    report(f"{QUESTION} of {side} x {3 * side // 4} pixels", rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
