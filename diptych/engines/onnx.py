"""ONNX: both towers in files that any runtime reads, and ONNX Runtime to run them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import ArgumentError
from diptych.media.images import Preprocess

OPSET = 18
SILENT = "ORT_DISABLE_TELEMETRY"


@contextmanager
def _unreported() -> Iterator[None]:
    """ONNX Runtime, if it is imported meanwhile, does not report its use to its makers for the life of this process: it
    would, from its import on, and number this user in a file below the cache."""
    before = os.environ.get(SILENT)
    os.environ[SILENT] = "1"
    try:
        yield
    finally:
        del os.environ[SILENT]
        if before is not None:
            os.environ[SILENT] = before


def _towers(network: Any, spec: Preprocess) -> dict[str, Any]:
    """Both towers as modules from what a user has to unit vectors."""
    import torch
    from torch import nn

    from diptych.nets.clip import unit

    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.mean: torch.Tensor
            self.std: torch.Tensor
            self.register_buffer("mean", 255 * torch.tensor(spec.mean))
            self.register_buffer("std", 255 * torch.tensor(spec.std))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            planes = ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)
            return unit(self.network.encode_image(planes))

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return unit(self.network.encode_text(ids))

    return {"pixels": Image().eval(), "ids": Text().eval()}


@_unreported()  # the exporter may import it, too
def write_onnx(network: Any, spec: Preprocess, folder: Path) -> None:
    """image.onnx: `pixels`, uint8 (batch, size, size, 3), to `vectors`, unit length; text.onnx: `ids`, int64 (batch,
    tokens), to the same. Raises ValueError where PyTorch's exporter is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
    except ModuleNotFoundError as error:
        raise ArgumentError(f"ONNX files need {error.name}: pip install 'diptych[convert]'.") from error

    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=network.config.text.context)
    size = spec.size_px
    pixels, ids = torch.zeros(3, size, size, 3, dtype=torch.uint8), torch.zeros(3, 7, dtype=torch.long)
    ids[:, -1] = network.config.text.end_id
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    towers = _towers(network, spec)
    for name, example, dynamic in (("pixels", pixels, {0: batch}), ("ids", ids, {0: batch, 1: tokens})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                towers[name], (example,), folder / FILES[name], input_names=[name], output_names=["vectors"],
                dynamic_shapes=(dynamic,), opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip


FILES = {"pixels": "image.onnx", "ids": "text.onnx"}


def open_onnx(folder: Path) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Both towers of `write_onnx`, run by ONNX Runtime on the processor."""
    with _unreported():
        import onnxruntime

        onnxruntime.disable_telemetry_events()  # which is all that counts on Windows
        sessions = {
            name: onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
            for name, file in FILES.items()
        }

    def encode(name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda batch: sessions[name].run(None, {name: batch})[0]  # type: ignore[return-value]

    return encode("pixels"), encode("ids")
