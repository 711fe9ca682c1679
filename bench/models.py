"""Which of these models embeds pictures and texts faster on this CPU?

    python bench/models.py --model A [--model B] [--calibrate pairs/train] [--rounds N] [--quick] [--json]

Each model runs in float32, in bfloat16 if the CPU has it, and with --calibrate in 8 bits (converted first, on these
pairs), all in interleaved rounds, so that a slow moment of the machine affects all. Ratios are to the first model in
the same precision. Pictures are noise of the model's size, already decoded, in batches of 32 and one by one; texts are
captions of drawn scenes, already tokenised. The last rows time a whole `Embedder.embed_images` of JPEGs of 0.75
megapixels, decoding included. Default: the bundled model alone.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import Row, arguments, report

import diptych
from diptych.exporting import export
from diptych.scenes.scene import draw_scene
from diptych.training.optim.precision import has_bfloat16

QUESTION = "Pictures and texts a second of models side by side"
BATCH, ROUNDS, SECONDS = 32, 5, 1.0
Work = Callable[[], Any]


def engines(model: str, calibrate: str | None, folder: Path) -> dict[str, diptych.Embedder]:
    """The model on OpenVINO in each precision; a converted model in its own."""
    if (Path(model) / "openvino").is_dir():
        return {"converted": diptych.load(model, engine="openvino")}
    precisions = ("float32", "bfloat16") if has_bfloat16(torch.device("cpu")) else ("float32",)
    found = {each: diptych.load(model, engine="openvino", precision=each) for each in precisions}
    if calibrate:
        export(model, folder, to="openvino", precision="int8", calibrate=calibrate)
        found["int8"] = diptych.load(folder, engine="openvino")
    return found


def works(model: diptych.Embedder, files: list[bytes]) -> dict[str, tuple[Work, int, str]]:
    """What is timed: the work, how many it does, and what they are."""
    size, rng = model.preprocessing.size_px, np.random.default_rng(0)
    pixels = rng.integers(256, size=(BATCH, size, size, 3), dtype=np.uint8)
    captions = [draw_scene(seed, size_px=64, split="train").captions[0] for seed in range(BATCH)]
    ids = model.tokenize(captions, truncate=True).ids
    one = model.tokenize(captions[:1], truncate=True).ids
    return {
        f"batches of {BATCH}": (lambda: model.engine.encode_images(pixels), BATCH, "pictures/s"),
        "one by one": (lambda: model.engine.encode_images(pixels[:1]), 1, "pictures/s"),
        f"texts in batches of {BATCH}": (lambda: model.engine.encode_texts(ids), BATCH, "texts/s"),
        "one text": (lambda: model.engine.encode_texts(one), 1, "texts/s"),
        "JPEG files": (lambda: model.embed_images(files), len(files), "pictures/s"),
    }


def jpegs(count: int) -> list[bytes]:
    """Drawn scenes of 1,000 x 750 pixels as JPEG files."""
    files = []
    for seed in range(count):
        drawn = draw_scene(seed, size_px=1000, split="train").image.crop((0, 0, 1000, 750))
        drawn.convert("RGB").save(file := io.BytesIO(), "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def measure(timed: dict[Any, tuple[Work, int, str]], rounds: int, seconds: float) -> dict[Any, float]:
    """The median rate of each, per second."""
    rates: dict[Any, list[float]] = {key: [] for key in timed}
    for _ in range(rounds):
        for key, (work, count, _) in timed.items():
            began, done = time.perf_counter(), 0
            while not done or time.perf_counter() - began < seconds:
                work()
                done += count
            rates[key].append(done / (time.perf_counter() - began))
    return {key: statistics.median(each) for key, each in rates.items()}


def main() -> None:
    parser = arguments(QUESTION)
    parser.add_argument("--model", action="append", help="a model; repeat to compare")
    parser.add_argument("--calibrate", help="pairs or pictures that the 8-bit form is calibrated on")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    names = options.model or ["bundled"]
    timed: dict[Any, tuple[Work, int, str]] = {}
    with tempfile.TemporaryDirectory() as work:
        files = jpegs(4 if options.quick else BATCH)
        for number, name in enumerate(names):
            for precision, model in engines(name, options.calibrate, Path(work) / str(number)).items():
                for what, each in works(model, files).items():
                    each[0]()  # compiles the tower
                    timed[name, precision, what] = each
        rounds, seconds = (1, 0.02) if options.quick else (options.rounds, SECONDS)
        rates = measure(timed, rounds, seconds)
    rows = [
        Row(
            f"{name}, {precision}, {what}",
            rate,
            timed[name, precision, what][2],
            rate / rates[names[0], precision, what],
        )
        for (name, precision, what), rate in rates.items()
    ]
    report(QUESTION, rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
