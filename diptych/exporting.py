"""Exports models to OpenVINO, optionally in int8, and to ONNX.

Before an export is saved it is compared with its model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from diptych.checkpoint.finding import find
from diptych.checkpoint.formats.tokenization import tokenizer_settings
from diptych.checkpoint.replacement import check_apart, json_text, replace_folder
from diptych.checkpoint.settings import to_fields, write_search_files
from diptych.data.confinement import AllowedFolders
from diptych.data.loading.decoding import picture_of
from diptych.data.loading.stream import indexed
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import open_source
from diptych.embedder import Embedder, load
from diptych.errors import ArgumentError, CheckpointError, DataError, ImageError, Setting
from diptych.extras import require
from diptych.media.preprocessing import load_pixels, resized_and_cropped
from diptych.media.scanning.image_files import find_images
from diptych.scenes.scene import Scenes
from diptych.scoring.zero_shot import unit

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, UInt8

Export = Literal["openvino", "onnx"]
Target = Literal["hf", "open_clip", "openai", "openvino", "onnx"]
CALIBRATION, CHECK = 300, 300  # pictures: NNCF's own number, and as many others to be check_samples by
TOP = 10


class Samples(NamedTuple):
    """Pictures of the tower's input size, uint8, and texts."""

    pixels: UInt8[np.ndarray, "pictures size size 3"]
    texts: list[str]


@dataclass(frozen=True)
class QuantisationTrial:
    """The mean and the worst cosine of an int8 tower's vectors with those in float32, for one quantisation method (see
    `diptych.engines.quantization`). The method with the best mean is chosen."""

    tower: str
    way: str
    cosine: float
    worst: float
    chosen: bool = False


@dataclass(frozen=True)
class Parity:
    """Agreement of an export with its model in float32: the mean and the worst cosine of each tower's vectors, and the
    share of a text's `TOP` nearest pictures that both find (None with too few pictures). `tried` has the quantisation
    methods of an int8 export."""

    image_cosine: float
    image_worst: float
    text_cosine: float
    text_worst: float
    same_top: float | None
    pictures: int
    texts: int
    tried: tuple[QuantisationTrial, ...] = ()


class Exported(NamedTuple):
    """The folder of an export, and its agreement with the model."""

    path: Path
    parity: Parity


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: Target = "hf",
    precision: Literal["float32", "int8"] = "float32",
    calibrate: str | os.PathLike[str] | None = None,
    activation: str | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write the model `source` (all that `load` takes) to `target` in another form, and return its path.

    "hf", "open_clip" and "openai" contain the weights, see `diptych.checkpoint.convert`, which takes `dtype`;
    "openvino" and "onnx" are folders with both towers for other runtimes, see `export`, which takes `precision` and
    `calibrate` and returns the agreement with the model. Raises CheckpointError for an unsuitable model or target,
    ArgumentError for settings that contradict each other.
    """
    if to not in get_args(Target):
        raise ArgumentError(f"to={to!r} is not known; choose one of {', '.join(get_args(Target))}.", argument="to")
    if to in get_args(Export):
        if dtype is not None:
            raise ArgumentError([Setting("dtype", dtype), " is for the forms with weights."], argument="dtype")
        return export(source, target, to=to, precision=precision, calibrate=calibrate, activation=activation).path  # type: ignore[arg-type]
    if precision != "float32" or calibrate is not None:
        name = "precision" if precision != "float32" else "calibrate"
        message = [Setting(name), " is for ", Setting("to", "openvino"), "; the other forms contain the weights."]
        raise ArgumentError(message, argument=name)
    from diptych.checkpoint import convert as convert_weights

    return convert_weights(source, target, to=to, activation=activation, dtype=dtype)  # type: ignore[arg-type]


def export(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to: Export = "openvino",
    precision: Literal["float32", "int8"] = "float32",
    calibrate: str | os.PathLike[str] | None = None,
    activation: str | None = None,
    allow_outside: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Write the model `source` (all that `load` takes) to the folder `target` for OpenVINO or ONNX.

    With `precision="int8"` (only OpenVINO) both towers compute in int8, calibrated on `calibrate`: a folder of
    pictures, or pairs as for `diptych.train`, like those that the model will process; its captions, or else captions of
    drawn scenes, calibrate the text tower. Every quantisation method is tried, and the most accurate one is kept. With
    more than 300 pictures, those not used for calibration measure the agreement. `allow_outside` is that of
    `data.sources.open_source`; `progress` is called with the name of each stage. Raises CheckpointError for an
    unsuitable model or target, ValueError for settings that contradict each other.
    """
    _check(to, precision, calibrate)
    if to == "onnx":
        require("writing ONNX", "torch", "onnx", "onnxscript", "onnxruntime")
    elif precision == "int8":
        require("computing in 8 bits", "nncf")
    check_apart(find(source).path, Path(target))
    model = load(source, engine="openvino", precision="float32", activation=activation)
    progress("reading pictures")
    calibration_samples, check_samples = samples(model, calibrate, allow_outside=allow_outside)
    results: list[Parity] = []
    int8 = _quantise(model, calibration_samples, check_samples, progress) if precision == "int8" else None

    def fill(folder: Path) -> None:
        encode = _write_onnx(model, folder, progress) if to == "onnx" else _write_openvino(model, folder, int8)
        _write_settings(model, folder)
        progress("comparing with the model")
        results.append(replace(parity(model, encode, check_samples), tried=int8.tried if int8 else ()))

    return Exported(replace_folder(Path(target), fill), results[0])


