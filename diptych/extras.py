"""What extras bring, asked for before a work begins that would want it in its end."""

import importlib.util
from collections.abc import Sequence

from diptych.errors import MissingExtraError

# A module, as Python imports it -> the extra that brings it.
EXTRAS = {
    "torch": "train", "tensorboardX": "train", "nncf": "convert", "onnx": "convert", "onnxruntime": "convert",
    "onnxscript": "convert", "pyarrow": "data", "datasets": "datasets", "av": "video", "faiss": "large",
    "matplotlib": "plots", "scipy": "probe",
}  # fmt: skip
_BRING = {"train": ("plots",), "convert": ("train", "plots")}  # extras that bring others


def is_importable(module: str) -> bool:
    """Whether a library is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None


def require(what: str, *modules: str) -> None:
    """Raise MissingExtraError, which says what to install, unless all of these are here. They are not imported."""
    missing = [name for name in modules if not is_importable(name)]
    if missing:
        wanted = {EXTRAS[name] for name in missing}
        extras = ",".join(sorted(wanted - {brought for extra in wanted for brought in _BRING.get(extra, ())}))
        verb = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{what} needs {_listed(missing)}, which {verb} not installed: pip install 'diptych[{extras}]'"
        )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
