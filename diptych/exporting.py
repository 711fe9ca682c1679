"""Models for other programs and for speed: OpenVINO's form, with 8-bit arithmetic if wanted, and ONNX.

Every export is run beside the model that it was made of, and says how near it is, before it takes its place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from diptych.checkpoint.finding import find
from diptych.checkpoint.formats.tokenization import said_of
from diptych.checkpoint.replacement import check_apart, json_text, replace_folder
from diptych.checkpoint.settings import to_fields
from diptych.data.confinement import Confined
from diptych.data.loading.decoding import picture_of
from diptych.data.loading.stream import indexed
from diptych.data.samples import Source, Stream
from diptych.data.sources.opening import open_source
from diptych.embedder import Embedder, load
from diptych.errors import ArgumentError, CheckpointError, DataError, ImageError, Setting
from diptych.extras import require
from diptych.media.images import find_images, load_pixels, squared
from diptych.scenes.scene import Scenes
from diptych.scoring.zero_shot import unit

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, UInt8

Export = Literal["openvino", "onnx"]
Target = Literal["hf", "open_clip", "openai", "openvino", "onnx"]
CALIBRATION, CHECK = 300, 300  # pictures: NNCF's own number, and as many others to be judged by
TOP = 10


class Samples(NamedTuple):
    """Pictures of the tower's size, (n, size, size, 3) uint8, and sentences."""

    pixels: UInt8[np.ndarray, "pictures size size 3"]
    texts: list[str]


@dataclass(frozen=True)
class Tried:
    """How near a tower in 8 bits was to itself in float32, the mean and the worst cosine, when it was made in one of
    the ways that `diptych.engines.quantization` knows; the nearest in the mean was chosen."""

    tower: str
    way: str
    cosine: float
    worst: float
    chosen: bool = False


@dataclass(frozen=True)
class Parity:
    """How near an export is to its model in float32: the mean and the worst cosine of a tower's vectors, and the share
    of the `TOP` nearest pictures of a sentence that both find (None where there are too few pictures to tell). `tried`
    are the ways in which its 8 bits could have been made, where it has 8."""

    image_cosine: float
    image_worst: float
    text_cosine: float
    text_worst: float
    same_top: float | None
    pictures: int
    texts: int
    tried: tuple[Tried, ...] = ()


class Exported(NamedTuple):
    """The folder that was written, and how near it is to what it was made of."""

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

    "hf", "open_clip" and "openai" keep the weights, see `diptych.checkpoint.convert`, whose `dtype` that is; "openvino"
    and "onnx" are folders of towers that run elsewhere, see `export`, which takes `precision` and `calibrate` and says
    how near they are. Raises CheckpointError for models and places that do not do, ArgumentError for settings that
    contradict each other.
    """
    if to not in get_args(Target):
        raise ArgumentError(f"to={to!r} is not known; choose one of {', '.join(get_args(Target))}.", argument="to")
    if to in get_args(Export):
        if dtype is not None:
            raise ArgumentError([Setting("dtype", dtype), " is for forms that keep the weights."], argument="dtype")
        return export(source, target, to=to, precision=precision, calibrate=calibrate, activation=activation).path  # type: ignore[arg-type]
    if precision != "float32" or calibrate is not None:
        what = "precision" if precision != "float32" else "calibrate"
        words = [Setting(what), " is for ", Setting("to", "openvino"), "; the other forms keep the weights."]
        raise ArgumentError(words, argument=what)
    from diptych.checkpoint import convert as keep

    return keep(source, target, to=to, activation=activation, dtype=dtype)  # type: ignore[arg-type]


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

    With `precision="int8"` (OpenVINO alone) both towers compute in 8 bits, with the ranges that they take on
    `calibrate`: a folder of pictures, or pairs as `diptych.train` reads them, of the kind that the model will see; its
    captions, or else sentences of ours, calibrate the text tower. Each is made in all ways that there are, and the one
    that is nearest to the model is kept. Pictures that were not calibrated with judge the result where there are more
    than 300. `allow_outside` is as `data.sources.open_source` has it; `progress` is told what is being done. Raises
    CheckpointError for models and places that do not do, ValueError for settings that contradict each other.
    """
    _check(to, precision, calibrate)
    if to == "onnx":
        require("writing ONNX", "torch", "onnx", "onnxscript", "onnxruntime")
    elif precision == "int8":
        require("computing in 8 bits", "nncf")
    check_apart(find(source).place, Path(target))
    model = load(source, engine="openvino", precision="float32", activation=activation)
    progress("reading pictures")
    fitted, judged = samples(model, calibrate, allow_outside=allow_outside)
    done: list[Parity] = []
    eight = _in_eight_bits(model, fitted, judged, progress) if precision == "int8" else None

    def fill(folder: Path) -> None:
        encode = _write_onnx(model, folder, progress) if to == "onnx" else _write_openvino(model, folder, eight)
        _write_settings(model, folder)
        progress("comparing with the model")
        done.append(replace(parity(model, encode, judged), tried=eight.tried if eight else ()))

    return Exported(replace_folder(Path(target), fill), done[0])


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
            [Setting("precision", "int8"), " needs pictures of the kind that the model will see."],
            remedy=["Pass ", Setting("calibrate", "FOLDER"), "."],
            argument="calibrate",
        )


