"""Alternative designs of the drawn kinds, each simpler or less usual than the first: a model trained on a single
drawing of a kind would learn that drawing and not the kind.
"""

import math
from collections.abc import Callable
from random import Random

import numpy as np

from diptych.scenes.shapes import SHAPE_DRAWERS, FilledPolygon, cat_face, oval, polygon, rect, stroke

_OTHER, _SILHOUETTE, _WITHOUT_MARKS = 0.5, 0.08, 0.15  # shares of drawings
_MARK_AREA = 0.015  # of the unit square: eyes, spots, hubs; larger parts belong to the form


def design(kind: str, rng: Random) -> list[FilledPolygon]:
    """One design of a kind as polygons in the unit square, from back to front. Raises KeyError for unknown kinds."""
    first, other = SHAPE_DRAWERS[kind], OTHERS.get(kind)
    parts = other(rng) if other and rng.random() < _OTHER else first(rng)
    chance = rng.random()
    if chance < _SILHOUETTE and kind != "ball":  # a ball without its marks is a circle
        return [(role if role == "hole" else "body", points) for role, points in parts]
    if chance < _SILHOUETTE + _WITHOUT_MARKS and kind != "ball":
        return [part for part in parts if part[0] in ("body", "hole") or _area(part[1]) > _MARK_AREA]
    return parts


def _area(points: np.ndarray) -> float:
    """The area of a polygon, by the shoelace formula."""
    x, y = points.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _marked(rng: Random) -> str:
    return rng.choice(["dark", "pale", "shade"])


def _star(rng: Random) -> list[FilledPolygon]:
    corners, inner = rng.choice([4, 5, 5, 6, 7]), rng.uniform(0.32, 0.55)
    angles = np.arange(2 * corners) * (math.pi / corners) - math.pi / 2
    radii = np.where(np.arange(2 * corners) % 2 == 0, 0.5, 0.5 * inner)[:, None]
    return [("body", 0.5 + radii * np.stack([np.cos(angles), np.sin(angles)], 1))]


def _heart(rng: Random) -> list[FilledPolygon]:
    r, tip = rng.uniform(0.25, 0.29), rng.uniform(0.9, 1.0)
    lobes: list[FilledPolygon] = [("body", oval(x, 0.3, r, r)) for x in (r, 1 - r)]
    return [*lobes, ("body", polygon(0.04, 0.42, 0.5, 0.24, 0.96, 0.42, 0.5, tip))]


def _crescent(rng: Random) -> list[FilledPolygon]:
    """A disc minus another disc; the tips may point in any direction."""
    shift, r, turn = rng.uniform(0.16, 0.3), rng.uniform(0.38, 0.46), rng.uniform(0, 2 * math.pi)
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    outer = 0.5 * np.stack([np.cos(angles), np.sin(angles)], 1)
    outer = outer[np.hypot(outer[:, 0] - shift, outer[:, 1]) > r]
    outer = outer[np.argsort(np.arctan2(outer[:, 1], -outer[:, 0]))]
    half = math.atan2(outer[-1, 1], outer[-1, 0] - shift)
    edge = np.linspace(half, 2 * math.pi - half, 40)
    inner = np.stack([shift + r * np.cos(edge), r * np.sin(edge)], 1)
    points = np.concatenate([outer, inner])
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return [("body", 0.5 + points @ rotation)]


def _arrow(rng: Random) -> list[FilledPolygon]:
    neck, shaft, barb = rng.uniform(0.45, 0.75), rng.uniform(0.05, 0.13), rng.uniform(0.22, 0.42)
    head = polygon(neck - rng.uniform(0, 0.12), 0.5 - barb, 1, 0.5, neck - rng.uniform(0, 0.12), 0.5 + barb, neck, 0.5)
    return [("body", rect(0, 0.5 - shaft, neck + 0.05, 0.5 + shaft)), ("body", head)]


def _hat(rng: Random) -> list[FilledPolygon]:
    side, top = rng.uniform(0.2, 0.32), rng.uniform(0.0, 0.3)
    band: list[FilledPolygon] = [(_marked(rng), rect(side, 0.6, 1 - side, 0.72))] if rng.random() < 0.6 else []
    if rng.random() < 0.3:  # a cap with a peak
        return [
            ("body", oval(0.38, 0.62, 0.34, 0.42, 180, 360)),
            (rng.choice(["body", "shade"]), rect(0.3, 0.6, 1, 0.7)),
        ]
    if rng.random() < 0.3:  # a pointed one
        return [("body", polygon(0.5, 0, 1 - side, 0.8, side, 0.8)), *band, ("body", oval(0.5, 0.8, 0.5, 0.1))]
    return [
        ("body", rect(side, top, 1 - side, 0.78)),
        *band,
        ("body", rect(0, 0.76, 1, rng.uniform(0.84, 0.9))),
    ]