def _check(to: str, precision: str, calibrate: object) -> None:
    if to not in ("openvino", "onnx"):
        raise ArgumentError([Setting("to", to), " is not known; choose openvino or onnx."], argument="to")
    if precision not in ("float32", "int8"):
        raise ArgumentError(
            [Setting("precision", precision), " is not known; choose float32 or int8."], argument="precision"
        )
    if precision == "int8" and to == "onnx":
        raise ArgumentError(
            [Setting("precision", "int8"), " is for OpenVINO; ONNX is written in float32."], argument="precision"
        )
    if precision == "int8" and calibrate is None:
        raise ArgumentError(
            [Setting("precision", "int8"), " needs pictures like those that the model will process."],
            remedy=["Pass ", Setting("calibrate", "FOLDER"), "."],
            argument="calibrate",
        )


def samples(
    model: Embedder, source: str | os.PathLike[str] | None, *, allow_outside: bool = False
) -> tuple[Samples, Samples]:
    """Samples to calibrate with, and others (the same if there are few) to compare by. Without `source` they are drawn
    scenes. Unreadable pictures are left out."""
    pixels, texts = [], []
    for picture, captions in islice(_pairs(model, source, allow_outside), CALIBRATION + CHECK):
        pixels.append(picture)
        texts += captions[:1]
    if not pixels:
        raise CheckpointError(f"{source} has no readable picture; wanted some to calibrate with.")
    texts = texts or [caption for _, captions in _scenes(model) for caption in captions[:1]]
    half = len(pixels) // 2 if len(pixels) <= CALIBRATION else CALIBRATION
    if len(pixels) < 2 * TOP:
        half = 0
    all_samples = Samples(np.stack(pixels), texts)
    if not half:
        return all_samples, all_samples
    return Samples(all_samples.pixels[:half], texts[:half]), Samples(all_samples.pixels[half:], texts[half:] or texts)


def _pairs(
    model: Embedder, source: str | os.PathLike[str] | None, allow_outside: bool
) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    """(pixels, captions) of readable samples: pairs if the source has captions, else a folder's pictures."""
    if source is None:
        yield from _scenes(model)
        return
    try:
        pairs = open_source(Path(source), allow_outside=allow_outside)
    except DataError:
        if not Path(source).is_dir():
            raise
        yield from _pictures(model, Path(source), AllowedFolders([source], allow_outside=allow_outside))
        return
    yield from _readable(model, pairs)


def _pictures(model: Embedder, folder: Path, allowed: AllowedFolders) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    paths, _ = allowed.split_outside(find_images(folder))
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]  # a random order, for variety
    for _, pixels in load_pixels(chosen, model.preprocessing, decode="fast"):
        if not isinstance(pixels, ImageError):
            yield pixels, []


def _readable(model: Embedder, source: Source | Stream) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    source = indexed(source)
    for index in np.random.default_rng(0).permutation(len(source)):
        try:
            sample = source[int(index)]
            picture = picture_of(sample, model.preprocessing.size_px)
            yield resized_and_cropped(picture, model.preprocessing), sample.captions
        except (ImageError, DataError, OSError):
            continue


def _scenes(model: Embedder) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    for scene in Scenes(64, size_px=max(64, model.preprocessing.size_px)):
        yield resized_and_cropped(scene.image, model.preprocessing), scene.captions


class Encoders(NamedTuple):
    """Both towers of an export: pixels or ids in, vectors out, not necessarily of unit length."""

    image: Callable[[np.ndarray], np.ndarray]
    text: Callable[[np.ndarray], np.ndarray]


def parity(model: Embedder, encode: Encoders, check_samples: Samples) -> Parity:
    """Compare the export's vectors with the model's."""
    pixels, texts = check_samples
    mine = model.embed_pixels(pixels), model.embed_texts(texts, truncate=True)
    theirs = _vectors(encode.image, _batches(pixels)), _vectors(encode.text, _ids(model, texts))
    image, text = ((a * b).sum(axis=1) for a, b in zip(mine, theirs, strict=True))
    same = None if len(pixels) < 2 * TOP else agreement(mine[1] @ mine[0].T, theirs[1] @ theirs[0].T)
    means = (float(image.mean()), float(image.min()), float(text.mean()), float(text.min()))
    return Parity(*means, same, len(pixels), len(texts))


