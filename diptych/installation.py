"""Checks this installation of diptych, or a model: its parts, and what is missing or broken."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from diptych import __version__
from diptych.errors import DiptychError, format_message
from diptych.extras import EXTRAS, is_importable
from diptych.index.doctor import Finding

if TYPE_CHECKING:
    from diptych.embedder import Embedder

# The dependencies of the core and of the extras, by their names on PyPI
NEEDED = (
    "numpy", "pillow", "openvino", "tokenizers", "safetensors", "pillow-heif", "rawpy", "watchfiles",
)  # fmt: skip
OPTIONAL = ("av", "faiss-cpu", "torch", "pyarrow", "transformers")


class Installation(NamedTuple):
    """Facts, as name -> text, and findings."""

    facts: dict[str, str]
    findings: list[Finding]


def installation() -> Installation:
    """Check the libraries, the engines, the readable formats, and the bundled model. PyTorch is located, not
    imported."""
    facts = {"diptych": __version__, "python": platform.python_version(), "system": platform.platform()}
    facts |= {name: _version(name) or "not installed" for name in (*NEEDED, *OPTIONAL)}
    facts["sqlite"] = sqlite3.sqlite_version
    findings = []
    for name in NEEDED:
        if _version(name) is None:
            findings.append(Finding(f"{name} is not installed", f"pip install {name}"))
    for name, check in _CHECKS.items():
        try:
            facts[name] = check()
        except Exception as error:  # a broken library may raise anything
            facts[name] = "does not work"
            message = str(error).partition("\n")[0] or type(error).__name__
            findings.append(Finding(f"{name}: {message}", "reinstall it: pip install --force-reinstall diptych"))
    return Installation(facts, findings)


def of_model(model: Embedder) -> Installation:
    """Describe a model: its facts, defaults that its files left open, and keys of its files that were ignored. Both
    towers are run: invalid weights are findings."""
    spec, findings = model.preprocessing, []
    facts = {"model": model.source, "vectors": f"{model.dim} dimensions", "engine": model.engine.describe()}
    facts["pictures"] = (
        f"{spec.size_px} px, {spec.interpolation}, {spec.mode}, mean {_numbers(spec.mean)}, std {_numbers(spec.std)}"
    )
    if model.tokenizer is None:
        facts["texts"] = "no tokenizer.json"
    else:
        facts["texts"] = f"{model.config.text.context} tokens of {model.config.text.vocab_size:,}"
    checks: tuple[Callable[[], object], ...] = (
        lambda: model.embed_pixels(np.zeros((1, spec.size_px, spec.size_px, 3), np.uint8)),
        lambda: model.tokenizer and model.embed_texts(["a picture"]),
        lambda: facts.update(scale=f"{model.scale:.4g}"),
    )
    for check in checks:
        try:
            check()
        except DiptychError as error:
            findings.append(
                Finding(format_message(error.problem), format_message(error.remedy) or "get another copy of the model")
            )
    facts |= {f"note {number}": note for number, note in enumerate(model.notes, start=1)}
    for file in dict.fromkeys(key.partition(": ")[0] for key in model.ignored_keys):
        keys = [key.partition(": ")[2] for key in model.ignored_keys if key.startswith(f"{file}: ")]
        facts[f"ignored in {file}"] = ", ".join(keys)
    return Installation(facts, findings)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engines() -> str:
    from diptych.engines import has_gpu, is_installed

    names = [name for name in ("openvino", "pytorch") if is_installed(name)]
    if not names:
        raise ImportError("neither OpenVINO nor PyTorch is installed, so no model can run")
    if not is_installed("pytorch"):
        missing = ", and is needed for the GPU" if has_gpu() else ""
        return f"{names[0]}; PyTorch is not installed{missing}: pip install 'diptych[{EXTRAS['torch']}]'"
    return f"{', '.join(names)}; {'a GPU was found' if has_gpu() else 'no GPU for PyTorch'}"


def _bfloat16() -> str:
    from diptych.engines.bfloat16 import SWITCH, allows_bfloat16
    from diptych.engines.openvino import has_bfloat16

    if not allows_bfloat16():
        return f"switched off by {SWITCH}: float32 is used"
    return "used" if has_bfloat16() else "not supported by this CPU: float32 is used"


def _formats() -> str:
    from PIL import features

    found = ["JPEG", "PNG", "GIF", "TIFF", "BMP"]
    return ", ".join(found + [name.upper() for name in ("webp", "avif") if features.check(name)])


def _optional(module: str, missing: str, describe: Callable[[object], str]) -> Callable[[], str]:
    """A check of an extra's library; `missing` is reported if it is not installed."""
    check = _import(module, describe)
    return lambda: check() if is_importable(module) else f"{missing}: pip install 'diptych[{EXTRAS[module]}]'"


def _import(module: str, describe: Callable[[object], str]) -> Callable[[], str]:
    return lambda: describe(importlib.import_module(module))


def _bundled_model() -> str:
    import diptych

    model = diptych.load()
    model.embed_texts(["a picture"])
    return f"{model.dim} dimensions, {model.preprocessing.size_px} px, {model.engine.describe()}"


_CHECKS: dict[str, Callable[[], str]] = {
    "engines": _engines,
    "bfloat16": _bfloat16,
    "pictures": _formats,
    "HEIC": _import("pillow_heif", lambda heif: f"libheif {heif.libheif_version()}"),  # type: ignore[attr-defined]
    "RAW": _import("rawpy", lambda raw: "LibRaw " + ".".join(map(str, raw.libraw_version))),  # type: ignore[attr-defined]
    "video": _optional(
        "av",
        "left out: PyAV is not installed",
        lambda av: f"FFmpeg's libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}",  # type: ignore[attr-defined]
    ),
    "search": _optional(
        "faiss",
        "exact; FAISS makes searches of over 100,000 pictures faster",
        lambda faiss: f"FAISS for {faiss.get_compile_options().strip()}",  # type: ignore[attr-defined]
    ),
    "bundled model": _bundled_model,
}
