"""What a picture's file says of itself: EXIF, XMP, IPTC. Damaged metadata says nothing, and costs no picture."""

from __future__ import annotations

import contextlib
import html
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from diptych.index.items import Details

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

CAPTION_LENGTH = 2000  # characters; what a tower reads ends long before
# EXIF 2.32 and TIFF 6.0, by number
_ORIENTATION, _DESCRIPTION, _MAKE, _MODEL, _CHANGED_AT = 0x112, 0x10E, 0x10F, 0x110, 0x132
_EXIF, _GPS, _TAKEN_AT, _DIGITIZED_AT = 0x8769, 0x8825, 0x9003, 0x9004
_XP_TITLE, _XP_COMMENT = 0x9C9B, 0x9C9C  # Windows', in UTF-16
_XMP_LENGTH = 2**18
_IPTC_CAPTION = (2, 120)
# What cameras and programs write where a person's words would stand
_BOILERPLATE = re.compile(
    r"(olympus|minolta|konica|sony|samsung|kodak|nikon|pentax).{0,20}(digital (still )?camera|dsc)|dcim.*|default|"
    r"screenshot|untitled|created with gimp|<.*>|[\w ./\\-]+\.(jpe?g|png|tiff?|hei[cf]|dng)|"
    r"(img|dsc|pict?)[_-]?\d+",
    re.I | re.S,
)


def picture_details(image: Image) -> Details:
    """The details of an opened picture, whose pixels need not be read. Raises nothing for damaged metadata."""
    exif = None
    with contextlib.suppress(Exception):
        exif = image.getexif()
    width, height = image.size
    details = Details(width, height) if exif is None else exif_details(exif)
    # Of a TIFF file, Pillow gives the upright size already.
    if exif is not None and image.format != "TIFF" and exif.get(_ORIENTATION) in (5, 6, 7, 8):
        width, height = height, width
    return replace(details, width=width, height=height, caption=details.caption or _first(_embedded_captions(image)))


def exif_details(exif: Exif) -> Details:
    """What EXIF alone says: time, place, camera, caption."""
    camera, gps = _block(exif, _EXIF), _block(exif, _GPS)
    times = (camera.get(_TAKEN_AT), camera.get(_DIGITIZED_AT), exif.get(_CHANGED_AT))
    latitude, longitude = _place(gps)
    captions = map(exif.get, (_DESCRIPTION, _XP_TITLE, _XP_COMMENT))
    return Details(
        taken_at=next(filter(None, map(local_time, times)), None),
        latitude=latitude,
        longitude=longitude,
        camera=camera_name(exif.get(_MAKE), exif.get(_MODEL)),
        caption=_first(map(_text, captions)),
    )


def local_time(value: object) -> str | None:
    """'2024:05:01 12:30:00', or an ISO time whatever its zone -> '2024-05-01T12:30:00'; None for what is no time."""
    parts = re.match(r"\s*(\d{4})\D(\d\d)\D(\d\d)[ T](\d\d):(\d\d):(\d\d)", str(value))
    if not parts:
        return None
    try:
        when = datetime.fromisoformat("{}-{}-{}T{}:{}:{}".format(*parts.groups()))
    except ValueError:
        return None
    return when.isoformat() if when.year > 1825 else None  # before the first photograph: a clock that was never set


def camera_name(make: object, model: object) -> str | None:
    """'NIKON CORPORATION', 'NIKON D750' -> 'NIKON D750': the maker is not said twice."""
    maker, name = _text(make), _text(model)
    if not maker or not name:
        return name or maker
    return name if name.casefold().startswith(maker.split()[0].casefold()) else f"{maker} {name}"


def xmp_caption(xmp: bytes | str) -> str | None:
    """The first dc:description of an XMP packet (its default language), or dc:title. It is searched, not parsed: no
    entity is expanded, and a damaged packet may still tell."""
    text = xmp if isinstance(xmp, str) else xmp[:_XMP_LENGTH].decode("utf-8", "replace")
    return _first(_xmp_property(text[:_XMP_LENGTH], name) for name in ("dc:description", "dc:title"))


def tidy_caption(words: str | None) -> str | None:
    """One line without the spaces around, cut at CAPTION_LENGTH; None where no person's words are left."""
    words = " ".join(re.sub(r"[\0-\x1f\x7f\ud800-\udfff]", " ", words or "").split())
    return words[:CAPTION_LENGTH] if words and not _BOILERPLATE.fullmatch(words) else None


def _embedded_captions(image: Image) -> Iterator[str | None]:
    """Captions outside EXIF, the weightiest first."""
    info = image.info
    for key in ("xmp", "XML:com.adobe.xmp"):
        if isinstance(packet := info.get(key), (bytes, str)):
            yield xmp_caption(packet)
    if "photoshop" in info or image.format == "TIFF":
        yield _iptc_caption(image)
    for key in ("Description", "Title"):
        yield _text(info.get(key))


def _xmp_property(text: str, name: str) -> str | None:
    start, end = text.find(f"<{name}"), text.find(f"</{name}>")
    if 0 <= start < end:
        item = text.find("<rdf:li", start, end)
        begin, stop = text.find(">", max(start, item), end), text.find("</rdf:li>", start, end)
        return html.unescape(re.sub(r"<[^<>]*>", "", text[begin + 1 : stop if stop > 0 else end]))
    said = re.search(rf"\b{name}=(\"[^\"<]*\"|'[^'<]*')", text)  # the short form, an attribute
    return html.unescape(said[1][1:-1]) if said else None


def _iptc_caption(image: Any) -> str | None:
    from PIL.IptcImagePlugin import getiptcinfo

    with contextlib.suppress(Exception):
        return _text((getiptcinfo(image) or {}).get(_IPTC_CAPTION))
    return None


def _block(exif: Exif, tag: int) -> dict[int, Any]:
    try:
        return exif.get_ifd(tag)
    except Exception:  # any of Pillow's: offsets that point anywhere, counts beyond the file
        return {}


def _place(gps: dict[int, Any]) -> tuple[float | None, float | None]:
    """Signed degrees, (latitude, longitude); (None, None) unless both are there and on the globe. (0, 0) is what
    cameras write without a fix."""
    try:
        latitude = _degrees(gps[2]) * (-1 if str(gps[1]).strip("\0 ").upper() == "S" else 1)
        longitude = _degrees(gps[4]) * (-1 if str(gps[3]).strip("\0 ").upper() == "W" else 1)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None, None
    is_place = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)  # False for not-a-number
    return (latitude, longitude) if is_place else (None, None)


def _degrees(parts: Any) -> float:
    degrees, minutes, seconds = (float(part) for part in (*parts, 0, 0)[:3])
    return degrees + minutes / 60 + (0 if math.isnan(seconds) else seconds) / 3600


def _text(value: object) -> str | None:
    """A tag's text. Pillow reads ASCII tags as Latin-1, while most programs write UTF-8; Windows' are UTF-16."""
    if isinstance(value, tuple) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        value = bytes(value)
    if isinstance(value, bytes):
        is_wide = len(value) > 1 and value[1] == 0
        return tidy_caption(value.decode("utf-16-le" if is_wide else "utf-8", "replace"))
    if not isinstance(value, str):
        return None
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    return tidy_caption(value)


def _first(captions: Iterator[str | None]) -> str | None:
    return next((tidy for words in captions if (tidy := tidy_caption(words))), None)
