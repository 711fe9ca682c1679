"""Pictures as an image tower reads them: resized, cropped and normalised.

With `decode="exact"` they equal the reference (torchvision's Resize, CenterCrop, ToTensor and Normalize over Pillow) to
the last bit, except where `diptych.media.images` decodes otherwise.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.errors import ArgumentError, ImageError
from diptych.media import memory
from diptych.media.formats.opener import Fits
from diptych.media.images import Decode, check_choice, draft_to, open_decoded, to_rgb
from diptych.media.opening import Source, describe

Mode = Literal["crop", "squash"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_REDUCING_GAP = 3.0  # for fast decoding; Pillow: from 3 on, mostly indistinguishable from resampling in one step
_MAX_RESIZED_PIXELS = 2**26  # resizing a 1 x 65,000 picture before cropping would make 3 gigapixels
# Keys of a preprocessor_config.json that are handled or change no pixel of an RGB picture; patterns of keys that may
# change pixels, which are refused if unhandled; and harmless exceptions. All other keys are a library's bookkeeping.
_SETTLED_KEY = "(image_processor|feature_extractor)_type|default_to_square|do_convert_rgb"
_PIXEL_KEY = "do_.*|use_square_size|size|resample|rescale_factor|data_format|(crop|fill|image|pad|size)_.*"
_INERT_KEY = "image_seq_length|image_processor_class"


@dataclass(frozen=True)
class Preprocess:
    """A tower's preprocessing: a square of `size_px`, and the mean and standard deviation of its training pictures.

    `mode` "crop" resizes the short side and crops the centre (CLIP); "squash" resizes both sides to the square
    (SigLIP). Raises ValueError that names the field and the values it takes.
    """

    size_px: int = 224
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    mode: Mode = "crop"
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if type(self.size_px) is not int or self.size_px < 1:
            raise ArgumentError(f"size_px={self.size_px!r}; wanted a whole number of pixels, 1 or more.")
        check_choice("mode", self.mode, Mode)
        check_choice("interpolation", self.interpolation, Interpolation)
        object.__setattr__(self, "mean", _three_floats("mean", self.mean))
        object.__setattr__(self, "std", _three_floats("std", self.std))
        if min(self.std) <= 0:
            raise ArgumentError(f"std={self.std}; wanted three numbers above 0, because pixels are divided by them.")

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, object]) -> Preprocess:
        """Read the `preprocessor_config.json` of a CLIPImageProcessor or SiglipImageProcessor (also Fast and Pil).

        Raises ValueError that names the key if the file sets something that this class cannot express.
        """
        settings = _settings(config)
        mode: Mode = "crop" if "shortest_edge" in settings["size"] else "squash"
        means, stds = settings["image_mean"], settings["image_std"]
        resample: Interpolation = "bicubic"
        for name in get_args(Interpolation):  # compared one by one, because the value may be unhashable
            if settings["resample"] == Image.Resampling[name.upper()]:
                resample = name
        spec = cls(min(settings["size"].values()), means, stds, mode, resample)
        supported = _settings(spec.to_hugging_face())
        for key in (*settings, *supported):  # the file written back must be the same
            if key not in ("image_mean", "image_std") and settings.get(key, False) != supported.get(key, False):
                only = f"only {supported.get(key)!r} works"
                raise ArgumentError(f"preprocessor_config.json: {key}={settings.get(key)!r}; {only}.")
        return spec

    def to_hugging_face(self) -> dict[str, object]:
        """A `preprocessor_config.json` for transformers: CLIPImageProcessor's, or SiglipImageProcessor's for
        "squash"."""
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


def preprocess(source: Source, spec: Preprocess, *, decode: Decode = "exact") -> NDArray[np.float32]:
    """A picture, from anything that `open_image` takes, as a tower's input: (3, size_px, size_px), normalised.

    With `decode="exact"`, it equals the reference to the last bit: a picture with a palette or alpha is resized before
    it becomes RGB, so the result differs from `preprocess(open_image(source))`. Raises ImageError.
    """
    return normalise(resized_and_cropped(source, spec, decode=decode), spec)


def resized_and_cropped(source: Source, spec: Preprocess, *, decode: Decode = "exact") -> NDArray[np.uint8]:
    """A tower's input before normalisation: (size_px, size_px, 3) RGB. `source` is not changed."""
    return prepare_image(source, spec, decode=decode).pixels


class PreparedImage(NamedTuple):
    """(size_px, size_px, 3) RGB, the picture's full displayed size, and a description of the missing part, if any."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    partial: str


def prepare_image(source: Source, spec: Preprocess, *, decode: Decode = "exact") -> PreparedImage:
    """`resized_and_cropped`, with the picture's size and the description of missing parts."""
    with memory.MemoryReservation() as reservation:
        reduce = partial(_decoded_at_scale, spec=spec)
        image, size, missing = open_decoded(source, reservation, decode, reduce)
        pixels = np.asarray(to_rgb(_resized(image, spec, None if decode == "exact" else _REDUCING_GAP)))
    return PreparedImage(pixels, size, missing)


