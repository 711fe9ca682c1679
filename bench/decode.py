"""How fast is a JPEG decoded and resized for a tower, and how much accuracy does fast decoding lose?

    python bench/decode.py [--photos FOLDER] [--quick] [--json]

The peer is open_clip's transform (Pillow and torchvision) if both are installed. Without --photos the pictures
are scikit-image's, enlarged to 12 megapixels (with --quick to one).
"""

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image
from table import Row, arguments, report, with_ratios

import diptych
from diptych.media.preprocessing import Preprocess, preprocess
from diptych.media.scanning.image_files import find_images

QUESTION = "JPEG to normalised pixels of 224 px, pictures a second on one thread"
ROUNDS = 5


def pictures(folder: str | None, count: int, size: tuple[int, int]) -> list[bytes]:
    """Photographs, or enlarged pictures."""
    if folder:
        return [path.read_bytes() for path in find_images(folder)[:count]]
    made = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        file = io.BytesIO()
        Image.fromarray(getattr(skimage.data, name)()).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
        made.append(file.getvalue())
    return made[:count]


def open_clip_transform(size_px: int) -> Callable[[bytes], Any] | None:
    """open_clip's evaluation transform; None if it is not installed."""
    try:
        import torchvision_operators  # noqa: F401 (torchvision has no CPU build: its operators are declared first)
        from open_clip.transform import image_transform
    except ImportError:
        return None
    transform: Any = image_transform(size_px, is_train=False)
    return lambda content: transform(Image.open(io.BytesIO(content)))


def main() -> None:
    """Measure in interleaved rounds, so that a slow moment of the machine affects all."""
    parser = arguments(QUESTION)
    parser.add_argument("--photos", help="a folder of photographs")
    options = parser.parse_args()
    count, rounds, size = (4, 1, (1200, 900)) if options.quick else (1000, ROUNDS, (4000, 3000))
    files = pictures(options.photos, count, size)
    spec = Preprocess(size_px=224)
    ways: dict[str, Callable[[bytes], Any]] = {
        "diptych, exact": lambda content: preprocess(content, spec),
        "diptych, fast": lambda content: preprocess(content, spec, decode="fast"),
    }
    if theirs := open_clip_transform(224):
        ways = {"open_clip": theirs, **ways}
    seconds: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(rounds):
        for who, way in ways.items():
            started_s = time.perf_counter()
            for content in files:
                way(content)
            seconds[who].append(time.perf_counter() - started_s)
    rows = with_ratios([Row(who, len(files) / statistics.median(s), "pictures/s") for who, s in seconds.items()])
    name = QUESTION if options.photos else f"{QUESTION}; of {size[0]} x {size[1]}"
    report(name, [*rows, *agreement(files, options.photos)], as_json=options.as_json)


def agreement(files: list[bytes], folder: str | None) -> list[Row]:
    """Cosines of the bundled model's vectors, fast against exact."""
    model = diptych.load()
    exact, fast = (model.embed_images(files, decode=decode) for decode in ("exact", "fast"))
    cosines = (exact * fast).sum(axis=1)
    where = f"{len(files)} pictures{f' of {Path(folder).name}' if folder else ''}"
    return [
        Row(f"fast against exact, bundled model, {where}", float(np.min(cosines)), "worst cosine"),
        Row(f"fast against exact, bundled model, {where}", float(np.median(cosines)), "median cosine"),
    ]


if __name__ == "__main__":
    main()