def _cup(rng: Random) -> list[FilledPolygon]:
    y, r = rng.uniform(0.42, 0.5), rng.uniform(0.17, 0.26)
    handle: list[FilledPolygon] = [("body", oval(0.74, y, r, r)), ("hole", oval(0.74, y, r * 0.6, r * 0.6))]
    foot = rng.uniform(0.0, 0.2)
    wall: list[FilledPolygon] = [("body", polygon(0, 0.1, 0.74, 0.1, 0.74 - foot, 0.9, foot, 0.9))]
    steam = [stroke(x, 0.0, x + 0.04, 0.08, 0.03) for x in (0.25, 0.45)] if rng.random() < 0.2 else []
    return handle + wall + [("pale", part) for part in steam]


def _house(rng: Random) -> list[FilledPolygon]:
    eaves = rng.uniform(0.35, 0.5)
    roof = polygon(rng.uniform(0, 0.08), eaves, 0.5, 0, rng.uniform(0.92, 1), eaves)
    if rng.random() < 0.4:  # a wide roof, flat on top
        roof = polygon(0, eaves, 0.2, 0.08, 0.8, 0.08, 1, eaves)
    panes: list[FilledPolygon] = [(_marked(rng), rect(x, 0.55, x + 0.17, 0.74)) for x in (0.16, 0.67)]
    door: list[FilledPolygon] = [("dark", rect(0.42, 0.65, 0.58, 1))] if rng.random() < 0.7 else []
    return [
        ("body", rect(0.1, eaves - 0.02, 0.9, 1)),
        (rng.choice(["body", "shade", "shade"]), roof),
        *panes,
        *door,
    ]


def _tree(rng: Random) -> list[FilledPolygon]:
    trunk: FilledPolygon = (rng.choice(["bark", "bark", "dark"]), rect(0.44, 0.5, 0.56, 1))
    if rng.random() < 0.3:
        return [trunk, ("body", polygon(0.5, 0, 0.9, 0.8, 0.1, 0.8))]
    return [trunk, ("body", oval(0.5, 0.36, rng.uniform(0.3, 0.44), rng.uniform(0.33, 0.38)))]


def _cat(rng: Random) -> list[FilledPolygon]:
    if rng.random() < 0.5:  # the head alone, without whiskers
        return [part for part in cat_face(0.5, 0.57, 0.42) if not (part[0] == "dark" and len(part[1]) == 4)]
    legs: list[FilledPolygon] = [("body", rect(x, 0.6, x + 0.09, 1)) for x in (0.26, 0.4, 0.66, 0.8)]  # walking
    tail: list[FilledPolygon] = [("body", stroke(0.85, 0.55, 1.0, 0.15, 0.08))]
    return [*legs, *tail, ("body", oval(0.58, 0.58, 0.34, 0.17)), *cat_face(0.22, 0.4, 0.2)]


def _fish(rng: Random) -> list[FilledPolygon]:
    height, tip = rng.uniform(0.18, 0.32), rng.uniform(0.2, 0.3)
    tail = polygon(0.62, 0.5, 1, 0.5 - tip, 1, 0.5 + tip)
    eye: list[FilledPolygon] = [("pale", oval(0.18, 0.45, 0.05, 0.05)), ("dark", oval(0.18, 0.45, 0.028, 0.028))]
    fins: list[FilledPolygon] = (
        [("shade", polygon(0.3, 0.4, 0.5, 0.5 - height - 0.12, 0.55, 0.4))] if rng.random() < 0.4 else []
    )
    return [*fins, ("body", tail), ("body", oval(0.38, 0.5, 0.38, height)), *(eye if rng.random() < 0.8 else eye[1:])]


def _boat(rng: Random) -> list[FilledPolygon]:
    hull: FilledPolygon = ("body", polygon(0, rng.uniform(0.62, 0.72), 1, 0.68, rng.uniform(0.75, 0.9), 1, 0.2, 1))
    mast: FilledPolygon = ("dark", rect(0.47, 0.02, 0.51, 0.75))
    sail: FilledPolygon = (
        rng.choice(["pale", "body", "tint"]),
        polygon(0.54, 0.04, 0.54, 0.62, rng.uniform(0.8, 1), 0.62),
    )
    return [mast, sail, hull]


