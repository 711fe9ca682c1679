"""Parts of the earth that a search is limited to, and their conditions in SQL."""

from __future__ import annotations

from math import asin, cos, degrees, isfinite, radians, sin
from typing import Any, NamedTuple

from diptych.index.catalog.distance import EARTH_RADIUS_KM

_MARGIN_DEG = 1e-9  # covers rounding in the edges of a circle's bounding box: 0.1 mm


class GeoBox(NamedTuple):
    """A range of latitudes and longitudes in degrees, north and east positive. If `west` is greater than `east`, it
    crosses the antimeridian."""

    south: float
    west: float
    north: float
    east: float


class GeoCircle(NamedTuple):
    """The points within `radius_km` kilometres of a point, by great-circle distance. The point is in degrees, north and
    east positive."""

    latitude: float
    longitude: float
    radius_km: float


def box_problem(box: GeoBox) -> str:
    """Why no point can be in a box, and what was wanted; "" if one can."""
    if not _are_numbers(box, 4):
        return f"={tuple(box)}; wanted four numbers of degrees: south, west, north, east."
    south, west, north, east = box
    if not -90 <= south <= north <= 90:
        return f" has south {south:g} and north {north:g}; wanted -90 <= south <= north <= 90."
    if not all(-180 <= edge <= 180 for edge in (west, east)):
        return f" has west {west:g} and east {east:g}; wanted degrees between -180 and 180."
    return ""


def circle_problem(circle: GeoCircle) -> str:
    """Why no point can be in a circle, and what was wanted; "" if one can."""
    if not _are_numbers(circle, 3):
        return f"={tuple(circle)}; wanted three numbers: latitude and longitude in degrees, radius in kilometres."
    latitude, longitude, radius_km = circle
    if not -90 <= latitude <= 90:
        return f" has latitude {latitude:g}; wanted degrees between -90 and 90."
    if not -180 <= longitude <= 180:
        return f" has longitude {longitude:g}; wanted degrees between -180 and 180."
    return "" if radius_km > 0 else f" has a radius of {radius_km:g} km; wanted more than 0."


def _are_numbers(values: tuple[Any, ...], count: int) -> bool:
    return len(values) == count and all(isinstance(value, int | float) and isfinite(value) for value in values)


def box_condition(box: GeoBox) -> tuple[str, list[Any]]:
    """SQL for the files in a box, and its parameters."""
    south, west, north, east = box
    longitudes = "files.longitude BETWEEN ? AND ?"
    if west > east:
        longitudes = "(files.longitude >= ? OR files.longitude <= ?)"
    return f"files.latitude BETWEEN ? AND ? AND {longitudes}", [south, north, west, east]


def circle_condition(circle: GeoCircle) -> tuple[str, list[Any]]:
    """SQL for the files in a circle, and its parameters. `great_circle_km`, a function of the catalog's connection, is
    called only for files in the bounding box."""
    box, values = box_condition(bounding_box(circle))
    distance = "great_circle_km(files.latitude, files.longitude, ?, ?) <= ?"
    return f"{box} AND {distance}", [*values, *circle]


def bounding_box(circle: GeoCircle) -> GeoBox:
    """The smallest box around a circle; of all longitudes if it contains a pole.

    The pole, the centre and the point where a meridian touches the circle form a right spherical triangle, so by
    Napier's rules sin(width) = sin(radius) / cos(latitude), with the radius as an angle.
    """
    latitude, longitude, radius_km = circle
    radius = radius_km / EARTH_RADIUS_KM
    height = degrees(radius) + _MARGIN_DEG
    south, north = latitude - height, latitude + height
    if south <= -90 or north >= 90:
        return GeoBox(max(south, -90), -180, min(north, 90), 180)
    width = degrees(asin(min(1.0, sin(radius) / cos(radians(latitude))))) + _MARGIN_DEG
    west, east = longitude - width, longitude + width
    # also if an edge is exactly at 180 degrees: -180 is the same meridian
    return GeoBox(south, west + 360 if west <= -180 else west, north, east - 360 if east >= 180 else east)
