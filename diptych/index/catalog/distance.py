"""Distances on the earth, as a function of SQL for the coordinates in a catalog."""

from __future__ import annotations

from math import asin, cos, isnan, radians, sin, sqrt

# R1 = (2a + b) / 3 of the ellipsoid (Moritz, "Geodetic Reference System 1980", Journal of Geodesy 74, 2000)
EARTH_RADIUS_KM = 6371.0088


def great_circle_km(latitude: object, longitude: object, to_latitude: float, to_longitude: float) -> float | None:
    """The great-circle distance of two points in degrees, in kilometres, on a sphere of the earth's mean radius. None
    if the first point is not a pair of finite numbers, because a catalog may contain anything.

    The haversine formula (Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984), which is precise for near
    points, too. Because the earth is an ellipsoid, true distances differ by up to about 0.5 %.
    """
    if not (isinstance(latitude, int | float) and isinstance(longitude, int | float)):
        return None
    try:
        phi, to_phi = radians(latitude), radians(to_latitude)
        half_phi, half_lambda = (to_phi - phi) / 2, radians(to_longitude - longitude) / 2
        haversine = sin(half_phi) ** 2 + cos(phi) * cos(to_phi) * sin(half_lambda) ** 2
    except (ValueError, OverflowError):  # an infinite number
        return None
    return None if isnan(haversine) else 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(haversine)))
