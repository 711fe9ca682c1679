"""What runs a tower.

Import this before torch: on a Mac, PyTorch reads while it loads whether operators that Apple's GPU lacks may run on the
processor.
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


class Engine(Protocol):
    """What runs the towers: batches in, unit vectors out."""

    name: str

    def describe(self) -> str: ...
    def encode_images(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch dim"]: ...
    def encode_patches(self, pixels: UInt8[np.ndarray, "batch height width 3"]) -> PatchEmbeddings: ...
    def encode_texts(self, ids: np.ndarray) -> Float[np.ndarray, "batch dim"]: ...


def device_name(device: object) -> str | None:
    """A device as a name in lower case; "GPU" and torch.device("cuda:0") are such, too. None stands for the best that
    is here, as "auto" does."""
    name = None if device is None else str(device).strip().lower()
    return None if name == "auto" else name


def choose_engine(engine: EngineName | None, device: str | None) -> EngineName:
    """The engine called `engine`, else PyTorch where there is a GPU for it, or a device that only it runs is asked for,
    and OpenVINO on processors. Raises ValueError where the two contradict each other or nothing can run.

    Nothing is imported to find out: a search on a processor must not wait for PyTorch.
    """
    if engine not in (None, "openvino", "pytorch"):
        raise ArgumentError(
            [Setting("engine", engine), " is not known; choose openvino or pytorch."], argument="engine"
        )
    if engine == "openvino" and device not in (None, "cpu"):
        raise ArgumentError(
            [Setting("engine", engine), " runs on processors; ", Setting("device", device), " was asked for."],
            remedy="Leave one out.",
            argument="engine",
        )
    if engine is None:
        wanted = device not in (None, "cpu") or (device is None and has_gpu() and is_installed("pytorch"))
        engine = "pytorch" if wanted or not is_installed("openvino") else "openvino"
    if not is_installed(engine):
        why = f"device {device!r} needs" if device not in (None, "cpu") else "this needs"
        extra = "diptych[train]" if engine == "pytorch" else "openvino"
        raise ArgumentError(f"{why} {_PACKAGES[engine]}, which is not installed: pip install '{extra}'.")
    return engine


_PACKAGES: dict[EngineName, str] = {"openvino": "openvino", "pytorch": "torch"}


def is_installed(engine: EngineName) -> bool:
    """Whether an engine's package is here; it is not imported."""
    return importlib.util.find_spec(_PACKAGES[engine]) is not None


def has_gpu() -> bool:
    """Whether there seems to be a GPU that PyTorch runs on: an NVIDIA driver, or a Mac's own."""
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    windows = os.path.join(os.environ.get("SYSTEMROOT", ""), "System32", "nvcuda.dll")
    return any(os.path.exists(path) for path in ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", windows))
