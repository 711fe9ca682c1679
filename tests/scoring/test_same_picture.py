"""Whether two pictures are the same, by their small greys."""

import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from diptych.scoring.same_picture import GREY_PX, SAME, Shape, agreement


def shape(image: Image.Image) -> Shape:
    return Shape(np.asarray(image.convert("L").resize((GREY_PX, GREY_PX), Image.Resampling.LANCZOS)))


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    return [
        Image.fromarray(picture).convert("RGB")
        for picture in (skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.camera())
    ]


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=10)
    return Image.open(file)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def marked(image: Image.Image) -> Image.Image:
    image = image.copy()
    place = image.width // 10, image.height * 4 // 5
    ImageDraw.Draw(image).text(place, "(c) an agency", fill="white", font=ImageFont.load_default(image.width // 12))
    return image


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "small": lambda image: image.resize((80, 60)),
    "recompressed": recompressed,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "grey": lambda image: image.convert("L"),
    "mirrored": ImageOps.mirror,
    "marked": marked,
    "cropped on all sides": lambda image: cropped(image, 0.05, 0.05, 0.95, 0.95),
    "cropped at one side": lambda image: cropped(image, 0.083, 0, 1, 1),
    "cropped at a corner": lambda image: cropped(image, 0, 0.013, 0.87, 0.93),
    "cropped, mirrored and small": lambda image: ImageOps.mirror(cropped(image, 0.07, 0, 1, 0.91)).resize((90, 90)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_agrees_from_either_side(photographs: list[Image.Image], change: str) -> None:
    for image in photographs:
        one, other = shape(image), shape(CHANGES[change](image))
        assert agreement(one, other) >= SAME + 0.2
        assert agreement(other, one) == pytest.approx(agreement(one, other), abs=0.05)


def test_equal_pictures_agree_wholly_and_others_do_not(photographs: list[Image.Image]) -> None:
    shapes = [shape(image) for image in photographs]
    assert [agreement(one, one) for one in shapes] == pytest.approx([1] * len(shapes), abs=1e-3)
    assert max(agreement(one, other) for one, other in combinations(shapes, 2)) < SAME - 0.1


def test_screens_of_one_program_are_not_the_same() -> None:
    """Their lines are where the others' are; what is written there differs."""

    def screen(seed: int) -> Image.Image:
        random, image = np.random.default_rng(seed), Image.new("RGB", (960, 600), "white")
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
        draw.rectangle((0, 0, 960, 40), fill="navy")
        for line in range(14):
            words = ["".join(random.choice([*"abdegilmnorstu"], random.integers(1, 12))) for _ in range(12)]
            draw.text((20, 50 + 38 * line), " ".join(words), fill="black", font=font)
            draw.line((0, 80 + 38 * line, 960, 80 + 38 * line), fill="grey")
        return image

    shapes = [shape(screen(seed)) for seed in range(4)]
    assert max(agreement(one, other) for one, other in combinations(shapes, 2)) < SAME
    assert agreement(shapes[0], shape(recompressed(screen(0)))) > 0.9


def test_pictures_that_show_nothing() -> None:
    black, white = (Shape(np.full((GREY_PX, GREY_PX), level, np.uint8)) for level in (0, 255))
    pattern = Shape(np.random.default_rng(0).integers(0, 255, (GREY_PX, GREY_PX)).astype(np.uint8))
    assert agreement(black, black) == 1
    assert agreement(black, white) == agreement(black, pattern) == agreement(pattern, white) == 0
