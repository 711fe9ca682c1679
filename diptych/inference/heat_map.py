"""Where a phrase fits in a picture, from one pass over its patches, from overlapping windows, or from both."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

import numpy as np
from PIL import Image

from diptych.deprecation import RenamedAttribute, warn_renamed
from diptych.display.counting import counted
from diptych.errors import ArgumentError
from diptych.media.content.thumbnails import as_jpeg
from diptych.media.images import Source, open_image
from diptych.media.preprocessing import Preprocess, resized_and_cropped
from diptych.nets.config import EfficientNetConfig
from diptych.scoring import locate

if TYPE_CHECKING:
    from jaxtyping import Float

    from diptych.engines import Engine
    from diptych.nets.config import CLIPConfig

Method = Literal["auto", "patches", "windows"]
Used = Literal["patches", "windows", "both"]
_BATCH = 32
_SHOWN_PX = 960  # in a notebook, the file of which holds it
# Maps need higher temperatures than the model's: windows that show more than the thing have nearly the cosine of those
# that show it alone, and of a thing's patches those that tell its kind stand out from the rest of it. Chosen on drawn
# scenes of training combinations; `bench/scenes.py` evaluates them on others.
WINDOW_TEMPERATURE, PATCH_TEMPERATURE = 3, 2
# Where no patch stands out from the others by this, in logits, "auto" asks windows as well. For seven in eight things
# of drawn scenes one does, for few in photographs; bench/pointing.py and bench/scenes.py say what the windows bring.
CLEAR = 2.75
QUICK_TOWERS = (
    EfficientNetConfig,
)  # "auto" asks these for windows: those of a ViT-B take seconds, of a ViT-L a minute
AUTO_SCALES, AUTO_OVERLAP = (1.0, 0.5, 0.25), 0.5  # less than half of the windows
AUTO_WINDOWS = 200  # about, as many as the usual scales have in a picture of 3:2
PATCH_WEIGHT = 0.25  # of the patches' logits beside those of the windows


class LocatingModel(Protocol):
    """The part of `diptych.Embedder` that locating needs."""

    @property
    def engine(self) -> Engine: ...
    @property
    def config(self) -> CLIPConfig: ...
    @property
    def preprocessing(self) -> Preprocess: ...
    @property
    def scale(self) -> float: ...
    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray: ...
    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class HeatMap:
    """How well each part of a picture fits a phrase. `scores` are cosines over the whole picture, (rows, columns), made
    by `method`. `relative_likelihood` is the likelihood of each point relative to the best, about 0 to 1, smoothed
    along the picture's edges. `boxes` surround its regions above the threshold, in pixels of the picture, the best
    first."""

    likely = RenamedAttribute("likely", "relative_likelihood")

    image: Image.Image
    phrase: str
    method: Used
    scores: Float[np.ndarray, "rows columns"]
    relative_likelihood: Float[np.ndarray, "rows columns"]
    boxes: tuple[locate.Box, ...]

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<diptych.HeatMap of {self.phrase!r} in {width} x {height} px: {len(self.boxes)} boxes>"

    def _repr_png_(self) -> bytes:
        """The overlay, for notebooks."""
        file = BytesIO()
        self.overlay().save(file, "PNG")
        return file.getvalue()

    def _repr_html_(self) -> str:
        """The overlay with its phrase, for notebooks, which prefer this."""
        from diptych.display.pages import page

        picture = self.overlay()
        picture.thumbnail((_SHOWN_PX, _SHOWN_PX))
        scores = ", ".join(f"{box.score:.2f}" for box in self.boxes)
        boxes = f"{counted(len(self.boxes), 'region')}: {scores}" if self.boxes else "no region stands out"
        encoded = base64.b64encode(as_jpeg(picture)).decode()
        return page(
            Path(__file__).with_name("heat_map.html.jinja"), phrase=self.phrase, picture=encoded, boxes=boxes
        )  # fmt: skip

    def overlay(self, *, boxes: int = 1) -> Image.Image:
        """The picture with the map and the best `boxes` drawn over it."""
        from diptych.display.plots import heat_overlay

        return heat_overlay(self.image, self.relative_likelihood, self.boxes[:boxes])


def heat_maps(
    model: LocatingModel,
    image: Source,
    phrases: Sequence[str],
    *,
    method: Method = "auto",
    scales: Sequence[float] | None = None,
    overlap: float | None = None,
    threshold: float | None = None,
    truncate: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[HeatMap]:
    """A HeatMap of the whole picture, not of a crop, for each phrase.

    "patches" runs the tower once over the picture, squashed to a square, and projects the value of each patch in the
    last layer into the shared space (Zhou et al. 2022, "Extract free dense labels from CLIP"). "windows" embeds squares
    of each of `scales` (fractions of the short side) that overlap by `overlap`, and averages their cosines; `progress`
    is called with (done, total) windows. "auto" takes patches and, in models of QUICK_TOWERS, as the bundled one is,
    windows as well for phrases that no patch clearly fits, as in most photographs. `threshold` is for the boxes, see
    `locate.boxes`. None means the defaults of `locate`. Raises ImageError, ArgumentError for another method, and the
    errors of `embed_texts`.
    """
    if method == "places":  # type: ignore[comparison-overlap]
        warn_renamed('method="places"', 'method="patches"')
        method = "patches"
    if method not in get_args(Method):
        raise ArgumentError(f"method {method!r} is not known; choose one of {', '.join(get_args(Method))}.")
    threshold = locate.THRESHOLD if threshold is None else threshold
    texts = model.embed_texts(phrases, truncate=truncate)
    picture = open_image(image, decode="fast")
    found = _by_patches(model, picture, texts) if method != "windows" else {}
    is_mixed = method == "auto" and isinstance(model.config.image, QUICK_TOWERS)
    asked = [at for at in range(len(texts)) if at not in found or (is_mixed and not found[at].is_clear)]
    windows = _windows_of(picture, method, scales, overlap) if asked else []
    if windows:
        scores = _window_scores(model, picture, texts[asked], windows, model.scale / WINDOW_TEMPERATURE, progress)
        for at, one in zip(asked, scores, strict=True):
            seen = _Found("windows", one, model.scale / WINDOW_TEMPERATURE)
            found[at] = _mixed(found[at], seen) if at in found else seen
    rows, columns = locate.map_shape(*picture.size)
    small = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2)) / 255
    return [_heat_map(picture, small, phrase, found[at], threshold) for at, phrase in enumerate(phrases)]


def _windows_of(
    picture: Image.Image, method: Method, scales: Sequence[float] | None, overlap: float | None
) -> list[locate.Box]:
    """The windows of a picture. For "auto" they are at most AUTO_WINDOWS, without the smallest in a thin picture, and
    none where even the largest are more."""
    if method == "windows" or scales is not None or overlap is not None:
        return locate.windows(*picture.size, scales=scales, overlap=locate.OVERLAP if overlap is None else overlap)
    shape = max(picture.size) / min(picture.size)
    for count in range(len(AUTO_SCALES), 0, -1):
        if shape / ((1 - AUTO_OVERLAP) * AUTO_SCALES[count - 1] ** 2) < AUTO_WINDOWS:
            return locate.windows(*picture.size, scales=AUTO_SCALES[:count], overlap=AUTO_OVERLAP)
    return []


class _Found(NamedTuple):
    """A map of cosines, what it was made of, and the inverse temperature of its likelihood."""

    method: Used
    scores: np.ndarray
    scale: float

    @property
    def is_clear(self) -> bool:
        """Whether some part stands out from the rest."""
        return self.scale * float(self.scores.max() - np.median(self.scores)) > CLEAR


def _mixed(patches: _Found, windows: _Found) -> _Found:
    """The logits of windows with those of patches at PATCH_WEIGHT, as cosines, the best of which is that of windows."""
    share = PATCH_WEIGHT * patches.scale / windows.scale
    scores = windows.scores + share * (patches.scores - patches.scores.max())
    return _Found("both", scores + (windows.scores.max() - scores.max()), windows.scale)


def _heat_map(picture: Image.Image, small: np.ndarray, phrase: str, found: _Found, threshold: float) -> HeatMap:
    """`small` is the picture at the map's size, with values from 0 to 1."""
    method, scores, scale = found
    likelihood = locate.guided_filter(locate.relative_likelihood(scores, scale), small)
    boxes = locate.boxes(likelihood, picture.size, threshold=threshold)
    best = float(scores.max())
    scored = tuple(box._replace(score=best + float(np.log(min(1.0, box.score))) / scale) for box in boxes)
    return HeatMap(picture, phrase, method, scores, likelihood, scored)