def samples(
    model: Embedder, place: str | os.PathLike[str] | None, *, allow_outside: bool = False
) -> tuple[Samples, Samples]:
    """Pictures and sentences to fit ranges by, and others (the same, where there are few) to judge by. Drawn scenes
    where `place` is None. Broken pictures are left out."""
    pixels, texts = [], []
    for picture, captions in islice(_pairs(model, place, allow_outside), CALIBRATION + CHECK):
        pixels.append(picture)
        texts += captions[:1]
    if not pixels:
        raise CheckpointError(f"{place} holds no picture that can be read; wanted some to calibrate with.")
    texts = texts or [caption for _, captions in _scenes(model) for caption in captions[:1]]
    half = len(pixels) // 2 if len(pixels) <= CALIBRATION else CALIBRATION
    if len(pixels) < 2 * TOP:
        half = 0
    every = Samples(np.stack(pixels), texts)
    if not half:
        return every, every
    return Samples(every.pixels[:half], texts[:half]), Samples(every.pixels[half:], texts[half:] or texts)


def _pairs(
    model: Embedder, place: str | os.PathLike[str] | None, allow_outside: bool
) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    """(pixels, captions) of what can be read: pairs where the place has such, else a folder's pictures alone."""
    if place is None:
        yield from _scenes(model)
        return
    try:
        source = open_source(Path(place), allow_outside=allow_outside)
    except DataError:
        if not Path(place).is_dir():
            raise
        yield from _pictures(model, Path(place), Confined([place], allow_outside=allow_outside))
        return
    yield from _readable(model, source)


def _pictures(model: Embedder, folder: Path, confined: Confined) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    paths, _ = confined.parted(find_images(folder))
    chosen = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]  # not all of one event
    for _, pixels in load_pixels(chosen, model.preprocessing, decode="fast"):
        if not isinstance(pixels, ImageError):
            yield pixels, []


def _readable(model: Embedder, source: Source | Stream) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    source = indexed(source)
    for index in np.random.default_rng(0).permutation(len(source)):
        try:
            sample = source[int(index)]
            yield squared(picture_of(sample, model.preprocessing.size_px), model.preprocessing), sample.captions
        except (ImageError, DataError, OSError):
            continue


def _scenes(model: Embedder) -> Iterator[tuple[np.ndarray, Sequence[str]]]:
    for scene in Scenes(64, size_px=max(64, model.preprocessing.size_px)):
        yield squared(scene.image, model.preprocessing), scene.captions


class Encoders(NamedTuple):
    """Both towers of an export: pixels or ids in, vectors of any length out."""

    image: Callable[[np.ndarray], np.ndarray]
    text: Callable[[np.ndarray], np.ndarray]


def parity(model: Embedder, encode: Encoders, judged: Samples) -> Parity:
    """The export's vectors beside the model's own."""
    pixels, texts = judged
    mine = model.embed_pixels(pixels), model.embed_texts(texts, truncate=True)
    theirs = _vectors(encode.image, _batches(pixels)), _vectors(encode.text, _ids(model, texts))
    image, text = ((a * b).sum(axis=1) for a, b in zip(mine, theirs, strict=True))
    same = None if len(pixels) < 2 * TOP else agreement(mine[1] @ mine[0].T, theirs[1] @ theirs[0].T)
    means = (float(image.mean()), float(image.min()), float(text.mean()), float(text.min()))
    return Parity(*means, same, len(pixels), len(texts))


def _vectors(encode: Callable[[np.ndarray], np.ndarray], batches: Sequence[np.ndarray]) -> np.ndarray:
    return unit(np.concatenate([encode(batch) for batch in batches]))


