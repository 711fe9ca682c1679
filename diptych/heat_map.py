"""Where in a picture a model sees what a phrase says: by one pass over all places, or window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from PIL import Image

from diptych import locate
from diptych.images import Preprocess, Source, open_image, squared

if TYPE_CHECKING:
    from jaxtyping import Float

Method = Literal["places", "windows"]
_BATCH = 32


class Model(Protocol):
    """What is needed of a model; `diptych.Embedder` has it."""

    @property
    def engine(self) -> Any: ...
    @property
    def preprocessing(self) -> Preprocess: ...
    def embed_texts(self, texts: Sequence[str], *, truncate: bool = False) -> np.ndarray: ...
    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class HeatMap:
    """How well each part of a picture fits a phrase: `scores` are cosines over the whole picture, (rows, columns), and
    `boxes`, in the picture's pixels, are around what stands out, the best first."""

    image: Image.Image
    phrase: str
    method: Method
    scores: Float[np.ndarray, "rows columns"]
    boxes: tuple[locate.Box, ...]

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<diptych.HeatMap of {self.phrase!r} in {width} x {height} px: {len(self.boxes)} boxes>"

    def overlay(self, *, boxes: int = 1) -> Image.Image:
        """The picture with the map over it, and the best `boxes` drawn."""
        from diptych.plots import heat_overlay

        return heat_overlay(self.image, self.scores, self.boxes[:boxes])


def heat_maps(
    model: Model,
    image: Source,
    phrases: Sequence[str],
    *,
    method: Method = "places",
    scales: Sequence[float] = locate.SCALES,
    overlap: float = locate.OVERLAP,
    threshold: float = locate.THRESHOLD,
    truncate: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[HeatMap]:
    """A HeatMap for each phrase, of the whole picture and not of its middle alone.

    "places" takes one pass of the tower over the picture, squashed to a square: each place's value in the last layer,
    projected into the shared space (Zhou et al. 2022, "Extract free dense labels from CLIP"). "windows" embeds squares
    of each of `scales` (shares of the short side), which overlap by `overlap`, and lays their cosines back; `progress`
    is told (done, total) of them. `threshold` is for the boxes, see `locate.boxes`. Raises ImageError, and what
    `embed_texts` raises; ValueError for a method that is none.
    """
    if method not in get_args(Method):
        raise ValueError(f"method {method!r} is not known; choose one of {', '.join(get_args(Method))}.")
    texts = model.embed_texts(phrases, truncate=truncate)
    picture = open_image(image)
    laid = _by_places(model, picture, texts) if method == "places" else None
    if laid is None:
        laid = _by_windows(
            model, picture, texts, locate.windows(*picture.size, scales=scales, overlap=overlap), progress
        )
    rows, columns = locate.map_shape(*picture.size)
    small = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2)) / 255
    edged = [locate.along_edges(scores, small) for scores in laid]
    return [
        HeatMap(picture, phrase, method, scores, locate.boxes(scores, picture.size, threshold=threshold))
        for phrase, scores in zip(phrases, edged, strict=True)
    ]


def _by_places(model: Model, picture: Image.Image, texts: np.ndarray) -> list[np.ndarray]:
    pixels = squared(picture, replace(model.preprocessing, mode="squash"))
    places = model.engine.encode_places(pixels[None])[0]
    return [locate.laid_out(scores, picture.size) for scores in texts @ places.T]


def _by_windows(
    model: Model,
    picture: Image.Image,
    texts: np.ndarray,
    windows: list[locate.Box],
    progress: Callable[[int, int], None] | None,
) -> list[np.ndarray]:
    vectors = []
    for batch in _cut(picture, windows, model.preprocessing):
        vectors.append(model.embed_pixels(batch))
        if progress:
            progress(sum(map(len, vectors)), len(windows))
    return [locate.laid_back(scores, windows, picture.size) for scores in texts @ np.concatenate(vectors).T]


def _cut(picture: Image.Image, windows: Sequence[locate.Box], spec: Preprocess) -> Iterator[np.ndarray]:
    """The windows at the tower's size, in batches, the next one cut while this one is embedded. Of a picture with more
    pixels than the smallest window needs, a reduced one is cut."""
    least = min(window.width for window in windows)
    factor = max(1, int(least // spec.size_px))
    reduced = picture.reduce(factor) if factor > 1 else picture
    across, down = reduced.width / picture.width, reduced.height / picture.height
    filter = Image.Resampling[spec.interpolation.upper()]

    def cut(start: int) -> np.ndarray:
        some = windows[start : start + _BATCH]
        edges = [(x * across, y * down, (x + width) * across, (y + height) * down) for x, y, width, height, _ in some]
        boxes = [(left, top, min(right, reduced.width), min(low, reduced.height)) for left, top, right, low in edges]
        size = (spec.size_px, spec.size_px)
        return np.stack([np.asarray(reduced.resize(size, filter, box=box)) for box in boxes])

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(cut, 0)
        for start in range(_BATCH, len(windows) + _BATCH, _BATCH):
            batch = coming.result()
            if start < len(windows):
                coming = pool.submit(cut, start)
            yield batch