def _vectors(encode: Callable[[np.ndarray], np.ndarray], batches: Sequence[np.ndarray]) -> np.ndarray:
    return unit(np.concatenate([encode(batch) for batch in batches]))


def _batches(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[start : start + 8] for start in range(0, len(pixels), 8)]


def _ids(model: Embedder, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of each text, without padding."""
    return [model.tokenize([text], truncate=True).ids for text in texts]


def agreement(mine: Float[np.ndarray, "texts pictures"], theirs: Float[np.ndarray, "texts pictures"]) -> float:
    """The mean share of the `TOP` best pictures of each text that both rankings have."""
    best = [np.argpartition(-scores, TOP, axis=1)[:, :TOP] for scores in (mine, theirs)]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(*best, strict=True)]
    return float(np.mean(shared)) / TOP


class QuantisedTowers(NamedTuple):
    """The towers' int8 graphs, and the agreement of each tower by quantisation method."""

    graphs: dict[str, Any]
    tried: tuple[QuantisationTrial, ...]


def _quantise(
    model: Embedder, calibration_samples: Samples, check_samples: Samples, progress: Callable[[str], None]
) -> QuantisedTowers:
    """Both towers in int8, each by the quantisation method with the best agreement."""
    from diptych.engines.quantization import QUANTISATION_METHODS, quantised

    inputs = {"image": list(calibration_samples.pixels[:, None]), "text": _ids(model, calibration_samples.texts)}
    batches = {"image": _batches(check_samples.pixels), "text": _ids(model, check_samples.texts)}
    expected = {
        "image": model.embed_pixels(check_samples.pixels),
        "text": model.embed_texts(check_samples.texts, truncate=True),
    }
    graphs, tried = {}, []
    for tower in inputs:
        candidates, trials = {}, []
        for method in QUANTISATION_METHODS:
            progress(f"calibrating the {tower} tower, {method}")
            candidates[method] = quantised(_graphs(model)[tower], inputs[tower], method)
            cosines = (expected[tower] * _vectors(_encoder(candidates[method], tower), batches[tower])).sum(axis=1)
            trials.append(QuantisationTrial(tower, method, float(cosines.mean()), float(cosines.min())))
        best = max(trials, key=lambda each: each.cosine)
        graphs[tower] = candidates[best.way]
        tried += [replace(each, chosen=each is best) for each in trials]
    return QuantisedTowers(graphs, tuple(tried))


def _graphs(model: Embedder) -> dict[str, Any]:
    from diptych.engines.openvino import OpenVINOEngine

    assert isinstance(model.engine, OpenVINOEngine)
    return model.engine.graphs()


def _encoder(graph: Any, tower: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function that runs a tower's graph."""
    from diptych.engines.graph import with_outputs
    from diptych.engines.openvino import OpenVINOEngine

    engine = OpenVINOEngine(lambda *outputs: with_outputs(graph.clone(), outputs), lambda: graph, precision="float32")
    return engine.encode_images if tower == "image" else engine.encode_texts


def _write_openvino(model: Embedder, folder: Path, int8: QuantisedTowers | None) -> Encoders:
    from diptych.engines.converted import conversion_facts
    from diptych.engines.openvino import OpenVINOEngine, write_graphs

    facts = {
        "precision": "int8" if int8 else "float32",
        "fingerprint": model.fingerprint,
        "logit_scale": float(np.log(model.scale)),
        "logit_bias": model.bias,
        **conversion_facts(model.config, model.preprocessing),
    }
    if int8:
        facts["ways"] = {each.tower: each.way for each in int8.tried if each.chosen}
    write_graphs(int8.graphs if int8 else _graphs(model), folder / "openvino", facts)
    engine = OpenVINOEngine.of_files(folder / "openvino", precision="float32")
    return Encoders(engine.encode_images, engine.encode_texts)


def _write_onnx(model: Embedder, folder: Path, progress: Callable[[str], None]) -> Encoders:
    from diptych.engines.onnx import open_onnx, write_onnx

    progress("tracing")
    write_onnx(model.network, model.preprocessing, folder)
    return Encoders(*open_onnx(folder))


def _write_settings(model: Embedder, folder: Path) -> None:
    """Write the files of a model folder other than the weights."""
    texts = {
        "config.json": json_text(to_fields(model.config)),
        "preprocessor_config.json": json_text(model.preprocessing.to_hugging_face()),
        "tokenizer.json": model.tokenizer_json,
        "tokenizer_config.json": tokenizer_settings(model.config.text, model.tokenizer_json, model.text_preprocessing),
    }
    for name, text in texts.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    write_search_files(folder, model.search_files)
