"""Great-circle distances compared with values worked out by hand."""

from math import acos, degrees, inf, nan

import pytest

from diptych.index.catalog.distance import great_circle_km

DEGREE_KM = 111.19508  # 6371.0088 km * pi / 180


@pytest.mark.parametrize(
    ("point", "other", "angle_deg"),
    [
        ((0, 0), (0, 0), 0),
        ((0, 0), (0, 1), 1),
        ((0, 0), (1, 0), 1),
        ((0, 179.5), (0, -179.5), 1),  # across the antimeridian
        ((47, 180), (47, -180), 0),
        ((89.5, 0), (89.5, 180), 1),  # over the pole
        ((90, 12), (90, -100), 0),
        ((-90, 0), (-89, 55), 1),
        ((0, 0), (90, 0), 90),
        ((0, 0), (0, 180), 180),
        ((60, 0), (60, 90), degrees(acos(0.75))),  # cos c = sin 60 sin 60 + cos 60 cos 60 cos 90 = 3/4: 41.4096 degrees
        ((45, 0), (-45, 180), 180),
    ],
)
def test_distances(point: tuple[float, float], other: tuple[float, float], angle_deg: float) -> None:
    assert great_circle_km(*point, *other) == pytest.approx(angle_deg * DEGREE_KM, rel=1e-6, abs=1e-6)
    assert great_circle_km(*other, *point) == pytest.approx(angle_deg * DEGREE_KM, rel=1e-6, abs=1e-6)


def test_ten_metres_apart() -> None:
    assert great_circle_km(47.4, 8.5, 47.4 + 0.01 / DEGREE_KM, 8.5) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("point", [(None, None), (47, None), ("47", 8), (b"47", 8), (inf, 8), (47, -inf), (nan, 8)])
def test_a_point_that_is_none(point: tuple[object, object]) -> None:
    assert great_circle_km(*point, 47, 8) is None
