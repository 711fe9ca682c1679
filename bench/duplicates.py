"""Which cosine separates copies of a picture from other pictures?

    python bench/duplicates.py [--data pairs/dev] [--model MODEL] [--count 300] [--quick] [--json]

Each picture is embedded as it is and changed: cropped to 90 %, halved, brighter, recompressed, and at most 160 px wide
and high. Shown are the cosines that 95 % of the changed pictures reach, how many reach the threshold of `diptych index
duplicates`, and how many pictures have another one above it. The last row is the threshold that keeps most copies of
all kinds while one picture in a thousand is taken for a copy of another; several files of one photograph among the data
count as others. Without --data the pictures are drawn scenes.
"""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageEnhance
from table import Row, arguments, report

import diptych
from diptych.data.loading.stream import indexed
from diptych.data.sources.opening import open_source
from diptych.index.search.near_duplicates import THRESHOLD
from diptych.scenes.scene import Scenes

QUESTION = "Cosines of a picture with its copies, and with other pictures"
OTHERS = 1e-3  # the share of pictures that may be taken for a copy of another
Change = Callable[[Image.Image], Image.Image]


def main() -> None:
    """Each change apart, the pictures among themselves, and a threshold."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", help="pairs; their pictures are used")
    parser.add_argument("--model", help="a model; by default the bundled one")
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    model = diptych.load(options.model)
    images = list(pictures(options.data, 12 if options.quick else options.count))
    vectors = model.embed_images(images, decode="fast")
    others = vectors @ vectors.T
    np.fill_diagonal(others, -1)
    nearest = others.max(axis=1)
    least = float(np.quantile(nearest, 1 - OTHERS))
    rows, copies = [], []
    for name, change in CHANGES.items():
        cosines = (vectors * model.embed_images([change(image) for image in images], decode="fast")).sum(axis=1)
        copies.append(cosines)
        rows.append(Row(f"{name}: 95 % reach", float(np.quantile(cosines, 0.05)), "cosine"))
        rows.append(Row(f"{name}: found at {THRESHOLD:g}", 100 * float((cosines >= THRESHOLD).mean()), "%"))
        rows.append(Row(f"{name}: found at {least:.3f}", 100 * float((cosines >= least).mean()), "%"))
    rows.append(Row("the nearest other: 99 % stay below", float(np.quantile(nearest, 0.99)), "cosine"))
    rows.append(Row(f"another picture at {THRESHOLD:g}", 100 * float((nearest >= THRESHOLD).mean()), "%"))
    rows.append(Row("threshold that takes one in a thousand for another's copy", least, "cosine"))
    report(QUESTION, rows, as_json=options.as_json, inputs={"pictures": len(images)})


def pictures(data: str | None, count: int) -> Iterator[Image.Image]:
    """The first pictures of pairs, or drawn scenes."""
    if not data:
        yield from (scene.image for scene in Scenes(count, seed=3, size_px=256))
        return
    source = indexed(open_source(data))
    for at in range(min(count, len(source))):
        picture = source[at].image
        yield (Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    x, y = width // 20, height // 20
    return image.crop((x, y, width - x, height - y))


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def shrunk(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((160, 160))
    return small


CHANGES: dict[str, Change] = {
    "cropped to 90 %": cropped,
    "halved": lambda image: image.reduce(2),
    "brighter by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "recompressed": recompressed,
    "at most 160 px": shrunk,
}


if __name__ == "__main__":
    main()
