"""OpenVINO as the engine: both towers on the processor, without PyTorch."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.weights.files import read_json
from diptych.checkpoint.weights.finite import FiniteArrays, check_vectors
from diptych.engines.arithmetic import SWITCH, allows_bfloat16
from diptych.engines.openvino_runtime import core, openvino
from diptych.errors import ArgumentError, CheckpointError
from diptych.media.images import Preprocess
from diptych.nets.config import CLIPConfig
from diptych.scoring.zero_shot import PatchEmbeddings, unit
from diptych.storage.user import compiled_cache

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

    from diptych.engines.graph import Output

Precision = Literal["auto", "float32", "bfloat16"]


class OpenVINOEngine:
    """Runs both towers: arrays in, unit vectors out. A tower is compiled when it is first used, for who searches by a
    sentence needs no image tower. Safe to call from several threads."""

    name = "openvino"

    def __init__(
        self,
        image: Callable[..., Any],
        text: Callable[[], Any],
        *,
        precision: Precision = "auto",
        files: Iterable[Path] = (),
        settings: str = "",
        source: str = "the model",
    ):
        """`image` and `text` make the towers' graphs, the first with those outputs that it is told: "image", "places".

        If `files` are named, these and `settings` are all that the text tower depends on, and it is kept as compiled
        for the next process. `precision` is that of what is not quantised; "auto" is bfloat16 where the processor has
        it, else float32 (see `arithmetic`). `source` names the model in errors. Raises ArgumentError for what is not
        here."""
        if precision not in get_args(Precision):
            raise ArgumentError(
                f"precision={precision!r} is not known; choose one of {', '.join(get_args(Precision))}."
            )
        if precision == "bfloat16" and not has_bfloat16():
            why = "this processor has none" if allows_bfloat16() else f"{SWITCH} switches it off"
            raise ArgumentError(f"precision='bfloat16' was asked for; {why}. Leave it out.")
        self.precision = "bfloat16" if precision != "float32" and has_bfloat16() else "float32"
        self.is_quantised = False
        self.source = source
        self._image, self._text = image, text
        kept = tuple(files)
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[self.precision]}
        self._towers = {  # which know nothing of the engine: a ring would keep gigabytes until it is collected
            "image": _Tower(lambda: _compiled(image("image"), hints)),
            "places": _Tower(lambda: _compiled(image("image", "places"), hints)),
            "text": _Tower(lambda: _compiled_before(text, hints, kept, settings)),
        }

    @classmethod
    def of_arrays(
        cls,
        config: CLIPConfig,
        arrays: Mapping[str, np.ndarray],
        spec: Preprocess,
        *,
        source: str,
        precision: Precision = "auto",
        files: Iterable[Path] = (),
    ) -> OpenVINOEngine:
        """From a configuration and its weights under our names; those of a tower are read when it is first used, and a
        CheckpointError, which names `source`, says then what does not fit or holds no number."""
        from diptych.engines.graph import image_graph, text_graph

        weights = FiniteArrays(arrays, source)

        def made(make: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return make(config, weights, *arguments)
            except (KeyError, RuntimeError, IndexError) as error:
                raise CheckpointError(f"{source}: its weights do not fit its configuration ({error}).") from error

        return cls(
            lambda *outputs: made(image_graph, spec, outputs), lambda: made(text_graph),
            precision=precision, files=files, settings=repr(config.text), source=source,
        )  # fmt: skip

    @classmethod
    def of_files(cls, folder: Path, *, precision: Precision = "auto") -> OpenVINOEngine:
        """From image.xml and text.xml in `folder`, with the .bin beside each."""
        from diptych.engines.graph import narrowed

        def read(name: str) -> Any:
            try:
                return core().read_model(folder / f"{name}.xml")
            except RuntimeError as error:
                raise CheckpointError(
                    f"{folder}/{name}.xml cannot be read ({error}); convert the model again."
                ) from error

        def image(*outputs: Output) -> Any:
            both = read("image")
            try:
                return narrowed(both, outputs)
            except KeyError:
                if outputs == ("image",):  # converted before places were
                    return both
                raise CheckpointError(f"{folder}/image.xml has no map of places; convert the model again.") from None

        files = [folder / "text.xml", folder / "text.bin"]
        engine = cls(image, lambda: read("text"), precision=precision, files=files, source=str(folder))
        engine.is_quantised = read_json(folder / "facts.json").get("precision") == "int8"
        return engine

    def graphs(self) -> dict[str, Any]:
        """Both towers' graphs, made anew, that of pictures with their places."""
        return {"image": self._image("image", "places"), "text": self._text()}

    def describe(self) -> str:
        """What runs where, for people."""
        arithmetic = f"int8 and {self.precision}" if self.is_quantised else self.precision
        return f"OpenVINO on cpu ({arithmetic}, {os.cpu_count()} cores)"

    def encode_images(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch dim"]:
        """Pictures of the tower's size; they are normalised in the graph."""
        return self._unit(self._towers["image"](np.ascontiguousarray(pixels))[0])

    def encode_patches(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> PatchEmbeddings:
        """`encode_images`, and in the same pass a unit vector for each place of the tower's map, row by row.
        CheckpointError where an old conversion came without."""
        image, places = self._towers["places"](np.ascontiguousarray(pixels))
        return PatchEmbeddings(self._unit(image), self._unit(places))

    def encode_texts(self, ids: Int[np.ndarray, "batch tokens"]) -> Float[np.ndarray, "batch dim"]:
        return self._unit(self._towers["text"](ids.astype(np.int64, copy=False))[0])

    def _unit(self, features: np.ndarray) -> np.ndarray:
        return unit(check_vectors(features, self.source))


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16, and that is not switched off."""
    return allows_bfloat16() and "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def write_graphs(graphs: Mapping[str, Any], folder: Path, facts: Mapping[str, Any]) -> None:
    """The form that `of_files` reads: NAME.xml and NAME.bin of each tower, and facts.json, in a new folder."""
    folder.mkdir()
    for name, graph in graphs.items():
        openvino.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
    (folder / "facts.json").write_text(json_text(dict(facts)), encoding="utf-8")


_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def _compiled(graph: Any, hints: dict[str, str]) -> Any:
    return core().compile_model(graph, "CPU", hints)


def _compiled_before(make: Callable[[], Any], hints: dict[str, str], files: tuple[Path, ...], settings: str) -> Any:
    """As an earlier process compiled it, if one did."""
    if not files:
        return _compiled(make(), hints)
    processor = core().get_property("CPU", "FULL_DEVICE_NAME")
    graphs = Path(__file__).with_name("graph.py")  # other graphs of the same weights are others
    name = compiled_cache.key((*files, graphs), settings, openvino.get_version(), processor, str(hints))
    if content := compiled_cache.read(name):
        with contextlib.suppress(RuntimeError):
            return core().import_model(content, "CPU", hints)
    model = _compiled(make(), hints)
    compiled_cache.write(name, model.export_model().getvalue())
    return model


class _Tower:
    """A model that is compiled at its first call; each thread has its own request to run it by."""

    def __init__(self, compiled: Callable[[], Any]):
        self._compile = compiled
        self._model: Any = None
        self._lock = threading.Lock()
        self._requests = threading.local()

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._lock:
            self._model = self._model or self._compile()
        if not hasattr(self._requests, "own"):
            self._requests.own = self._model.create_infer_request()
        return self._requests.own.infer([batch], share_inputs=True).to_tuple()
