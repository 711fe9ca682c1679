"""Reads the XMP packet of a picture file or a sidecar (ISO 16684-1; Exif 2.3 for XMP).

The packet is searched, not parsed: no entity is expanded, and a damaged packet may still be read."""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from diptych.media.content.dates import parse_local_time

LENGTH = 2**18  # bytes or characters read of a packet
_TAKEN = ("exif:DateTimeOriginal", "photoshop:DateCreated")
_MADE = ("exif:DateTimeDigitized", "xmp:CreateDate", "xap:CreateDate")
_COORDINATE = re.compile(r"(\d{1,3})(?:[.](\d+))?(?:,(\d{1,2}(?:\.\d+)?))?(?:,(\d{1,2}(?:\.\d+)?))?\s*([NSEW])", re.I)


class XmpMetadata(NamedTuple):
    """Missing values are None or (). `captions` are in order of precedence. `taken_at` is when the picture was taken,
    `made_at` when its file was made, both in the form of `parse_local_time`. North and east are positive degrees."""

    captions: tuple[str, ...] = ()
    taken_at: str | None = None
    made_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_xmp(packet: bytes | str) -> XmpMetadata:
    """The dc:description (in its default language), dc:title, dates and coordinates of a packet."""
    text = packet if isinstance(packet, str) else _decoded(packet)
    text = text[:LENGTH]
    captions = (_property(text, name) for name in ("dc:description", "dc:title"))
    latitude = _degrees(_property(text, "exif:GPSLatitude"), "NS", 90)
    longitude = _degrees(_property(text, "exif:GPSLongitude"), "EW", 180)
    if latitude is None or longitude is None or not (latitude or longitude):
        latitude = longitude = None
    return XmpMetadata(tuple(filter(None, captions)), _date(text, _TAKEN), _date(text, _MADE), latitude, longitude)


def _decoded(packet: bytes) -> str:
    wide = packet[:2] in (b"\xff\xfe", b"\xfe\xff")
    return packet[:LENGTH].decode("utf-16" if wide else "utf-8", "replace")


def _date(text: str, names: tuple[str, ...]) -> str | None:
    values = (_property(text, name) for name in names)
    return next((when for words in values if words and (when := parse_local_time(words))), None)


def _property(text: str, name: str) -> str | None:
    start, end = text.find(f"<{name}"), text.find(f"</{name}>")
    if 0 <= start < end:
        item = text.find("<rdf:li", start, end)
        begin, stop = text.find(">", max(start, item), end), text.find("</rdf:li>", start, end)
        return html.unescape(re.sub(r"<[^<>]*>", "", text[begin + 1 : stop if stop > 0 else end]))
    found = re.search(rf"\b{name}\s*=\s*(\"[^\"<]*\"|'[^'<]*')", text)  # the short form, an attribute
    return html.unescape(found[1][1:-1]) if found else None


def _degrees(words: str | None, letters: str, most: float) -> float | None:
    """'47,22.5N' or '47,22,30N' -> 47.375; None if the letter is missing."""
    found = _COORDINATE.fullmatch((words or "").strip())
    if not found or found[5].upper() not in letters:
        return None
    degrees = float(f"{found[1]}.{found[2] or 0}") + float(found[3] or 0) / 60 + float(found[4] or 0) / 3600
    return None if degrees > most else -degrees if found[5].upper() in "SW" else degrees
