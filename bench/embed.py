"""How fast are pictures and texts embedded on a CPU, and how much accuracy does int8 lose?

    python bench/embed.py [--data PAIRS [--calibrate PAIRS]] [--rounds N] [--quick] [--json]

All rows run one ViT-B/32 with the same random weights, in interleaved rounds, so that a slow moment of the machine
affects all. Pictures are decoded and texts tokenised beforehand. The peers are open_clip, transformers and ONNX
Runtime, if installed; without open_clip the first row is Diptych's PyTorch engine. `--data` (pairs with captions) adds
the recall that int8 loses. `--quick` runs a vit-tiny, which no peer has, without peers.
"""

import torchvision_operators  # noqa: F401 (before whatever imports torchvision, which has no CPU build)

# isort: split
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import Row, arguments, report

import diptych
from diptych.checkpoint import save_folder
from diptych.data.sources.opening import open_source
from diptych.engines.openvino import OpenVINOEngine, write_graphs
from diptych.engines.openvino_runtime import core, openvino
from diptych.engines.quantization import quantised
from diptych.exporting import export
from diptych.media.preprocessing import Preprocess, normalise
from diptych.nets.clip import CLIP
from diptych.nets.presets import preset
from diptych.scoring.metrics import retrieval
from diptych.text.tokenizer import Tokenizer
from diptych.training.optim.precision import has_bfloat16
from diptych.training.validation import Validation

QUESTION = "Vectors a second on this CPU"
ROUNDS = 5
Way = Callable[[np.ndarray], Any]


class Ways:
    """The towers of all by name, for uint8 pictures or ids. Ratios are relative to the first."""

    def __init__(self) -> None:
        self.image: dict[str, Way] = {}
        self.text: dict[str, Way] = {}

    def add(self, who: str, image: Way, text: Way) -> None:
        """Add a row."""
        self.image[who], self.text[who] = image, text


def random_model(folder: Path, name: str, calibration: int) -> tuple[diptych.Embedder, Path, Path]:
    """A model, its folder, and that of its int8 form, calibrated with noise, which does not affect the speed."""
    torch.manual_seed(0)
    captions = ["a dog runs over the snow", "two children in a red boat on the water"]
    config, spec = preset(name), Preprocess(preset(name).image.image_size)
    tokenizer = Tokenizer.train(captions, vocab_size=config.text.vocab_size, context=config.text.context)
    files: Any = {"tokenizer_json": tokenizer.to_json(), "preprocess": spec.to_hugging_face()}
    path = save_folder(folder / "model", CLIP(config), **files)
    model = diptych.load(path, engine="openvino", precision="float32")
    assert isinstance(model.engine, OpenVINOEngine)
    pixels, ids = inputs(config.image.image_size, config.text, calibration)
    batches = {"image": list(pixels[:, None]), "text": list(ids[:, None])}
    graphs = {name: quantised(graph, batches[name], "plain") for name, graph in model.engine.graphs().items()}
    write_graphs(graphs, folder / "int8", {})
    return model, path, folder / "int8"


