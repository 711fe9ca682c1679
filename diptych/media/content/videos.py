"""Reads a few frames of a video and its container's metadata."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.errors import ImageError
from diptych.extras import is_importable
from diptych.media import memory
from diptych.media.content.dates import parse_local_time
from diptych.media.content.frames import display_pixels, is_blank
from diptych.media.content.metadata import camera_name, tidy_caption
from diptych.media.items import Details
from diptych.media.preprocessing import Preprocess, resized_and_cropped

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

SECONDS_A_FRAME, FEWEST_FRAMES, MOST_FRAMES = 5.0, 4, 32
# At most this many frames are decoded for each frame taken: a video with few keyframes is sampled at its start alone.
_MOST_DECODED = 300
_ROUNDED_PIXELS = 2**16
_ROUNDED_S = 0.002  # times are stored with three digits
# FFmpeg's demuxers that read one file; others, such as playlists', open further files
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,flv,asf,ogg,m4v,mjpeg"

# The signatures of MP4, Matroska and AVI: if such a file cannot be opened, its index is missing
_HEAD = re.compile(rb"....(ftyp|moov|mdat)|\x1a\x45\xdf\xa3|RIFF....AVI ", re.S)


class Frame(NamedTuple):
    """Pixels (size_px, size_px, 3) uint8 before normalising, and the time in the video in seconds."""

    pixels: np.ndarray
    at_s: float


class Video(NamedTuple):
    """The chosen frames in order, at least one, and the container's metadata."""

    frames: list[Frame]
    details: Details


def read_video(file: IO[bytes], name: str, spec: Preprocess) -> Video:
    """Frames near evenly spaced times: one for each SECONDS_A_FRAME, at least FEWEST_FRAMES and at most MOST_FRAMES.
    Frames of a single colour are left out if there are others.

    Raises ImageError with the reason "needs a package", "not a video", "no pictures", "too large", "truncated" or
    "damaged".
    """
    if not is_importable("av"):
        raise ImageError("needs a package", name, "Videos need PyAV: pip install 'diptych[video]'.")
    from av.error import FFmpegError, InvalidDataError

    try:
        # A seek in MPEG program and transport streams may land after the only keyframe; a raw stream has no index.
        for seeks in (True, False):
            with _opened(file, name) as container:
                if video := _read(container, name, spec, seeks):
                    return video
    except (FFmpegError, OverflowError) as error:
        reason = "damaged" if isinstance(error, InvalidDataError) else "truncated"
        raise ImageError(reason, name, f"FFmpeg: {error}.") from error
    raise ImageError("truncated", name, "No frame of it can be decoded; copy or download it again.")


def read_frame(file: IO[bytes], name: str, at_s: float, size_px: int) -> Frame:
    """The whole frame that is shown `at_s` seconds into a video, upright, (height, width, 3); the first one that can be
    decoded if there is none. Its short side is at least `size_px` or the frame's. Raises ImageError as `read_video`
    does."""
    if not is_importable("av"):
        raise ImageError("needs a package", name, "Videos need PyAV: pip install 'diptych[video]'.")
    from av.error import FFmpegError

    try:
        for wanted_s in (at_s, 0.0):
            with _opened(file, name) as container:
                if frame := _frame_at(container, name, wanted_s, size_px):
                    return frame
    except (FFmpegError, OverflowError) as error:
        raise ImageError("damaged", name, f"FFmpeg: {error}.") from error
    raise ImageError("truncated", name, "No frame of it can be decoded; copy or download it again.")


def _frame_at(container: InputContainer, name: str, at_s: float, size_px: int) -> Frame | None:
    from av.error import FFmpegError

    stream = _stream(container, name)
    start_s, last = float((stream.start_time or 0) * (stream.time_base or 0)), None
    decoder = _decoder(stream)
    with contextlib.suppress(FFmpegError):  # what was decoded before the damage is shown
        if at_s > 0:
            container.seek(int((start_s + at_s) / stream.time_base), stream=stream)
            decoder.flush_buffers()
        for count, frame in enumerate(_decoded(container, stream, decoder)):
            seconds = 0.0 if frame.time is None else frame.time - start_s
            if last is not None and (seconds > at_s + _ROUNDED_S or count > _MOST_DECODED):
                break
            last = frame, seconds
            if seconds >= at_s - _ROUNDED_S:
                break
    if last is None:
        return None
    frame, seconds = last
    return Frame(display_pixels(frame, stream.sample_aspect_ratio, size_px)[0], max(0.0, round(seconds, 3)))


