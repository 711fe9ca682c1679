"""Are copies of a picture found, and other pictures left alone?

    python bench/duplicates.py [--data pairs/dev] [--model MODEL] [--count 200] [--quick] [--json]

Each of the first --count pictures is changed in several ways. A copy is near where its cosine to its original reaches a
threshold, and found, as in `diptych index duplicates`, where the pixels of both agree as well. The same is printed for
pairs of different pictures, of 1,000; some data has several shots of one moment. The last rows say how many pictures
are looked at, and what a comparison costs. Without --data the pictures are drawn scenes.
"""

import io
import time
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps
from table import Row, arguments, report

import diptych
from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source
from diptych.index.search.near_duplicates import THRESHOLD, VECTORS_ALONE
from diptych.scenes.scene import Scenes
from diptych.scoring.same_picture import GREY_PX, SAME, Shape, agreement

QUESTION = "Which copies of pictures are found, and how many others"
THRESHOLDS = (0.8, THRESHOLD, VECTORS_ALONE)
Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    """Each change apart, then pairs of different pictures, then the costs."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", help="pairs; their pictures are used")
    parser.add_argument("--model", help="a model; by default the bundled one")
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    model = diptych.load(options.model)
    originals = list(pictures(options.data, 12 if options.quick else 1000))
    count = min(len(originals), options.count)
    vectors = model.embed_images(originals, decode="fast")
    shapes = [Shape(grey(image)) for image in originals]
    rows = [
        row
        for name, change in CHANGES.items()
        for row in of_change(model, originals[:count], vectors, shapes, name, change)
    ]
    rows += of_others(vectors, shapes)
    report(QUESTION, rows, as_json=options.as_json, inputs={"pictures": len(originals), "changed": count})


def of_change(
    model: diptych.Embedder,
    originals: list[Image.Image],
    vectors: np.ndarray,
    shapes: list[Shape],
    name: str,
    change: Change,
) -> Iterator[Row]:
    """How many of the changed pictures are found."""
    changed = [change(image) for image in originals]
    cosines = (vectors[: len(changed)] * model.embed_images(changed, decode="fast")).sum(axis=1)
    agree = (
        np.array([agreement(shape, Shape(grey(image))) for shape, image in zip(shapes, changed, strict=False)]) >= SAME
    )
    for threshold in THRESHOLDS:
        near = cosines >= threshold
        yield Row(f"{name}: near at {threshold:g}", 100 * float(near.mean()), "%")
        yield Row(f"{name}: found at {threshold:g}", 100 * float((near & agree).mean()), "%")
    yield Row(f"{name}: pixels agree", 100 * float(agree.mean()), "%")


def of_others(vectors: np.ndarray, shapes: list[Shape]) -> Iterator[Row]:
    """Pairs of different pictures that are taken for copies, and what looking at their pixels costs."""
    cosines = np.triu(vectors @ vectors.T, 1)
    pairs = np.argwhere(cosines >= min(THRESHOLDS))
    started = time.perf_counter()
    agree = np.array([agreement(shapes[one], shapes[other]) >= SAME for one, other in pairs], bool)
    seconds = time.perf_counter() - started
    for threshold in THRESHOLDS:
        near = cosines[tuple(pairs.T)] >= threshold
        looked_at = 100 * len(np.unique(pairs[near])) / len(vectors)
        yield Row(f"different pictures: near at {threshold:g}", int(near.sum()), "pairs")
        yield Row(f"different pictures: taken for copies at {threshold:g}", int((near & agree).sum()), "pairs")
        yield Row(f"pictures that are looked at, at {threshold:g}", looked_at, "%")
    yield Row("one comparison of pixels", 1e3 * seconds / max(1, len(pairs)), "ms")


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((GREY_PX, GREY_PX), Image.Resampling.LANCZOS))


def pictures(data: str | None, count: int) -> Iterator[Image.Image]:
    """The first pictures of pairs, or drawn scenes."""
    if not data:
        yield from (scene.image for scene in Scenes(count, seed=3, size_px=256))
        return
    source = indexed(open_source(data))
    for at in range(min(count, len(source))):
        picture = source[at].image
        yield (Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture).convert("RGB")


def cropped(image: Image.Image, left: float = 0.05, top: float = 0.05, side: float = 0.9) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((left + side) * width), round((top + side) * height))
    )


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def marked(image: Image.Image) -> Image.Image:
    image, size = image.copy(), image.width // 10
    corner = image.width // 20, image.height - 2 * size
    ImageDraw.Draw(image).text(corner, "(c) an agency", fill="white", font=ImageFont.load_default(size))
    return image


CHANGES: dict[str, Change] = {
    "halved": lambda image: image.reduce(2),
    "recompressed": recompressed,
    "cropped on all sides": cropped,
    "cropped at a corner": lambda image: cropped(image, 0.07, 0, 0.93),
    "brighter by a quarter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "with a mark": marked,
    "mirrored": ImageOps.mirror,
    "grey": lambda image: image.convert("L").convert("RGB"),
}


if __name__ == "__main__":
    main()
