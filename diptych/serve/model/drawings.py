"""Draws pictures from words for requests: one drawing at a time, a few wait, and who is gone waits for nothing."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diptych.errors import DiptychError, TextError
from diptych.generation.generator import Generator, open_generator
from diptych.media.preprocessing import resized_and_cropped
from diptych.scoring.generated import clip_scores
from diptych.serve.model.served_model import ServedModel
from diptych.serve.web.problems import RequestProblem, busy

if TYPE_CHECKING:
    from jaxtyping import UInt8

MOST_HELD = 4  # drawings: one, and those that wait
FRAMES = 12  # of a drawing that are shown on the way
_FRAME_PX = 128  # of larger pictures on the way


class _CancelledDrawing(Exception):
    """Nobody waits for the pictures any more."""


@dataclass(frozen=True)
class WantedDrawing:
    """What is asked for, within the limits of `schemas.DrawingBody`."""

    prompt: str
    negative: str
    guidance: float
    steps: int
    seed: int
    count: int


@dataclass(eq=False)
class DrawingUnderWay:
    """A drawing. `events` gets (name, data) as it proceeds, or the error that ended it; "drawn" is the last name."""

    wanted: WantedDrawing
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[tuple[str, dict[str, Any]] | Exception] = field(default_factory=asyncio.Queue)
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    def tell(self, event: tuple[str, dict[str, Any]] | Exception) -> None:
        """From another thread."""
        with suppress(RuntimeError):  # the server has ended
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)

    def check(self) -> None:
        """Raises where nobody waits any more."""
        if self.is_cancelled.is_set():
            raise _CancelledDrawing


class Drawings:
    """A generator, opened when it is first asked. `close` ends what is drawn."""

    def __init__(self, model: ServedModel, source: str | None = None):
        """`source` is a folder that `diptych generate train` made, by default the bundled one. Raises CheckpointError
        for another folder."""
        self._model, self._source = model, source
        self._generator: Generator | None = None if source is None else open_generator(source)
        self._pool = ThreadPoolExecutor(1, "drawing")
        self._held, self._lock = set[DrawingUnderWay](), threading.Lock()

    @property
    def is_offered(self) -> bool:
        """Whether the library that draws is installed."""
        return find_spec("openvino") is not None

    @property
    def held(self) -> int:
        """Drawings that are under way or wait."""
        return len(self._held)

    def begin(self, wanted: WantedDrawing) -> DrawingUnderWay:
        """Have it drawn; the loop that runs gets its events. Raises RequestProblem: 429 if too many wait, 501."""
        if not self.is_offered:
            raise RequestProblem(501, "NotOfferedError", "this server cannot draw.", remedy="Install openvino.")
        drawing = DrawingUnderWay(wanted, asyncio.get_running_loop())
        with self._lock:
            if len(self._held) >= MOST_HELD:
                raise busy(f"{MOST_HELD} drawings are under way or wait.", retry_s=3)
            self._held.add(drawing)
            self._pool.submit(self._run, drawing)
        return drawing

    def close(self) -> None:
        """End all drawings."""
        with self._lock:
            for drawing in self._held:
                drawing.is_cancelled.set()
        self._pool.shutdown(cancel_futures=False)

    def _run(self, drawing: DrawingUnderWay) -> None:
        try:
            drawing.check()
            self._draw(drawing)
        except _CancelledDrawing:
            pass
        except Exception as error:  # the route answers it
            if not isinstance(error, DiptychError | RequestProblem):
                logging.getLogger("diptych.serve").exception("a drawing failed")
            drawing.tell(error)
        finally:
            with self._lock:
                self._held.discard(drawing)

    def _draw(self, drawing: DrawingUnderWay) -> None:
        wanted = drawing.wanted
        if self._generator is None:
            self._generator = open_generator(self._source)
        shown = set(np.linspace(1, wanted.steps - 1, FRAMES).round().astype(int).tolist())

        def watch(done: int, pictures: UInt8[np.ndarray, "n size size 3"]) -> None:
            drawing.check()
            if done in shown and done < wanted.steps:
                told = {"done": done, "total": wanted.steps, "pictures": [_png(each, _FRAME_PX) for each in pictures]}
                drawing.tell(("step", told))

        images = self._generator.draw(
            wanted.prompt, count=wanted.count, guidance=wanted.guidance, steps=wanted.steps, seed=wanted.seed,
            negative=wanted.negative, watch=watch,
        ).images()  # fmt: skip
        scores = self._scores(images, wanted.prompt)
        drawing.check()
        pictures = [
            {"seed": wanted.seed + number, "picture": _png(np.asarray(image)), "clip_score": score}
            for number, (image, score) in enumerate(zip(images, scores, strict=True))
        ]
        drawing.tell(("drawn", {"prompt": wanted.prompt, "size_px": images[0].width, "pictures": pictures}))

    def _scores(self, images: list[Image.Image], prompt: str) -> list[float | None]:
        """CLIPScore, times 100, by the model that is served; None where it cannot read the words."""
        pixels = np.stack([resized_and_cropped(each, self._model.preprocessing) for each in images])
        try:
            words = self._model.embed_texts(prompt, truncate=True)
        except TextError:
            return [None] * len(images)
        scores = clip_scores(self._model.embed_pixels(pixels), np.repeat(words, len(images), axis=0))
        return [round(100 * float(score), 1) for score in scores]


def _png(pixels: UInt8[np.ndarray, "h w 3"], most_px: int | None = None) -> str:
    """A PNG in base64."""
    image = Image.fromarray(pixels)
    if most_px is not None and image.width > most_px:
        image = image.resize((most_px, most_px), Image.Resampling.BOX)
    image.save(file := io.BytesIO(), "PNG")
    return base64.b64encode(file.getvalue()).decode()
