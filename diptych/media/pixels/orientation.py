"""Which way up a picture is: its container says that, or EXIF, and never XMP, which other programs leave behind."""

from __future__ import annotations

from PIL import ExifTags, Image

# EXIF 2.3, table 4: what the orientations from 2 on ask for, in Pillow's words
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_XMP, _RAW = ("xmp", "XML:com.adobe.xmp"), "Raw profile type exif"


def orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF counts; 1 where nothing, or nothing sensible, is said. For AVIF and HEIC, Pillow and pillow-heif
    put what irot and imir say in EXIF's place, or have turned the picture already."""
    try:
        said = _exif(image).get(ExifTags.Base.Orientation, 1)
        return said if said in range(1, 9) else 1
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The picture upright; itself where it is."""
    if orientation not in range(2, 9):
        return image
    image = image.transpose(Image.Transpose[_TURNS[orientation - 2]])
    image.info = {}  # it still holds the orientation, which a second opening would apply again
    return image


def is_on_its_side(orientation: int) -> bool:
    """Whether turning it swaps width and height."""
    return orientation in range(5, 9)


def _exif(image: Image.Image) -> Image.Exif:
    """EXIF without the orientation that Pillow takes from XMP where EXIF has none."""
    if not any(key in image.info for key in _XMP):
        return image.getexif()
    exif = Image.Exif()
    exif.load(image.info.get("exif") or bytes.fromhex("".join(image.info.get(_RAW, "").split("\n")[3:])))
    return exif
