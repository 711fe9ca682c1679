"""The shape of each drawn kind as polygons in the unit square (x right, y down).

An affine map then rotates, stretches and mirrors them. A polygon's role determines its ink: "body" has the object's
named colour, "shade" and "tint" are darker and lighter, "dark" and "pale" are near black and near white, "bark" and
"leaf" have a plant's colours, and "hole" is unpainted.
"""

import math
from collections.abc import Callable
from random import Random

import numpy as np

FilledPolygon = tuple[str, np.ndarray]


def polygon(*xy: float) -> np.ndarray:
    """(points, 2) from x0, y0, x1, y1 and so on."""
    return np.array(xy, np.float64).reshape(-1, 2)


def rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """A rectangle, by two corners."""
    return polygon(x0, y0, x1, y0, x1, y1, x0, y1)


def oval(x: float, y: float, rx: float, ry: float, start: float = 0, stop: float = 360) -> np.ndarray:
    """An ellipse, or the part of it between two angles (degrees, clockwise from the right)."""
    angles = np.radians(np.linspace(start, stop, 40, endpoint=(stop - start) % 360 != 0))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], 1)


def _regular(corners: int, inner: float = 1.0) -> np.ndarray:
    """A regular polygon with a corner at the top; a star if `inner` < 1."""
    count = corners if inner == 1.0 else 2 * corners
    angles = np.arange(count) * (2 * math.pi / count) - math.pi / 2
    radii = np.where(np.arange(count) % 2 == 0, 0.5, 0.5 * inner)
    return np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], 1)


