"""Where in a picture a model sees what a phrase says: by one pass over all places, or window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from PIL import Image

from diptych.errors import ArgumentError
from diptych.media.images import Preprocess, Source, open_image, squared
from diptych.scoring import locate

if TYPE_CHECKING:
    from jaxtyping import Float

Method = Literal["places", "windows"]
_BATCH = 32
# Windows that show the thing and more around it have nearly the cosine of those that show it alone: at the model's own
# temperature few of them count. Chosen on drawn scenes; `bench/scenes.py` judges it.
WIDER = 3


class Model(Protocol):
    """What is needed of a model; `diptych.Embedder` has it."""

    @property
    def engine(self) -> Any: ...
    @property
    def preprocessing(self) -> Preprocess: ...
    @property
    def scale(self) -> float: ...
    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray: ...
    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class HeatMap:
    """How well each part of a picture fits a phrase: `scores` are cosines over the whole picture, (rows, columns);
    `likely` is how likely each place is beside the best, 0 to 1 (or a little beyond), along the picture's edges; and
    `boxes`, in the picture's pixels, are around what stands out there, the best first."""

    image: Image.Image
    phrase: str
    method: Method
    scores: Float[np.ndarray, "rows columns"]
    likely: Float[np.ndarray, "rows columns"]
    boxes: tuple[locate.Box, ...]

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<diptych.HeatMap of {self.phrase!r} in {width} x {height} px: {len(self.boxes)} boxes>"

    def _repr_png_(self) -> bytes:
        """The overlay, where a notebook shows a result."""
        file = BytesIO()
        self.overlay().save(file, "PNG")
        return file.getvalue()

    def overlay(self, *, boxes: int = 1) -> Image.Image:
        """The picture with the map over it, and the best `boxes` drawn."""
        from diptych.display.plots import heat_overlay

        return heat_overlay(self.image, self.likely, self.boxes[:boxes])


def heat_maps(
    model: Model,
    image: Source,
    phrases: Sequence[str],
    *,
    method: Method = "places",
    scales: Sequence[float] | None = None,
    overlap: float | None = None,
    threshold: float | None = None,
    truncate: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[HeatMap]:
    """A HeatMap for each phrase, of the whole picture and not of its middle alone.

    "places" takes one pass of the tower over the picture, squashed to a square: each place's value in the last layer,
    projected into the shared space (Zhou et al. 2022, "Extract free dense labels from CLIP"). "windows" embeds squares
    of each of `scales` (shares of the short side), which overlap by `overlap`, and lays their cosines back; `progress`
    is told (done, total) of them. `threshold` is for the boxes, see `locate.boxes`; where they and `overlap` are None,
    locate's own are taken. Raises ImageError, and what `embed_texts` raises; ValueError for a method that is none.
    """
    if method not in get_args(Method):
        raise ArgumentError(f"method {method!r} is not known; choose one of {', '.join(get_args(Method))}.")
    overlap = locate.OVERLAP if overlap is None else overlap
    threshold = locate.THRESHOLD if threshold is None else threshold
    texts = model.embed_texts(phrases, truncate=truncate)
    picture = open_image(image, decode="fast")
    scale = model.scale / (1 if method == "places" else WIDER)
    laid = _by_places(model, picture, texts) if method == "places" else None
    if laid is None:
        laid = _by_windows(
            model, picture, texts, locate.windows(*picture.size, scales=scales, overlap=overlap), scale, progress
        )
    rows, columns = locate.map_shape(*picture.size)
    small = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2)) / 255
    return [
        _heat_map(picture, small, phrase, method, scores, scale, threshold)
        for phrase, scores in zip(phrases, laid, strict=True)
    ]


def _heat_map(
    picture: Image.Image,
    small: np.ndarray,
    phrase: str,
    method: Method,
    scores: np.ndarray,
    scale: float,
    threshold: float,
) -> HeatMap:
    """`small` is the picture at the map's size, as shares of full brightness."""
    likely = locate.along_edges(locate.likely(scores, scale), small)
    boxes = locate.boxes(likely, picture.size, threshold=threshold)
    best = float(scores.max())
    told = tuple(box._replace(score=best + float(np.log(min(1.0, box.score))) / scale) for box in boxes)
    return HeatMap(picture, phrase, method, scores, likely, told)


def _by_places(model: Model, picture: Image.Image, texts: np.ndarray) -> list[np.ndarray]:
    pixels = squared(picture, replace(model.preprocessing, mode="squash"))
    patches = model.engine.encode_patches(pixels[None]).patches[0]
    return [locate.laid_out(scores, picture.size) for scores in texts @ patches.T]


def _by_windows(
    model: Model,
    picture: Image.Image,
    texts: np.ndarray,
    windows: list[locate.Box],
    scale: float,
    progress: Callable[[int, int], None] | None,
) -> list[np.ndarray]:
    vectors = []
    for batch in _cut(picture, windows, model.preprocessing):
        vectors.append(model.embed_pixels(batch))
        if progress:
            progress(sum(map(len, vectors)), len(windows))
    cosines = np.clip(texts @ np.concatenate(vectors).T, -1, 1)
    return [locate.laid_back(scores, windows, picture.size, scale=scale) for scores in cosines]


def _cut(picture: Image.Image, windows: Sequence[locate.Box], spec: Preprocess) -> Iterator[np.ndarray]:
    """The windows at the tower's size, in batches, the next one cut while this one is embedded."""
    cut = _windows(picture, windows, spec)
    batches = (np.stack(batch) for batch in iter(lambda: list(islice(cut, _BATCH)), []))
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            yield batch


def _windows(picture: Image.Image, windows: Sequence[locate.Box], spec: Preprocess) -> Iterator[np.ndarray]:
    """For each size of windows the picture is resized once, and they are cut out of it at whole pixels."""
    size, filter = spec.size_px, Image.Resampling[spec.interpolation.upper()]
    for side, some in groupby(windows, key=lambda window: window.width):
        factor = size / side
        width, height = (max(size, round(length * factor)) for length in picture.size)
        pixels = np.asarray(picture.resize((width, height), filter, reducing_gap=3.0))
        for x, y, *_ in some:
            left, top = min(round(x * factor), width - size), min(round(y * factor), height - size)
            yield pixels[top : top + size, left : left + size]