def inputs(size: int, text: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise as pictures, and captions of 14 tokens, the median of Flickr8k."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, text.vocab_size - 2, size=(count, 14))
    ids[:, 0], ids[:, -1] = text.vocab_size - 2, text.vocab_size - 1
    return rng.integers(256, size=(count, size, size, 3), dtype=np.uint8), ids


def ways_of(name: str, model: diptych.Embedder, folder: Path, int8: Path, quick: bool) -> Ways:
    """All that are installed. Each peer gets the input that its users pass: normalised floats, and padded ids if it
    pads."""
    ways, spec, context = Ways(), model.preprocessing, model.config.text.context
    bfloat16 = has_bfloat16(torch.device("cpu"))
    network = model.network.eval()

    def floats(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(normalise(pixels, spec))

    def padded(ids: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.pad(ids, ((0, 0), (0, context - ids.shape[1]))))

    def tensors(ids: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(ids)

    for who, theirs, kind in () if quick else open_clip(name, bfloat16):
        image = lambda pixels, m=theirs, k=kind: m.encode_image(floats(pixels).to(k))  # noqa: E731
        ways.add(who, image, lambda ids, m=theirs: m.encode_text(padded(ids)))
    if not quick and (hugging := transformers(folder)):
        image = lambda pixels: hugging.get_image_features(pixel_values=floats(pixels))  # noqa: E731
        ways.add("transformers float32", image, lambda ids: hugging.get_text_features(input_ids=tensors(ids)))
    image = lambda pixels: network.encode_image(floats(pixels))  # noqa: E731
    ways.add("diptych, PyTorch float32", image, lambda ids: network.encode_text(tensors(ids)))
    if not quick and (sessions := onnx_runtime(folder, int8.parent)):
        ways.add("ONNX Runtime float32 (our export)", *sessions)
    engines = {"float32": model.engine, "int8": OpenVINOEngine.of_files(int8)}
    if bfloat16:
        engines["bfloat16"] = diptych.load(folder, engine="openvino", precision="bfloat16").engine
    for precision in ("float32", "bfloat16", "int8"):
        if precision in engines:
            engine: Any = engines[precision]
            ways.add(f"diptych, OpenVINO {precision}", engine.encode_images, engine.encode_texts)
    return ways


def open_clip(name: str, bfloat16: bool) -> list[tuple[str, Any, torch.dtype]]:
    """open_clip's model in both precisions, with the dtype of its pixels (in bfloat16 its gains and tables stay
    float32); empty if it is not installed. It has other random weights."""
    try:
        # isort: split
        import open_clip as theirs
        import torchvision_operators  # noqa: F401 (before open_clip, which imports torchvision)
    except ImportError:
        return []
    precisions = {"float32": "fp32", "bfloat16": "bf16"} if bfloat16 else {"float32": "fp32"}
    return [
        (
            f"open_clip {who}",
            theirs.create_model(name.replace("/", "-"), pretrained=None, precision=precision).eval(),
            theirs.get_input_dtype(precision) or torch.float32,
        )
        for who, precision in precisions.items()
    ]


def transformers(folder: Path) -> Any:
    """The same model, opened by transformers; None if it is not installed."""
    with contextlib.suppress(ImportError), contextlib.redirect_stdout(sys.stderr):
        from transformers import CLIPModel

        return CLIPModel.from_pretrained(folder).eval()
    return None


def onnx_runtime(folder: Path, work: Path) -> tuple[Way, Way] | None:
    """The exported ONNX files, run by ONNX Runtime; None if it is not installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return None
    from diptych.engines.onnx import open_onnx

    with contextlib.redirect_stdout(sys.stderr):
        export(folder, work / "onnx", to="onnx")
    return open_onnx(work / "onnx")


def measure(ways: dict[str, Way], batch: np.ndarray, rounds: int, seconds: float) -> dict[str, float]:
    """The median seconds per batch of each."""
    spent: dict[str, list[float]] = {who: [] for who in ways}
    with torch.inference_mode():
        for way in ways.values():
            way(batch)
        for _ in range(rounds):
            for who, way in ways.items():
                started_s, count = time.perf_counter(), 0
                while count < 2 or time.perf_counter() - started_s < seconds:
                    way(batch)
                    count += 1
                spent[who].append((time.perf_counter() - started_s) / count)
    return {who: statistics.median(times) for who, times in spent.items()}


def gemm_rate(kind: str, seconds: float) -> float:
    """Multiply-adds a second (in 1e9) of 1,600 x 768 by 768 x 3,072, the largest product of the image tower."""
    ops = openvino.opset15
    x = ops.parameter([1600, 768], np.float32)
    weight = np.random.default_rng(0).normal(size=(3072, 768)).astype(np.float32)
    left, right = x, ops.constant(weight)
    if kind == "int8":
        low, high = np.float32(-4), np.float32(4)
        left = ops.fake_quantize(x, low, high, low, high, 256)
        right = ops.fake_quantize(right, -high, high, -high, high, 255)
    make: Any = openvino.Model
    hint = {"INFERENCE_PRECISION_HINT": {"bfloat16": "bf16"}.get(kind, "f32")}
    run = core().compile_model(make([ops.matmul(left, right, False, True)], [x], kind), "CPU", hint)
    request, batch = run.create_infer_request(), np.random.default_rng(1).normal(size=(1600, 768)).astype(np.float32)
    once = measure({kind: lambda each: request.infer([each], share_inputs=True)}, batch, 3, seconds)[kind]
    return batch.size * 3072 / once / 1e9


def speeds(ways: Ways, model: diptych.Embedder, count: int, rounds: int, seconds: float) -> list[Row]:
    """Pictures and texts per second in batches of `count`, and the milliseconds of one text."""
    pixels, ids = inputs(model.preprocessing.size_px, model.config.text, count)
    rows = []
    for unit, found, batch in (("pictures/s", ways.image, pixels), ("texts/s", ways.text, ids)):
        rates = {who: count / s for who, s in measure(found, batch, rounds, seconds).items()}
        first = next(iter(rates.values()))
        rows += [Row(who, rate, unit, rate / first) for who, rate in rates.items()]
    alone = measure(ways.text, ids[:1], rounds, seconds / 4)
    first = next(iter(alone.values()))
    rows += [Row(who, 1000 * each, "ms for one text", each / first) for who, each in alone.items()]
    return rows


def shares(rows: list[Row], model: diptych.Embedder, seconds: float) -> list[Row]:
    """The share of the machine's rate of matrix products that the image tower reaches."""
    size = model.preprocessing.size_px
    ops = _multiply_adds(model, size)
    found = []
    for row in rows:
        kind = row.who.removeprefix("diptych, OpenVINO ")
        if row.unit == "pictures/s" and kind != row.who:
            share = 100 * row.value * ops / gemm_rate(kind, seconds)
            found.append(Row(f"{row.who}: of its {kind} products", share, "%"))
    return found


def _multiply_adds(model: diptych.Embedder, size: int) -> float:
    """Multiply-adds of one picture in 1e9, counted by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network.encode_image(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2e9


def cost(data: str, calibrate: str, work: Path) -> list[Row]:
    """Recall of the bundled model in int8, calibrated on other pairs, and cosines with float32."""
    whole = diptych.load(engine="openvino", precision="float32")
    pairs = Validation.read(open_source(data), whole.preprocessing)
    export(whole.source, work / "bundled-int8", precision="int8", calibrate=calibrate)
    fast = diptych.load(work / "bundled-int8")
    vectors = [(m.embed_pixels(pairs.pixels), m.embed_texts(pairs.captions, truncate=True)) for m in (whole, fast)]
    rows = []
    for who, (images, texts) in zip(("float32", "int8"), vectors, strict=True):
        found = retrieval(images, texts, pairs.image_index)
        rows += [
            Row(f"bundled model, {who}", found.text_to_image.at_1, "text to picture R@1"),
            Row(f"bundled model, {who}", found.image_to_text.at_1, "picture to text R@1"),
        ]
    for tower, mine, theirs in zip(("pictures", "texts"), *vectors, strict=True):
        cosines = (mine * theirs).sum(axis=1)
        rows += [
            Row(f"bundled model, int8, {tower}", float(cosines.mean()), "mean cosine"),
            Row(f"bundled model, int8, {tower}", float(cosines.min()), "worst cosine"),
        ]
    return rows


def main() -> None:
    """Measure and report."""
    parser = arguments(QUESTION)
    parser.add_argument("--data", help="pairs with captions, for the recall that int8 loses")
    parser.add_argument("--calibrate", help="pairs to calibrate int8 with; by default those of --data")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    name, batch, seconds = ("vit-tiny", 8, 0.02) if options.quick else ("ViT-B/32", 32, 3.0)
    with tempfile.TemporaryDirectory() as work:
        model, folder, int8 = random_model(Path(work), name, 4 if options.quick else 32)
        ways = ways_of(name, model, folder, int8, options.quick)
        rows = speeds(ways, model, batch, 1 if options.quick else options.rounds, seconds)
        rows += shares(rows, model, seconds)
        if options.data:
            rows += cost(options.data, options.calibrate or options.data, Path(work))
    report(f"{QUESTION}: {name}, random weights, batches of {batch}", rows, as_json=options.as_json)


if __name__ == "__main__":
    main()