def stroke(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """A straight line of some width."""
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
    return polygon(x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy, x0 - dx, y0 - dy)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([0.5 + x / 33, 0.45 - y / 33], 1)


def _crescent(rng: Random) -> np.ndarray:
    bite = rng.uniform(0.18, 0.3)  # distance of the inner edge from the chord between the tips
    outer = oval(0.5, 0.5, 0.5, 0.5, 60, 300)
    tip = outer[-1]
    half = abs(tip[1] - 0.5)
    inner = oval(tip[0], 0.5, bite, half, 270, 90)
    return np.concatenate([outer, inner])


def _ring(rng: Random) -> list[FilledPolygon]:
    hole = rng.uniform(0.22, 0.33)
    return [("body", oval(0.5, 0.5, 0.5, 0.5)), ("hole", oval(0.5, 0.5, hole, hole))]


def _cross(rng: Random) -> list[FilledPolygon]:
    arm = rng.uniform(0.13, 0.2)
    low, high = 0.5 - arm, 0.5 + arm
    points = (low, 0, high, 0, high, low, 1, low, 1, high, high, high, high, 1, low, 1, low, high, 0, high, 0, low)
    return [("body", polygon(*points, low, low))]


def _arrow(rng: Random) -> list[FilledPolygon]:
    neck, shaft = rng.uniform(0.5, 0.65), rng.uniform(0.1, 0.17)
    top, bottom = 0.5 - shaft, 0.5 + shaft
    return [("body", polygon(0, top, neck, top, neck, 0.14, 1, 0.5, neck, 0.86, neck, bottom, 0, bottom))]


def _star(rng: Random) -> list[FilledPolygon]:
    return [("body", _regular(rng.choice([5, 5, 5, 5, 6]), rng.uniform(0.4, 0.52)))]


def _triangle(rng: Random) -> list[FilledPolygon]:
    return [("body", polygon(rng.uniform(0.35, 0.65), 0, 1, 1, 0, 1))]


def _hat(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.4:  # a sun hat: a dome on a wide brim
        dome = [("body", oval(0.5, 0.58, 0.28, 0.36, 180, 360)), ("shade", rect(0.22, 0.5, 0.78, 0.6))]
        return [("body", oval(0.5, 0.62, 0.5, 0.13)), *dome]
    side = rng.uniform(0.2, 0.27)
    crown = polygon(side, 0.75, side + 0.04, 0.1, 0.5, 0.05, 0.96 - side, 0.1, 1 - side, 0.75)
    band = polygon(side, 0.72, side + 0.01, 0.55, 0.99 - side, 0.55, 1 - side, 0.72)
    return [("body", crown), ("body", oval(0.5, 0.77, 0.5, 0.12)), (rng.choice(["dark", "shade", "pale"]), band)]


def _cup(rng: Random) -> list[FilledPolygon]:
    foot = rng.uniform(0.04, 0.14)
    handle = [("body", oval(0.76, 0.5, 0.24, 0.26)), ("hole", oval(0.76, 0.5, 0.13, 0.15))]
    wall = [("body", polygon(0, 0.12, 0.72, 0.12, 0.72 - foot, 0.95, foot, 0.95))]
    return handle + wall + [("shade", oval(0.36, 0.12, 0.36, 0.1))]


def _house(rng: Random) -> list[FilledPolygon]:
    door = rng.choice([0.18, 0.42, 0.6])
    window = 0.6 if door < 0.4 else 0.18
    chimney = [("shade", rect(0.7, 0.08, 0.83, 0.35))] if rng.random() < 0.6 else []
    walls = [("body", rect(0.1, 0.42, 0.9, 1)), (rng.choice(["shade", "body"]), polygon(0, 0.45, 0.5, 0, 1, 0.45))]
    return (
        chimney + walls + [("dark", rect(door, 0.66, door + 0.18, 1)), ("pale", rect(window, 0.54, window + 0.2, 0.74))]
    )


def _tree(rng: Random) -> list[FilledPolygon]:
    trunk: list[FilledPolygon] = [(rng.choice(["bark", "bark", "shade"]), rect(0.42, 0.6, 0.58, 1))]
    if rng.random() < 0.5:
        tiers = [polygon(0.5, 0, 0.8, 0.36, 0.2, 0.36), polygon(0.5, 0.15, 0.9, 0.58, 0.1, 0.58)]
        return trunk + [("body", tier) for tier in tiers] + [("body", polygon(0.5, 0.35, 1, 0.82, 0, 0.82))]
    crowns = [(0.5, 0.22, 0.28, 0.22), (0.28, 0.42, 0.28, 0.24), (0.72, 0.42, 0.28, 0.24), (0.5, 0.5, 0.3, 0.22)]
    return trunk + [("body", oval(*crown)) for crown in crowns]


def cat_face(x: float, y: float, r: float) -> list[FilledPolygon]:
    """A cat's head of radius r, with its ears, eyes, nose and whiskers."""
    ears = [
        polygon(x - s * r, y - 1.35 * r, x - s * 1.0 * r, y + 0.1 * r, x - s * 0.15 * r, y - 0.75 * r) for s in (1, -1)
    ]
    eyes = [oval(x - s * 0.4 * r, y - 0.1 * r, 0.13 * r, 0.2 * r) for s in (1, -1)]
    nose = polygon(x - 0.13 * r, y + 0.2 * r, x + 0.13 * r, y + 0.2 * r, x, y + 0.4 * r)
    whiskers = [
        stroke(x + s * 0.3 * r, y + 0.4 * r, x + s * 0.95 * r, y + d * r, 0.06 * r) for s in (1, -1) for d in (0.3, 0.6)
    ]
    head: list[FilledPolygon] = [("body", ear) for ear in ears] + [("body", oval(x, y, r, 0.85 * r))]
    return head + [("dark", part) for part in [*eyes, nose, *whiskers]]


def _cat(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.5:
        return cat_face(0.5, 0.57, 0.42)
    tail = oval(0.72, 0.7, 0.26, 0.3, -60, 110)
    tail = np.concatenate([tail, oval(0.7, 0.7, 0.17, 0.2, -60, 110)[::-1]])
    return [("body", tail), ("body", oval(0.42, 0.74, 0.27, 0.26)), *cat_face(0.4, 0.34, 0.25)]


def _fish(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.3:
        parts: list[FilledPolygon] = [
            ("body", polygon(0.62, 0.5, 1, 0.2, 1, 0.8)),
            ("body", oval(0.38, 0.5, 0.38, 0.24)),
        ]
        return [*parts, ("dark", oval(0.15, 0.45, 0.04, 0.04)), ("dark", stroke(0.28, 0.36, 0.28, 0.64, 0.025))]
    tail = polygon(0.7, 0.5, 1, rng.uniform(0.15, 0.25), 0.92, 0.5, 1, rng.uniform(0.75, 0.85))
    fin = polygon(0.35, 0.28, 0.55, 0.1, 0.6, 0.34)
    marks: list[FilledPolygon] = [
        ("dark", oval(0.16, 0.43, 0.035, 0.045)),
        ("shade", polygon(0.38, 0.5, 0.54, 0.44, 0.54, 0.62)),
    ]
    return [
        ("body", tail),
        ("shade", fin),
        ("body", oval(0.4, 0.5, 0.4, 0.27)),
        ("pale", oval(0.17, 0.43, 0.065, 0.08)),
        *marks,
    ]


def _boat(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.3:  # a steamer
        funnel: list[FilledPolygon] = [("dark", rect(0.56, 0.12, 0.7, 0.5)), ("tint", rect(0.25, 0.4, 0.78, 0.66))]
        ports: list[FilledPolygon] = [("pale", oval(x, 0.53, 0.05, 0.06)) for x in (0.36, 0.52, 0.67)]
        return [*funnel, *ports, ("body", polygon(0, 0.62, 1, 0.62, 0.86, 1, 0.12, 1))]
    sails: list[FilledPolygon] = [(rng.choice(["body", "tint", "pale"]), polygon(0.54, 0.02, 0.54, 0.6, 0.95, 0.6))]
    sails.append(("tint", polygon(0.42, 0.14, 0.42, 0.6, 0.12, 0.6)))
    return [*sails, ("dark", rect(0.46, 0, 0.5, 0.7)), ("body", polygon(0, 0.67, 1, 0.67, 0.82, 1, 0.18, 1))]


def _car(rng: Random) -> list[FilledPolygon]:
    wheels = [("dark", oval(x, 0.74, 0.12, 0.13)) for x in (0.24, 0.76)]
    hubs = [("pale", oval(x, 0.74, 0.05, 0.055)) for x in (0.24, 0.76)]
    if rng.random() < 0.3:  # a small one, with a round roof
        roof: list[FilledPolygon] = [
            ("body", oval(0.48, 0.5, 0.34, 0.36, 180, 360)),
            ("body", oval(0.5, 0.62, 0.5, 0.17)),
        ]
        panes: list[FilledPolygon] = [
            ("pale", oval(0.46, 0.48, 0.24, 0.24, 180, 268)),
            ("pale", oval(0.5, 0.48, 0.24, 0.24, 272, 360)),
        ]
        for i in (0, 1):
            panes[i] = ("pale", np.concatenate([panes[i][1], polygon(0.46 + 0.04 * i, 0.48)]))
        return [*roof, *panes, *wheels, *hubs]
    cabin = polygon(0.2, 0.45, 0.32, 0.18, 0.68, 0.18, 0.82, 0.45)
    glass: list[FilledPolygon] = [("pale", polygon(0.27, 0.43, 0.35, 0.24, 0.48, 0.24, 0.48, 0.43))]
    glass.append(("pale", polygon(0.52, 0.43, 0.52, 0.24, 0.65, 0.24, 0.74, 0.43)))
    hull = polygon(0, 0.5, 0.06, 0.43, 0.92, 0.43, 1, 0.52, 1, 0.74, 0, 0.74)
    return [("body", cabin), ("body", hull), *glass, *wheels, *hubs]


def _flower(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.25:  # a tulip
        cup: list[FilledPolygon] = [
            ("body", polygon(0.28, 0.08, 0.4, 0.22, 0.5, 0.02, 0.6, 0.22, 0.72, 0.08, 0.72, 0.35, 0.28, 0.35))
        ]
        leaf: list[FilledPolygon] = [
            ("leaf", rect(0.47, 0.5, 0.53, 1)),
            ("leaf", polygon(0.5, 0.98, 0.78, 0.62, 0.68, 0.9)),
        ]
        return [*leaf, *cup, ("body", oval(0.5, 0.35, 0.22, 0.19))]
    petals, stem = rng.choice([5, 6, 7, 8]), rng.random() < 0.6
    y, r = (0.32, 0.2) if stem else (0.5, 0.3)
    parts: list[FilledPolygon] = (
        [("leaf", rect(0.47, 0.4, 0.53, 1)), ("leaf", oval(0.63, 0.8, 0.12, 0.05))] if stem else []
    )
    for angle in np.arange(petals) * (2 * math.pi / petals):
        parts.append(("body", oval(0.5 + r * math.cos(angle), y + r * math.sin(angle), r * 0.6, r * 0.6)))
    return [*parts, (rng.choice(["dark", "pale", "shade"]), oval(0.5, y, r * 0.5, r * 0.5))]


def _sun(rng: Random) -> list[FilledPolygon]:
    rays = rng.choice([8, 10, 12])
    parts: list[FilledPolygon] = []
    for angle in np.arange(rays) * (2 * math.pi / rays):
        points = [
            (math.cos(angle + d) * r, math.sin(angle + d) * r) for d, r in ((-0.17, 0.33), (0, 0.5), (0.17, 0.33))
        ]
        parts.append(("body", 0.5 + np.array(points)))
    return [*parts, ("body", oval(0.5, 0.5, 0.29, 0.29))]


def _umbrella(rng: Random) -> list[FilledPolygon]:
    dome = oval(0.5, 0.52, 0.5, 0.47, 180, 360)
    scallops = [oval(x, 0.52, 0.125, 0.06) for x in (0.125, 0.375, 0.625, 0.875)]
    hook = np.concatenate([oval(0.59, 0.88, 0.11, 0.11, 0, 180), oval(0.59, 0.88, 0.06, 0.06, 0, 180)[::-1]])
    panels: list[FilledPolygon] = [("shade", polygon(0.5, 0.05, 0.33, 0.55, 0.67, 0.55))] if rng.random() < 0.6 else []
    handle: list[FilledPolygon] = [("dark", rect(0.475, 0, 0.525, 0.9)), ("dark", hook)]
    return [*handle, ("body", dome), *(("body", s) for s in scallops), *panels]


def _key(rng: Random) -> list[FilledPolygon]:
    bow, hole = 0.24, rng.uniform(0.1, 0.13)
    teeth: list[FilledPolygon] = [("body", rect(x, 0.5, x + 0.08, y)) for x, y in ((0.9, 0.74), (0.74, 0.7))]
    loop: list[FilledPolygon] = [("body", oval(bow, 0.5, bow, bow)), ("hole", oval(bow - 0.02, 0.5, hole, hole))]
    return [*loop, ("body", rect(0.44, 0.44, 1, 0.56)), *teeth]


def _ball(rng: Random) -> list[FilledPolygon]:
    parts: list[FilledPolygon] = [("body", oval(0.5, 0.5, 0.5, 0.5))]
    if rng.random() < 0.5:  # a beach ball: every other slice is pale
        slices = [np.concatenate([polygon(0.5, 0.5), oval(0.5, 0.5, 0.5, 0.5, a, a + 45)]) for a in (0, 90, 180, 270)]
        return parts + [("pale", part) for part in slices] + [("body", oval(0.5, 0.5, 0.1, 0.1))]
    band = np.concatenate([oval(0.5, 0.3, 0.47, 0.2, 170, 10), oval(0.5, 0.52, 0.49, 0.2, 10, 170)])
    return [*parts, ("pale", band), ("tint", oval(0.33, 0.22, 0.09, 0.06))]


def _apple(rng: Random) -> list[FilledPolygon]:
    lobes: list[FilledPolygon] = [("body", oval(x, 0.6, 0.3, 0.36)) for x in (0.31, 0.69)]
    leaf: list[FilledPolygon] = [("leaf", polygon(0.53, 0.2, 0.65, 0.04, 0.84, 0.05, 0.72, 0.2))]
    return [*lobes, ("body", oval(0.5, 0.62, 0.3, 0.34)), ("bark", stroke(0.5, 0.36, 0.54, 0.06, 0.06)), *leaf]


def _bottle(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.4:  # a slender one, with a cork
        wine: list[FilledPolygon] = [("bark", rect(0.45, 0, 0.55, 0.08)), ("body", rect(0.43, 0.05, 0.57, 0.4))]
        shoulder: list[FilledPolygon] = [("body", oval(0.5, 0.46, 0.18, 0.16)), ("body", rect(0.32, 0.46, 0.68, 1))]
        return [*wine, *shoulder, ("pale", rect(0.36, 0.6, 0.64, 0.85))]
    glass = polygon(0.4, 0.08, 0.6, 0.08, 0.6, 0.3, 0.74, 0.45, 0.74, 1, 0.26, 1, 0.26, 0.45, 0.4, 0.3)
    cap = ("dark", rect(0.38, 0, 0.62, 0.09))
    return [("body", glass), cap, (rng.choice(["pale", "tint"]), rect(0.26, 0.58, 0.74, 0.82))]


def _mushroom(rng: Random) -> list[FilledPolygon]:
    stalk = polygon(0.38, 0.45, 0.62, 0.45, 0.68, 1, 0.32, 1)
    spots = [oval(x, y, r, r * 0.85) for x, y, r in ((0.3, 0.36, 0.08), (0.55, 0.2, 0.09), (0.75, 0.4, 0.07))]
    cap: list[FilledPolygon] = [("body", oval(0.5, 0.54, 0.5, 0.5, 180, 360)), ("body", oval(0.5, 0.53, 0.5, 0.06))]
    return [("pale", stalk), *cap, *(("pale", spot) for spot in spots)]


def _bell(rng: Random) -> list[FilledPolygon]:
    side = polygon(0.38, 0.1, 0.62, 0.1, 0.76, 0.3, 0.8, 0.65, 0.95, 0.84, 0.05, 0.84, 0.2, 0.65, 0.24, 0.3)
    rim = ("shade", rect(0.05, 0.78, 0.95, 0.85))
    return [("body", oval(0.5, 0.08, 0.08, 0.08)), ("shade", oval(0.5, 0.87, 0.12, 0.12)), ("body", side), rim]


def _chair(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.35:  # from the front
        bars: list[FilledPolygon] = [("body", rect(x, 0, x + 0.1, 0.55)) for x in (0.18, 0.45, 0.72)]
        feet: list[FilledPolygon] = [("shade", rect(x, 0.6, x + 0.11, 1)) for x in (0.12, 0.77)]
        return [*bars, ("body", rect(0.18, 0, 0.82, 0.13)), *feet, ("body", rect(0.1, 0.5, 0.9, 0.66))]
    legs: list[FilledPolygon] = [("shade", rect(x, 0.6, x + 0.1, 1)) for x in (0.12, 0.78)]
    back: list[FilledPolygon] = [("body", rect(0.12, 0, 0.24, 0.6)), ("body", rect(0.12, 0.04, 0.3, 0.4))]
    return [*legs, *back, ("body", rect(0.1, 0.5, 0.9, 0.65))]


def _one(points: Callable[[], np.ndarray]) -> Callable[[Random], list[FilledPolygon]]:
    return lambda rng: [("body", points())]


SHAPE_DRAWERS: dict[str, Callable[[Random], list[FilledPolygon]]] = {
    "circle": _one(lambda: oval(0.5, 0.5, 0.5, 0.5)),
    "square": _one(lambda: rect(0, 0, 1, 1)),
    "triangle": _triangle,
    "rectangle": _one(lambda: rect(0, 0, 1, 1)),
    "oval": _one(lambda: oval(0.5, 0.5, 0.5, 0.5)),
    "star": _star,
    "heart": _one(_heart),
    "diamond": _one(lambda: _regular(4)),
    "pentagon": _one(lambda: _regular(5)),
    "hexagon": _one(lambda: _regular(6)),
    "crescent": lambda rng: [("body", _crescent(rng))],
    "ring": _ring,
    "cross": _cross,
    "arrow": _arrow,
    "hat": _hat, "cup": _cup, "house": _house, "tree": _tree, "cat": _cat, "fish": _fish, "boat": _boat, "car": _car,
    "flower": _flower, "sun": _sun, "umbrella": _umbrella, "key": _key, "ball": _ball, "apple": _apple,
    "bottle": _bottle, "mushroom": _mushroom, "bell": _bell, "chair": _chair,
}  # fmt: skip
