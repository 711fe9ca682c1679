"""The metadata of a picture file: EXIF, XMP, IPTC. Damaged metadata is ignored."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diptych.media.content.dates import parse_local_time
from diptych.media.content.xmp import XmpMetadata, read_xmp
from diptych.media.items import Details

if TYPE_CHECKING:
    from PIL.Image import Exif, Image

CAPTION_LENGTH = 2000  # characters; far more than a text tower reads
# EXIF 2.32 and TIFF 6.0, by number
_ORIENTATION, _DESCRIPTION, _MAKE, _MODEL, _CHANGED_AT = 0x112, 0x10E, 0x10F, 0x110, 0x132
_EXIF, _GPS, _TAKEN_AT, _DIGITIZED_AT, _GPS_DAY = 0x8769, 0x8825, 0x9003, 0x9004, 0x1D
_XP_TITLE, _XP_COMMENT = 0x9C9B, 0x9C9C  # Windows', in UTF-16
_IPTC_CAPTION, _IPTC_DATE, _IPTC_TIME = (2, 120), (2, 55), (2, 60)
# Text that cameras and programs write into caption fields
_BOILERPLATE = re.compile(
    r"(olympus|minolta|konica|sony|samsung|kodak|nikon|pentax).{0,20}(digital (still )?camera|dsc)|dcim.*|default|"
    r"screenshot|untitled|created with gimp|<.*>|[\w ./\\-]+\.(jpe?g|png|tiff?|hei[cf]|dng)|"
    r"(img|dsc|pict?)[_-]?\d+|\{\"shape\": \[.*\}|ImageJ=.*",
    re.I | re.S,
)


def picture_details(image: Image) -> Details:
    """The details of an opened picture; its pixels may be unread. Damaged metadata raises nothing."""
    exif = None
    with contextlib.suppress(Exception):
        exif = image.getexif()
        if image.format == "PNG":  # programs append metadata after the pixels
            image.load()
    width, height = image.size
    # Pillow already gives a TIFF's upright size.
    if exif is not None and image.format != "TIFF" and exif.get(_ORIENTATION) in (5, 6, 7, 8):
        width, height = height, width
    details = Details(width, height) if exif is None else replace(exif_details(exif), width=width, height=height)
    return _filled_up(details, exif_times(exif), image)


def exif_times(exif: Exif | None) -> tuple[str | None, str | None, str | None]:
    """When the picture was taken, digitized and changed, from EXIF; the GPS date (UTC) stands in for a missing
    digitization time."""
    if exif is None:
        return None, None, None
    camera, satellites = _block(exif, _EXIF), _block(exif, _GPS)
    numbers = (_TAKEN_AT, _DIGITIZED_AT)
    # Scanners and some RAW files store these tags outside the EXIF block.
    values = (*(camera.get(number) or exif.get(number) for number in numbers), satellites.get(_GPS_DAY))
    taken, digitized, day, changed = (parse_local_time(_bytes(value)) for value in (*values, exif.get(_CHANGED_AT)))
    return taken, digitized or day, changed


def with_sidecar(details: Details, sidecar: XmpMetadata) -> Details:
    """A sidecar's metadata overrides the picture's own, except for the date on which its file was made."""
    if sidecar.latitude is not None:
        details = replace(details, latitude=sidecar.latitude, longitude=sidecar.longitude)
    taken_at = sidecar.taken_at or details.taken_at or sidecar.made_at
    return replace(details, taken_at=taken_at, caption=_first(sidecar.captions) or details.caption)


def _filled_up(details: Details, exif_dates: tuple[str | None, str | None, str | None], image: Image) -> Details:
    """Adds values from XMP, IPTC and PNG texts that EXIF lacks. The time when a picture was taken has precedence over
    the time when its file was made, and that over the time of the last change."""
    xmp, iptc = _xmp(image), _iptc(image)
    taken, digitized, changed = exif_dates
    sent = f"{_text(iptc.get(_IPTC_DATE)) or ''} {_text(iptc.get(_IPTC_TIME)) or ''}"
    png_time = parse_local_time(image.info.get("Creation Time"))
    times = (taken, xmp.taken_at, parse_local_time(sent), digitized, xmp.made_at, png_time, changed)
    captions = (details.caption, *xmp.captions, _text(iptc.get(_IPTC_CAPTION)), *_png_texts(image))
    if details.latitude is None:
        details = replace(details, latitude=xmp.latitude, longitude=xmp.longitude)
    return replace(details, taken_at=next(filter(None, times), None), caption=_first(captions))


def exif_details(exif: Exif) -> Details:
    """The details in EXIF alone: time, coordinates, camera, caption."""
    latitude, longitude = _coordinates(_block(exif, _GPS))
    captions = map(exif.get, (_DESCRIPTION, _XP_TITLE, _XP_COMMENT))
    return Details(
        taken_at=next(filter(None, exif_times(exif)), None),
        latitude=latitude,
        longitude=longitude,
        camera=camera_name(exif.get(_MAKE), exif.get(_MODEL)),
        caption=_first(map(_text, captions)),
    )


def camera_name(make: object, model: object) -> str | None:
    """'NIKON CORPORATION', 'NIKON D750' -> 'NIKON D750': the maker is not repeated."""
    maker, name = _text(make), _text(model)
    if not maker or not name:
        return name or maker
    return name if name.casefold().startswith(maker.split()[0].casefold()) else f"{maker} {name}"


def tidy_caption(words: str | None) -> str | None:
    """One line, stripped and cut at CAPTION_LENGTH; None if it is empty or written by a program."""
    words = " ".join(re.sub(r"[\0-\x1f\x7f\ud800-\udfff]", " ", words or "").split())
    return words[:CAPTION_LENGTH] if words and not _BOILERPLATE.fullmatch(words) else None


def _xmp(image: Image) -> XmpMetadata:
    packets = (image.info.get(key) for key in ("xmp", "XML:com.adobe.xmp"))
    return next((read_xmp(packet) for packet in packets if packet and isinstance(packet, (bytes, str))), XmpMetadata())


def _iptc(image: Any) -> Mapping[tuple[int, int], Any]:
    from PIL.IptcImagePlugin import getiptcinfo

    if "photoshop" in image.info or image.format == "TIFF":
        with contextlib.suppress(Exception):
            return getiptcinfo(image) or {}
    return {}


def _png_texts(image: Image) -> Iterable[str | None]:
    return (_text(image.info.get(key)) for key in ("Description", "Title"))


def _block(exif: Exif, tag: int) -> dict[int, Any]:
    try:
        return exif.get_ifd(tag)
    except Exception:  # Pillow raises many kinds for bad offsets and counts
        return {}


def _coordinates(gps: dict[int, Any]) -> tuple[float | None, float | None]:
    """Signed degrees (latitude, longitude); (None, None) unless both are present and valid. Cameras without a GPS fix
    write (0, 0)."""
    try:
        latitude, longitude = _degrees(gps[2], gps.get(1), "NS"), _degrees(gps[4], gps.get(3), "EW")
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None, None
    is_valid = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)  # False for not-a-number
    return (latitude, longitude) if is_valid else (None, None)


def _degrees(parts: Any, letter: object, letters: str) -> float:
    """From degrees, minutes and seconds; the last ones may be missing. Raises ValueError if neither a sign nor a letter
    gives the hemisphere: coordinates on the wrong side of the earth are worse than none."""
    parts = parts if isinstance(parts, (tuple, list)) else (parts,)
    degrees, minutes, seconds = (float(part) for part in (*parts, 0, 0)[:3])
    size = abs(degrees) + sum(0 if math.isnan(part) else part / unit for part, unit in ((minutes, 60), (seconds, 3600)))
    if degrees < 0:
        return -size
    is_south_or_west = letters.index((_text(letter) or " ")[0].upper())
    return -size if is_south_or_west else size


def _bytes(value: object) -> object:
    """The bytes of a tag of a wrong type, which Pillow gives as numbers."""
    if isinstance(value, tuple) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value)
    return value


def _text(value: object) -> str | None:
    """A tag's text. Pillow reads ASCII tags as Latin-1, but most programs write UTF-8, and Windows UTF-16."""
    value = _bytes(value)
    if isinstance(value, bytes):
        is_wide = len(value) > 1 and value[1] == 0
        return tidy_caption(value.decode("utf-16-le" if is_wide else "utf-8", "replace"))
    if not isinstance(value, str):
        return None
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    return tidy_caption(value)


def _first(captions: Iterable[str | None]) -> str | None:
    return next((tidy for words in captions if (tidy := tidy_caption(words))), None)
