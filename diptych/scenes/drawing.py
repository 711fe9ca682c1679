"""Paints drawn scenes: colours as people name them, appearances, objects, backgrounds, camera effects."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from diptych.scenes.designs import design
from diptych.scenes.shapes import FilledPolygon

RGB = tuple[int, int, int]

# (low, high) of hue in degrees, saturation and value in percent, well within the range that people call by that name
COLOUR_HSV: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-9, 6), (78, 100), (66, 98)),
    "green": ((98, 140), (60, 100), (42, 82)),
    "blue": ((211, 238), (70, 100), (58, 97)),
    "yellow": ((49, 60), (75, 100), (90, 100)),
    "orange": ((21, 34), (85, 100), (92, 100)),
    "purple": ((268, 290), (55, 92), (45, 78)),
    "pink": ((322, 347), (28, 58), (93, 100)),
    "brown": ((17, 30), (58, 82), (32, 54)),
    "black": ((0, 360), (0, 25), (2, 12)),
    "white": ((0, 360), (0, 4), (95, 100)),
    "grey": ((0, 360), (0, 7), (42, 66)),
    "cyan": ((172, 188), (55, 95), (72, 95)),
}


def sample_colour(name: str, rng: Random) -> RGB:
    """A random RGB colour that people would call `name`, one of COLOUR_HSV."""
    hue, saturation, value = (rng.uniform(low, high) for low, high in COLOUR_HSV[name])
    return _to_rgb(hue, saturation, value)


def _to_rgb(hue: float, saturation: float, value: float) -> RGB:
    r, g, b = colorsys.hsv_to_rgb(hue / 360 % 1, saturation / 100, value / 100)
    return round(r * 255), round(g * 255), round(b * 255)


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """The colour at `share` of the way from one to the other."""
    r, g, b = (round(p + (q - p) * share) for p, q in zip(one, other, strict=True))
    return r, g, b


def colour_distance(pixels: np.ndarray, colour: RGB) -> np.ndarray:
    """(..., 3) uint8 pixels and one colour -> (...) distances in 0..1, weighted by the eye's sensitivity to the
    channels."""
    delta = (pixels.astype(np.float32) - np.asarray(colour, np.float32)) / 255
    return np.sqrt((delta * delta) @ np.array([2 / 9, 4 / 9, 3 / 9], np.float32))


# Ranges of width over height for kinds that the usual 0.78 to 1.28 would turn into another
_ASPECT = {"circle": (0.98, 1.02), "square": (0.96, 1.05), "ball": (0.98, 1.02), "diamond": (0.62, 0.95)}
_LONG = {"rectangle": (1.6, 2.6), "oval": (1.45, 2.2)}


@dataclass(frozen=True)
class ObjectAppearance:
    """All parameters for drawing one object: painting it twice gives the same pixels."""

    kind: str
    colour: RGB
    shape_seed: int
    area_px: float  # target area of the paint
    aspect: float
    turn_deg: float
    mirrored: bool
    bend: tuple[float, float]  # sway of rows and columns as a share of the side, as if drawn by hand
    fill: str  # "flat", "gradient", "highlight", "stripes", "dots", "grain"
    strength: float
    outline: RGB | None
    outline_width: float  # share of the object's side
    smooth: bool
    shadow: float  # opacity; 0 for none


@dataclass(frozen=True)
class PaintedObject:
    """A painted object: `ink` RGB and `alpha` L of one size, cropped to the paint."""

    ink: Image.Image
    alpha: Image.Image
    solid: np.ndarray  # (h, w) bool: at least half covered


def sample_look(kind: str, colour: str, share: float, *, size_px: int, rng: Random) -> ObjectAppearance:
    """A random appearance of a `colour` `kind` that covers `share` of a picture of `size_px` by `size_px`."""
    rgb = sample_colour(colour, rng)
    long = kind in _LONG and rng.random() < 0.5
    aspect = rng.uniform(*(_LONG.get(kind) or _ASPECT.get(kind) or (0.78, 1.28)))
    turn = rng.gauss(0, 8) if rng.random() < 0.7 else 0.0
    turn = max(-18.0, min(18.0, turn)) + {"arrow": 90 * rng.randrange(4), "key": rng.randrange(360)}.get(kind, 0)
    mixed = mix(rgb, (255, 255, 255) if sum(rgb) < 200 else (0, 0, 0), 0.5)
    outline = rng.choice([(20, 20, 24), (20, 20, 24), (245, 245, 245), mixed])
    return ObjectAppearance(
        kind=kind, colour=rgb, shape_seed=rng.getrandbits(32), area_px=share * size_px**2,
        aspect=1 / aspect if long else aspect, turn_deg=turn, mirrored=rng.random() < 0.5,
        bend=(rng.gauss(0, 0.015), rng.gauss(0, 0.015)) if rng.random() < 0.5 else (0.0, 0.0),
        fill=rng.choice(["flat", "flat", "gradient", "highlight", "stripes", "dots", "grain"]),
        strength=rng.uniform(0.06, 0.17), outline=outline if rng.random() < 0.35 else None,
        outline_width=rng.uniform(0.02, 0.055), smooth=rng.random() < 0.88,
        shadow=rng.uniform(0.2, 0.5) if rng.random() < 0.3 else 0.0,
    )  # fmt: skip


def outlined(look: ObjectAppearance) -> ObjectAppearance:
    """The same appearance with a contour that separates the object from a background of its colour."""
    contour = (16, 16, 20) if sum(look.colour) > 330 else (240, 240, 240)
    return replace(look, outline=contour, outline_width=max(look.outline_width, 0.04))


def _coverage(parts: list[FilledPolygon]) -> float:
    """The share of the unit square that is painted."""
    mask = Image.new("L", (48, 48))
    draw = ImageDraw.Draw(mask)
    for role, points in parts:
        draw.polygon((points * 47).ravel().tolist(), fill=0 if role == "hole" else 255)
    return np.asarray(mask).mean().item() / 255


def paint(look: ObjectAppearance, *, limit_px: float) -> PaintedObject:
    """The object on a transparent background, at most `limit_px` wide and high."""
    parts = design(look.kind, Random(look.shape_seed))
    side = math.sqrt(look.area_px / _coverage(parts))
    outlines = _transform_outlines(parts, look, side)
    low, high = _bounds(outlines)
    shrink = min(1.0, (limit_px - 4) / (1 + 2 * look.outline_width) / float((high - low).max()))
    width = 0 if look.outline is None else max(1, round(2 * side * shrink * look.outline_width))
    return _ink(parts, [2 * shrink * points for points in outlines], look, width)


def _transform_outlines(parts: list[FilledPolygon], look: ObjectAppearance, side: float) -> list[np.ndarray]:
    angle = math.radians(look.turn_deg)
    stretch = np.array([math.sqrt(look.aspect) * (-1 if look.mirrored else 1), 1 / math.sqrt(look.aspect)]) * side
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    sway, rise = Random(look.shape_seed + 3).uniform(4, 9), Random(look.shape_seed + 4).uniform(4, 9)
    bent = [points + np.sin(points[:, ::-1] * (sway, rise) + (rise, sway)) * look.bend for _, points in parts]
    return [(points - 0.5) * stretch @ rotation for points in bent]


def _bounds(outlines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate(outlines)
    return points.min(0), points.max(0)


def _ink(parts: list[FilledPolygon], outlines: list[np.ndarray], look: ObjectAppearance, width: int) -> PaintedObject:
    """Draws polygons at twice the size and halves them, which smooths the edges."""
    low, high = _bounds(outlines)
    margin = 4 + width
    size = tuple(2 * math.ceil(side / 2 + margin) for side in (high - low).tolist())
    mask, ink = Image.new("L", size), Image.new("RGB", size, look.outline or look.colour)
    on_mask, on_ink = ImageDraw.Draw(mask), ImageDraw.Draw(ink)
    polygons = [((points - low) + margin).ravel().tolist() for points in outlines]
    palette = _palette(look)
    if look.outline is not None and width:
        for (role, _), polygon in zip(parts, polygons, strict=True):
            if role != "hole":
                on_mask.line(polygon + polygon[:4], fill=255, width=width, joint="curve")
    for (role, _), polygon in zip(parts, polygons, strict=True):
        on_mask.polygon(polygon, fill=0 if role == "hole" else 255)
        if role != "hole":
            on_ink.polygon(polygon, fill=palette[role])
        elif look.outline is not None and width:
            for draw, fill in ((on_mask, 255), (on_ink, look.outline)):
                draw.line(polygon + polygon[:4], fill=fill, width=width, joint="curve")
    return _finish_patch(ink.reduce(2), mask.reduce(2), look)


def _palette(look: ObjectAppearance) -> dict[str, RGB]:
    rng = Random(look.shape_seed + 1)
    body, grey = look.colour, rng.randrange(12, 45)
    near_black, near_white = max(body) < 70, min(body) > 225
    return {
        "body": body,
        "shade": mix(body, (255, 255, 255), 0.2) if near_black else mix(body, (0, 0, 0), rng.uniform(0.18, 0.35)),
        "tint": mix(body, (0, 0, 0), 0.1) if near_white else mix(body, (255, 255, 255), rng.uniform(0.2, 0.45)),
        "dark": (95, 95, 95) if near_black else (grey, grey, grey + 4),
        "pale": (205, 208, 212) if near_white else mix((250, 250, 246), body, rng.uniform(0, 0.12)),
        "bark": _to_rgb(rng.uniform(18, 32), rng.uniform(40, 70), rng.uniform(25, 45)),
        "leaf": _to_rgb(rng.uniform(95, 135), rng.uniform(50, 80), rng.uniform(35, 60)),
    }


def _finish_patch(ink: Image.Image, alpha: Image.Image, look: ObjectAppearance) -> PaintedObject:
    """Adds texture, hardens the edges unless the appearance is smooth, and crops to the paint."""
    if not look.smooth:
        alpha = alpha.point(_HARD)
    box = alpha.point(_HARD).getbbox() or (0, 0, 1, 1)
    ink, alpha = ink.crop(box), alpha.crop(box)
    if look.fill != "flat":
        field = _field(look, ink.width, ink.height)[..., None]
        pixels = np.asarray(ink, np.float32)
        pixels = pixels * (1 + field) + 40 * np.maximum(field, 0)
        ink = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return PaintedObject(ink, alpha, np.asarray(alpha) >= 128)


_HARD = [0] * 128 + [255] * 128


def _field(look: ObjectAppearance, width: int, height: int) -> np.ndarray:
    """(height, width) relative brightness around 0; it lightens more than it darkens, so that orange stays orange."""
    rng = Random(look.shape_seed + 2)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    along = (x - width / 2) * math.cos(angle) + (y - height / 2) * math.sin(angle)
    if look.fill == "gradient":
        wave = 2 * along / max(width, height)
    elif look.fill == "highlight":
        offset_x, offset_y = rng.uniform(0.25, 0.75) * width, rng.uniform(0.2, 0.5) * height
        wave = 1 - 2 * np.hypot(x - offset_x, y - offset_y) / max(width, height)
    elif look.fill == "stripes":
        wave = np.sin(along * (2 * math.pi / rng.uniform(4, 12)))
        wave = np.sign(wave) if rng.random() < 0.5 else wave
    elif look.fill == "dots":
        across = (y - height / 2) * math.cos(angle) - (x - width / 2) * math.sin(angle)
        period = 2 * math.pi / rng.uniform(5, 12)
        wave = np.where(np.cos(along * period) * np.cos(across * period) > 0.35, 1.0, -0.3)
    else:
        wave = _noise(width, height, cell_px=rng.choice([1, 2, 4]), rng=rng)
    return np.clip(wave, -0.7, 1.0) * look.strength


def _noise(width: int, height: int, *, cell_px: float, rng: Random, channels: int = 1) -> np.ndarray:
    """(height, width[, channels]) of smooth noise around 0, mostly within +-1, with a scale of `cell_px`."""
    columns, rows = max(2, round(width / cell_px)), max(2, round(height / cell_px))
    coarse = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (rows, columns, channels), np.uint8)
    image = Image.fromarray(coarse[..., 0] if channels == 1 else coarse)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1


def stamp(canvas: Image.Image, patch: PaintedObject, x: int, y: int, shadow: float) -> None:
    """Pastes the object on the canvas with its top left corner at (x, y), over a soft shadow if `shadow` is not 0."""
    if shadow:
        reach = max(1, patch.alpha.width // 16)
        cast = Image.new("L", (patch.alpha.width + 6 * reach, patch.alpha.height + 6 * reach))
        cast.paste(patch.alpha.point([round(level * shadow) for level in range(256)]), (3 * reach, 3 * reach))
        cast = cast.filter(ImageFilter.BoxBlur(reach))
        canvas.paste((0, 0, 0), (x - 2 * reach, y - 2 * reach), cast)
    canvas.paste(patch.ink, (x, y), patch.alpha)


# ---- backgrounds: each returns (size, size, 3) float32


def background(size_px: int, rng: Random, photographs: Sequence[Image.Image] = ()) -> tuple[Image.Image, str]:
    """A picture to draw on, and words that follow "on ...". Half are from `photographs`, if there are any."""
    if photographs and rng.random() < 0.5:
        return _photograph(rng.choice(photographs), size_px, rng), ""
    make, words = rng.choice(_BACKGROUNDS)
    name = rng.choice(list(COLOUR_HSV))
    ground = sample_colour(name, rng)
    if rng.random() < 0.5:  # pale, as is usual for backgrounds, and of no nameable colour
        wash = rng.choice([(255, 255, 255), (128, 128, 128), (235, 230, 215)])
        ground, name = mix(ground, wash, rng.uniform(0.4, 0.9)), ""
    other = mix(ground, _to_rgb(rng.uniform(0, 360), rng.uniform(0, 70), rng.uniform(10, 100)), rng.uniform(0.15, 0.6))
    pixels = make(size_px, np.array(ground, np.float32), np.array(other, np.float32), rng)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if words == "plain" and name:
        words = name
    return image, words and f"{words} background"


def _photograph(photo: Image.Image, size_px: int, rng: Random) -> Image.Image:
    side = min(photo.size) * rng.uniform(0.5, 1.0)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    box = (left, top, left + side, top + side)
    photo = photo if photo.mode == "RGB" else photo.convert("RGB")
    image = photo.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def _along(size_px: int, rng: Random, turns: int = 0) -> np.ndarray:
    """(size, size) distance along a random direction, or one of `turns` directions, as a share of the side."""
    angle = rng.uniform(0, 2 * math.pi) if not turns else rng.randrange(turns) * 2 * math.pi / turns
    axis = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    return axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)


def _blend(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return one + (other - one) * share[..., None]


def _plain(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    return np.broadcast_to(ground, (size_px, size_px, 3))


def _gradient(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    return _blend(ground, other, np.clip(_along(size_px, rng) + 0.5, 0, 1))


def _grain(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    channels = rng.choice([1, 3])
    noise = _noise(size_px, size_px, cell_px=rng.uniform(1, 3), rng=rng, channels=channels)
    return ground + noise.reshape(size_px, size_px, channels) * rng.uniform(15, 110)


def _clouds(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    """Blurred coloured noise, like a photograph out of focus."""
    coarse = _noise(size_px, size_px, cell_px=size_px / rng.uniform(2, 6), rng=rng, channels=3)
    fine = _noise(size_px, size_px, cell_px=size_px / rng.uniform(8, 24), rng=rng)
    return ground + coarse * rng.uniform(20, 90) + fine[..., None] * rng.uniform(0, 40)


def _patches(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    lumps = _noise(size_px, size_px, cell_px=size_px / rng.uniform(3, 9), rng=rng)
    return _blend(ground, other, np.clip((lumps - rng.uniform(-0.2, 0.3)) * 8, 0, 1))


def _stripes(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    wave = np.sin(_along(size_px, rng) * (2 * math.pi * rng.uniform(3, 12)))
    return _blend(ground, other, np.clip(wave * rng.choice([1, 8]) + 0.5, 0, 1))


def _checks(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    angle, cells = rng.choice([0, 0, math.pi / 4, rng.uniform(0, 1.5)]), rng.uniform(3, 10)
    axis = (np.arange(size_px, dtype=np.float32) / size_px - 0.5) * cells
    one = axis[None, :] * math.cos(angle) + axis[:, None] * math.sin(angle)
    two = axis[:, None] * math.cos(angle) - axis[None, :] * math.sin(angle)
    return _blend(ground, other, ((np.floor(one) + np.floor(two)) % 2).astype(np.float32))


def _dots(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    cells = rng.uniform(4, 11)
    axis = ((np.arange(size_px, dtype=np.float32) / size_px) * cells) % 1 - 0.5
    radius = np.hypot(axis[None, :], axis[:, None])
    return _blend(ground, other, np.clip((rng.uniform(0.15, 0.35) - radius) * 12, 0, 1))


def _horizon(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    """Two grainy areas with a wavy border, like a field under a sky or a table before a wall."""
    axis = np.arange(size_px, dtype=np.float32) / size_px
    line = rng.uniform(0.35, 0.75) + rng.uniform(0, 0.06) * np.sin(axis * rng.uniform(3, 14) + rng.uniform(0, 6))
    below = np.clip((axis[:, None] - line[None, :]) * size_px, 0, 1)
    noise = _noise(size_px, size_px, cell_px=rng.uniform(1, 6), rng=rng)
    return _blend(ground, other, below) + noise[..., None] * rng.uniform(3, 20)


def _planks(size_px: int, ground: np.ndarray, other: np.ndarray, rng: Random) -> np.ndarray:
    """Noise stretched along one direction, like wood, water, brushed metal or cloth."""
    noise = _noise(size_px // rng.choice([8, 16, 32]), size_px, cell_px=rng.uniform(1, 2.5), rng=rng)
    image = Image.fromarray(((noise + 1) * 127).clip(0, 255).astype(np.uint8))
    wide = np.asarray(image.resize((size_px, size_px), Image.Resampling.BICUBIC), np.float32) / 255
    return _blend(ground, other, wide.T if rng.random() < 0.4 else wide)


_BACKGROUNDS = (
    (_plain, "plain"), (_plain, "plain"), (_gradient, ""), (_grain, ""), (_clouds, ""), (_clouds, "blurred"),
    (_patches, ""), (_stripes, "striped"), (_checks, "checked"), (_dots, "dotted"), (_horizon, ""), (_planks, ""),
)  # fmt: skip


def develop(canvas: Image.Image, rng: Random) -> Image.Image:
    """Adds the effects of a camera or a scanner: a little blur, light from one side, noise. Equal seeds give equal
    effects."""
    size_px = canvas.width
    if rng.random() < 0.25:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9) * size_px / 128))
    pixels = np.asarray(canvas, np.float32) * rng.uniform(0.94, 1.06)
    if rng.random() < 0.4:
        pixels = pixels * (1 + rng.uniform(0, 0.2) * _along(size_px, rng)[..., None])
    if rng.random() < 0.5:
        noise = np.random.default_rng(rng.getrandbits(64)).standard_normal((size_px, size_px), np.float32)
        pixels = pixels + noise[..., None] * (rng.uniform(1, 8) if rng.random() < 0.8 else rng.uniform(8, 25))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
