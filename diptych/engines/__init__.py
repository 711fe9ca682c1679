"""What runs a tower.

Import this before torch: on a Mac, PyTorch reads while it loads whether operators that Apple's GPU lacks may run on the
processor.
"""

import importlib.util
import os
import sys
from typing import Literal

from diptych.errors import ArgumentError, Setting

EngineName = Literal["openvino", "pytorch"]

if sys.platform == "darwin":
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


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
