"""A video as a few of its frames, and what its container says of it."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.images import MAX_PIXELS, ImageError, Preprocess, squared
from diptych.index.items import Details
from diptych.index.metadata import camera_name, local_time, tidy_caption

if TYPE_CHECKING:
    from av.container import InputContainer

SECONDS_A_FRAME, FEWEST_FRAMES, MOST_FRAMES = 5.0, 4, 32
# From one frame to the next no more are decoded than this: of a video with few keyframes only its beginning is seen.
_MOST_DECODED = 300
# FFmpeg's demuxers that read one file and open no other, as playlists do
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,flv,asf,ogg,m4v,mjpeg"

# How MP4, Matroska and AVI begin: with that, what cannot be opened is one of them with its index missing
_HEAD = re.compile(rb"....(ftyp|moov|mdat)|\x1a\x45\xdf\xa3|RIFF....AVI ", re.S)


class Frame(NamedTuple):
    """(size_px, size_px, 3) uint8, before normalising, and its time in the video."""

    pixels: np.ndarray
    at_s: float


class Video(NamedTuple):
    """The frames that were taken, in order, at least one, and what the container says."""

    frames: list[Frame]
    details: Details


def read_video(file: IO[bytes], name: str, spec: Preprocess) -> Video:
    """Frames near evenly spaced times: one for each SECONDS_A_FRAME, but from FEWEST_FRAMES to MOST_FRAMES.

    Raises ImageError with the reason "not a video", "no pictures", "too large", "truncated" or "damaged".
    """
    import av
    from av.error import EOFError, FFmpegError, InvalidDataError

    av.logging.set_level(av.logging.PANIC)
    try:
        container = av.open(file, "r", options={"format_whitelist": _DEMUXERS})
    except FFmpegError as error:
        file.seek(0)
        is_cut = isinstance(error, EOFError) or bool(_HEAD.match(file.read(12)))
        detail = "Its end is missing; copy or download it again." if is_cut else "FFmpeg knows no such video."
        raise ImageError("truncated" if is_cut else "not a video", name, detail) from error
    try:
        with container:
            return _read(container, name, spec)
    except (FFmpegError, OverflowError) as error:
        reason = "damaged" if isinstance(error, InvalidDataError) else "truncated"
        raise ImageError(reason, name, f"FFmpeg: {error}.") from error


def _read(container: InputContainer, name: str, spec: Preprocess) -> Video:
    if not container.streams.video:
        raise ImageError("no pictures", name, "There is only sound in it.")
    stream = container.streams.video[0]
    codec = stream.codec_context
    if codec.width * codec.height > MAX_PIXELS:
        raise ImageError("too large", name, f"{codec.width} x {codec.height} pixels; wanted up to {MAX_PIXELS:,}.")
    stream.thread_type, codec.thread_count = "NONE", 1  # as many processes read as there are cores
    duration_s, start_s = _duration_s(container, stream), float((stream.start_time or 0) * (stream.time_base or 0))
    frames, size = [], (codec.width, codec.height)
    for frame in _frames(container, stream, _times(duration_s)):
        array = _upright(frame, stream.sample_aspect_ratio)
        size = array.shape[1], array.shape[0]
        pixels = squared(array, spec, decode="fast")
        frames.append(Frame(pixels, max(0.0, round((frame.time or 0.0) - start_s, 3))))
    if not frames:
        raise ImageError("truncated", name, "No frame of it can be decoded; copy or download it again.")
    return Video(frames, _details({**stream.metadata, **container.metadata}, size, duration_s))


def _duration_s(container: InputContainer, stream: Any) -> float | None:
    for ticks, tick_s in ((stream.duration, stream.time_base), (container.duration, 1e-6)):
        if ticks and tick_s and ticks > 0:
            return round(float(ticks * tick_s), 3)
    return None


def _times(duration_s: float | None) -> list[float]:
    """The middles of equal spans, in seconds; the beginning alone where the length is not known."""
    if duration_s is None:
        return [0.0]
    count = min(max(math.ceil(duration_s / SECONDS_A_FRAME), FEWEST_FRAMES), MOST_FRAMES)
    return [(index + 0.5) * duration_s / count for index in range(count)]


def _frames(container: InputContainer, stream: Any, times_s: list[float]) -> Iterator[Any]:
    """The keyframe before each time or, where that was had already, the frame at the time itself. What is damaged
    is passed over, and a file cut short ends where it was cut."""
    from av.error import FFmpegError

    last_s, start_s = -math.inf, float((stream.start_time or 0) * stream.time_base)
    for time_s in times_s:
        with contextlib.suppress(FFmpegError):  # this frame alone is lost
            container.seek(int((start_s + time_s) / stream.time_base), stream=stream)
            frame = _next_frame(container.decode(stream), last_s, start_s + time_s)
            if frame is not None:
                last_s = start_s + time_s if frame.time is None else frame.time
                yield frame


def _next_frame(decoded: Iterator[Any], last_s: float, time_s: float) -> Any:
    """The first frame if it is later than the last one taken, else the one at `time_s`, else None."""
    for count, frame in enumerate(decoded):
        at_s = time_s if frame.time is None else frame.time
        if at_s > last_s and (count == 0 or at_s >= time_s):
            return frame
        if count == _MOST_DECODED:
            return None
    return None


def _upright(frame: Any, ratio: Any) -> np.ndarray:
    """(h, w, 3) uint8 as shown: pixels of this width to height made square, turned as the container says."""
    width = round(frame.width * float(ratio)) if ratio and 0.1 < ratio < 10 else frame.width
    array = frame.reformat(width, frame.height, "rgb24", threads=1).to_ndarray()
    return np.rot90(array, round(frame.rotation / 90) % 4)  # both count against the clock


def _details(said: Mapping[str, str], size: tuple[int, int], duration_s: float | None) -> Details:
    """From a container's tags; QuickTime's own first, for they have the local time and the phone's name."""
    apple, android = "com.apple.quicktime.", "com.android."
    taken_at = local_time(said.get(f"{apple}creationdate")) or local_time(said.get("creation_time"))
    if taken_at and taken_at < "1971":  # a clock that was never set: QuickTime counts from 1904
        taken_at = None
    latitude, longitude = _place(said.get(f"{apple}location.ISO6709") or said.get("location") or "")
    makers = said.get(f"{apple}make") or said.get(f"{android}manufacturer") or said.get("make")
    models = said.get(f"{apple}model") or said.get(f"{android}model") or said.get("model")
    captions = (tidy_caption(said.get(key)) for key in (f"{apple}description", "description", "comment", "title"))
    return Details(
        *size,
        taken_at,
        latitude,
        longitude,
        camera_name(makers, models),
        next(filter(None, captions), None),
        duration_s,
    )


def _place(iso6709: str) -> tuple[float | None, float | None]:
    """'+48.8566+002.3522+035.000/' -> (48.8566, 2.3522)."""
    match = re.match(r"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)", iso6709)
    if not match:
        return None, None
    latitude, longitude = float(match[1]), float(match[2])
    is_place = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)
    return (latitude, longitude) if is_place else (None, None)
