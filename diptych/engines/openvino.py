"""The OpenVINO engine: both towers on the CPU, without PyTorch."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from diptych.checkpoint.arrays import Arrays
from diptych.checkpoint.replacement import json_text
from diptych.checkpoint.weights.files import read_json
from diptych.checkpoint.weights.finite import FiniteArrays, check_vectors
from diptych.deprecation import RenamedAttribute
from diptych.engines.bfloat16 import SWITCH, allows_bfloat16
from diptych.engines.converted import PARTS, PATCHES_OUTPUT
from diptych.engines.numpy_towers.text import NumpyText
from diptych.errors import ArgumentError, CheckpointError, DiptychError
from diptych.media.preprocessing import Preprocess
from diptych.nets.config import CLIPConfig
from diptych.scoring.zero_shot import PatchEmbeddings, unit
from diptych.storage.user import compiled_cache

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

    from diptych.engines.graph import GraphOutput

Precision = Literal["auto", "float32", "bfloat16"]
NumpyTower = Callable[[np.ndarray], np.ndarray]
NUMPY_TOKENS = 256  # at most, of all texts of a call


class OpenVINOEngine:
    """Runs both towers: arrays in, unit vectors out. A tower is compiled at its first use, because a search by text
    needs no image tower; OpenVINO itself is imported then. Safe to call from several threads."""

    name = "openvino"
    numpy_calls: int  # how many of the next calls with few texts NumPy computes; see `Engine`
    kept_towers: set[str]  # whose compiled form is cached: "text", and "image" and "patches" where memory matters more

    def __init__(
        self,
        image: Callable[..., Any],
        text: Callable[[], Any],
        *,
        precision: Precision = "auto",
        files: Iterable[Path] = (),
        settings: str = "",
        source: str = "the model",
        few_texts: NumpyTower | None = None,
    ):
        """`image` and `text` build the towers' graphs, the first with the requested outputs ("image", PATCHES_OUTPUT).

        With `files`, which together with `settings` determine the towers, the compiled form of `kept_towers` is cached
        for later processes, and takes half of the memory. `precision` is that of layers that are not quantised; "auto"
        is bfloat16 on CPUs that have it, else float32 (see `engines.bfloat16`). `source` names the model in errors.
        `few_texts` computes the raw features of the first few texts. Raises ArgumentError for a precision that is
        unknown or not available."""
        if precision not in get_args(Precision):
            raise ArgumentError(
                f"precision={precision!r} is not known; choose one of {', '.join(get_args(Precision))}."
            )
        if precision == "bfloat16" and not has_bfloat16():
            reason = "this CPU has none" if allows_bfloat16() else f"{SWITCH} turns it off"
            raise ArgumentError(f"precision='bfloat16' was requested; {reason}. Leave it out.")
        self._asked_precision: Precision = precision if allows_bfloat16() else "float32"
        self.is_quantised = False
        self.source = source
        self._image, self._text = image, text
        cached_by, precision = tuple(files), self._asked_precision
        self._few_texts, self.numpy_calls = few_texts if precision != "bfloat16" else None, 0
        self.kept_towers = kept = {"text"}

        def tower(name: str, build: Callable[[], Any]) -> _Tower:
            return _Tower(lambda: compiled(build, precision, cached_by if name in kept else (), f"{name} {settings}"))

        self._towers = {  # without references to the engine: a cycle would delay freeing gigabytes
            "image": tower("image", lambda: image("image")),
            "patches": tower("patches", lambda: image("image", PATCHES_OUTPUT)),
            "text": tower("text", text),
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
        """From a configuration and weights with Diptych's names. A tower's weights are read at its first use;
        CheckpointError then names `source` and weights that do not fit or are not finite."""
        weights = FiniteArrays(arrays, source)

        def built(name: str, *arguments: Any) -> Any:
            from diptych.engines import graph

            with _fitting(source):
                made = getattr(graph, name)(config, weights, *arguments)
            if isinstance(arrays, Arrays):
                arrays.let_go()
            return made

        def few_texts(ids: np.ndarray) -> np.ndarray:
            with _fitting(source):
                return NumpyText(config.text, weights)(ids)

        return cls(
            lambda *outputs: built("image_graph", spec, outputs), lambda: built("text_graph"),
            precision=precision, files=files, settings=repr((config, spec)), source=source, few_texts=few_texts,
        )  # fmt: skip

    @classmethod
    def of_files(cls, folder: Path, *, precision: Precision = "auto") -> OpenVINOEngine:
        """From image.xml and text.xml in `folder`, each with a .bin."""
        from diptych.engines.graph import with_outputs

        def read(name: str) -> Any:
            try:
                return _core().read_model(folder / f"{name}.xml")
            except RuntimeError as error:
                raise CheckpointError(
                    f"{folder}/{name}.xml cannot be read ({error}); convert the model again."
                ) from error

        def image(*outputs: GraphOutput) -> Any:
            graph = read("image")
            try:
                return with_outputs(graph, outputs)
            except KeyError:
                if outputs == ("image",):  # from a version without patches
                    return graph
                raise CheckpointError(f"{folder}/image.xml has no patch embeddings; convert the model again.") from None

        files = [folder / name for name in PARTS if name != "facts.json"]
        engine = cls(image, lambda: read("text"), precision=precision, files=files, source=str(folder))
        engine.is_quantised = read_json(folder / "facts.json").get("precision") == "int8"
        return engine

    def graphs(self) -> dict[str, Any]:
        """New graphs of both towers, that of images with patches."""
        return {"image": self._image("image", PATCHES_OUTPUT), "text": self._text()}

    @property
    def precision(self) -> str:
        """The precision of layers that are not quantised: "bfloat16" or "float32"."""
        return _precision(self._asked_precision)

    def label(self) -> str:
        """Engine and device, as text, which needs no OpenVINO."""
        return f"OpenVINO on cpu ({'int8, ' if self.is_quantised else ''}{os.cpu_count()} cores)"

    def describe(self) -> str:
        """Engine, device and precision, as text."""
        precision = f"int8 and {self.precision}" if self.is_quantised else self.precision
        return f"OpenVINO on cpu ({precision}, {os.cpu_count()} cores)"

    def encode_images(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch dim"]:
        """Unit vectors of pictures of the tower's size; the graph normalises pixels."""
        return self._unit(self._towers["image"](np.ascontiguousarray(pixels))[0])

    def encode_patches(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> PatchEmbeddings:
        """The unit vectors of `encode_images` and those of the patches, row by row, in one pass. Raises CheckpointError
        for an old conversion without patches."""
        images, patches = self._towers["patches"](np.ascontiguousarray(pixels))
        return PatchEmbeddings(self._unit(images), self._unit(patches))

    encode_places = RenamedAttribute("encode_places", "encode_patches")

    def encode_texts(self, ids: Int[np.ndarray, "batch tokens"]) -> Float[np.ndarray, "batch dim"]:
        ids, tower = ids.astype(np.int64, copy=False), self._towers["text"]
        if self._few_texts and self.numpy_calls > 0 and ids.size <= NUMPY_TOKENS and not tower.is_open:
            self.numpy_calls -= 1
            return self._unit(self._few_texts(ids))
        return self._unit(tower(ids)[0])

    def _unit(self, features: np.ndarray) -> np.ndarray:
        return unit(check_vectors(features, self.source))


def has_bfloat16() -> bool:
    """Whether the CPU has bfloat16, and it is not turned off."""
    return allows_bfloat16() and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def write_graphs(graphs: Mapping[str, Any], folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the form that `of_files` reads: NAME.xml and NAME.bin of each tower and facts.json, in a new folder."""
    from diptych.engines.openvino_runtime import openvino

    folder.mkdir()
    for name, graph in graphs.items():
        openvino.save_model(graph, folder / f"{name}.xml", compress_to_fp16=False)
    (folder / "facts.json").write_text(json_text(dict(facts)), encoding="utf-8")


# What is multiplied by 8-bit weights OpenVINO rounds to 8 bits as well, in groups of numbers: unless told not to.
_HINTS = {
    "float32": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"},
    "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"},
}


def _core() -> Any:
    """OpenVINO's core, imported at its first use, because a search by text needs none."""
    from diptych.engines.openvino_runtime import core

    return core()


def _precision(asked: Precision) -> str:
    return "bfloat16" if asked != "float32" and has_bfloat16() else "float32"


@contextlib.contextmanager
def _fitting(source: str) -> Iterator[None]:
    """Weights that do not fit a tower raise CheckpointError."""
    try:
        yield
    except (KeyError, RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, DiptychError):
            raise
        raise CheckpointError(f"{source}: its weights do not fit its configuration ({error}).") from error


def _compile(graph: Any, precision: Precision) -> Any:
    return _core().compile_model(graph, "CPU", _settings(precision))


def _settings(precision: Precision) -> dict[str, str]:
    # OpenVINO keeps code for each shape of a batch, by default of 5000 layers: hundreds of megabytes in a server. Its
    # threads wait for each other, so one that is bound to the core of another program, such as a decoder, delays all.
    fixed = {"PERFORMANCE_HINT": "LATENCY", "CPU_RUNTIME_CACHE_CAPACITY": "500", "ENABLE_CPU_PINNING": "NO"}
    return {**fixed, **_HINTS[_precision(precision)]}


def compiled(build: Callable[[], Any], precision: Precision, files: tuple[Path, ...], settings: str) -> Any:
    """A graph as compiled by an earlier process, or compiled now and, with `files`, cached."""
    if not files:
        return _compile(build(), precision)
    from diptych.engines.openvino_runtime import openvino

    cpu, version = _core().get_property("CPU", "FULL_DEVICE_NAME"), openvino.get_version()
    # The code that builds the graphs is part of the key.
    code = [Path(__file__).with_name(f"{name}.py") for name in ("graph", "graph_nodes", "convolutional_graph")]
    name = compiled_cache.key((*files, *code), settings, version, cpu, str(_settings(precision)))
    if (model := _imported(name, precision)) is not None:
        return model
    model = _compile(build(), precision)
    compiled_cache.write(name, model.export_model().getbuffer())
    return _imported(name, precision) or model  # what is compiled holds its weights twice


def _imported(name: str, precision: Precision) -> Any:
    """A tower from the cache; None if it is not there."""
    from diptych.engines.openvino_runtime import openvino

    if (content := compiled_cache.read(name)) is None:
        return None
    with contextlib.suppress(RuntimeError):
        tensor = openvino.Tensor(content, shared_memory=True)
        model: Any = _core().import_model(tensor, "CPU", _settings(precision))
        model.content, model.mapped = tensor, content  # some weights are used where they are
        return model
    return None


class _Tower:
    """A model compiled at its first call; each thread has its own inference request."""

    def __init__(self, compiled: Callable[[], Any]):
        self._compile = compiled
        self._model: Any = None
        self._lock = threading.Lock()
        self._requests = threading.local()
        self._is_warm = False

    @property
    def is_open(self) -> bool:
        """Whether it is compiled."""
        return self._model is not None

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._lock:
            self._model = self._model or self._compile()
        if not hasattr(self._requests, "own_request"):
            self._requests.own_request = self._model.create_infer_request()
        found = self._requests.own_request.infer([batch], share_inputs=True).to_tuple()
        if not self._is_warm and hasattr(self._model, "mapped"):
            compiled_cache.let_go(self._model.mapped)  # most weights have been copied, in another order
        self._is_warm = True
        return found
