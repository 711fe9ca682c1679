"""Circles on the earth: their bounding boxes, and which files are in them."""

from pathlib import Path

import numpy as np
import pytest
from search_fixtures import Searched, TableModel, noise

from diptych.index.catalog.distance import great_circle_km
from diptych.index.filters.filters import Filters
from diptych.index.filters.geography import GeoBox, GeoCircle, bounding_box


def is_in(box: GeoBox, latitude: float, longitude: float) -> bool:
    south, west, north, east = box
    is_between = west <= longitude <= east if west <= east else longitude >= west or longitude <= east
    return south <= latitude <= north and is_between


@pytest.mark.parametrize("latitude", [-90.0, -89.9, -60.0, 0.0, 47.4, 89.0, 90.0])
@pytest.mark.parametrize("longitude", [-180.0, -179.9, 0.0, 8.5, 179.0, 180.0])
@pytest.mark.parametrize("radius_km", [0.001, 15.0, 800.0, 9000.0, 20_100.0])
def test_a_bounding_box_contains_its_circle(latitude: float, longitude: float, radius_km: float) -> None:
    """Points in all directions, a hair inside the circle: the centre, as a unit vector, rotated about the axes that are
    perpendicular to it."""
    angle, box = 0.999999 * min(radius_km / 6371.0088, np.pi), bounding_box(GeoCircle(latitude, longitude, radius_km))
    phi, turn = np.radians([latitude, longitude])
    centre = np.array([np.cos(phi) * np.cos(turn), np.cos(phi) * np.sin(turn), np.sin(phi)])
    north = np.array([-np.sin(phi) * np.cos(turn), -np.sin(phi) * np.sin(turn), np.cos(phi)])
    bearings = np.linspace(0, 2 * np.pi, 97)[:, None]
    directions = np.cos(bearings) * north + np.sin(bearings) * np.cross(north, centre)
    x, y, z = (np.cos(angle) * centre + np.sin(angle) * directions).T
    latitudes, longitudes = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    for point in zip(latitudes.tolist(), longitudes.tolist(), strict=True):
        assert great_circle_km(*point, latitude, longitude) <= radius_km
        assert is_in(box, *point)


@pytest.mark.parametrize(
    ("circle", "expected"),
    [  # one degree is 111.195 km; asin(sin 1 degree / cos 60 degrees) is 2.0003 degrees
        (GeoCircle(0, 0, 111.19508), (-1, -1, 1, 1)),
        (GeoCircle(60, 10, 111.19508), (59, 7.9997, 61, 12.0003)),
        (GeoCircle(0, 179.5, 111.19508), (-1, 178.5, 1, -179.5)),
        (GeoCircle(0, -179.5, 111.19508), (-1, 179.5, 1, -178.5)),
        (GeoCircle(89.5, 0, 111.19508), (88.5, -180, 90, 180)),
        (GeoCircle(-90, 77, 111.19508), (-90, -180, -89, 180)),
    ],
)
def test_bounding_boxes(circle: GeoCircle, expected: tuple[float, ...]) -> None:
    assert bounding_box(circle) == pytest.approx(expected, abs=1e-4)


def test_distances_are_computed_only_for_files_in_the_bounding_box(tmp_path: Path) -> None:
    index, calls = Searched(tmp_path, TableModel()), []
    for number in range(60):
        index.put(f"{number}.jpg", noise(1), latitude=47.0 + 0.01 * number, longitude=8.0)
    index.put("without.jpg", noise(1))

    def counted(*arguments: float) -> float | None:
        calls.append(arguments)
        return great_circle_km(*arguments)

    index.catalog._db.create_function("great_circle_km", 4, counted)
    near = Filters(near=GeoCircle(47.0, 8.0, 5.6)).condition()  # 0.01 degrees are 1.112 km
    assert len(index.catalog.matching(*near)) == 6
    assert len(calls) == 6


def test_coordinates_that_are_no_numbers_are_in_no_circle(tmp_path: Path) -> None:
    """A catalog from elsewhere may contain anything."""
    index = Searched(tmp_path, TableModel())
    for number, value in enumerate((b"47", "47 N", float("inf"), 8.0)):
        index.put(f"{number}.jpg", noise(1), latitude=89.9, longitude=8.0)
        with index.catalog.writing() as db:
            db.execute("UPDATE files SET longitude = ? WHERE path = ?", (value, f"{number}.jpg"))
    near = Filters(near=GeoCircle(90.0, 0.0, 100.0)).condition()
    assert [item.path for item in index.catalog.items(index.catalog.matching(*near))] == ["3.jpg"]