def _opened(file: IO[bytes], name: str) -> InputContainer:
    import av
    from av.error import EOFError, FFmpegError

    av.logging.set_level(av.logging.PANIC)
    file.seek(0)
    try:
        return av.open(file, "r", options={"format_whitelist": _DEMUXERS}, metadata_errors="surrogateescape")
    except FFmpegError as error:
        file.seek(0)
        is_cut = isinstance(error, EOFError) or bool(_HEAD.match(file.read(12)))
        detail = "Its end is missing; copy or download it again." if is_cut else "FFmpeg does not recognise it."
        raise ImageError("truncated" if is_cut else "not a video", name, detail) from error


def _read(container: InputContainer, name: str, spec: Preprocess, seeks: bool) -> Video | None:
    """The video; None if no frame was decoded."""
    stream = _stream(container, name)
    codec = stream.codec_context
    duration_s, start_s = _duration_s(container, stream), float((stream.start_time or 0) * (stream.time_base or 0))
    frames, blank, size = [], [], (codec.width, codec.height)
    for frame in _frames(container, stream, _spans(duration_s), seeks):
        array, size = display_pixels(frame, stream.sample_aspect_ratio, spec.size_px)
        pixels = resized_and_cropped(array, spec, decode="fast")
        taken = blank if is_blank(frame) else frames
        taken.append(Frame(pixels, max(0.0, round((frame.time or 0.0) - start_s, 3))))
    details = _details({**stream.metadata, **container.metadata}, size, duration_s)
    return Video(frames or blank, details) if frames or blank else None


def _stream(container: InputContainer, name: str) -> Any:
    """The stream of pictures. Raises ImageError if there is none, or if a frame would take too much memory."""
    stream: Any = container.streams.best("video")  # prefers a video to an album cover
    if stream is None:
        raise ImageError("no pictures", name, "It contains sound alone.")
    if (codec := stream.codec_context) is None:
        raise ImageError("damaged", name, "FFmpeg does not support its codec; convert it to MP4.")
    if (needed := memory.VIDEO * codec.width * codec.height) > memory.memory_limit():
        raise ImageError("too large", name, memory.refusal((codec.width, codec.height), needed))
    return stream


def _duration_s(container: InputContainer, stream: Any) -> float | None:
    for ticks, tick_s in ((stream.duration, stream.time_base), (container.duration, 1e-6)):
        if ticks and tick_s and ticks > 0:
            return round(float(ticks * tick_s), 3)
    return None


def _spans(duration_s: float | None) -> list[tuple[float, float]]:
    """Equal spans, each as its middle and its end in seconds; the beginning alone if the duration is unknown."""
    if duration_s is None:
        return [(0.0, math.inf)]
    count = min(max(math.ceil(duration_s / SECONDS_A_FRAME), FEWEST_FRAMES), MOST_FRAMES)
    return [((index + 0.5) * duration_s / count, (index + 1) * duration_s / count) for index in range(count)]


def _frames(
    container: InputContainer, stream: Any, spans_s: list[tuple[float, float]], seeks: bool
) -> Iterator[VideoFrame]:
    """The keyframe before the middle of each span; or the frame at the middle if that keyframe was taken already, is
    blank, or `seeks` is false. Damaged frames are skipped, and a truncated file ends at the cut."""
    from av.error import FFmpegError

    decoder = _decoder(stream)
    last_s, start_s = -math.inf, float((stream.start_time or 0) * stream.time_base)
    decoded = _decoded(container, stream, decoder)
    for number, (middle_s, end_s) in enumerate(spans_s):
        with contextlib.suppress(FFmpegError):  # this frame alone is lost
            if seeks:
                container.seek(int((start_s + middle_s) / stream.time_base), stream=stream)
                decoder.flush_buffers()
                decoded = _decoded(container, stream, decoder)
            before = 0 if seeks else number
            frame = _next_frame(decoded, last_s, start_s + middle_s, start_s + end_s, before)
            if frame is not None:
                last_s = start_s + middle_s if frame.time is None else frame.time
                yield frame


