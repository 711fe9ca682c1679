"""Pictures in, the pixels that an image tower reads out: open, turn upright, resize, crop, normalise.

Decoded "exact", the pixels equal those of the reference (torchvision's Resize, CenterCrop, ToTensor and Normalize over
Pillow) to the last bit, but that pictures are turned upright, deep ones are scaled to 8 bits and not clipped, and what
Pillow reads wrongly is read rightly. Decoded "fast" they are what people see, and whatever people search, sort and
compare is made of that: palettes and black-and-white become RGB before they are resized, what is transparent is laid
on white, and of an animation the first frame counts that is not blank.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.errors import ArgumentError, ImageError
from diptych.media import memory
from diptych.media.opening import MAX_PIXELS, Source, Upright, describe, open_upright
from diptych.untrusted.links import Inside, walk

Decode = Literal["exact", "fast"]
Mode = Literal["crop", "squash"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
ENDINGS = (
    "jpg|jpeg|jpe|jfif|mpo|png|apng|webp|gif|bmp|tif|tiff|avif|heic|heif|hif|pbm|pgm|pnm|ppm|"
    "jp2|j2k|j2c|jpc|jpf|jpx|jxl|qoi"
)
SKIPPED_FOLDERS = frozenset(("node_modules", "@eaDir", "__MACOSX", "$RECYCLE.BIN"))

_NAME = re.compile(rf"[^.].*\.({ENDINGS})", re.I | re.S)
# A JPEG decoded at 1/2, 1/4 or 1/8 keeps at least this many times the target, so that our own resampling, not the
# decoder's crude one, decides the last factor of three: at two the worst of 39 photographs fell to a cosine of 0.995.
_DRAFT_MARGIN = 3
_REDUCING_GAP = 3.0  # fast decoding only; Pillow: from 3 on, mostly indistinguishable from resampling in one step
_MAX_RESIZED_PIXELS = 2**26  # a 1 x 65,000 picture would otherwise be blown up to 3 gigapixels before the crop
# Keys of a preprocessor_config.json that were taken or change no pixel of an RGB picture, and those that by their names
# ask for other pixels, so that one that nothing reads is refused. All others are the bookkeeping of some library.
_SETTLED_KEY = "(image_processor|feature_extractor)_type|default_to_square|do_convert_rgb"
_PIXEL_KEY = "do_.*|use_square_size|size|resample|rescale_factor|data_format|(crop|fill|image|pad|size)_.*"
_INERT_KEY = "image_seq_length|image_processor_class"


@dataclass(frozen=True)
class Preprocess:
    """What a tower wants to be shown: a square of `size_px`, and the mean and deviation of its training pictures.

    `mode` "crop" resizes the short side and cuts the centre out (CLIP); "squash" resizes to the square, whatever the
    shape (SigLIP). Raises ValueError that names the field and what it takes.
    """

    size_px: int = 224
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    mode: Mode = "crop"
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if type(self.size_px) is not int or self.size_px < 1:
            raise ArgumentError(f"size_px={self.size_px!r}; wanted a whole number of pixels, 1 or more.")
        _check_choice("mode", self.mode, Mode)
        _check_choice("interpolation", self.interpolation, Interpolation)
        object.__setattr__(self, "mean", _three_floats("mean", self.mean))
        object.__setattr__(self, "std", _three_floats("std", self.std))
        if min(self.std) <= 0:
            raise ArgumentError(f"std={self.std}; wanted three numbers above 0, for it divides.")

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, object]) -> Preprocess:
        """Read the `preprocessor_config.json` of a CLIPImageProcessor or SiglipImageProcessor (also Fast and Pil).

        Raises ValueError that names the key wherever the file asks for what this class cannot express.
        """
        asked = _settings(config)
        mode: Mode = "crop" if "shortest_edge" in asked["size"] else "squash"
        means, stds = asked["image_mean"], asked["image_std"]
        resample: Interpolation = "bicubic"
        for name in get_args(Interpolation):  # by comparison, for what was asked may be no key of a table
            if asked["resample"] == Image.Resampling[name.upper()]:
                resample = name
        spec = cls(min(asked["size"].values()), means, stds, mode, resample)
        can = _settings(spec.to_hugging_face())
        for key in (*asked, *can):  # what would be written back must say the same
            if key not in ("image_mean", "image_std") and asked.get(key, False) != can.get(key, False):
                raise ArgumentError(f"preprocessor_config.json: {key}={asked.get(key)!r}; only {can.get(key)!r} works.")
        return spec

    def to_hugging_face(self) -> dict[str, object]:
        """The same as a `preprocessor_config.json`, for transformers: CLIPImageProcessor, or Siglip's for "squash"."""
        square = dict.fromkeys(("height", "width"), self.size_px)
        crop = {"size": {"shortest_edge": self.size_px}, "do_center_crop": True, "crop_size": square}
        return {
            "image_processor_type": "CLIPImageProcessor" if self.mode == "crop" else "SiglipImageProcessor",
            **dict.fromkeys(("do_convert_rgb", "do_resize", "do_rescale", "do_normalize"), True),
            **(crop if self.mode == "crop" else {"size": square}),
            "resample": int(Image.Resampling[self.interpolation.upper()]),
            "rescale_factor": 1 / 255,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def open_image(
    source: Source, *, decode: Decode = "exact", size_px: int | None = None, max_pixels: int | None = None
) -> Image.Image:
    """Open a picture as upright 8-bit RGB, the first frame of an animation. Raises ImageError.

    `source` is a path, a file:// address, the bytes of a file, a binary file object, a PIL image, an array or a tensor
    (`pictures.arrays.picture_of`: uint8 or floats from 0 to 1), or a string that starts with http:// or https://, which
    is fetched: pass no such string on from a stranger.
    Alpha is dropped, as the reference does, or laid on white with `decode="fast"`. That with `size_px` may return a
    JPEG at 1/2, 1/4 or 1/8 of its size, at least three times `size_px` on its short side. More than `max_pixels`
    (MAX_PIXELS by default), and what takes more memory to decode than `pictures.memory` allows, are refused before they
    are decoded, but a JPEG of more is decoded at a fraction of its size if that will do.
    """
    with memory.Turn() as turn:
        return _rgb(_open(source, turn, decode, size_px, max_pixels).image)


def preprocess(source: Source, spec: Preprocess, *, decode: Decode = "exact") -> NDArray[np.float32]:
    """A picture, from anything that `open_image` takes, as the tower reads it: (3, size_px, size_px), normalised.

    Equal to the reference to the last bit with `decode="exact"`. A picture with a palette or with alpha is then resized
    before it becomes RGB, as the reference does, so it differs from `preprocess(open_image(source))`.
    Raises ImageError.
    """
    return normalise(squared(source, spec, decode=decode), spec)


def squared(source: Source, spec: Preprocess, *, decode: Decode = "exact") -> NDArray[np.uint8]:
    """What the tower sees of a picture before normalising: (size_px, size_px, 3) RGB. Leaves `source` as it is."""
    return seen(source, spec, decode=decode).pixels


class Seen(NamedTuple):
    """(size_px, size_px, 3) RGB, the whole picture's size as shown, and in words what of it is missing, if anything."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    partial: str


def seen(source: Source, spec: Preprocess, *, decode: Decode = "exact") -> Seen:
    """`squared`, and what was met on the way."""
    with memory.Turn() as turn:
        image, size, partial = _open(source, turn, decode, spec.size_px, None, spec)
        pixels = np.asarray(_rgb(_resized(image, spec, None if decode == "exact" else _REDUCING_GAP)))
    return Seen(pixels, size, partial)


def normalise(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.float32]:
    """uint8 (h, w, 3) or (n, h, w, 3), else ValueError -> float32 (3, h, w) or (n, 3, h, w): (x / 255 - mean) / std."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ArgumentError(f"{describe(pixels)}; wanted uint8 of shape (h, w, 3) or (n, h, w, 3).")
    planes = np.moveaxis(pixels, -1, -3)
    out = np.empty(planes.shape, np.float32)  # contiguous planes, written once, then changed in place
    np.divide(planes, np.float32(255), out=out)
    out -= np.array(spec.mean, np.float32)[:, None, None]
    out /= np.array(spec.std, np.float32)[:, None, None]  # one multiply-add would round otherwise than the reference
    return out


def load_pixels(
    sources: Iterable[Source], spec: Preprocess, *, decode: Decode = "exact", threads: int | None = None
) -> Iterator[tuple[int, NDArray[np.uint8] | ImageError]]:
    """`squared` for many pictures, on `threads` threads (default: one a core), in order: (index, pixels or ImageError).

    A bad picture yields its error in its place and harms no other. No more than two pictures a thread are read
    ahead of the one that is handed out, so memory does not grow with the number of sources.
    """

    def attempt(source: Source) -> NDArray[np.uint8] | ImageError:
        try:
            return squared(source, spec, decode=decode)
        except ImageError as error:
            error.__cause__ = error.__context__ = None  # an error that is kept must not keep the picture's bytes alive
            return error.with_traceback(None)

    threads = os.cpu_count() or 1 if threads is None else threads
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
    waiting: deque[Future[NDArray[np.uint8] | ImageError]] = deque()
    sources = iter(sources)
    try:
        for index in count():
            waiting.extend(pool.submit(attempt, source) for source in islice(sources, 1 + 2 * threads - len(waiting)))
            if not waiting:
                return
            yield index, waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def find_images(
    folder: str | os.PathLike[str],
    *,
    recursive: bool = True,
    follows: Callable[[str], bool] | None = None,
    left: list[Path] | None = None,
) -> list[Path]:
    """The pictures in a folder, by extension, sorted; hidden names, node_modules, @eaDir and the like are left out.

    A linked folder is walked once, and only if it is not in the tree anyway. Links are followed for which `follows`
    holds, by default those that stay in the folder; those that are not are added to `left`. Raises OSError if `folder`
    is no folder.
    """
    os.scandir(folder).close()  # `walk` would pass over a missing folder in silence
    inside = Inside(os.path.abspath(folder))

    def is_taken(path: str) -> bool:
        if not os.path.islink(path) or (follows(path) if follows else not inside.leads_out(os.path.abspath(path))):
            return True
        if left is not None:
            left.append(Path(path))
        return False

    found, seen, tops = list[str](), set[tuple[int, int]](), deque([os.fspath(folder)])
    while tops:
        for here, folders, files in walk(tops.popleft()):
            status = os.stat(here)
            is_new = (identity := (status.st_dev, status.st_ino)) not in seen
            seen.add(identity)
            visible = sorted(name for name in folders if name[0] != "." and name not in SKIPPED_FOLDERS)
            visible = visible if recursive and is_new else []
            folders[:] = [name for name in visible if is_taken(os.path.join(here, name))]
            paths = (os.path.join(here, name) for name in files if is_new and _NAME.fullmatch(name))
            paths = (path for path in paths if is_taken(path))
            found += [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]  # a pipe would hang
            tops.extend(path for name in folders if os.path.islink(path := os.path.join(here, name)))
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]


