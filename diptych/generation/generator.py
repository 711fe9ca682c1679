"""The generator that users hold: words in, pictures out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from diptych.errors import ArgumentError, TextError
from diptych.generation.openvino.pipeline import MOST_COUNT, Drawn, read_pipeline
from diptych.generation.steps import Sampler

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from PIL import Image

BUNDLED = Path(__file__).parent / "bundled"
_AT_ONCE = 32  # pictures that are drawn together


class Scorer(Protocol):
    """What says how well pictures fit texts: an `Embedder` of any CLIP."""

    def similarity(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Float[np.ndarray, "images texts"]: ...


class Generator:
    """Draws pictures of `size_px` by `size_px` from words, on the CPU. Made by `open_generator`."""

    def __init__(self, source: str | os.PathLike[str]):
        self.source = os.fspath(source)
        self._pipeline = read_pipeline(self.source)
        self.size_px = self._pipeline.size_px

    def __repr__(self) -> str:
        return f"Generator({self.source!r}, {self.size_px} px)"

    def draw(
        self,
        prompts: str | Sequence[str],
        *,
        count: int = 1,
        guidance: float = 4.0,
        steps: int = 30,
        seed: int = 0,
        negative: str = "",
        sampler: Sampler = "dpm",
        truncate: bool = False,
        shown: int = 0,
        on_step: Callable[[int, int], None] = lambda done, total: None,
        watch: Callable[[int, UInt8[np.ndarray, "n size size 3"]], None] | None = None,
    ) -> Drawn:
        """`count` pictures of each prompt, those of one prompt after each other.

        Picture i begins with the noise of seed + i: the same arguments give the same pictures, and more of them begin
        with the same ones. `guidance` above 1 exaggerates what the words change, by that factor (Ho and Salimans
        2022); `negative` are words to keep away from. `shown` steps are kept in the result's `strip`. `watch` is
        called after each step with its number, from 1, and what those pictures are by then that are drawn together (at
        most 32); what it raises ends the drawing. Raises
        ArgumentError for numbers outside their range, TextError for an empty prompt, and TokenizerError for one that is
        too long for the text tower, unless `truncate` cuts it.
        """
        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        _check_prompts(asked)
        repeated = [prompt for prompt in asked for _ in range(count)]
        if not 1 <= len(repeated) <= MOST_COUNT:
            raise ArgumentError(f"{len(repeated):,} pictures; they are from 1 to {MOST_COUNT:,}.", argument="count")
        parts, total = list[Drawn](), -(-len(repeated) // _AT_ONCE) * steps

        def tell(done: int, _: int) -> None:
            on_step(len(parts) * steps + done, total)

        for first in range(0, len(repeated), _AT_ONCE):
            drawn = self._pipeline.draw(
                repeated[first : first + _AT_ONCE], guidance=guidance, steps=steps, seed=seed + first,
                negative=negative, sampler=sampler, truncate=truncate, shown=shown, on_step=tell, watch=watch,
            )  # fmt: skip
            parts.append(drawn)
        return Drawn(
            np.concatenate([part.pictures for part in parts]), np.concatenate([part.strip for part in parts], axis=1)
        )

    def __reduce__(self) -> tuple[object, ...]:
        return open_generator, (self.source,)


def open_generator(folder: str | os.PathLike[str] | None = None) -> Generator:
    """Open a generator that `diptych generate train` made; by default the bundled one, which draws plain scenes.

    Raises CheckpointError for a folder that is no generator, or a damaged one, with what is wrong.
    """
    return Generator(BUNDLED if folder is None else folder)


class Best(NamedTuple):
    """Pictures that were chosen: their numbers among all, the best first, and their scores."""

    drawn: Drawn
    numbers: list[int]
    scores: list[float]


def best_of(drawn: Drawn, prompt: str, kept: int, scorer: Scorer) -> Best:
    """The `kept` pictures whose cosine with a prompt, by a CLIP, is highest."""
    cosines = scorer.similarity(drawn.images(), [prompt])[:, 0]
    order = np.argsort(-cosines, kind="stable")[:kept]
    chosen = Drawn(drawn.pictures[order], drawn.strip[:, order])
    return Best(chosen, order.tolist(), cosines[order].tolist())


def _check_prompts(prompts: Sequence[str]) -> None:
    if not prompts:
        raise ArgumentError("no prompt; name at least one.", argument="prompts")
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip():
            raise TextError(f"the prompt is {prompt!r:.40}; wanted words that say what to draw.")