def _decoder(stream: Any) -> Any:
    """The stream's own decoder, or libvpx's for VP8 and VP9 with transparency, which no other decodes."""
    from av import CodecContext
    from av.error import FFmpegError

    own = stream.codec_context
    has_alpha = any(key.lower() == "alpha_mode" and value == "1" for key, value in stream.metadata.items())
    if has_alpha and (name := {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(own.name)):
        with contextlib.suppress(FFmpegError, ValueError):  # a build without it
            own = CodecContext.create(name, "r")
    own.thread_type, own.thread_count = "NONE", 1  # there is one reading process per core
    # Later frames may be larger than the first, and decoders round sides up.
    own.options = {"max_pixels": str(memory.memory_limit() // memory.VIDEO * 5 // 4 + _ROUNDED_PIXELS)}
    return own


def _decoded(container: InputContainer, stream: Any, decoder: Any) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        yield from decoder.decode(packet)


def _next_frame(
    decoded: Iterator[VideoFrame], last_s: float, middle_s: float, end_s: float, before: int = 0
) -> VideoFrame | None:
    """The first frame if it is later than the last one taken and none was decoded `before` it, else the one at
    `middle_s`, else None. A later frame of the span, up to its end, replaces a blank one."""
    from av.error import FFmpegError

    blank = None
    try:
        for count, frame in enumerate(decoded, before):
            at_s = middle_s if frame.time is None else frame.time
            if count > _MOST_DECODED or (blank is not None and at_s >= end_s):
                break
            if at_s > last_s and (count == 0 or at_s >= middle_s):
                if not is_blank(frame):
                    return frame
                blank = blank or frame
    except FFmpegError:
        if blank is None:
            raise
    return blank


def _details(tags: Mapping[str, str], size: tuple[int, int], duration_s: float | None) -> Details:
    """From a container's tags. QuickTime's have precedence: they hold the local time and the phone's name."""
    tags = {key.lower(): _text(value) for key, value in tags.items()}
    apple, android = "com.apple.quicktime.", "com.android."
    made_at = parse_local_time(tags.get("creation_time"))
    if made_at and made_at < "1971":  # an unset clock: QuickTime counts from 1904
        made_at = None
    date_tags = (f"{apple}creationdate", "date_recorded", "date")
    taken_at, recorded_at, dated = (parse_local_time(tags.get(tag)) for tag in date_tags)
    taken_at = taken_at or recorded_at or made_at or dated
    latitude, longitude = _coordinates(tags.get(f"{apple}location.iso6709") or tags.get("location") or "")
    makers = tags.get(f"{apple}make") or tags.get(f"{android}manufacturer") or tags.get("make")
    models = tags.get(f"{apple}model") or tags.get(f"{android}model") or tags.get("model")
    captions = (tidy_caption(tags.get(key)) for key in (f"{apple}description", "description", "comment", "title"))
    return Details(
        *size,
        taken_at,
        latitude,
        longitude,
        camera_name(makers, models),
        next(filter(None, captions), None),
        duration_s,
    )


def _text(value: str) -> str:
    """A tag's text; Windows-1252 if its bytes are not UTF-8, as in AVI files."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return value


def _coordinates(iso6709: str) -> tuple[float | None, float | None]:
    """'+48.8566+002.3522+035.000/' -> (48.8566, 2.3522)."""
    match = re.match(r"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)", iso6709)
    if not match:
        return None, None
    latitude, longitude = float(match[1]), float(match[2])
    is_valid = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)
    return (latitude, longitude) if is_valid else (None, None)
