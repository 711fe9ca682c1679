"""Engines run the towers: OpenVINO on CPUs without PyTorch, and PyTorch on GPUs and CPUs.

Import this before torch: on a Mac, PyTorch decides on import whether operators that Apple's GPU lacks may run on the
CPU.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Literal, Protocol

from diptych.errors import ArgumentError, Setting

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8

    from diptych.scoring.zero_shot import PatchEmbeddings

EngineName = Literal["openvino", "pytorch"]

if sys.platform == "darwin":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


NUMPY_CALLS = 4  # of few texts take as long as opening OpenVINO's text tower


class Engine(Protocol):
    """Runs the towers: batches in, unit vectors out. The next `numpy_calls` calls with few texts are computed in NumPy
    if that starts faster: commands set it to NUMPY_CALLS. In a longer process it is 0, so that all vectors of a text
    are the same."""

    name: str
    numpy_calls: int
    kept_towers: set[str]  # whose compiled form is cached on the disk, by an engine that compiles

    def describe(self) -> str: ...
    def label(self) -> str: ...
    def encode_images(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch dim"]: ...
    def encode_patches(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> PatchEmbeddings: ...
    def encode_texts(self, ids: np.ndarray) -> Float[np.ndarray, "batch dim"]: ...


def device_name(device: object) -> str | None:
    """The lower-case name of a device, given as a name in any case or as a torch.device. None and "auto" mean the best
    device: None."""
    name = None if device is None else str(device).strip().lower()
    return None if name == "auto" else name


def choose_engine(engine: EngineName | None, device: str | None) -> EngineName:
    """The engine called `engine`; by default PyTorch if there is a GPU or `device` needs it, else OpenVINO. Raises
    ValueError if engine and device contradict each other or no engine is installed.

    This imports neither, since a search on a CPU must not wait for PyTorch.
    """
    if engine not in (None, "openvino", "pytorch"):
        raise ArgumentError(
            [Setting("engine", engine), " is not known; choose openvino or pytorch."], argument="engine"
        )
    if engine == "openvino" and device not in (None, "cpu"):
        raise ArgumentError(
            [Setting("engine", engine), " runs on CPUs; ", Setting("device", device), " was requested."],
            remedy="Leave one out.",
            argument="engine",
        )
    if engine is None:
        needs_pytorch = device not in (None, "cpu") or (device is None and has_gpu() and is_installed("pytorch"))
        engine = "pytorch" if needs_pytorch or not is_installed("openvino") else "openvino"
    if not is_installed(engine):
        reason = f"device {device!r} needs" if device not in (None, "cpu") else "this needs"
        extra = "diptych[train]" if engine == "pytorch" else "openvino"
        raise ArgumentError(f"{reason} {_PACKAGES[engine]}, which is not installed: pip install '{extra}'.")
    return engine


_PACKAGES: dict[EngineName, str] = {"openvino": "openvino", "pytorch": "torch"}


def is_installed(engine: EngineName) -> bool:
    """Whether an engine's package is installed; does not import it."""
    return importlib.util.find_spec(_PACKAGES[engine]) is not None


def has_gpu() -> bool:
    """Whether there seems to be a GPU for PyTorch: an NVIDIA driver, or Apple's."""
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    windows = os.path.join(os.environ.get("SYSTEMROOT", ""), "System32", "nvcuda.dll")
    return any(os.path.exists(path) for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", windows))
