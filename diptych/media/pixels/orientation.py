"""The orientation of a picture, from its container or EXIF and never from XMP, which other programs leave behind."""

from __future__ import annotations

from PIL import ExifTags, Image

# EXIF 2.3, table 4: Pillow's names of the transposes that make the orientations from 2 on upright
_TRANSPOSES = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_XMP, _RAW = ("xmp", "XML:com.adobe.xmp"), "Raw profile type exif"


def orientation(image: Image.Image) -> int:
    """1 to 8, as in EXIF; 1 if it is missing or invalid. For AVIF and HEIC, Pillow and pillow-heif write the
    container's irot and imir into EXIF, or have rotated the picture."""
    try:
        value = _exif(image).get(ExifTags.Base.Orientation, 1)
        return value if value in range(1, 9) else 1
    except Exception:  # a damaged EXIF block does not spoil the picture
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture rotated and mirrored to be upright; itself if it is."""
    if orientation not in range(2, 9):
        return image
    image = image.transpose(Image.Transpose[_TRANSPOSES[orientation - 2]])
    image.info = {}  # its orientation would be applied again if it were opened again
    return image


def is_on_its_side(orientation: int) -> bool:
    """Whether making it upright swaps width and height."""
    return orientation in range(5, 9)


def _exif(image: Image.Image) -> Image.Exif:
    """EXIF without the orientation that Pillow takes from XMP if EXIF has none."""
    if not any(key in image.info for key in _XMP):
        return image.getexif()
    exif = Image.Exif()
    exif.load(image.info.get("exif") or bytes.fromhex("".join(image.info.get(_RAW, "").split("\n")[3:])))
    return exif