def most_pixels() -> int:
    """Of a picture that is decoded: MAX_PIXELS, and more where more memory is allowed."""
    return MAX_PIXELS * max(memory.allowed(), memory.USUAL) // memory.USUAL


def _open(
    source: Source,
    turn: memory.Turn,
    decode: Decode,
    size_px: int | None,
    max_pixels: int | None,
    spec: Preprocess | None = None,
) -> Upright:
    """The picture; of a `spec`'s resized size if that was quicker."""
    _check_choice("decode", decode, Decode)
    is_fast, most = decode == "fast", most_pixels() if max_pixels is None else max_pixels
    reduce = partial(_drafted, size_px=size_px, spec=spec) if is_fast and size_px is not None else None
    return open_upright(source, turn, reduce=reduce, is_searched=is_fast, max_pixels=most)


def _drafted(
    image: Image.Image, fits: Callable[[Image.Image], bool], size_px: int, spec: Preprocess | None
) -> Image.Image:
    """A JPEG decoded at a fraction of its size and, given a `spec`, resized: to where the whole would have been. As it
    was set where that does not fit."""
    size = image.size if spec is None else _fitted(image.size, spec)
    draft = image.draft(None, (_DRAFT_MARGIN * size_px, _DRAFT_MARGIN * size_px))
    if spec is None or draft is None or size[0] * size[1] > _MAX_RESIZED_PIXELS or not fits(image):
        return image
    box = draft[1]  # in fractions of a pixel: the draft's sides are rounded up
    return image.resize(size, Image.Resampling[spec.interpolation.upper()], box, _REDUCING_GAP)