def normalise(pixels: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.float32]:
    """uint8 (h, w, 3) or (n, h, w, 3), else ValueError -> float32 (3, h, w) or (n, 3, h, w): (x / 255 - mean) / std."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ArgumentError(f"{describe(pixels)}; wanted uint8 of shape (h, w, 3) or (n, h, w, 3).")
    planes = np.moveaxis(pixels, -1, -3)
    out = np.empty(planes.shape, np.float32)  # contiguous planes, overwritten below
    np.divide(planes, np.float32(255), out=out)
    out -= np.array(spec.mean, np.float32)[:, None, None]
    out /= np.array(spec.std, np.float32)[:, None, None]  # a multiply-add would round differently from the reference
    return out


def load_pixels(
    sources: Iterable[Source], spec: Preprocess, *, decode: Decode = "exact", threads: int | None = None
) -> Iterator[tuple[int, NDArray[np.uint8] | ImageError]]:
    """`resized_and_cropped` for many pictures, on `threads` threads (default: one a core), in order: (index, pixels or
    ImageError).

    A bad picture yields its error and affects no other. At most two pictures a thread are read ahead of the one that is
    yielded, so memory does not grow with the number of sources.
    """

    def attempt(source: Source) -> NDArray[np.uint8] | ImageError:
        try:
            return resized_and_cropped(source, spec, decode=decode)
        except ImageError as error:
            error.__cause__ = error.__context__ = None  # an error that is kept must not hold the picture's bytes
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


def _decoded_at_scale(image: Image.Image, fits: Fits, spec: Preprocess) -> Image.Image:
    """A JPEG decoded at a fraction of its size and resized to the size that the whole would be resized to; undecoded if
    that does not fit."""
    size = _fitted(image.size, spec)
    box = draft_to(image, spec.size_px)
    if box is None or size[0] * size[1] > _MAX_RESIZED_PIXELS or not fits(image):
        return image
    return image.resize(size, Image.Resampling[spec.interpolation.upper()], box, _REDUCING_GAP)


def _fitted(size: tuple[int, int], spec: Preprocess) -> tuple[int, int]:
    """The size after torchvision's Resize."""
    n, (short, long) = spec.size_px, sorted(size)
    new_long = n if spec.mode == "squash" else int(n * long / short)
    return (n, new_long) if size[0] == short else (new_long, n)


def _resized(image: Image.Image, spec: Preprocess, reducing_gap: float | None) -> Image.Image:
    """(size_px, size_px) in the picture's own mode, by torchvision's Resize and CenterCrop."""
    n, size, box = spec.size_px, _fitted(image.size, spec), None
    left, top = (round((side - n) / 2.0) for side in size)  # to even, as torchvision; Hugging Face rounds down
    if reducing_gap or size[0] * size[1] > _MAX_RESIZED_PIXELS:  # then the centre alone is resized
        across, down = image.width / size[0], image.height / size[1]
        right, below = min((left + n) * across, image.width), min((top + n) * down, image.height)
        size, box, left, top = (n, n), (left * across, top * down, right, below), 0, 0
    image = image.resize(size, Image.Resampling[spec.interpolation.upper()], box, reducing_gap)
    return image.crop((left, top, left + n, top + n))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a preprocessor_config.json in one spelling, with transformers' defaults for missing keys."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    family = re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", kind)
    if family not in ("CLIP", "Siglip"):
        raise ArgumentError(f"image_processor_type={kind!r}; wanted CLIPImageProcessor or SiglipImageProcessor.")
    half = (0.5, 0.5, 0.5)
    default = Preprocess() if family == "CLIP" else Preprocess(mean=half, std=half, mode="squash")
    settings = {"data_format": "channels_first"} | default.to_hugging_face()
    settings |= {key: value for key, value in config.items() if value is not None}
    edges = ("height", "width") if settings.get("default_to_square") else ("shortest_edge",)
    if isinstance(size_px := settings["size"], int):
        settings["size"] = dict.fromkeys(edges, size_px)
    edges_px = settings["size"].values() if isinstance(settings["size"], Mapping) else ()
    if not edges_px or not all(isinstance(edge_px, int) for edge_px in edges_px):
        raise ArgumentError(f"preprocessor_config.json: size={settings['size']!r}; wanted a number or edges by name.")
    if isinstance(crop_px := settings.get("crop_size"), int):
        settings["crop_size"] = dict.fromkeys(("height", "width"), crop_px)
    if not settings.get("do_center_crop") or settings["size"] == settings.get(
        "crop_size"
    ):  # a crop of the same size changes nothing
        settings |= {"do_center_crop": False, "crop_size": False}
    if not settings["do_normalize"]:
        settings |= {"do_normalize": True, "image_mean": (0, 0, 0), "image_std": (1, 1, 1)}
    return {key: value for key, value in settings.items() if _is_set(key)}


def _is_set(key: str) -> bool:
    """Whether a key of a preprocessor_config.json may change the pixels beyond the keys handled here."""
    if re.fullmatch(f"{_SETTLED_KEY}|{_INERT_KEY}", key):
        return False
    return re.fullmatch(_PIXEL_KEY, key) is not None


def ignored_keys(config: Mapping[str, Any]) -> list[str]:
    """The keys of a preprocessor_config.json that change no pixel and are not read."""
    return [key for key in config if not _is_set(key) and not re.fullmatch(_SETTLED_KEY, key)]


def _three_floats(name: str, values: Any) -> tuple[float, float, float]:
    try:
        first, second, third = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}={values!r}; wanted three numbers, one each for red, green and blue.") from None
    if not np.isfinite((first, second, third)).all():
        raise ArgumentError(f"{name}={values!r}; wanted finite numbers.")
    return first, second, third
