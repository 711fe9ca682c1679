"""The denoiser compiled by OpenVINO, and what it needs of a drawing's words and noise levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.checkpoint.weights.files import read_json
from diptych.checkpoint.weights.finite import FiniteArrays
from diptych.checkpoint.weights.shape_check import check
from diptych.engines.openvino import Precision, compiled
from diptych.generation.openvino.files import array_specs, read_safetensors
from diptych.generation.openvino.settings import DenoiserSizes, sizes_of, specs_of_denoiser
from diptych.generation.openvino.words import NumpyWords

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64

CHUNKS = (4, 2, 1)  # the numbers of pictures that graphs are compiled for; others are sums of these
_HIDDEN = np.float32(-10000)  # added to the scores of padding; if all is padding it changes nothing, as in diffusers
_LONGEST_PERIOD = 10000  # of the sines of a noise level (Vaswani et al. 2017, section 3.5)


class _Chunk(NamedTuple):
    """Pictures of one inference: their rows, the compiled graph's request, and the inputs that stay."""

    rows: slice
    request: Any
    words: dict[str, np.ndarray]


class OpenVINODenoiser:
    """Predicts with graphs that are compiled at their first use. One drawing at a time."""

    def __init__(
        self, sizes: DenoiserSizes, arrays: Mapping[str, np.ndarray], *, files: tuple[Path, ...] = (),
        precision: Precision = "float32",
    ):  # fmt: skip
        """With `files`, which determine sizes and arrays, compiled graphs are cached for later processes."""
        self.sizes, self._arrays, self._files = sizes, arrays, files
        self._precision: Precision = precision
        self._compiled = dict[tuple[int, int, int], tuple[Any, Any]]()

    def predictor(
        self, words: NumpyWords, without: NumpyWords | None, guidance: float, timesteps: Int64[np.ndarray, " steps"]
    ) -> Callable[[Float32[np.ndarray, "n 3 h w"], int], Float32[np.ndarray, "n 3 h w"]]:
        """A function from noisy pictures and the number of a step to the prediction there. With the words `without`, it
        is guided: without words + guidance * (with words - without words) (Ho and Salimans 2022)."""
        times, texts = self._times(timesteps), [words] if without is None else [without, words]
        chunks = [self._chunk(rows, texts) for rows in _chunks(len(words.states))]

        def predict(noisy: np.ndarray, number: int) -> np.ndarray:
            found = np.empty((len(texts), *noisy.shape), np.float32)
            for rows, request, inputs in chunks:
                part = {"noisy": noisy[rows], "time": times[number : number + 1], **inputs}
                out = request.infer(part, share_inputs=True, share_outputs=True)[0]
                found[:, rows] = out.reshape(len(texts), -1, *noisy.shape[1:])
            return found[0] if len(found) == 1 else found[0] + np.float32(guidance) * (found[1] - found[0])

        return predict

    def _chunk(self, rows: slice, texts: list[NumpyWords]) -> _Chunk:
        states, is_text = (np.concatenate([each[part][rows] for each in texts]) for part in (0, 1))
        request = self._request(rows.stop - rows.start, len(texts), states.shape[1])
        inputs = {"mask": np.where(is_text, np.float32(0), _HIDDEN)[:, None, None]}
        for name, heads, matrix in self._words_parts:
            part = (states @ matrix).reshape(*states.shape[:2], heads, -1)
            inputs[name] = np.ascontiguousarray(part.swapaxes(1, 2))
        return _Chunk(rows, request, inputs)

    @cached_property
    def _words_parts(self) -> list[tuple[str, int, np.ndarray]]:
        """For each key and value of the words: its name, heads, and the matrix that gives it."""
        from diptych.generation.openvino.graph import attention_sites

        return [
            (f"{site.name}.{part}", site.heads, self._float(f"{site.name}.to_{part}.weight").T)
            for site in attention_sites(self.sizes)
            for part in "kv"
        ]

    def _times(self, timesteps: np.ndarray) -> Float32[np.ndarray, "steps widths"]:
        """What each noise level adds in every residual layer, one after the other, with the bias there."""
        from diptych.generation.openvino.graph import residual_sites

        x = self._linear(waves(timesteps, self.sizes), "time_embedding.linear_1")
        x = _silu(self._linear(_silu(x), "time_embedding.linear_2"))
        parts = [
            self._linear(x, f"{site.name}.time_emb_proj") + self._float(f"{site.name}.conv1.bias")
            for site in residual_sites(self.sizes)
        ]
        return np.concatenate(parts, axis=1)

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._float(f"{name}.weight").T + self._float(f"{name}.bias")

    def _float(self, name: str) -> np.ndarray:
        return self._arrays[name].astype(np.float32, copy=False)

    def _request(self, count: int, halves: int, tokens: int) -> Any:
        shape = (count, halves, tokens)
        if shape not in self._compiled:
            settings = f"denoiser {self.sizes} {shape}"
            model = compiled(lambda: self._graph(*shape), self._precision, self._files, settings)
            self._compiled[shape] = model, model.create_infer_request()  # the model owns memory that the request reads
        return self._compiled[shape][1]

    def _graph(self, count: int, halves: int, tokens: int) -> Any:
        from diptych.generation.openvino.graph import denoiser_graph

        return denoiser_graph(self.sizes, self._arrays, count=count, halves=halves, tokens=tokens)


def read_denoiser(folder: Path, *, precision: Precision = "float32") -> OpenVINODenoiser:
    """The denoiser in the folder `unet` of a generator. Raises CheckpointError with what is wrong: a setting that is
    not supported, or a tensor that is missing, unexpected, of another shape, or not finite."""
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    sizes, arrays = sizes_of(read_json(config), str(config)), read_safetensors(weights)
    check(array_specs(arrays), specs_of_denoiser(sizes), str(weights))
    code = [Path(__file__).with_name(f"{name}.py") for name in ("graph", "settings")]
    return OpenVINODenoiser(
        sizes, FiniteArrays(arrays, str(weights)), files=(config, weights, *code), precision=precision
    )


def waves(timesteps: Int64[np.ndarray, " steps"], sizes: DenoiserSizes) -> Float32[np.ndarray, "steps width"]:
    """Sines and cosines of noise levels (Vaswani et al. 2017, section 3.5), as diffusers' Timesteps gives them."""
    half = sizes.channels[0] // 2
    exponents = (
        np.arange(half, dtype=np.float32) * np.float32(-np.log(_LONGEST_PERIOD)) / np.float32(half - sizes.freq_shift)
    )
    angles = timesteps.astype(np.float32)[:, None] * np.exp(exponents)
    parts = (np.cos(angles), np.sin(angles)) if sizes.flip_sin_to_cos else (np.sin(angles), np.cos(angles))
    return np.concatenate(parts, axis=1)


def _chunks(count: int) -> list[slice]:
    """All rows, in pieces of `CHUNKS`."""
    found, start = list[slice](), 0
    while start < count:
        size = next(each for each in CHUNKS if each <= count - start)
        found.append(slice(start, start + size))
        start += size
    return found


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))