def _fitted(size: tuple[int, int], spec: Preprocess) -> tuple[int, int]:
    """The size that torchvision's Resize makes of a size."""
    n, (short, long) = spec.size_px, sorted(size)
    new_long = n if spec.mode == "squash" else int(n * long / short)
    return (n, new_long) if size[0] == short else (new_long, n)


def _resized(image: Image.Image, spec: Preprocess, reducing_gap: float | None) -> Image.Image:
    """(size_px, size_px) in the picture's own mode: torchvision's Resize and CenterCrop."""
    n, size, box = spec.size_px, _fitted(image.size, spec), None
    left, top = (round((side - n) / 2.0) for side in size)  # to even, as torchvision does; Hugging Face rounds down
    if reducing_gap or size[0] * size[1] > _MAX_RESIZED_PIXELS:  # then the centre alone: the rest would be cut off
        across, down = image.width / size[0], image.height / size[1]
        right, below = min((left + n) * across, image.width), min((top + n) * down, image.height)
        size, box, left, top = (n, n), (left * across, top * down, right, below), 0, 0
    image = image.resize(size, Image.Resampling[spec.interpolation.upper()], box, reducing_gap)
    return image.crop((left, top, left + n, top + n))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if "transparency" in image.info:  # the colour that counts as transparent: dropped, without Pillow's warning
        image = image.copy()
        del image.info["transparency"]
    return image.convert("RGB")


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a preprocessor_config.json asks for, in one spelling, with what transformers assumes where it is silent."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    family = re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", kind)
    if family not in ("CLIP", "Siglip"):
        raise ArgumentError(f"image_processor_type={kind!r}; wanted CLIPImageProcessor or SiglipImageProcessor.")
    half = (0.5, 0.5, 0.5)
    assumed = Preprocess() if family == "CLIP" else Preprocess(mean=half, std=half, mode="squash")
    asked = {"data_format": "channels_first"} | assumed.to_hugging_face()
    asked |= {key: value for key, value in config.items() if value is not None}
    edges = ("height", "width") if asked.get("default_to_square") else ("shortest_edge",)
    if isinstance(size_px := asked["size"], int):
        asked["size"] = dict.fromkeys(edges, size_px)
    edges_px = asked["size"].values() if isinstance(asked["size"], Mapping) else ()
    if not edges_px or not all(isinstance(edge_px, int) for edge_px in edges_px):
        raise ArgumentError(f"preprocessor_config.json: size={asked['size']!r}; wanted a number or edges by name.")
    if isinstance(crop_px := asked.get("crop_size"), int):
        asked["crop_size"] = dict.fromkeys(("height", "width"), crop_px)
    if not asked.get("do_center_crop") or asked["size"] == asked.get("crop_size"):  # the latter cuts nothing off
        asked |= {"do_center_crop": False, "crop_size": False}
    if not asked["do_normalize"]:
        asked |= {"do_normalize": True, "image_mean": (0, 0, 0), "image_std": (1, 1, 1)}
    return {key: value for key, value in asked.items() if _asks(key)}


def _asks(key: str) -> bool:
    """Whether a key of a preprocessor_config.json may ask for other pixels than all others together."""
    if re.fullmatch(f"{_SETTLED_KEY}|{_INERT_KEY}", key):
        return False
    return re.fullmatch(_PIXEL_KEY, key) is not None


def unread_keys(config: Mapping[str, Any]) -> list[str]:
    """The keys of a preprocessor_config.json that change no pixel and that nothing reads."""
    return [key for key in config if not _asks(key) and not re.fullmatch(_SETTLED_KEY, key)]


def _check_choice(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ArgumentError(f"{name}={value!r}; wanted one of {', '.join(get_args(choices))}.")


def _three_floats(name: str, values: Any) -> tuple[float, float, float]:
    try:
        first, second, third = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}={values!r}; wanted three numbers, one each for red, green and blue.") from None
    if not np.isfinite((first, second, third)).all():
        raise ArgumentError(f"{name}={values!r}; wanted numbers, and one of these is none.")
    return first, second, third