def _car(rng: Random) -> list[FilledPolygon]:
    x = rng.uniform(0.15, 0.3)
    cabin = polygon(x, 0.5, x + 0.1, 0.2, x + 0.42, 0.2, x + 0.55, 0.5)
    panes: list[FilledPolygon] = [("pale", polygon(x + 0.07, 0.48, x + 0.13, 0.26, x + 0.25, 0.26, x + 0.25, 0.48))]
    if rng.random() < 0.6:
        panes.append(("pale", polygon(x + 0.29, 0.48, x + 0.29, 0.26, x + 0.39, 0.26, x + 0.47, 0.48)))
    if rng.random() < 0.3:  # a van
        cabin, panes = rect(0.05, 0.15, 0.85, 0.6), [("pale", rect(x, 0.24, x + 0.2, 0.42))]
    r = rng.uniform(0.1, 0.15)
    wheels: list[FilledPolygon] = [("dark", oval(wheel, 0.76, r, r)) for wheel in (0.22, 0.78)]
    return [("body", cabin), ("body", rect(0, 0.46, 1, 0.76)), *panes, *wheels]


def _flower(rng: Random) -> list[FilledPolygon]:
    petals, r, wide = rng.choice([4, 5, 6, 8, 10]), rng.uniform(0.26, 0.32), rng.uniform(0.12, 0.21)
    parts: list[FilledPolygon] = []
    for angle in np.arange(petals) * (2 * math.pi / petals) + rng.uniform(0, 1):
        long = oval(0, 0, 0.5 - r, wide) @ np.array(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
        parts.append(("body", np.array([0.5 + r * math.cos(angle), 0.5 + r * math.sin(angle)]) + long))
    heart = rng.uniform(0.09, 0.17)
    return [*parts, (_marked(rng), oval(0.5, 0.5, heart, heart))]


def _sun(rng: Random) -> list[FilledPolygon]:
    rays, inner, wide = rng.choice([8, 12, 16]), rng.uniform(0.2, 0.3), rng.uniform(0.02, 0.06)
    parts: list[FilledPolygon] = []
    for angle in np.arange(rays) * (2 * math.pi / rays) + rng.uniform(0, 0.8):
        x, y = math.cos(angle), math.sin(angle)
        parts.append(("body", stroke(0.5 + inner * x, 0.5 + inner * y, 0.5 + 0.5 * x, 0.5 + 0.5 * y, wide)))
    return [*parts, ("body", oval(0.5, 0.5, inner + 0.03, inner + 0.03))]


def _umbrella(rng: Random) -> list[FilledPolygon]:
    height = rng.uniform(0.35, 0.52)
    stick: list[FilledPolygon] = [(rng.choice(["dark", "bark"]), rect(0.48, height - 0.05, 0.52, rng.uniform(0.8, 1)))]
    if rng.random() < 0.4:
        stick.append((stick[0][0], rect(0.4, 0.93, 0.52, 0.97)))
    return [*stick, ("body", oval(0.5, height, 0.5, height, 180, 360))]


def _key(rng: Random) -> list[FilledPolygon]:
    bow, thick = rng.uniform(0.16, 0.22), rng.uniform(0.04, 0.07)
    loop: list[FilledPolygon] = [("body", oval(bow, 0.5, bow, bow)), ("hole", oval(bow, 0.5, bow * 0.5, bow * 0.5))]
    if rng.random() < 0.3:  # a square bow
        loop = [("body", rect(0, 0.5 - bow, 2 * bow, 0.5 + bow)), ("hole", oval(bow, 0.5, bow * 0.5, bow * 0.5))]
    long = rng.uniform(0.1, 0.22)
    teeth: list[FilledPolygon] = [
        ("body", rect(x, 0.5, x + 0.07, 0.5 + long)) for x in (0.93, 0.8, 0.67)[: rng.choice([2, 2, 3])]
    ]
    return [*loop, ("body", rect(2 * bow - 0.03, 0.5 - thick, 1, 0.5 + thick)), *teeth]


def _ball(rng: Random) -> list[FilledPolygon]:
    disc: list[FilledPolygon] = [("body", oval(0.5, 0.5, 0.5, 0.5))]
    if rng.random() < 0.4:  # spots, as on a football
        spots = [(0.5, 0.5), (0.5, 0.14), (0.84, 0.4), (0.71, 0.8), (0.29, 0.8), (0.16, 0.4)]
        return disc + [(_marked(rng), oval(x, y, 0.1, 0.1)) for x, y in spots]
    role, thick = _marked(rng), rng.uniform(0.03, 0.07)
    seams = [np.concatenate([oval(x, 0.5, 0.3, 0.44, *arc), oval(x, 0.5, 0.3 - thick, 0.4, *arc)[::-1]])
             for x, arc in ((0.0, (-60, 60)), (1.0, (120, 240)))]  # fmt: skip
    if rng.random() < 0.5:  # a basketball's cross
        seams += [
            rect(0.03, 0.5 - thick / 2, 0.97, 0.5 + thick / 2),
            rect(0.5 - thick / 2, 0.03, 0.5 + thick / 2, 0.97),
        ]
    return disc + [(role, seam) for seam in seams]


def _apple(rng: Random) -> list[FilledPolygon]:
    lobes: list[FilledPolygon] = [("body", oval(x, 0.6, 0.32, rng.uniform(0.34, 0.4))) for x in (0.33, 0.67)]
    stem: list[FilledPolygon] = [(rng.choice(["bark", "dark"]), rect(0.47, 0.02, 0.53, 0.34))]
    leaf: list[FilledPolygon] = [("leaf", oval(0.66, 0.14, 0.13, 0.06))] if rng.random() < 0.4 else []
    return [*lobes, *stem, *leaf]


def _bottle(rng: Random) -> list[FilledPolygon]:
    neck, wide, shoulder = rng.uniform(0.07, 0.12), rng.uniform(0.17, 0.26), rng.uniform(0.3, 0.45)
    left, right = 0.5 - wide, 0.5 + wide
    glass = polygon(0.5 - neck, 0, 0.5 + neck, 0, 0.5 + neck, shoulder - 0.1, right, shoulder, right, 1, left, 1,
                  left, shoulder, 0.5 - neck, shoulder - 0.1)  # fmt: skip
    label: list[FilledPolygon] = [(rng.choice(["pale", "tint", "shade"]), rect(left, 0.58, right, 0.8))]
    return [("body", glass), *(label if rng.random() < 0.6 else [])]


def _mushroom(rng: Random) -> list[FilledPolygon]:
    wide, top = rng.uniform(0.1, 0.18), rng.uniform(0.42, 0.6)
    cap: list[FilledPolygon] = [("body", oval(0.5, top, 0.5, top, 180, 360))]
    spots = [oval(x, y * top, 0.07, 0.07) for x, y in ((0.28, 0.7), (0.52, 0.35), (0.74, 0.68))]
    marks: list[FilledPolygon] = [("pale", spot) for spot in spots] if rng.random() < 0.6 else []
    return [(rng.choice(["pale", "pale", "tint"]), rect(0.5 - wide, top - 0.02, 0.5 + wide, 1)), *cap, *marks]


def _bell(rng: Random) -> list[FilledPolygon]:
    flare = rng.uniform(0.05, 0.15)
    dome: list[FilledPolygon] = [("body", oval(0.5, 0.38, 0.32, 0.36, 180, 360))]
    skirt: FilledPolygon = ("body", polygon(0.18, 0.36, 0.82, 0.36, 0.82 + flare, 0.84, 0.18 - flare, 0.84))
    clapper: FilledPolygon = (rng.choice(["shade", "dark"]), oval(0.5, 0.86, 0.1, 0.12))
    return [clapper, *dome, skirt]


def _chair(rng: Random) -> list[FilledPolygon]:
    thick, seat = rng.uniform(0.07, 0.13), rng.uniform(0.48, 0.6)
    back: list[FilledPolygon] = [
        ("body", rect(0.15, 0, 0.15 + thick, 1)),
        ("body", rect(0.15, seat, 0.85, seat + thick)),
    ]
    return [*back, ("body", rect(0.85 - thick, seat, 0.85, 1))]


OTHERS: dict[str, Callable[[Random], list[FilledPolygon]]] = {
    "star": _star, "heart": _heart, "crescent": _crescent, "arrow": _arrow, "hat": _hat, "cup": _cup, "house": _house,
    "tree": _tree, "cat": _cat, "fish": _fish, "boat": _boat, "car": _car, "flower": _flower, "sun": _sun,
    "umbrella": _umbrella, "key": _key, "ball": _ball, "apple": _apple, "bottle": _bottle, "mushroom": _mushroom,
    "bell": _bell, "chair": _chair,
}  # fmt: skip
