"""Does classifying a folder of pictures run at the speed of the engine?

    python bench/classify.py [--photos FOLDER] [--count 1000] [--model MODEL] [--quick] [--json]

"the engine alone" embeds batches of pixels in memory; the others start from files: `embed_stream`, and complete
commands in this process, which open the model first: `diptych embed`, and `diptych classify` with twenty labels and the
general prompts, by vectors and by patches. "from files, at most" is the limit of a machine whose cores decode and embed
in turns and are never idle. Medians of interleaved rounds. Without --photos JPEGs of drawn scenes are made, 256 px.
"""

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from table import Row, arguments, report

import diptych
from diptych.cli import diptych as command
from diptych.media.preprocessing import load_pixels, resized_and_cropped
from diptych.media.scanning.image_files import find_images
from diptych.scenes.scene import KINDS, draw_scene

QUESTION = "Classifying a folder of pictures"
LABELS = KINDS[:20]


def main() -> None:
    """Measure and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--photos", help="a folder of pictures")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", help="a model; by default the bundled one")
    options = parser.parse_args()
    count, rounds = (8, 1) if options.quick else (options.count, 5)
    with tempfile.TemporaryDirectory() as made:
        folder = filled(Path(made), options.photos, count)
        report(f"{QUESTION}: {count:,}", measured(folder, options.model, rounds), as_json=options.as_json)


def filled(folder: Path, photos: str | None, count: int) -> Path:
    """A folder of `count` files: links to photographs, repeated if there are fewer, or drawn scenes."""
    found = find_images(photos) if photos else []
    for number, path in enumerate(islice(cycle(found), count)):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
    for number in range(0 if found else count):
        draw_scene(number % 64, size_px=256).image.save(folder / f"{number:06d}.jpg", quality=90)
    return folder


def measured(folder: Path, name: str | None, rounds: int) -> list[Row]:
    """Pictures per second of each method, and the ratio to the engine's."""
    model, paths = diptych.load(name), find_images(folder)
    pixels = np.stack([resized_and_cropped(path, model.preprocessing) for path in paths[:256]])

    def run(*arguments: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command([*arguments, *(["--model", name] if name else [])], standalone_mode=False)

    def embed() -> None:
        with tempfile.TemporaryDirectory() as out:
            run("embed", str(folder), out)

    def classify(*more: str) -> None:
        run("classify", str(folder), "--labels", ",".join(LABELS), "--templates", "general", *more)

    decoding = "decoding alone"
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "the engine alone": (len(pixels), lambda: model.embed_pixels(pixels)),
        decoding: (len(pixels), lambda: list(load_pixels(paths[:256], model.preprocessing, decode="fast"))),
        "embed_stream": (len(paths), lambda: model.try_embed_images(paths)),
        "diptych embed": (len(paths), embed),
        "diptych classify": (len(paths), classify),
        "diptych classify --patches": (len(paths), lambda: classify("--patches")),
    }
    taken_s: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, (_, work) in ways.items():
            started_s = time.perf_counter()
            work()
            if turn:  # the first run compiles
                taken_s[way].append(time.perf_counter() - started_s)
    rates = {way: number / statistics.median(taken_s[way]) for way, (number, _) in ways.items()}
    engine = rates["the engine alone"]
    rates["from files, at most"] = 1 / (1 / engine + 1 / rates.pop(decoding))
    return [Row(way, rate, "pictures/s", rate / engine) for way, rate in rates.items()]


if __name__ == "__main__":
    main()