def _batches(pixels: np.ndarray) -> list[np.ndarray]:
    return [pixels[at : at + 8] for at in range(0, len(pixels), 8)]


def _ids(model: Embedder, texts: Sequence[str]) -> list[np.ndarray]:
    """Each alone, without padding."""
    return [model.tokenize([text], truncate=True).ids for text in texts]


def agreement(mine: Float[np.ndarray, "texts pictures"], theirs: Float[np.ndarray, "texts pictures"]) -> float:
    """The mean share of the `TOP` best pictures of each text that both rankings have."""
    best = [np.argpartition(-scores, TOP, axis=1)[:, :TOP] for scores in (mine, theirs)]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(*best, strict=True)]
    return float(np.mean(shared)) / TOP


class EightBits(NamedTuple):
    """The towers' graphs, and how near each was in each way."""

    graphs: dict[str, Any]
    tried: tuple[Tried, ...]


def _in_eight_bits(model: Embedder, fitted: Samples, judged: Samples, progress: Callable[[str], None]) -> EightBits:
    """Both towers in 8 bits, each in the way that keeps its vectors nearest to the model's own."""
    from diptych.engines.quantization import WAYS, quantised

    inputs = {"image": list(fitted.pixels[:, None]), "text": _ids(model, fitted.texts)}
    batches = {"image": _batches(judged.pixels), "text": _ids(model, judged.texts)}
    wanted = {"image": model.embed_pixels(judged.pixels), "text": model.embed_texts(judged.texts, truncate=True)}
    graphs, tried = {}, []
    for tower in inputs:
        made, ways = {}, []
        for way in WAYS:
            progress(f"fitting the {tower} tower's ranges, {way}")
            made[way] = quantised(_graphs(model)[tower], inputs[tower], way)
            cosines = (wanted[tower] * _vectors(_alone(made[way], tower), batches[tower])).sum(axis=1)
            ways.append(Tried(tower, way, float(cosines.mean()), float(cosines.min())))
        best = max(ways, key=lambda each: each.cosine)
        graphs[tower] = made[best.way]
        tried += [replace(each, chosen=each is best) for each in ways]
    return EightBits(graphs, tuple(tried))


def _graphs(model: Embedder) -> dict[str, Any]:
    from diptych.engines.openvino import OpenVINOEngine

    assert isinstance(model.engine, OpenVINOEngine)
    return model.engine.graphs()


def _alone(graph: Any, tower: str) -> Callable[[np.ndarray], np.ndarray]:
    """A graph as the function that its engine is going to run."""
    from diptych.engines.graph import narrowed
    from diptych.engines.openvino import OpenVINOEngine

    engine = OpenVINOEngine(lambda *outputs: narrowed(graph.clone(), outputs), lambda: graph, precision="float32")
    return engine.encode_images if tower == "image" else engine.encode_texts


def _write_openvino(model: Embedder, folder: Path, eight: EightBits | None) -> Encoders:
    from diptych.engines.converted import what_was_converted
    from diptych.engines.openvino import OpenVINOEngine, write_graphs

    facts = {
        "precision": "int8" if eight else "float32",
        "fingerprint": model.fingerprint,
        "logit_scale": float(np.log(model.scale)),
        "logit_bias": model.bias,
        **what_was_converted(model.config, model.preprocessing),
    }
    if eight:
        facts["ways"] = {each.tower: each.way for each in eight.tried if each.chosen}
    write_graphs(eight.graphs if eight else _graphs(model), folder / "openvino", facts)
    engine = OpenVINOEngine.of_files(folder / "openvino", precision="float32")
    return Encoders(engine.encode_images, engine.encode_texts)


def _write_onnx(model: Embedder, folder: Path, progress: Callable[[str], None]) -> Encoders:
    from diptych.engines.onnx import open_onnx, write_onnx

    progress("tracing")
    write_onnx(model.network, model.preprocessing, folder)
    return Encoders(*open_onnx(folder))


def _write_settings(model: Embedder, folder: Path) -> None:
    """What a model folder says of itself beside the weights."""
    texts = {
        "config.json": json_text(to_fields(model.config)),
        "preprocessor_config.json": json_text(model.preprocessing.to_hugging_face()),
        "tokenizer.json": model.tokenizer_json,
        "tokenizer_config.json": said_of(model.config.text, model.tokenizer_json, model.text_preprocessing),
    }
    for name, text in texts.items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
