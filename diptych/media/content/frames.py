"""A decoded video frame as a player displays it: colours, transparency on white, aspect ratio, orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.media.pixels.tone_mapping import BT2020, HLG, PQ, is_beyond_srgb, to_srgb

if TYPE_CHECKING:
    from av import VideoFrame

# RGB-YCbCr matrices, numbered as in H.273; swscale uses the same numbers for these
_BT709, _BT601, _BT2020 = 1, 5, 9
_SUPPORTED = frozenset((1, 4, 5, 6, 7, 9))  # swscale accepts these for YCbCr, and 2 ("unspecified"); no others
_LIKE_BT2020 = frozenset((10, 14))  # constant luminance and ICtCp: BT.2020 is the nearest that swscale supports
_DEEP_SIDES = 2  # tone mapping works at this multiple of the tower's size; more pixels would not change the result
_MOST_PIXELS = 2**26  # of a frame stretched to its display aspect ratio
_THUMB_PX, _BLANK_LEVELS = 32, 8  # at this size, noise and compression blocks of a black frame stay within 8 of 255


def display_pixels(frame: VideoFrame, ratio: Any, size_px: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """sRGB (h, w, 3), upright, and the display size (width, height) in pixels. The array is smaller if colours had to
    be tone-mapped, but its short side is at least `size_px` or the frame's.

    `ratio` is the pixel aspect ratio (width / height), or None. Transparent parts are white, as in pictures. A video
    without declared colour coding is read as BT.709 if wider than 1,279 or higher than 576 pixels, else as BT.601, as
    players do.
    """
    width = round(frame.width * float(ratio)) if ratio and 0.1 < ratio < 10 else frame.width
    width = width if width * frame.height <= _MOST_PIXELS else frame.width
    pixels = _square(_pixels(frame, width, _DEEP_SIDES * size_px), width / frame.height)
    matrix = _display_matrix(frame)
    is_turned = abs(matrix[0, 1]) > abs(matrix[0, 0])
    return _upright(pixels, matrix), (frame.height, width) if is_turned else (width, frame.height)


def is_blank(frame: VideoFrame) -> bool:
    """Whether the frame has a single colour, as before a fade-in or between scenes."""
    small = frame.reformat(_THUMB_PX, _THUMB_PX, "rgba", src_colorspace=_matrix(frame), interpolation="AREA", threads=1)
    values: NDArray[Any] = small.to_ndarray()
    return bool(np.ptp(_on_white(values[..., :3], values[..., 3:]), (0, 1)).max() <= _BLANK_LEVELS)


def _pixels(frame: VideoFrame, width: int, short_px: int) -> NDArray[np.uint8]:
    """sRGB pixels. Frames with transparency keep their stored size, because scaling would bleed hidden colours into
    visible ones."""
    transfer, primaries = int(frame.color_trc), int(frame.color_primaries)
    is_deep = is_beyond_srgb(transfer, primaries)
    is_clear = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    width, height = (frame.width, frame.height) if is_clear else (width, frame.height)
    if is_deep and not is_clear and (factor := short_px / min(width, height)) < 1:
        width, height = max(1, round(width * factor)), max(1, round(height * factor))
    layout = ("rgba64le" if is_clear else "rgb48le") if is_deep else ("rgba" if is_clear else "rgb24")
    scaling: Any = "AREA" if is_deep and width < frame.width else None
    shown = frame.reformat(width, height, layout, src_colorspace=_matrix(frame), interpolation=scaling, threads=1)
    array: NDArray[Any] = shown.to_ndarray()
    colours = to_srgb(array[..., :3], transfer, primaries) if is_deep else array[..., :3]
    # A fully transparent frame was more likely written by a program that ignores alpha.
    return _on_white(colours, array[..., 3:]) if is_clear and array[..., 3].any() else colours


def _matrix(frame: VideoFrame) -> int | None:
    """The matrix from YCbCr to RGB; None if the frame declares it."""
    declared = int(frame.colorspace)
    if frame.format.is_rgb or declared in _SUPPORTED:
        return None
    if declared in _LIKE_BT2020 or frame.color_trc in (PQ, HLG) or frame.color_primaries == BT2020:
        return _BT2020
    return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601


def _on_white(colours: NDArray[np.uint8], alpha: NDArray[Any]) -> NDArray[np.uint8]:
    if alpha.min() == (full := np.iinfo(alpha.dtype).max):
        return colours
    cover = alpha.astype(np.float32) / full
    return np.rint(255 + (colours.astype(np.float32) - 255) * cover).astype(np.uint8)


def _square(pixels: NDArray[np.uint8], shape: float) -> NDArray[np.uint8]:
    """Resized to this aspect ratio, if it differs."""
    height, width = pixels.shape[:2]
    wanted = round(height * shape)
    if abs(wanted - width) <= 1:
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((max(1, wanted), height), Image.Resampling.BICUBIC))


def _display_matrix(frame: VideoFrame) -> NDArray[np.float64]:
    """(2, 2): maps a frame's x and y to the screen's (ISO 14496-12, 8.3.2)."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return np.eye(2)
    a, b, _, c, d = np.frombuffer(bytes(stored), "=i4")[:5].astype(np.float64)
    return np.array(((a, c), (b, d)))


def _upright(pixels: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Rotated to the nearest quarter turn, and mirrored if the matrix mirrors."""
    ((a, c), (b, d)) = matrix
    if abs(c) > abs(a):  # x maps to y
        pixels, a, d = np.swapaxes(pixels, 0, 1), c, b
    pixels = pixels[:, ::-1] if a < 0 else pixels
    return pixels[::-1] if d < 0 else pixels