def _by_patches(model: LocatingModel, picture: Image.Image, texts: np.ndarray) -> dict[int, _Found]:
    pixels = resized_and_cropped(picture, replace(model.preprocessing, mode="squash"))
    patches = model.engine.encode_patches(pixels[None]).patches[0]
    scale = model.scale / PATCH_TEMPERATURE
    maps = (locate.upsampled(scores, picture.size) for scores in texts @ patches.T)
    return {at: _Found("patches", scores, scale) for at, scores in enumerate(maps)}


def _window_scores(
    model: LocatingModel,
    picture: Image.Image,
    texts: np.ndarray,
    windows: list[locate.Box],
    scale: float,
    progress: Callable[[int, int], None] | None,
) -> list[np.ndarray]:
    vectors = []
    for batch in _window_batches(picture, windows, model.preprocessing):
        vectors.append(model.embed_pixels(batch))
        if progress:
            progress(sum(map(len, vectors)), len(windows))
    cosines = np.clip(texts @ np.concatenate(vectors).T, -1, 1)
    return [locate.window_scores_to_map(scores, windows, picture.size, scale=scale) for scores in cosines]


def _window_batches(picture: Image.Image, windows: Sequence[locate.Box], spec: Preprocess) -> Iterator[np.ndarray]:
    """The windows at the tower's size, in batches; the next batch is cropped while one is embedded."""
    crops = _windows(picture, windows, spec)
    batches = (np.stack(batch) for batch in iter(lambda: list(islice(crops, _BATCH)), []))
    with ThreadPoolExecutor(1) as pool:
        next_batch = pool.submit(next, batches, None)
        while (batch := next_batch.result()) is not None:
            next_batch = pool.submit(next, batches, None)
            yield batch


def _windows(picture: Image.Image, windows: Sequence[locate.Box], spec: Preprocess) -> Iterator[np.ndarray]:
    """The crops. The picture is resized once for each size of windows, and cropped at whole pixels."""
    size, filter = spec.size_px, Image.Resampling[spec.interpolation.upper()]
    for side, group in groupby(windows, key=lambda window: window.width):
        factor = size / side
        width, height = (max(size, round(length * factor)) for length in picture.size)
        pixels = np.asarray(picture.resize((width, height), filter, reducing_gap=3.0))
        for x, y, *_ in group:
            left, top = min(round(x * factor), width - size), min(round(y * factor), height - size)
            yield pixels[top : top + size, left : left + size]
