"""A decoded video frame as a player displays it: colours, transparency on white, aspect ratio, orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diptych.media.pixels.tone_mapping import BT2020, HLG, PQ, is_beyond_srgb, to_srgb

if TYPE_CHECKING:
    from av import VideoFrame

# H.273's numbers of the matrices between RGB and YCbCr, and swscale's, which are the same for these
_BT709, _BT601, _BT2020 = 1, 5, 9
_SAID = frozenset((1, 4, 5, 6, 7, 9))  # what swscale takes for YCbCr; it refuses all others but 2, "unspecified"
_BT2020_KIN = frozenset((10, 14))  # constant luminance and ICtCp: no nearer one is there
_DEEP_SIDES = 2  # tone mapping is done on so many times the tower's size: what is shrunk more loses nothing by it
_MOST_PIXELS = 2**26  # of a frame that is widened to the shape that it is shown in
_THUMB_PX, _BLANK_LEVELS = 32, 8  # averaged so, a black frame's noise and a compressor's blocks are within 8 of 255


def display_pixels(frame: VideoFrame, ratio: Any, size_px: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """sRGB (h, w, 3), upright, and the size (width, height) in pixels that it is shown at. The array is smaller where
    colours had to be computed, but on its short side no less than `size_px` or the frame.

    `ratio` is the width of a pixel to its height, or None. Transparent parts are white, as in pictures. If a video
    does not declare its colour coding, its colours are BT.709's from 1,280 x 577 on and BT.601's below, as in players.
    """
    width = round(frame.width * float(ratio)) if ratio and 0.1 < ratio < 10 else frame.width
    width = width if width * frame.height <= _MOST_PIXELS else frame.width
    pixels = _square(_pixels(frame, width, _DEEP_SIDES * size_px), width / frame.height)
    matrix = _display_matrix(frame)
    is_turned = abs(matrix[0, 1]) > abs(matrix[0, 0])
    return _upright(pixels, matrix), (frame.height, width) if is_turned else (width, frame.height)


def is_blank(frame: VideoFrame) -> bool:
    """Whether it has one colour, as before a video fades in and between scenes."""
    small = frame.reformat(_THUMB_PX, _THUMB_PX, "rgba", src_colorspace=_matrix(frame), interpolation="AREA", threads=1)
    values: NDArray[Any] = small.to_ndarray()
    return bool(np.ptp(_on_white(values[..., :3], values[..., 3:]), (0, 1)).max() <= _BLANK_LEVELS)


def _pixels(frame: VideoFrame, width: int, short_px: int) -> NDArray[np.uint8]:
    """Colours as on an ordinary screen. With transparency at the size that it was stored at, for what is hidden must
    not bleed into what is seen."""
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
    # Transparent all over: rather a program that did not know what the fourth number means.
    return _on_white(colours, array[..., 3:]) if is_clear and array[..., 3].any() else colours


def _matrix(frame: VideoFrame) -> int | None:
    """The matrix from YCbCr to RGB; None if the frame declares it."""
    said = int(frame.colorspace)
    if frame.format.is_rgb or said in _SAID:
        return None
    if said in _BT2020_KIN or frame.color_trc in (PQ, HLG) or frame.color_primaries == BT2020:
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
    """(2, 2): how a frame's x and y go over to the screen's (ISO 14496-12, 8.3.2)."""
    said = frame.side_data.get("DISPLAYMATRIX")
    if said is None:
        return np.eye(2)
    a, b, _, c, d = np.frombuffer(bytes(said), "=i4")[:5].astype(np.float64)
    return np.array(((a, c), (b, d)))


def _upright(pixels: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Rotated to the nearest quarter turn, and mirrored if the matrix mirrors."""
    ((a, c), (b, d)) = matrix
    if abs(c) > abs(a):  # x goes into y
        pixels, a, d = np.swapaxes(pixels, 0, 1), c, b
    pixels = pixels[:, ::-1] if a < 0 else pixels
    return pixels[::-1] if d < 0 else pixels
